"""Batches of the tiny shop by hand; together they are the table, each row once."""

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.config import read_shop
from daogou.features.batch import Batch, make_batch, split_batches
from daogou.features.epoch import Epoch, plan_epoch
from daogou.features.past import N_AGES, repeats_of, shown_to
from daogou.features.queries import NOBODY, Events, Queries, full_queries, queries_of
from daogou.features.repeats import MOST_EVENTS, repeats
from daogou.features.store import NO_SPLIT, Store
from tests.shops import EVENTS, N_EXPOSURES, RANGES, TOML, compile_shop, event, write_shop

LENGTH = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return compile_shop(write_shop(tmp_path_factory.mktemp("tiny")))[1]


def batch_of(store: Store, rows: list[int], **more: Any) -> Batch:
    return make_batch(store, np.array(rows, dtype=np.int64), history_length=LENGTH, **more)


# ---- by hand ----------------------------------------------------------------------------


def test_exposures_point_to_users_and_products_that_are_there_once(store: Store) -> None:
    batch = batch_of(store, [0, 1, 2, 3, 4])
    assert batch.exposures["item"].tolist() == [1, 2, 1, 2, 3]
    assert batch.exposures["user"].tolist() == [0, 0, 1, 1, 2]
    assert batch.items["row"].tolist() == [0, 1, 2, 3]
    assert batch.users["row"].tolist() == [1, 2, 1]  # user 1 at two moments
    assert batch.users["id"].tolist() == [1, 2, 1]
    assert batch.exposures["labels"].tolist() == [[1, 1], [0, 0], [0, 0], [1, 0], [1, -1]]
    assert batch.users["profile"].tolist() == [[0], [-1], [0]]
    assert batch.users["split"].tolist() == [0, 1, 0]


def test_delays_come_along_where_a_loss_asks_for_them(store: Store, tmp_path: Path) -> None:
    toml = TOML + '\n[tasks.buy]\nloss = "dfm"\n'
    _, awaited = compile_shop(write_shop(tmp_path, toml=toml))
    batch = batch_of(awaited, [4, 0])
    assert batch.exposures["delay_h"][:, 1].nan_to_num(-1.0).tolist() == [-1.0, 2.0]
    assert batch.exposures["watched_h"][:, 1].tolist() == [20.0, 24.0]
    assert not {"delay_h", "watched_h"} & set(batch_of(store, [4, 0]).exposures.tensors)


def test_a_history_is_newest_first_and_padded_with_zeros(store: Store) -> None:
    batch = batch_of(store, [0, 4])
    assert batch.users["history"].tolist() == [[0, 0, 0], [1, 1, 0]]
    assert batch.users["action"].tolist() == [[0, 0, 0], [2, 1, 0]]  # bought, clicked
    # 58 and 59 hours: log(1 + 3480) / log 3 = 7.42, log(1 + 3540) / log 3 = 7.44
    assert batch.users["age"].tolist() == [[0, 0, 0], [7, 7, 0]]


def test_only_the_newest_events_are_kept(store: Store) -> None:
    short = make_batch(store, np.array([6]), history_length=1)
    assert short.items["row"].tolist() == [0, 3, 4]
    assert short.users["history"].tolist() == [[1]]  # the click on 12, product row 3


def test_repeats_count_the_whole_past_however_little_of_it_is_encoded(store: Store) -> None:
    # User 1 at hour 200 clicked 10 at hour 1, bought it at 2 and clicked 12 at 60. Of products 10
    # to 13 the marks are row, category (13's is unknown) and price (12 and 13 share a bucket).
    assert store["items/fields"].tolist() == [[0, 3], [1, 4], [1, 5], [2, 6], [0, 6]]
    queries, _ = queries_of(store, np.array([6]))
    rows = np.arange(1, 5)

    def marks(rows: Any) -> Any:
        return np.column_stack([rows, store["items/fields"][rows]])

    found = repeats_of(store, queries, np.zeros(4, int), marks(rows), marks)
    counts = [[2, 2, 2], [0, 2, 0], [1, 1, 1], [0, 0, 1]]
    assert np.expm1(found[:, :3]).round(4).tolist() == counts
    assert np.expm1(found[:, 3:6]).round(4).tolist() == [[1, 1, 1], [0, 1, 0], [0] * 3, [0] * 3]
    buy, click = (1 - math.log1p(hours * 60) / math.log1p(365 * 24 * 60) for hours in (198, 140))
    wanted = [[buy, buy, buy], [0, buy, 0], [click, click, click], [0, 0, click]]
    assert found[:, 6:] == pytest.approx(np.array(wanted), abs=1e-6)
    short = make_batch(store, np.array([6]), history_length=1)
    assert short.exposures["repeats"].numpy() == pytest.approx(found[3:])


def test_a_whole_catalogue_against_a_long_past_takes_no_room_for_all_pairs() -> None:
    rng = np.random.default_rng(0)
    candidates, past = rng.integers(-1, 300, (20_000, 3)), rng.integers(0, 300, (MOST_EVENTS, 3))
    strong, hours = rng.random(len(past)) < 0.2, np.sort(rng.random(len(past)) * 9_000)
    tracemalloc.start()
    found = repeats(candidates, past, strong, hours)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50e6  # a byte a pair: 246 MB
    few = np.concatenate([repeats(some, past, strong, hours) for some in candidates[:30, None]])
    assert np.array_equal(found[:30], few)
    assert (found > 0).any(0).all() and (found[candidates[:, 0] < 0, 0] == 0).all()


def test_the_strongest_deed_is_the_one_that_training_knew(store: Store, tmp_path: Path) -> None:
    assert store.strongest == 1  # bought
    clicks = [row for row in EVENTS if row["event"] != "buy"]
    early, late = event(1.5, 1, 10, "click", None), event(300, 1, 10, "buy", None)
    _, clicked = compile_shop(write_shop(tmp_path, events=[*clicks, early, late]))
    assert clicked["history/action"].max() == 1 and clicked.strongest == 0
    assert replace(clicked, taught=store).strongest == 1


def test_what_happens_at_or_after_the_moment_repeats_nothing(tmp_path: Path) -> None:
    planted = [
        event(100 + late, 2, product, kind, None)
        for late in (0, 1e-9, 5)
        for product in (10, 11)
        for kind in ("click", "buy")
    ]
    for name, extra in (("known", []), ("more", planted)):
        (tmp_path / name).mkdir()
        write_shop(tmp_path / name, events=[*EVENTS, *extra])
    known, more = (compile_shop(read_shop(tmp_path / name))[1] for name in ("known", "more"))
    found, again = (batch_of(each, [5]).exposures["repeats"] for each in (known, more))
    assert found.any()  # the click at hour 31
    assert torch.equal(found, again)


def test_products_of_histories_and_draws_are_in_the_batch(store: Store) -> None:
    batch = batch_of(store, [7], extra_items=np.array([2, 1, 2]))
    assert batch.items["row"].tolist() == [0, 1, 2, 4]
    assert batch.items["row"][batch.extra].tolist() == [2, 1, 2]
    assert batch.items["id"].tolist() == [0, 1, 2, 0]


def test_texts_are_there_once_and_no_longer_than_needed(store: Store) -> None:
    batch = batch_of(store, [0, 1, 2], titles=np.array([3, 0]))
    assert batch.texts["tokens"].shape[1] == 2  # the longest of these titles has two words
    assert not batch.texts["tokens"][0].any()
    tokens = batch.texts["tokens"][batch.items["text"]]
    whole = store["texts/tokens"][store["items/text"][batch.items["row"].numpy()], :2]
    assert tokens.tolist() == whole.tolist()
    assert batch.titles["tags"].tolist() == [[[1, 0]], [[1, 0]]]
    gold = batch.texts["tokens"][batch.titles["text"]]
    assert gold.tolist() == store["texts/tokens"][store["titles/text"][[3, 0]], :2].tolist()


def test_a_batch_of_nothing_has_the_unknown_product_alone(store: Store) -> None:
    batch = batch_of(store, [])
    assert (len(batch.exposures), len(batch.users), len(batch.items)) == (0, 0, 1)
    assert (len(batch.texts), len(batch.titles), len(batch.extra)) == (1, 0, 0)


def test_a_batch_of_titles_alone_has_no_users(store: Store) -> None:
    batch = batch_of(store, [], titles=np.array([0, 1, 2, 3]))
    assert (len(batch.titles), len(batch.users), len(batch.exposures)) == (4, 0, 0)


def test_users_can_be_asked_for_at_any_moment(store: Store) -> None:
    start = store["users/start"]
    queries = Queries(np.array([1, 3]), np.array([start[1] + 1, start[3]]), np.array([0, 0]))
    batch = batch_of(store, [], queries=queries)
    assert batch.users["row"].tolist() == [1, 3]
    assert batch.users["action"].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_everything_known_of_a_user_is_the_whole_log(store: Store) -> None:
    batch = make_batch(store, queries=full_queries(store, np.array([0, 1, 2, 3])))
    events = (batch.users["action"] > 0).sum(1)
    assert events.tolist() == [0, 4, 2, 0]
    assert batch.items["row"][batch.users["history"][1, :4]].tolist() == [4, 3, 1, 1]


def test_what_was_shown_before_a_moment_is_newest_first(store: Store) -> None:
    hour = 3_600_000_000
    times = np.asarray(store["shown/time"])[:1] + hour * np.array([60, 61, 0, 500])
    queries = Queries(np.array([1, 1, 2, 0]), np.zeros(4, dtype=np.int64), times)
    # User 1 was shown products 1 and 2 at once, product 3 in hour 60 and product 4 in hour 200.
    assert shown_to(store, queries).tolist() == [[2, 1, 0], [3, 2, 1], [0] * 3, [0] * 3]
    batch = make_batch(store, queries=queries, shown=True)
    assert batch.users["shown"][1, :, 0].tolist() == [3, 2, 1]
    assert torch.equal(batch.users["shown"][1, :, 1:].int(), torch.tensor(
        np.concatenate([store["items/fields"], store["items/traits"]], 1)[[3, 2, 1]]
    ).int())  # fmt: skip
    assert batch.users["shown_id"][1].tolist() == store["items/id"][[3, 2, 1]].tolist()
    assert "shown" not in make_batch(store, queries=queries).users.tensors


def test_what_a_query_was_shown_since_is_newer_than_the_log(store: Store) -> None:
    times = np.asarray(store["shown/time"])[:1]
    shown = Events(np.array([4, 3, 1]), np.zeros(3), times + np.array([1, 5, 2]))
    queries = Queries(np.array([1]), np.array([0]), times + 5, shown=shown)
    assert shown_to(store, queries).tolist() == [[1, 4, 2, 1]]
    assert shown_to(store, NOBODY).shape == (0, 0)


def test_row_numbers_are_int64_and_the_store_is_not_shared(store: Store) -> None:
    batch = batch_of(store, [0, 1])
    for columns in (batch.exposures, batch.users, batch.items, batch.texts, batch.titles):
        for name, tensor in columns.tensors.items():
            assert tensor.dtype not in (torch.int32, torch.int16), name
    batch.exposures["labels"].fill_(9)
    assert store["exposures/labels"].max() == 1


def test_an_event_of_long_ago_is_in_the_oldest_bucket(tmp_path: Path) -> None:
    old = event(-24 * 365 * 40, 1, 10, "click", None)
    store = compile_shop(write_shop(tmp_path, events=[old, *EVENTS]))[1]
    assert batch_of(store, [0]).users["age"].tolist() == [[N_AGES - 1, 0, 0]]


# ---- laws -------------------------------------------------------------------------------

ROWS = st.lists(st.integers(0, N_EXPOSURES - 1), max_size=20)


def resolved(batch: Batch, i: int) -> dict[str, Any]:
    """Everything that the batch says of its exposure ``i``, in the store's own row numbers."""
    user = int(batch.exposures["user"][i])
    items = batch.items["row"]
    item = int(batch.exposures["item"][i])
    tokens = batch.texts["tokens"][batch.items["text"][item]]
    said: dict[str, Any] = {
        "item": int(items[item]),
        "user": int(batch.users["row"][user]),
        "history": items[batch.users["history"][user]].tolist(),
        "words": tokens[tokens[:, 0] > 0].tolist(),
    }
    exposure = ("labels", "weight", "fields", "numbers")
    said |= {name: batch.exposures[name][i].tolist() for name in exposure}
    said |= {f"user {name}": batch.users[name][user].tolist() for name in ("id", "action", "age")}
    said |= {f"item {name}": batch.items[name][item].tolist() for name in ("id", "fields")}
    return said


@given(ROWS)
def test_what_a_batch_says_of_a_row_does_not_depend_on_the_others(
    store: Store, rows: list[int]
) -> None:
    batch = batch_of(store, rows)
    for i, row in enumerate(rows):
        assert resolved(batch, i) == resolved(batch_of(store, [row]), 0)


@given(ROWS)
def test_users_products_and_texts_are_distinct_and_used(store: Store, rows: list[int]) -> None:
    batch = batch_of(store, rows)
    items, users = batch.items["row"].tolist(), store["exposures/query"][rows]
    assert items[0] == 0 and len(set(items)) == len(items)
    assert len(batch.users) == len(set(users.tolist()))
    used = {0, *batch.exposures["item"].tolist(), *batch.users["history"].ravel().tolist()}
    assert used == set(range(len(items)))
    assert set(batch.items["text"].tolist()) | {0} == set(range(len(batch.texts)))


@given(st.integers(1, 9))
def test_batches_together_are_the_table(store: Store, rows_per_step: int) -> None:
    seen: list[int] = []
    labels: list[list[int]] = []
    for split in RANGES:
        for rows, batch in split_batches(
            store, split, rows_per_step=rows_per_step, history_length=LENGTH
        ):
            assert 0 < len(rows) == len(batch.exposures) <= rows_per_step
            assert all(RANGES[split][0] <= row < RANGES[split][1] for row in rows)
            seen += rows.tolist()
            labels += batch.exposures["labels"].tolist()
    assert seen == list(range(N_EXPOSURES))
    assert labels == store["exposures/labels"].tolist()


# ---- one pass ---------------------------------------------------------------------------


def bare(n_train: int, n_titles: int, *, n_queries: int = 5, n_items: int = 9) -> Store:
    """What planning reads of a store, and no more."""
    arrays: dict[str, Any] = {
        "titles/split": np.array([0] * n_titles + [1, 2, 2], dtype=np.int8),
        "queries/user": np.zeros(n_queries, dtype=np.int32),
        "items/id": np.zeros(n_items + 1, dtype=np.int32),
    }
    end = 3 + n_train  # as if the training rows did not start at 0
    return Store(Path(), arrays, {"train": (3, end), "validation": (end, end + 4)})


def plan(store: Store, **changed: Any) -> Any:
    asked: dict[str, Any] = {
        "seed": 1,
        "epoch": 0,
        "rows_per_step": 4,
        "titles_per_step": 3,
        "title_passes": 1.0,
        "extra_items": 5,
    }
    return plan_epoch(store, **(asked | changed))


def listed(epoch: Any) -> list[list[int]]:
    steps = [*epoch.exposures, *epoch.titles, *epoch.extra_items]
    return [step.tolist() for step in steps]


@given(
    st.integers(0, 70), st.integers(0, 12), st.integers(1, 30), st.integers(0, 5), st.integers(0, 9)
)
def test_a_pass_visits_each_training_row_once(
    n_train: int, n_queries: int, rows_per_step: int, passes: int, seed: int
) -> None:
    store = bare(n_train, 7, n_queries=n_queries)
    epoch = plan(store, rows_per_step=rows_per_step, title_passes=passes / 2, seed=seed)
    rows = np.concatenate([*epoch.exposures, np.zeros(0)])
    assert sorted(rows.tolist()) == list(range(3, 3 + n_train))
    assert max(map(len, epoch.exposures)) <= rows_per_step
    assert len(epoch) == len(epoch.titles) == len(epoch.extra_items)
    titles = np.concatenate(epoch.titles)
    # A step that reads exposures reads at most an eighth as many titles.
    most = len(epoch) * rows_per_step / 8 / 7
    assert len(titles) == (round(min(passes / 2, most) * 7) if n_train else 7)
    counts = np.bincount(titles, minlength=7)
    assert len(counts) == 7, "titles that choose or test are not taught"
    assert counts.max() - counts.min() <= 1


@given(st.integers(0, 2**31), st.integers(0, 100))
def test_the_same_seed_gives_the_same_pass(seed: int, epoch: int) -> None:
    one, two = (plan(bare(50, 7), seed=seed, epoch=epoch) for _ in range(2))
    assert listed(one) == listed(two)


def test_another_seed_or_pass_gives_another_order() -> None:
    store = bare(200, 7)
    first = listed(plan(store))
    assert first != listed(plan(store, epoch=1))
    assert first != listed(plan(store, seed=2))


def test_what_is_drawn_for_matching_is_in_the_catalogue_and_not_unknown() -> None:
    drawn = np.concatenate(plan(bare(40, 0, n_items=3), extra_items=100).extra_items)
    assert set(drawn.tolist()) == {1, 2, 3}


def test_neighbours_stay_together_where_they_share_a_user() -> None:
    with_users = plan(bare(100, 0, n_queries=5), rows_per_step=10).exposures
    assert all((np.diff(step) == 1).all() for step in with_users)
    without = plan(bare(100, 0, n_queries=0), rows_per_step=10).exposures
    assert not all((np.diff(step) == 1).all() for step in without)


def test_titles_alone_fill_as_many_steps_as_they_need() -> None:
    epoch = plan(bare(0, 7), titles_per_step=3, title_passes=9.0)
    assert [len(step) for step in epoch.titles] == [3, 2, 2]
    assert [len(step) for step in epoch.exposures] == [0, 0, 0]


def test_a_pass_teaches_every_family_at_every_step_unless_it_says_otherwise() -> None:
    joint = plan(bare(20, 7), rows_per_step=4)
    assert joint.families is None
    assert joint.n_steps("funnel") == joint.n_steps("extract") == 5
    some = [frozenset(["funnel", "match"]), frozenset(["extract"]), frozenset(["funnel"])]
    nothing = joint.exposures[:3]
    apart = Epoch(nothing, nothing, nothing, joint.taught[:3], some)
    assert [apart.n_steps(family) for family in ("funnel", "match", "profile")] == [2, 1, 0]


def test_a_shop_with_nothing_to_teach_has_no_step() -> None:
    assert len(plan(bare(0, 0))) == 0


def lives(n_users: int, n_events: int) -> Store:
    """Users 1 to n, an event an hour; training ends with hour 5, the last user is for testing."""
    start = np.array([0, *(n_events * np.arange(n_users + 1))], dtype=np.int64)
    split = np.zeros(n_users + 1, dtype=np.int8)
    split[[0, -1]] = 9, 2
    profile = np.zeros((n_users + 1, 1), dtype=np.int16)
    profile[0] = -1
    arrays: dict[str, Any] = {
        "titles/split": np.zeros(0, dtype=np.int8),
        "queries/user": np.ones(1, dtype=np.int32),
        "items/id": np.zeros(2, dtype=np.int32),
        "users/start": start,
        "users/split": split,
        "users/profile": profile,
        "history/time": np.tile(np.arange(1, n_events + 1), n_users).astype(np.int64),
        "exposures/time": np.arange(6, dtype=np.int64),
    }
    return Store(Path(), arrays, {"train": (0, 6)})


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 6), st.integers(0, 99))
def test_each_known_profile_teaches_as_often_as_asked_and_at_moments_of_training(
    n_users: int, passes: int, seed: int
) -> None:
    store = lives(n_users, n_events=9)
    taught = plan(store, seed=seed, rows_per_step=2, profile_passes=float(passes)).taught
    assert len(taught) == 3, "one piece for each step"
    users = np.concatenate([piece.user for piece in taught])
    ends = np.concatenate([piece.end for piece in taught])
    times = np.concatenate([piece.time for piece in taught])
    counts = np.bincount(users, minlength=n_users + 1)
    assert counts.tolist() == [0, *[passes] * (n_users - 1), 0], "never one whose label tests"
    read = ends - store["users/start"][users]  # events that are read; the training's are 5
    assert ((read >= 2) & (read <= 5)).all(), "from a third of them, rounded up, to all"
    assert (store["history/time"][ends - 1] < times).all()


def test_only_those_who_are_taught_keep_their_split(tmp_path: Path) -> None:
    _, store = compile_shop(write_shop(tmp_path))
    user = np.array([1])
    taught = Queries(user, store["users/start"][user + 1], np.array([2**60]))
    batch = make_batch(store, np.arange(*store.ranges["train"]), taught=taught)
    assert batch.users["split"][-1] == store["users/split"][1]
    assert (batch.users["split"][:-1] == NO_SPLIT).all()
    assert len(batch.users) > 1
