"""What a transform learns from the tiny shop, by hand; what it must never look at."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from daogou.errors import ArtifactError
from daogou.features.numeric import Numeric
from daogou.features.transform import Transform
from daogou.features.transform.fields import Fields, as_numbers
from daogou.features.transform.fit import fit_transform
from daogou.features.transform.titles import text_of
from daogou.features.vocab import Vocab
from daogou.tables import Engine, prepare
from tests.shops import EVENTS, ITEMS, TOML, USERS, Rows, event, fit_shop, item, write_shop


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Transform:
    return fit_shop(write_shop(tmp_path_factory.mktemp("tiny")))


# ---- by hand ----------------------------------------------------------------------------


def test_ids_are_those_of_training_by_how_often_they_were_seen(fitted: Transform) -> None:
    # Product 10: two exposures, a click and a purchase; 11: two and a click; 12: one and a click.
    assert fitted.item_ids == Vocab(("10", "11", "12"), (4, 3, 2))
    # Exposures in training: three of user 1, two of user 2. User 3 comes only in the test.
    assert fitted.user_ids == Vocab(("1", "2"), (3, 2))


def test_columns_are_those_of_what_training_saw(fitted: Transform) -> None:
    assert fitted.items.names == ("category", "price")
    assert fitted.items.coders == (
        Vocab(("shoes", "hats"), (2, 1)),
        Numeric((15.0, 25.0), (10.0, 20.0, 30.0)),
    )
    assert fitted.users.coders == (Vocab(("Oslo", "Rome"), (1, 1)),)
    assert fitted.context.coders == (
        Vocab(("phone", "desk"), (3, 2)),
        Numeric((1.5,), (1.0, 2.0)),
    )


def test_classes_are_those_of_users_whose_labels_may_teach(fitted: Transform) -> None:
    assert fitted.classes("gender") == ("F",)


def test_words_are_those_of_the_titles_that_training_saw(fitted: Transform) -> None:
    assert fitted.text is not None
    assert set(fitted.text.words) == {"boot", "red", "blue", "green", "hat"}


def test_stages_actions_and_attributes_come_from_the_shop(fitted: Transform) -> None:
    assert fitted.stages == fitted.actions == ("click", "buy")
    assert (fitted.text_columns, fitted.attributes) == (("title",), ("colour",))


# ---- training only ----------------------------------------------------------------------


def wild(rows: Rows, keep: Any, change: Any) -> list[dict[str, Any]]:
    return [row if keep(row) else row | change(row) for row in rows]


def is_train(row: dict[str, Any]) -> bool:
    return bool(row["ts"] < event(80, 0, 0, "", None)["ts"])


def test_validation_and_test_rows_may_say_anything(fitted: Transform, tmp_path: Path) -> None:
    events = wild(EVENTS, is_train, lambda row: {"device": f"odd {row['ts']}", "position": -1e12})
    shop = write_shop(
        tmp_path,
        items=[*ITEMS[:3], item(13, "zzz qqq www", "test", category="new", price=1e15)],
        users=[
            USERS[0],
            USERS[1] | {"gender": "?"},
            USERS[2] | {"city": "Nowhere", "gender": "!"},
        ],
        events=events,
    )
    assert fit_shop(shop) == fitted


def test_more_events_after_training_teach_nothing(fitted: Transform, tmp_path: Path) -> None:
    later = [
        event(hour, user, product, kind, f"x{hour}", device="tv", position=float(hour))
        for hour in range(151, 249)
        for user, product in ((1, 10), (3, 13))
        for kind in ("shown", "click")
    ]
    assert fit_shop(write_shop(tmp_path, events=[*EVENTS, *later])) == fitted


def test_whether_a_later_exposure_was_clicked_teaches_nothing(
    fitted: Transform, tmp_path: Path
) -> None:
    kept = [row for row in EVENTS if is_train(row) or row["event"] in ("shown", "leave")]
    assert len(kept) < len(EVENTS)
    assert fit_shop(write_shop(tmp_path, events=kept)) == fitted


def test_the_guard_itself_sees_a_change_in_training(fitted: Transform, tmp_path: Path) -> None:
    events = [EVENTS[0] | {"device": "tv"}, *EVENTS[1:]]
    assert fit_shop(write_shop(tmp_path, events=events)) != fitted


def test_the_order_of_rows_in_the_files_teaches_nothing(fitted: Transform, tmp_path: Path) -> None:
    shop = write_shop(
        tmp_path,
        items=list(reversed(ITEMS)),
        users=list(reversed(USERS)),
        events=list(reversed(EVENTS)),
    )
    assert fit_shop(shop) == fitted


# ---- round trip -------------------------------------------------------------------------


def test_text_on_disk_gives_an_equal_transform(fitted: Transform) -> None:
    text = json.dumps(fitted.to_json(), ensure_ascii=False, allow_nan=False)
    assert Transform.from_json(json.loads(text)) == fitted


def test_a_flat_shop_without_text_comes_back_equal(tmp_path: Path) -> None:
    fitted = fit_shop(write_shop(tmp_path, items=(), users=(), events=WIDE, toml=WIDE_TOML))
    assert (fitted.text, fitted.item_ids.n_rows, fitted.user_ids.n_rows) == (None, 1, 1)
    assert Transform.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_a_transform_of_another_version_is_refused(fitted: Transform) -> None:
    with pytest.raises(ArtifactError, match=r"transform: version 99, this Daogou reads \d+; fit"):
        Transform.from_json(fitted.to_json() | {"version": 99})
    with pytest.raises(ArtifactError, match=r"transform: version None"):
        Transform.from_json({})


# ---- encoding ---------------------------------------------------------------------------


def columns(**values: list[Any]) -> dict[str, pa.ChunkedArray]:
    return {name: pa.chunked_array([pa.array(each)]) for name, each in values.items()}


def test_columns_share_one_table_each_with_rows_of_its_own(fitted: Transform) -> None:
    fields = fitted.items
    # category: unknown, shoes, hats; price: missing and three buckets.
    assert (fields.offsets, fields.n_rows, fields.n_numbers) == ((0, 3), 7, 1)
    given = columns(category=["hats", "coats", None], price=[20.0, None, 1e9])
    rows, ranks = fields.encode(given, 3)
    assert rows.tolist() == [[2, 5], [0, 3], [0, 6]]
    assert ranks.tolist() == [[0.5], [0.5], [1.0]]


def test_a_column_that_is_not_given_is_missing(fitted: Transform) -> None:
    rows, ranks = fitted.items.encode({}, 2)
    assert rows.tolist() == [[0, 3], [0, 3]]
    assert ranks.tolist() == [[0.5], [0.5]]


def test_no_columns_give_no_rows() -> None:
    rows, ranks = Fields((), ()).encode({}, 3)
    assert (rows.shape, ranks.shape, Fields((), ()).offsets) == ((3, 0), (3, 0), ())


def test_arrow_numbers_become_float64_with_nan_for_missing() -> None:
    for column in (pa.array([1, None]), pa.chunked_array([[1], [None]], pa.int32())):
        numbers = as_numbers(column)
        assert numbers.dtype == np.float64
        np.testing.assert_array_equal(numbers, [1.0, np.nan])


def test_a_text_is_its_columns_with_a_space_between(tmp_path: Path) -> None:
    with Engine(threads=1) as engine:
        engine.add("items", pa.table({"a b": ["x", None], "c": ["y", "z"]}))
        sql = f"SELECT {text_of(('a b', 'c'), 'items')}, {text_of((), 'items')} FROM items"
        assert engine.rows(sql) == [("x y", ""), (" z", "")]


# ---- kinds of column --------------------------------------------------------------------


WIDE = [{"x": i % 3, "y": 1.0 * i, "click": i % 2, "buy": i % 2} for i in range(60)]
WIDE_TOML = """
[events]
path = "events.parquet"
labels = ["click", "buy"]
context = ["x", "y"]
"""


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int32(), pa.decimal128(9, 2)])
def test_a_column_of_numbers_is_cut_into_buckets(tmp_path: Path, kind: pa.DataType) -> None:
    shop = write_shop(tmp_path, items=(), users=(), events=WIDE, toml=WIDE_TOML)
    numbers = pa.array([Decimal(i) if pa.types.is_decimal(kind) else i for i in range(60)], kind)
    table = pa.table({"y": numbers, "x": ["a"] * 60, "click": [0, 1] * 30})
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        engine.add("exposures", table.rename_columns(["context_y", "context_x", "label_click"]))
        engine.run("ALTER TABLE exposures ADD COLUMN split VARCHAR DEFAULT 'train'")
        for name in ("item", "user", "time"):
            engine.run(f'ALTER TABLE exposures ADD COLUMN "{name}" TIMESTAMP')
        fitted = fit_transform(engine, shop, buckets=8)
    coder = fitted.context.coders[1]
    assert isinstance(coder, Numeric) and coder.n_rows == 9


@pytest.mark.parametrize("values", [["a", "b"], [True, False]])
def test_words_and_truths_are_given_rows(tmp_path: Path, values: list[Any]) -> None:
    events = [row | {"x": values[i % 2]} for i, row in enumerate(WIDE)]
    fitted = fit_shop(write_shop(tmp_path, items=(), users=(), events=events, toml=WIDE_TOML))
    coder = fitted.context.coders[0]
    assert isinstance(coder, Vocab) and len(coder.words) == 2


def test_a_rare_word_gets_no_row_if_the_shop_asks(tmp_path: Path) -> None:
    shop = write_shop(tmp_path)
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        fitted = fit_transform(engine, shop, min_count=3, text_length=4)
    assert fitted.item_ids.words == ("10", "11")
    assert fitted.user_ids.words == ("1",)
    assert fitted.classes("gender") == ("F",), "classes are never cut"


@pytest.mark.parametrize("flat", ["", "[events]\npath = 'events.parquet'\nlabels = ['click']\n"])
def test_titles_are_learnt_from_where_no_exposure_names_a_product(
    tmp_path: Path, flat: str
) -> None:
    toml = TOML.split("[users]")[0] + flat
    fitted = fit_shop(write_shop(tmp_path, users=(), events=WIDE if flat else (), toml=toml))
    assert fitted.text is not None
    assert set(fitted.text.words) == {"boot", "red", "blue"}  # 12 chooses and 13 tests


def test_every_setting_of_the_fit_is_kept_by_its_name(tmp_path: Path) -> None:
    shop = write_shop(tmp_path)
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        short = fit_transform(engine, shop, text_length=2)
        whole = fit_transform(engine, shop, text_length=4)
    assert short.text is not None and whole.text is not None
    assert (short.text.length, whole.text.length) == (2, 4)
    assert replace(short, text=whole.text) == whole
