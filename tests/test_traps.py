"""Mistakes that broke other recommenders, each tried here on data that would show it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.errors import DataError
from daogou.features.batch import make_batch
from daogou.metrics import auc, gauc, log_loss, mean_of
from daogou.tables import Engine, prepare
from tests.shops import EVENTS, ITEMS, USERS, compile_shop, event, fit_shop, write_shop

BIG = 2**24  # the first whole number after which float32 skips one

# ---- ids --------------------------------------------------------------------------------


def test_ids_that_float32_would_merge_stay_apart(tmp_path: Path) -> None:
    assert np.float32(BIG) == np.float32(BIG + 1), "or this test would show nothing"
    new = {10: BIG, 11: BIG + 1, 12: BIG + 2, 13: BIG + 3}
    transform, store = compile_shop(
        write_shop(
            tmp_path,
            items=[row | {"item_id": new[row["item_id"]]} for row in ITEMS],
            events=[row | {"item_id": new[row["item_id"]]} for row in EVENTS],
        )
    )
    assert transform.item_ids.encode(list(map(str, new.values()))).tolist() == [1, 2, 3, 0]
    assert store["exposures/item"].tolist() == [1, 2, 1, 2, 3, 1, 4, 4]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize(("table", "column"), [("items", "item_id"), ("events", "user_id")])
def test_ids_that_are_floats_already_are_refused(
    tmp_path: Path, kind: pa.DataType, table: str, column: str
) -> None:
    shop = write_shop(tmp_path)
    path = tmp_path / f"{table}.parquet"
    read = pq.read_table(path)
    at = read.column_names.index(column)
    pq.write_table(read.set_column(at, column, read[column].cast(kind)), path)
    with Engine(threads=1) as engine, pytest.raises(DataError, match=r"merge ids above 2\^53"):
        prepare(engine, shop)


def test_unseen_ids_share_the_unknown_row_and_are_scored_like_any_other(tmp_path: Path) -> None:
    extra = [event(220, 900 + i, 800 + i, "shown", f"n{i}") for i in range(3)]
    transform, store = compile_shop(write_shop(tmp_path, events=[*EVENTS, *extra]))
    first, last = store.ranges["test"]
    batch = make_batch(store, np.arange(first, last))
    new = [row for row, key in enumerate(store.item_keys) if key.startswith("80")]
    assert len(new) == 3
    ids = dict(zip(batch.items["row"].tolist(), batch.items["id"].tolist(), strict=True))
    assert [ids[row] for row in new] == [0, 0, 0]
    assert batch.users["id"].tolist() == [1, 0, 0, 0, 0]
    assert transform.user_ids.encode(["900", "902", None]).tolist() == [0, 0, 0]


# ---- labels -----------------------------------------------------------------------------


def test_a_label_is_missing_whatever_the_outcome(tmp_path: Path) -> None:
    """Dropping only the negatives whose window is open would raise every late rate."""
    bought = [event(60.5, 1, 12, "buy", "r3"), event(240, 2, 11, "shown", "r8")]
    events = [*EVENTS, *bought, event(241, 2, 11, "click", "r8"), event(242, 2, 11, "buy", "r8")]
    _, store = compile_shop(write_shop(tmp_path, events=events))
    labels = store["exposures/labels"]
    assert labels[4].tolist() == [1, -1], "bought, but its window ends after training does"
    assert labels[8].tolist() == [1, -1], "bought, but its window ends after the log does"


@pytest.mark.parametrize("label", [-1, 2, np.nan])
def test_a_missing_label_is_no_negative_in_a_metric(label: float) -> None:
    for metric in (auc, log_loss):
        with pytest.raises(DataError, match="leave out the rows whose label is missing"):
            metric([0.1, 0.9, 0.5], [0, 1, label])


def test_a_label_never_given_is_missing_and_not_zero(tmp_path: Path) -> None:
    rows = [{"x": "a", "a": (0, 1, None)[i % 3]} for i in range(60)]
    toml = '[events]\npath = "events.parquet"\nlabels = ["a"]\ncontext = ["x"]\n'
    _, store = compile_shop(write_shop(tmp_path, items=(), users=(), events=rows, toml=toml))
    assert sorted(store["exposures/labels"].ravel().tolist()) == [-1] * 20 + [0] * 20 + [1] * 20


# ---- metrics ----------------------------------------------------------------------------


def test_users_of_one_class_have_no_auc_and_are_not_counted_as_a_half() -> None:
    scores = [0.9, 0.1, 0.8, 0.7, 0.3]
    found = gauc(scores, [1, 0, 1, 1, 0], ["both", "both", "won", "won", "lost"])
    assert (found.value, found.n_groups_used, found.n_groups_skipped) == (1.0, 1, 2)
    assert np.isnan(gauc(scores, [1, 1, 1, 0, 0], ["a", "a", "a", "b", "b"]).value)


def test_a_task_without_a_value_does_not_enter_a_mean() -> None:
    undefined = auc([0.2, 0.3], [0, 0])
    assert np.isnan(undefined)
    assert mean_of([0.8, undefined]) == 0.8


def test_small_probabilities_are_ranked_exactly() -> None:
    """Two hundred thresholds from 0 to 1 put all of these into one bin: an AUC of a half."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1e-3, 4000)
    labels = rng.random(4000) < scores * 100
    binned = auc(np.floor(scores * 200), labels)
    exact = (
        sum((scores[labels][:, None] > scores[~labels]).ravel()) / labels.sum() / (~labels).sum()
    )
    assert binned == 0.5
    assert auc(scores, labels) == pytest.approx(exact, abs=1e-12)
    assert exact > 0.6


def test_float32_scores_that_differ_are_not_tied() -> None:
    one = np.float32(0.3)
    assert auc(np.array([one, np.nextafter(one, np.float32(1))]), [0, 1]) == 1.0


def test_tasks_are_not_pooled() -> None:
    """Neither task is ranked better than by chance, and yet the pool would look like skill."""
    clicks = ([0.5] * 4, [1, 1, 1, 0])
    purchases = ([0.1] * 4, [0, 0, 0, 1])
    assert auc(*clicks) == auc(*purchases) == 0.5
    assert auc([*clicks[0], *purchases[0]], [*clicks[1], *purchases[1]]) == 0.75
    with pytest.raises(DataError, match=r"give one of each per row"):
        auc([clicks[0], purchases[0]], [clicks[1], purchases[1]])


# ---- splits -----------------------------------------------------------------------------


def test_the_test_split_can_be_replaced_without_training_noticing(tmp_path: Path) -> None:
    other = [row for row in EVENTS if row["request"] not in ("r5", "r6")]
    other += [event(210, 2, 12, "shown", "q"), event(211, 2, 12, "click", "q")]
    users = [*USERS[:2], USERS[2] | {"city": "Rome", "gender": "M"}]
    one = write_shop(tmp_path / "one")
    two = write_shop(tmp_path / "two", events=other, users=users)
    assert fit_shop(one) == fit_shop(two)
    (_, first), (_, second) = compile_shop(one), compile_shop(two)
    for name in ("labels", "fields", "item", "time"):
        kept = first[f"exposures/{name}"][:6], second[f"exposures/{name}"][:6]
        assert np.array_equal(*kept), name


# ---- tests ------------------------------------------------------------------------------

SKIPS = re.compile(r"^\s*@?(?:pytest\.mark\.skip\b|pytest\.skip\(|unittest\.skip)", re.MULTILINE)


@pytest.mark.parametrize("line", ["@pytest.mark.skip", "    pytest.skip('x')"])
def test_the_guard_below_sees_a_skip(line: str) -> None:
    assert SKIPS.search(f"import pytest\n{line}\n")


def test_no_test_is_skipped_for_good() -> None:
    folder = Path(__file__).parent
    skipped: list[Any] = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("test_*.py"))
        if path != Path(__file__) and SKIPS.search(path.read_text(encoding="utf-8"))
    ]
    assert skipped == []
