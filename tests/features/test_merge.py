"""What two shops' transforms have in common, by hand on two tiny shops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daogou.errors import ConfigError
from daogou.features.labels import fields_labels, places, text_labels, vocab_labels
from daogou.features.merge import DOMAIN, grow, merge, recode_store, shared, with_domain
from daogou.features.numeric import Numeric
from daogou.features.store import Store
from daogou.features.text import CHANNELS, UNKNOWN
from daogou.features.transform import LogScale, Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab
from tests.shops import ITEMS, N_EXPOSURES, compile_shop, item, write_shop

Fitted = tuple[Transform, Store]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return compile_shop(write_shop(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """The same log, but that product 11 is another, dearer one: a coat."""
    items = [item(11, "blue coat", "train", category="coats", price=500.0)
             if each["item_id"] == 11 else each for each in ITEMS]  # fmt: skip
    return compile_shop(write_shop(tmp_path_factory.mktemp("own"), items=items))


def test_labels_say_what_each_row_stands_for(source: Fitted) -> None:
    transform, _ = source
    assert vocab_labels(transform.user_ids) == [None, "1", "2"]
    rows = fields_labels(transform.items)
    assert len(rows) == transform.items.n_rows
    assert rows[:4] == [("category", None), ("category", "shoes"), ("category", "hats"),
                        ("price", None)]  # fmt: skip
    assert transform.text is not None
    words = text_labels(transform.text)
    assert len(words) == transform.text.n_rows
    assert len(set(words)) == len(words)
    red = transform.text.encode(["red"])[0, 0, 0]
    assert words[red] == ("word", "red")


def test_what_either_knows_is_known_and_counts_add_up(source: Fitted, own: Fitted) -> None:
    both = merge(source[0], own[0])
    category = both.items.coders[0]
    assert isinstance(category, Vocab)
    assert dict(zip(category.words, category.counts, strict=True)) == {
        "shoes": 3, "hats": 2, "coats": 1,
    }  # fmt: skip
    # A price means what it meant to the source, and not its place among the own.
    assert isinstance(both.items.coders[1], Numeric)
    assert both.items.coders[1] == source[0].items.coders[1] != own[0].items.coders[1]
    assert both.text is not None
    assert {"boot", "coat"} <= set(both.text.words)
    assert both.user_ids == Vocab(("1", "2"), (6, 4))


def test_of_the_source_s_ids_only_those_that_are_named_come_along(
    source: Fitted, own: Fitted
) -> None:
    giver = replace(source[0], user_ids=Vocab(("8", "9"), (5, 4)))
    assert merge(giver, own[0], users={"9"}).user_ids.words == ("9", "1", "2")
    assert set(merge(giver, own[0]).user_ids.words) == {"1", "2", "8", "9"}
    assert merge(giver, own[0], users=()).user_ids == own[0].user_ids
    assert shared(giver, own[0])["users"] == (0, 2)


def test_a_column_of_another_type_is_the_own(source: Fitted, own: Fitted) -> None:
    fields = source[0].items
    other = replace(source[0], items=replace(fields, coders=fields.coders[::-1]))
    assert merge(other, own[0]).items == own[0].items


def test_a_source_s_exposures_are_recoded_by_value(
    source: Fitted, own: Fitted, tmp_path: Path
) -> None:
    both = with_domain(merge(source[0], own[0]))
    recoded = recode_store(source[1], source[0], both, tmp_path / "store")
    assert recoded.ranges == source[1].ranges
    # What a row says is what it said, whatever its number.
    for name, before, after in (
        ("items/fields", fields_labels(source[0].items), fields_labels(both.items)),
        ("users/fields", fields_labels(source[0].users), fields_labels(both.users)),
    ):
        old, new = source[1][name], recoded[name]
        assert [[before[at] for at in row] for row in old] == [
            [after[at] for at in row] for row in new
        ]
    names = [vocab_labels(each.item_ids) for each in (source[0], both)]
    assert [names[0][at] for at in source[1]["items/id"]] == [
        names[1][at] for at in recoded["items/id"]
    ]
    assert np.array_equal(recoded["exposures/labels"], source[1]["exposures/labels"])
    # All of them are of the source, which the own, that say nothing, are not.
    at = both.context.names.index(DOMAIN)
    assert (recoded["exposures/fields"][:, at] - both.context.offsets[at]).tolist() == (
        [1] * N_EXPOSURES
    )
    assert set(recoded["users/split"].tolist()) == {9}


def test_words_that_are_known_no_more_are_unknown_and_not_padding(
    source: Fitted, tmp_path: Path
) -> None:
    transform = source[0]
    assert transform.text is not None
    wordless = replace(transform, text=replace(transform.text, words={}))
    tokens = recode_store(source[1], transform, wordless, tmp_path / "store")["texts/tokens"]
    before = source[1]["texts/tokens"]
    assert np.array_equal(tokens[..., 0] > 0, before[..., 0] > 0)
    assert set(tokens[..., 0][tokens[..., 0] > 0].tolist()) == {UNKNOWN}
    assert tokens.shape[2] == len(CHANNELS)


def test_stages_and_columns_that_the_source_lacks_are_missing(
    source: Fitted, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"stages": ("view", *source[0].stages)}
    fields = source[0].users
    more["users"] = replace(
        fields, names=(*fields.names, "age"), coders=(*fields.coders, Numeric((1.0,), (0.0, 2.0)))
    )
    merged = replace(source[0], **more)
    recoded = recode_store(source[1], source[0], merged, tmp_path / "store")
    assert (recoded["exposures/labels"][:, 0] == -1).all()
    assert np.array_equal(recoded["exposures/labels"][:, 1:], source[1]["exposures/labels"])
    assert (recoded["users/fields"][:, 1] == merged.users.offsets[1]).all()
    assert (recoded["users/numbers"] == 0.5).all()


def test_a_domain_that_is_there_already_stays(source: Fitted) -> None:
    told = replace(source[0], domain="device")
    assert with_domain(told) is told
    assert places([DOMAIN], with_domain(source[0]).context.names).tolist() == [2]


# ---- a shop a while later -----------------------------------------------------------------


def test_old_values_keep_their_rows_and_new_ones_come_after(source: Fitted, own: Fitted) -> None:
    grown = grow(source[0], own[0])
    category = grown.items.coders[0]
    assert isinstance(category, Vocab)
    assert category.words == ("shoes", "hats", "coats")
    assert category.counts == (1, 1, 1)  # as often as they are seen now
    assert grown.items.coders[1] == source[0].items.coders[1]  # a price means what it meant
    assert grown.item_ids.words == source[0].item_ids.words
    assert grown.text is not None
    assert source[0].text is not None
    n = len(source[0].text.words)
    assert list(grown.text.words)[:n] == list(source[0].text.words)
    assert list(grown.text.words)[n:] == ["coat"]
    assert grown.text.words["coat"] == n + 2
    assert grow(source[0], source[0]) == source[0]


def test_a_word_that_is_seen_no_more_keeps_its_row_and_counts_for_nothing(source: Fitted) -> None:
    now = replace(source[0], user_ids=Vocab(("3", "2"), (5, 1)))
    assert grow(source[0], now).user_ids == Vocab(("1", "2", "3"), (0, 1, 5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"users": Fields((), ())}, "users: 'city' is gone; go on with what the run has"),
        ({"users": Fields(("city", "age"), (Vocab(("a",), (1,)), Vocab((), ())))},
         "users: 'age' is new"),
        ({"users": Fields(("city",), (Numeric((), ()),))},
         "users: 'city' was a category and is a number"),
        ({"windows": (4.0, 48.0)}, r"windows: were \(4.0, 24.0\) and are \(4.0, 48.0\)"),
        ({"value": LogScale(0.0, 1.0, 0.0, 0.0)}, "events.value: is new"),
    ],
)  # fmt: skip
def test_what_is_not_the_same_shop_is_refused_by_name(
    source: Fitted, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        grow(source[0], replace(source[0], **changed))
