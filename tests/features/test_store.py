"""The tiny shop as arrays, by hand; what is refused; what a full disk leaves behind."""

import bisect
import errno
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features.store import NO_SPLIT, Store, open_store, split_code
from daogou.features.store import compile as compile_module
from daogou.features.store.compile import compile_store
from daogou.features.store.numbering import Numbering, first_from
from daogou.features.store.writer import Writer, link_store, rewrite_store
from daogou.features.transform import Transform
from daogou.schema import Shop
from daogou.tables import Engine, Seam, prepare
from tests.shops import (
    EVENTS,
    ITEMS,
    N_EXPOSURES,
    RANGES,
    START,
    TOML,
    USERS,
    compile_shop,
    event,
    fit_shop,
    item,
    write_shop,
)

Made = tuple[Transform, Store]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return compile_shop(write_shop(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Path:
    """A copy of the store's folder, to be damaged."""
    shutil.copytree(made[1].folder, tmp_path / "store")
    return tmp_path / "store"


def us(hour: float) -> int:
    """Microseconds since 1970 of an hour of the shop."""
    return (START - datetime(1970, 1, 1) + timedelta(hours=hour)) // timedelta(microseconds=1)


# ---- by hand ----------------------------------------------------------------------------


def test_exposures_stand_by_split_then_time_then_user(made: Made) -> None:
    _, store = made
    assert store.ranges == RANGES
    assert store["exposures/item"].tolist() == [1, 2, 1, 2, 3, 1, 4, 4]
    assert store["queries/user"][store["exposures/query"]].tolist() == [1, 1, 2, 2, 1, 2, 1, 3]
    hours = (0, 0, 30, 30, 60, 100, 200, 200)
    assert store["exposures/time"].tolist() == [us(hour) for hour in hours]
    assert store["exposures/weight"].tolist() == [1.0] * N_EXPOSURES


def test_labels_are_one_zero_or_missing(made: Made) -> None:
    labels = made[1]["exposures/labels"]
    assert labels.tolist() == [
        *([1, 1], [0, 0], [0, 0], [1, 0], [1, -1]),
        *([1, 0],),
        *([1, 0], [0, 0]),
    ]
    assert labels.dtype == np.int8


def test_products_and_users_unseen_in_training_keep_a_row_and_lose_the_id(made: Made) -> None:
    _, store = made
    assert store.item_keys == ["", "10", "11", "12", "13"]
    assert store.item_rows == {"10": 1, "11": 2, "12": 3, "13": 4}
    assert store["items/id"].tolist() == [0, 1, 2, 3, 0]
    assert store["items/text"].tolist()[4] > 0, "a new product still has its title"
    assert store.user_rows == {"1": 1, "2": 2, "3": 3}
    assert store["users/id"].tolist() == [0, 1, 2, 0]


def test_row_zero_is_missing_everywhere(made: Made) -> None:
    transform, store = made
    rows, ranks = transform.items.encode({}, 1)
    assert store["items/fields"][0].tolist() == rows[0].tolist()
    assert store["items/numbers"][0].tolist() == ranks[0].tolist()
    assert (store["items/id"][0], store["items/text"][0], store["users/id"][0]) == (0, 0, 0)
    assert (store["users/profile"][0].tolist(), store["users/split"][0]) == ([-1], NO_SPLIT)
    assert not store["texts/tokens"][0].any()
    assert store.history_slice(0) == slice(0, 0)


def test_columns_are_coded_as_the_transform_codes_them(made: Made) -> None:
    _, store = made
    # category: 0 unknown, 1 shoes, 2 hats; price from row 3: missing, below 15, to 25, above.
    assert store["items/fields"].tolist() == [[0, 3], [1, 4], [1, 5], [2, 6], [0, 6]]
    assert store["users/fields"].tolist() == [[0], [1], [2], [0]]
    # device: 0 unknown, 1 phone, 2 desk; position from row 3: missing, 1, 2 and beyond.
    assert store["exposures/fields"].tolist() == [
        *([1, 4], [1, 5], [2, 4], [2, 5], [1, 4], [0, 5], [1, 4], [0, 5]),
    ]


def test_profiles_say_the_class_and_which_split_may_read_it(made: Made) -> None:
    _, store = made
    assert store["users/split"].tolist() == [NO_SPLIT, 0, 1, 2]
    assert store["users/profile"].tolist() == [[-1], [0], [-1], [-1]]  # M and X were not taught


def test_histories_are_sorted_by_user_and_time(made: Made) -> None:
    _, store = made
    first, second = store.history_slice(1), store.history_slice(2)
    assert store["history/item"][first].tolist() == [1, 1, 3, 4]
    assert store["history/action"][first].tolist() == [0, 1, 0, 0]  # click, buy, click, click
    assert store["history/time"][first].tolist() == [us(1), us(2), us(60), us(201)]
    assert store["history/item"][second].tolist() == [2, 1]
    assert store.history_slice(3) == slice(6, 6)


def test_what_users_were_shown_is_sorted_by_user_and_time(made: Made) -> None:
    _, store = made
    assert store["shown/start"].tolist() == [0, 0, 4, 7, 8]
    assert store["shown/item"].tolist() == [1, 2, 3, 4, 1, 2, 1, 4]
    assert store["shown/time"].tolist() == [us(h) for h in (0, 0, 60, 200, 30, 30, 100, 200)]


def test_what_was_shown_is_kept_for_profiles_alone(tmp_path: Path) -> None:
    toml = TOML.replace('profile = ["gender"]', "")
    assert toml != TOML
    _, store = compile_shop(write_shop(tmp_path, toml=toml))
    assert "shown/item" not in store.arrays


def test_what_users_were_shown_runs_on_where_a_fit_goes_on(made: Made, tmp_path: Path) -> None:
    """Exposures that teach no more were shown all the same, and what they came to is counted."""
    transform, store = made
    toml = TOML.split("[split]", maxsplit=1)[0] + "[split]\nvalidation = 0\ntest = 0\n"
    shop = write_shop(tmp_path / "shop", toml=toml)
    seam = Seam(str(START + timedelta(hours=80)), str(START + timedelta(hours=120)))
    with Engine(threads=1) as engine:
        prepare(engine, shop, seam=seam)
        later = compile_store(engine, shop, transform, tmp_path / "store")
    for name in ("shown/item", "shown/time", "shown/start", "history/time", "users/start"):
        assert later[name].tolist() == store[name].tolist(), name
    assert later["exposures/time"].tolist() == [us(60), us(100), us(200), us(200)]
    assert "earlier/item" not in store.arrays
    rows = store.item_rows
    found = zip(later["earlier/item"].tolist(), later["earlier/labels"].tolist(), strict=True)
    assert sorted(found) == sorted(
        [(rows["10"], [1, 1]), (rows["11"], [0, 0]), (rows["10"], [0, 0]), (rows["11"], [1, 0])]
    )
    # Whole days halve; the end of training is hour 200 here.
    of = {tuple(pair): mass for *pair, mass in zip(
        later["earlier/item"].tolist(), map(tuple, later["earlier/labels"].tolist()),
        later["earlier/mass"].tolist(), strict=True,
    )}  # fmt: skip
    mass = of[rows["11"], (1, 0)]
    assert mass[:2] == [1.0, 1.0]
    assert mass[2:] == pytest.approx([0.5 ** (170 / 24 / 14), 0.5 ** (170 / 24 / 3)], rel=1e-6)


def test_gold_titles_are_tagged_and_split(made: Made) -> None:
    transform, store = made
    assert store["titles/item"].tolist() == [1, 2, 3, 4]
    assert store["titles/split"].tolist() == [0, 0, 1, 2]
    assert store["titles/tags"].tolist() == [[[1, 0, -1, -1]]] * 4  # colour, word, nothing
    assert transform.text is not None
    coded = transform.text.encode(["red boot"])[0]
    assert store["texts/tokens"][store["titles/text"][0]].tolist() == coded.tolist()


def test_the_shop_gets_its_own_names_back(made: Made) -> None:
    _, store = made
    assert store.catalogue.column_names == ["item", "title", "category", "price"]
    assert store.catalogue["title"].to_pylist()[3] == "mauve scarf"
    keys = store.exposure_keys("test")
    assert keys.select(["user", "item", "request"]).to_pydict() == {
        "user": ["1", "3"],
        "item": ["13", "13"],
        "request": ["r6", "r5"],
    }
    assert [len(store.exposure_keys(split)) for split in RANGES] == [5, 1, 2]


def test_of_the_keys_only_the_pieces_of_a_split_are_read(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of two rows: training has five, validation the sixth, the test the last two."""
    wanted = {split: made[1].exposure_keys(split) for split in RANGES}
    link_store(made[1].folder, tmp_path / "store")
    store = open_store(tmp_path / "store")
    path = tmp_path / "store" / "keys" / "exposures.parquet"
    whole = pq.read_table(path)
    path.unlink()
    pq.write_table(whole, path, row_group_size=2)
    read: list[int] = []
    read_group = pq.ParquetFile.read_row_group

    def spy(file: pq.ParquetFile, group: int, columns: Any = None) -> pa.Table:
        read.append(group)
        return read_group(file, group, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    assert {split: store.exposure_keys(split) for split in RANGES} == wanted
    assert read == [0, 1, 2, 2, 3]
    read.clear()
    rows = np.array([7, 0, 6, 0])
    assert store.exposure_keys_of(rows) == whole.take(rows)
    assert store.exposure_keys("test", ["item", "user"]) == wanted["test"].select(["item", "user"])
    assert read == [0, 3, 3]
    assert store.exposure_keys_of(rows[:0], ["id"]) == whole.select(["id"]).slice(0, 0)


def test_split_codes_are_their_places_and_nothing_else_has_one() -> None:
    assert [split_code(name) for name in ("train", "validation", "test")] == [0, 1, 2]
    assert [split_code(name) for name in (None, "", "dev")] == [NO_SPLIT] * 3


# ---- history strictly before ------------------------------------------------------------


def ends(store: Store) -> dict[int, int]:
    """How many events of its user each exposure may look back on."""
    query = store["exposures/query"]
    start = store["users/start"][store["queries/user"][query]]
    return dict(enumerate((store["queries/end"][query] - start).tolist()))


def test_an_exposure_sees_only_what_came_before_its_moment(made: Made) -> None:
    # 4 does not see the click of its own moment, 6 does; 5 sees the click of hour 31.
    assert ends(made[1]) == {0: 0, 1: 0, 2: 0, 3: 0, 4: 2, 5: 1, 6: 3, 7: 0}


def test_planted_future_events_never_enter_a_history(tmp_path: Path) -> None:
    planted = [
        event(hour + late, user, product, kind, None)
        for late in (0, 1e-9, 0.001)  # the same moment, and a microsecond and a blink after it
        for hour, user in ((0, 1), (30, 2), (60, 1), (100, 2), (200, 1), (200, 3))
        for product in (11, 12)
        for kind in ("click", "buy")
    ]
    _, store = compile_shop(write_shop(tmp_path, events=[*EVENTS, *planted]))
    query = store["exposures/query"]
    end, user = store["queries/end"][query], store["queries/user"][query]
    before, times = store["users/start"], store["history/time"]
    for row, moment in enumerate(store["exposures/time"].tolist()):
        seen = times[before[user[row]] : end[row]]
        unseen = times[end[row] : before[user[row] + 1]]
        assert (seen < moment).all()
        assert (unseen >= moment).all(), "nothing that was before is withheld either"


def test_all_events_of_one_earlier_moment_are_seen(tmp_path: Path) -> None:
    same = [event(50, 1, 10 + i % 4, "click", None) for i in range(9)]
    _, store = compile_shop(write_shop(tmp_path, events=[*EVENTS, *same]))
    assert ends(store)[4] == 2 + 9


# ---- ordinary bad input -----------------------------------------------------------------


def test_ids_above_two_to_the_53_keep_their_last_digit(tmp_path: Path) -> None:
    big = 2**53
    assert float(big) == float(big + 1), "or this test would show nothing"
    new = {10: big, 11: big + 1, 12: 2**63 - 1, 13: -(2**63)}
    users = {1: big + 1, 2: big, 3: 2**63 - 1}
    _, store = compile_shop(
        write_shop(
            tmp_path,
            items=[row | {"item_id": new[row["item_id"]]} for row in ITEMS],
            users=[row | {"user_id": users[row["user_id"]]} for row in USERS],
            events=[
                row | {"item_id": new[row["item_id"]], "user_id": users[row["user_id"]]}
                for row in EVENTS
            ],
        )
    )
    assert set(store.item_keys) == {"", *map(str, new.values())}
    assert store.catalogue["title"].to_pylist()[store.item_rows[str(big)] - 1] == "red boot"
    assert store.catalogue["title"].to_pylist()[store.item_rows[str(big + 1)] - 1] == "blue boot"
    assert set(store.user_rows) == set(map(str, users.values()))
    keys = store.exposure_keys("train")
    assert keys["item"].to_pylist() == [str(new[old]) for old in (10, 11, 10, 11, 12)]
    assert keys["user"].to_pylist() == [str(users[old]) for old in (1, 1, 2, 2, 1)]


def test_text_ids_and_text_that_looks_like_a_number_stay_as_they_are(tmp_path: Path) -> None:
    new = {10: "007", 11: "7", 12: "7.0", 13: "商品 ' \""}
    _, store = compile_shop(
        write_shop(
            tmp_path,
            items=[row | {"item_id": new[row["item_id"]]} for row in ITEMS],
            events=[row | {"item_id": new[row["item_id"]]} for row in EVENTS],
        )
    )
    assert set(store.item_keys) == {"", *new.values()}
    assert store.exposure_keys("test")["item"].to_pylist() == [new[13]] * 2


def test_events_may_name_users_and_products_that_no_table_has(tmp_path: Path) -> None:
    extra = [event(10, 77, 88, "shown", "r9"), event(11, 77, 88, "click", "r9")]
    _, store = compile_shop(write_shop(tmp_path, events=[*EVENTS, *extra]))
    assert store.item_keys[-1] == "88" and store.user_rows["77"] == 4
    assert store["items/fields"][5].tolist() == store["items/fields"][0].tolist()
    assert store["items/text"][5] == 0
    assert (store["users/split"][4], store["users/profile"][4, 0]) == (NO_SPLIT, -1)
    assert store["items/id"][5] > 0, "it was seen in training, so its id is known"


def test_a_title_of_ten_thousand_characters_is_cut_and_an_empty_one_is_empty(
    tmp_path: Path,
) -> None:
    items = [
        item(10, "long " + "红" * 10_000, "train"),
        item(11, "x" * 10_000, "train"),
        item(12, None, "validation"),
        item(13, "  ", "test"),
    ]
    _, store = compile_shop(write_shop(tmp_path, items=items))
    tokens = store["texts/tokens"][store["items/text"]]
    assert tokens[:, :, 0].astype(bool).sum(1).tolist() == [0, 4, 1, 0, 0]
    assert store["titles/tags"][0].tolist() == [[1, 0, 0, 0]]


def test_missing_and_infinite_numbers_are_ordinary(tmp_path: Path) -> None:
    prices = (float("nan"), None, float("inf"), 3.0)
    items = [row | {"price": price} for row, price in zip(ITEMS, prices, strict=True)]
    _, store = compile_shop(write_shop(tmp_path, items=items))
    assert np.isfinite(store["items/numbers"]).all()
    assert store["items/fields"][1].tolist()[1] == store["items/fields"][0].tolist()[1]


def test_columns_may_have_the_names_that_the_store_uses_itself(tmp_path: Path) -> None:
    own = ("item", "text", "row", "text_row", "split", "user", "time", "weight", "query")
    items = [row | {name: f"{name} {i}" for name in own} for i, row in enumerate(ITEMS)]
    users = [row | {name: f"{name} {i}" for name in own} for i, row in enumerate(USERS)]
    events = [row | dict.fromkeys(own, "same") for row in EVENTS]
    listed = json.dumps(list(own))
    toml = TOML.replace('["category", "price"]', listed).replace('["city"]', listed)
    toml = toml.replace('["device", "position"]', listed).replace('["title"]', '["item"]')
    shop = write_shop(tmp_path, items=items, users=users, events=events, toml=toml)
    _, store = compile_shop(shop)
    assert store.item_keys == ["", "10", "11", "12", "13"]
    assert store.catalogue["item"].to_pylist() == ["item 0", "item 1", "item 2", "item 3"]
    assert store.user_rows == {"1": 1, "2": 2, "3": 3}
    assert store["exposures/item"].tolist() == [1, 2, 1, 2, 3, 1, 4, 4]


def test_the_column_of_annotated_attributes_may_be_called_text(tmp_path: Path) -> None:
    items = [row | {"text": ["colour"] if i else []} for i, row in enumerate(ITEMS)]
    toml = TOML.replace('spans = "spans"', 'spans = "spans"\nannotated = "text"')
    _, store = compile_shop(write_shop(tmp_path, items=items, toml=toml))
    assert store["titles/tags"].tolist() == [[[-1] * 4]] + [[[1, 0, -1, -1]]] * 3


TOLD = TOML.replace('spans = "spans"\n', "")


def told(*products: tuple[str, str | None, str]) -> list[dict[str, Any]]:
    """Products without spans whose column says their colour: title, colour, split."""
    return [
        item(10 + i, title, part, colour=colour) for i, (title, colour, part) in enumerate(products)
    ]


def test_without_spans_a_title_is_tagged_where_its_product_s_value_stands(tmp_path: Path) -> None:
    items = told(
        ("red boot", "red", "train"),
        ("boot NAVY-blue", "Navy Blue", "train"),
        ("boot navy blue", "Navy Blue", "train"),
        ("green hat", None, "validation"),  # nothing is known: no gold, nor its absence
        ("scarf", " ", "test"),
        ("mauve scarf", "lilac", "test"),  # not in the title: unknown, not absent
        ("red scarf", "RED", "test"),
    )
    transform, store = compile_shop(write_shop(tmp_path, items=items, toml=TOLD))
    assert store["titles/item"].tolist() == [1, 2, 3, 6, 7]
    assert store["titles/tags"][:, 0].tolist() == [
        [1, 0, -1, -1],
        [-1, -1, -1, -1],  # a hyphen more than the column has
        [0, 1, 2, -1],
        [-1, -1, -1, -1],
        [1, 0, -1, -1],
    ]
    assert store.titles["annotated"].to_pylist() == [["colour"], [], ["colour"], [], ["colour"]]
    assert store.titles["spans"][2].as_py() == [{"start": 5, "end": 14, "attribute": "colour"}]
    # As classes every column counts, in the title or not; training has not seen the others.
    assert transform.values.names == ("colour",)
    assert transform.classes("colour") == ("Navy Blue", "red")
    assert store["titles/values"][:, 0].tolist() == [1, 0, 0, -1, -1]


def test_what_the_catalogue_tells_of_an_attribute_is_a_trait_and_no_input(tmp_path: Path) -> None:
    items = told(
        ("red boot", "red", "train"), ("old boot", "blue", "train"), ("hat", None, "validation"),
        ("mauve scarf", "lilac", "test"),
    )  # fmt: skip
    transform, store = compile_shop(write_shop(tmp_path / "told", items=items, toml=TOLD))
    assert transform.traits.names == ("colour",)
    assert store["items/traits"][:, 0].tolist() == [0, 2, 1, 0, 0]  # lilac is not in training
    assert "colour" not in transform.items.names
    assert Transform.from_json(transform.to_json()) == transform
    # Who learns nothing from titles may count what they are about all the same.
    toml = TOLD + "\n[tasks.extract]\nenabled = false\n"
    alone, _ = compile_shop(write_shop(tmp_path / "alone", items=items, toml=toml))
    assert alone.traits == transform.traits
    toml = TOLD.replace('columns = ["category"', 'columns = ["colour", "category"')
    _, inputs = compile_shop(write_shop(tmp_path / "input", items=items, toml=toml))
    assert inputs["items/traits"].shape == (5, 0)
    # Another shop's table may lack the column.
    _, other = compile_shop(write_shop(tmp_path / "other"), transform=transform)
    assert other["items/traits"].tolist() == [[0]] * 5


def test_a_value_that_is_mostly_an_ordinary_word_tags_nothing(tmp_path: Path) -> None:
    products = [("orange mug", "white", "train"), ("orange cap", "black", "train")]
    items = told(("orange boot", "orange", "train"), *products, ("red cap", "red", "train"))
    _, store = compile_shop(write_shop(tmp_path, items=items, toml=TOLD))
    assert store["titles/tags"][:, 0, 0].tolist() == [-1, -1, -1, 1]
    # Where it is as often meant as not it is taken at its word.
    items = told(("orange boot", "orange", "train"), *products[:1], ("red cap", "red", "train"))
    _, store = compile_shop(write_shop(tmp_path / "other", items=items, toml=TOLD))
    assert store["titles/tags"][:, 0, 0].tolist() == [1, -1, 1]


def test_a_span_that_is_no_span_is_refused_with_its_product(tmp_path: Path) -> None:
    items = [*ITEMS[:3], ITEMS[3] | {"spans": [{"start": 4, "end": 4, "attribute": "colour"}]}]
    with pytest.raises(DataError, match=r"items\.spans: product 13: span \[4, 4\) of 'colour'"):
        compile_shop(write_shop(tmp_path, items=items))


def test_a_wide_table_with_users_and_without_times_has_no_history(tmp_path: Path) -> None:
    rows = [{"u": i % 3, "i": i % 5, "a": i % 2} for i in range(60)]
    toml = '[events]\npath = "events.parquet"\nuser = "u"\nitem = "i"\nlabels = ["a"]\n'
    _, store = compile_shop(write_shop(tmp_path, items=(), users=(), events=rows, toml=toml))
    assert (store.n_users, store.n_items, len(store["history/item"])) == (3, 5, 0)
    assert set(ends(store).values()) == {0}


def test_a_flat_table_has_neither_users_nor_products(tmp_path: Path) -> None:
    rows = [{"x": i % 3, "a": None if i % 4 else i % 2} for i in range(60)]
    toml = '[events]\npath = "events.parquet"\nlabels = ["a"]\ncontext = ["x"]\n'
    _, store = compile_shop(write_shop(tmp_path, items=(), users=(), events=rows, toml=toml))
    assert (store.n_users, store.n_items) == (0, 0)
    assert set(store["exposures/query"].tolist()) == {-1}
    assert set(store["exposures/labels"].ravel().tolist()) == {0, -1}


# ---- what is refused --------------------------------------------------------------------


def test_a_store_opened_again_holds_the_same_arrays(made: Made) -> None:
    _, store = made
    again = open_store(store.folder)
    assert again.ranges == store.ranges
    assert all(np.array_equal(again[name], store[name]) for name in store.arrays)


def test_the_arrays_of_a_store_cannot_be_written(made: Made) -> None:
    with pytest.raises(ValueError, match="read-only"):
        made[1]["exposures/labels"][0, 0] = 0


def test_a_half_written_store_is_refused(own: Path) -> None:
    (own / "store.json").unlink()
    with pytest.raises(ArtifactError, match=r"store: no store\.json, so the store is unfinished"):
        open_store(own)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    path.write_bytes(b"\x00" * path.stat().st_size)


def pickled(path: Path) -> None:
    np.save(path, np.array([print], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("harm", [cut, empty, scribble, pickled, Path.unlink])
def test_a_damaged_array_is_refused_by_name(own: Path, harm: Callable[[Path], Any]) -> None:
    harm(own / "queries" / "end.npy")
    with pytest.raises(ArtifactError, match=r"queries/end\.npy: cannot be read .*compile again"):
        open_store(own)


@pytest.mark.parametrize("other", [np.zeros(5, np.int64), np.zeros(6, np.int32)])
def test_an_array_of_another_shape_or_type_is_refused_by_name(own: Path, other: Any) -> None:
    np.save(own / "queries" / "end.npy", other)
    with pytest.raises(ArtifactError, match=r"end\.npy: int.* the store says int64 \[6\]; compile"):
        open_store(own)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"arrays": {}, "ranges": {"train": 3}}'])
def test_a_damaged_list_of_arrays_is_refused(own: Path, text: str) -> None:
    (own / "store.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"store\.json: damaged .*; compile the store again"):
        open_store(own)


def test_a_store_without_the_shops_names_is_refused(own: Path) -> None:
    (own / "keys" / "users.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"keys: no users\.parquet; compile the store again"):
        open_store(own)


# ---- a full disk ------------------------------------------------------------------------


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "store" in path.name)


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = write_shop(tmp_path)
    monkeypatch.setattr(Writer, "append", full)
    with pytest.raises(DataError, match=r"store: writing .* failed \(No space left on device\); n"):
        compile_shop(shop)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_late_leaves_the_store_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = write_shop(tmp_path)
    _, before = compile_shop(shop)
    labels = before["exposures/labels"].copy()
    for name in ("compile.write_exposures", "writer.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"daogou.features.store.{name}", full)
            with pytest.raises(DataError, match="free some disk or give another folder"):
                compile_shop(shop)
        assert ".partial" not in "".join(left(tmp_path))
        if name == "compile.write_exposures":
            assert np.array_equal(open_store(shop.root / "store")["exposures/labels"], labels)


def test_a_store_that_may_not_be_written_asks_for_the_right_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Writer, "append", refused)
    with pytest.raises(DataError, match="let this user write there or give another folder"):
        compile_shop(write_shop(tmp_path))


def test_any_other_error_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("ours")

    monkeypatch.setattr(compile_module, "write_exposures", broken)
    with pytest.raises(KeyError, match="ours"):
        compile_shop(write_shop(tmp_path))
    assert left(tmp_path) == []


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path) -> None:
    rest = tmp_path / "store.partial" / "keys"
    rest.mkdir(parents=True)
    (rest / "items.parquet").write_text("half")
    compile_shop(write_shop(tmp_path))
    assert left(tmp_path) == ["store"]


def test_a_disk_that_is_full_when_the_last_bytes_are_flushed_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            full()

    def opened(self: Writer, name: str, values: Any) -> None:
        self.files[name] = Full()
        self.arrays.setdefault(name, (str(values.dtype), list(values.shape)))

    monkeypatch.setattr(Writer, "append", opened)
    with pytest.raises(DataError, match="No space left on device"):
        compile_shop(write_shop(tmp_path))
    assert left(tmp_path) == []


# ---- in pieces --------------------------------------------------------------------------


def test_an_array_written_in_pieces_is_the_file_that_numpy_writes_at_once(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.int32).reshape(10, 3)
    writer = Writer(tmp_path)
    for piece in (values[:0], values[:7], values[7:]):
        writer.append("a/b", piece)
    writer.finish()
    assert writer.arrays == {"a/b": ("int32", [10, 3])}
    np.save(tmp_path / "whole.npy", values)
    assert (tmp_path / "a" / "b.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert writer.read("a/b").tolist() == values.tolist()
    writer.append("a/b", values[:1])  # what was finished can still grow
    writer.finish()
    writer.close()
    assert np.load(tmp_path / "a" / "b.npy").shape == (11, 3)


def test_the_store_does_not_depend_on_how_the_answers_are_cut(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Engine.batches

    def one_by_one(engine: Engine, sql: str) -> Iterator[pa.RecordBatch]:
        for batch in whole(engine, sql):
            yield from (batch.slice(row, 1) for row in range(batch.num_rows))

    monkeypatch.setattr(Engine, "batches", one_by_one)
    _, cut = compile_shop(write_shop(tmp_path))
    assert set(cut.arrays) == set(made[1].arrays)
    for name, array in made[1].arrays.items():
        assert np.array_equal(cut[name], array), name
    assert cut.exposure_keys("test") == made[1].exposure_keys("test")


def wide_shop(folder: Path, part: str = "") -> Shop:
    """Two users whose rows alternate, in a table without times."""
    users = [1, 2, 1, None, 2, 1, 2, 1]
    rows = [
        {"user_id": user, "item_id": 10, "y": n % 2, "part": word}
        for n, (user, word) in enumerate(zip(users, SPLIT_WORDS, strict=True))
    ]
    toml = """
[events]
path = "events.parquet"
user = "user_id"
item = "item_id"
labels = ["y"]
split = "part"
"""
    return write_shop(folder, items=(), users=(), events=tuple(rows), toml=toml)


SPLIT_WORDS = ("test", "train", "train", "train", "train", "validation", "test", "train")


def test_without_times_a_users_exposures_of_one_split_are_one_query(tmp_path: Path) -> None:
    _, store = compile_shop(wide_shop(tmp_path))
    assert store.ranges == {"train": (0, 5), "validation": (5, 6), "test": (6, 8)}
    # train: users 2, 1, none, 2, 1; validation: user 1; test: users 1, 2.
    assert store["exposures/query"].tolist() == [0, 1, -1, 0, 1, 2, 3, 4]
    assert store["queries/user"].tolist() == [2, 1, 1, 1, 2]
    assert store["queries/end"].tolist() == [0] * 5
    assert store["exposures/labels"][:, 0].tolist() == [1, 0, 1, 0, 1, 1, 0, 0]


moments = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([None, "a", "b"])), max_size=30
)


@given(rows=moments, cuts=st.lists(st.integers(0, 30)), first=st.integers(0, 30))
def test_queries_are_numbered_alike_however_the_exposures_are_cut(
    rows: list[tuple[int, int, str | None]], cuts: list[int], first: int
) -> None:
    rows.sort(key=lambda row: (row[1], row[0], str(row[2])))
    # By hand: the exposures before ``first`` are of one split, the others of another.
    numbers: dict[Any, int] = {}
    expected = [
        numbers.setdefault((n >= first, *row), len(numbers)) if row[0] else -1
        for n, row in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder))
        writer.append("users/start", np.array([0, 0, 2, 2, 5]))
        writer.append("history/time", np.array([1, 1, 0, 1, 2]))
        queries = Numbering(writer, {0, first})
        found: list[int] = []
        edges = sorted({0, *cuts, len(rows)})
        for one, two in itertools.pairwise(edges):
            piece = rows[one:two]
            user = np.array([row[0] for row in piece], dtype=np.int32)
            time = np.array([row[1] for row in piece], dtype=np.int64)
            request = pa.array([row[2] for row in piece], pa.string())
            found += queries.number(user, time, request, None).tolist()
        writer.close()
    assert found == expected


@given(
    times=st.lists(st.lists(st.integers(0, 9), max_size=9).map(sorted), min_size=1, max_size=4),
    time=st.integers(-1, 10),
)
def test_a_history_ends_at_its_first_event_that_is_not_earlier(
    times: list[list[int]], time: int
) -> None:
    events = np.array([each for own in times for each in own], dtype=np.int64)
    start = np.cumsum([0, *map(len, times)])
    users = np.arange(len(times))
    found = first_from(events, start, users, np.full(len(times), time))
    assert found.tolist() == [
        start[user] + bisect.bisect_left(own, time) for user, own in enumerate(times)
    ]


# ---- serving ----------------------------------------------------------------------------


def test_another_shops_rows_go_through_the_same_transform(tmp_path: Path) -> None:
    shop = write_shop(tmp_path)
    transform = fit_shop(shop)
    fresh = [*ITEMS[:3], item(14, "red scarf", "test", category="shoes", price=10.0)]
    events = [row | {"item_id": 14 if row["item_id"] == 13 else row["item_id"]} for row in EVENTS]
    later = write_shop(tmp_path / "later", items=fresh, events=events)
    with Engine(threads=1) as engine:
        prepare(engine, later)
        store = compile_store(engine, later, transform, tmp_path / "later" / "store")
    assert store["items/id"].tolist() == [0, 1, 2, 3, 0]
    assert store["items/fields"][4].tolist() == store["items/fields"][1].tolist()


PAID = TOML.replace('request = "request"', 'request = "request"\nvalue = "amount"')
LIKES = TOML.replace('profile = ["gender"]', 'profile = ["gender", "likes", "ways"]')


def test_a_value_is_kept_beside_the_labels_with_its_scale_of_training(tmp_path: Path) -> None:
    events = [dict(row, amount=np.e**3 if row["event"] == "buy" else None) for row in EVENTS]
    events += [
        event(202, 1, 13, "buy", "r6", amount=7.0),
        event(300, 1, 10, "leave", None, amount=None),
    ]
    transform, store = compile_shop(write_shop(tmp_path, events=events, toml=PAID))
    assert transform.value is not None
    assert transform.value.mean == pytest.approx(3.0)
    assert transform.value.spread == 1.0
    assert store["exposures/value"].dtype == np.float32
    nan = np.nan
    wanted = [np.e**3, 0, 0, 0, nan, 0, 7.0, 0]  # of place 4 nobody knows whether it was bought
    np.testing.assert_allclose(store["exposures/value"], wanted, rtol=1e-6)
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform


def test_another_shop_without_the_value_has_it_missing_everywhere(tmp_path: Path) -> None:
    events = [dict(row, amount=2.0) for row in EVENTS]
    transform = fit_shop(write_shop(tmp_path / "one", events=events, toml=PAID))
    _, store = compile_shop(write_shop(tmp_path / "other"), transform=transform)
    assert np.isnan(store["exposures/value"]).all()


def test_a_shop_without_amounts_or_lists_has_no_array_of_them(made: Made) -> None:
    assert not {"exposures/value", "users/many"} & set(made[1].arrays)
    document = made[0].to_json()
    del document["value"], document["many"]  # as written before there were any
    assert Transform.from_json(document) == made[0]


def test_lists_become_a_yes_or_no_for_each_value_that_training_knows(tmp_path: Path) -> None:
    users = [
        dict(row, likes=likes, ways=ways)
        for row, likes, ways in zip(
            USERS, (["b", "a", None], ["a", "never seen"], None), ([], ["walk"], []), strict=True
        )
    ]
    lists = pa.list_(pa.string())
    shop = write_shop(tmp_path, users=users, toml=LIKES)
    table = pa.table(
        {
            name: pa.array(
                [row[name] for row in users], lists if name in ("likes", "ways") else None
            )
            for name in users[0]
        }
    )
    pq.write_table(table, tmp_path / "users.parquet")
    transform, store = compile_shop(shop)
    # Only user 1 may teach: likes are a and b, and no way is known.
    assert transform.profile.names == ("gender",)
    assert transform.many.names == ("likes", "ways")
    assert (transform.classes("likes"), transform.classes("ways")) == (("a", "b"), ())
    assert transform.first_values == (0, 2)
    assert store["users/many"].tolist() == [[-1, -1], [1, 1], [1, 0], [-1, -1]]
    assert store["users/profile"].shape == (4, 1)


@pytest.mark.parametrize(
    ("loss", "column", "message"),
    [
        ("multilabel", "gender", "'gender' is VARCHAR; write it as a list"),
        ("ordinal", "likes", r"'likes' is VARCHAR\[\]; a list has no order"),
    ],
)
def test_a_loss_that_wants_another_type_of_column_is_refused(
    tmp_path: Path, loss: str, column: str, message: str
) -> None:
    users = [dict(row, likes=["a"], ways=["b"]) for row in USERS]
    toml = f'{LIKES}\n[tasks."profile.{column}"]\nloss = "{loss}"\n'
    with pytest.raises(
        DataError, match=f"tasks.profile.{column}.loss: '{loss}', and column {message}"
    ):
        fit_shop(write_shop(tmp_path, users=users, toml=toml))


def test_a_column_whose_words_tell_no_order_is_refused_before_its_tables_are_compiled(
    tmp_path: Path,
) -> None:
    users = [dict(row, gender=tier, part="train") for row, tier in zip(USERS, "abc", strict=True)]
    toml = f'{TOML}\n[tasks."profile.gender"]\nloss = "ordinal"\n'
    with pytest.raises(ConfigError, match=r"^tasks\.profile\.gender\.order: no number to go by"):
        fit_shop(write_shop(tmp_path / "bare", users=users, toml=toml))
    toml += 'order = ["c", "a", "b", "d"]\n'
    shop = write_shop(tmp_path / "told", users=users, toml=toml)
    assert fit_shop(shop).classes("gender") == ("a", "b", "c")
    assert shop.task("profile.gender").order == ("c", "a", "b", "d")


AWAITED = TOML + '\n[tasks.buy]\nloss = "dfm"\n'


def test_delays_are_kept_where_a_loss_asks_for_them(tmp_path: Path, made: Made) -> None:
    _, store = compile_shop(write_shop(tmp_path, toml=AWAITED))
    nan = np.nan
    delay, watched = store["exposures/delay_h"], store["exposures/watched_h"]
    assert delay.dtype == watched.dtype == np.float32
    # Bought at 2, shown at 0. Validation begins 20 hours after the exposure of hour 60.
    np.testing.assert_array_equal(delay, [[nan, 2.0], *[[nan, nan]] * 7])
    np.testing.assert_array_equal(
        watched, [[nan, hours] for hours in (24, 24, 24, 24, 20, *[24] * 3)]
    )
    assert not {"exposures/delay_h", "exposures/watched_h"} & set(made[1].arrays)


def test_a_store_like_another_shares_its_files_and_leaves_it_as_it_was(
    made: Made, tmp_path: Path
) -> None:
    store = made[1]
    before = {name: np.array(array) for name, array in store.arrays.items()}
    wide = np.arange(3 * N_EXPOSURES, dtype=np.int32).reshape(N_EXPOSURES, 3)
    other = rewrite_store(store, tmp_path / "other", {"exposures/fields": [wide[:5], wide[5:]]})
    assert other["exposures/fields"].tolist() == wide.tolist() and other.ranges == store.ranges
    again = open_store(store.folder)
    assert all((again[name] == array).all() for name, array in before.items())
    labels = (each.folder / "exposures" / "labels.npy" for each in (store, other))
    assert next(labels).samefile(next(labels))
    assert not list(tmp_path.glob("*.partial"))
