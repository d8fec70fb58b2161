from dataclasses import replace

import numpy as np
import pytest

from daogou.errors import ConfigError
from daogou.features.agree import agree, own, told
from daogou.features.gazetteer import Entry, Gazetteer, union
from daogou.features.numeric import fit_numeric
from daogou.features.text import fit_text
from daogou.features.transform import LogScale, Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab, digest, fit_vocab

NONE = Fields((), ())


def transform(
    items: dict[str, int], city: dict[str, int], price: list[float], titles: list[str]
) -> Transform:
    return Transform(
        item_ids=fit_vocab(items),
        user_ids=fit_vocab({"u1": 1}),
        items=Fields(("price",), (fit_numeric(np.array(price)),)),
        users=Fields(("city",), (fit_vocab(city),)),
        context=NONE,
        profile=NONE,
        text=fit_text(titles, length=4, min_count=1, pair_count=1),
        text_columns=("title",),
        attributes=(),
        actions=("click",),
        stages=("click",),
        value=LogScale(1.0, 1.0, 0.0, 2.0),
    )


EAST = transform({"a": 5, "b": 1}, {"Oslo": 3, "Rome": 1}, [1.0, 2.0], ["red boot"])
WEST = transform({"a": 2, "c": 9}, {"Rome": 4}, [2.0, 3.0], ["red hat on head"])
BOTH = {"east": told(EAST, "k"), "west": told(WEST, "k")}


def test_what_is_told_names_no_user_and_no_product() -> None:
    said = told(EAST, "k")
    assert said.user_ids.words == ()
    assert set(said.item_ids.words) == {digest("a", "k"), digest("b", "k")}
    assert "key" not in said.to_json()["item_ids"]


def test_products_and_values_are_united_and_their_counts_summed() -> None:
    agreed = agree(BOTH, {"east": 1, "west": 1})
    counts = dict(zip(agreed.item_ids.words, agreed.item_ids.counts, strict=True))
    assert counts == {digest("a", "k"): 7, digest("b", "k"): 1, digest("c", "k"): 9}
    assert agreed.users.coders[0] == Vocab(("Rome", "Oslo"), (5, 3))


def test_each_shop_reads_its_own_ids_to_the_agreed_rows() -> None:
    agreed = agree(BOTH, {"east": 1, "west": 1})
    east, west = own(agreed, EAST, "k"), own(agreed, WEST, "k")
    assert east.item_ids.encode(["a", "b", None, "x"]).tolist() == [2, 3, 0, 0]
    assert west.item_ids.encode(["c", "a", "b"]).tolist() == [1, 2, 3]
    assert east.user_ids == EAST.user_ids
    assert own(agreed, EAST, "other").item_ids.encode(["a"]).tolist() == [0]
    assert Transform.from_json(east.to_json()) == east


def test_a_few_distinct_numbers_keep_a_bucket_each() -> None:
    (price,) = agree(BOTH, {"east": 1, "west": 1}).items.coders
    assert price.bucket(np.array([1.0, 2.0, 3.0])).tolist() == [1, 2, 3]  # type: ignore[union-attr]


def test_quantiles_of_many_numbers_are_those_of_all_of_them() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 1, 3000), rng.normal(6, 1, 9000)
    shops = {
        "low": replace(EAST, items=Fields(("price",), (fit_numeric(low),))),
        "high": replace(EAST, items=Fields(("price",), (fit_numeric(high),))),
    }
    (price,) = agree(shops, {"low": 3000, "high": 9000}).items.coders
    whole = fit_numeric(np.concatenate([low, high]))
    at = np.quantile(np.concatenate([low, high]), np.linspace(0.05, 0.95, 19))
    assert price.rank(at) == pytest.approx(whole.rank(at), abs=0.03)  # type: ignore[union-attr]


def test_titles_are_read_by_the_words_of_all() -> None:
    text = agree(BOTH, {"east": 1, "west": 1}).text
    assert text is not None
    assert text.words == {"boot": 2, "hat": 3, "head": 4, "red": 5, "on": 6}  # by place, spelling
    assert text.pairs == tuple(sorted(set(EAST.text.pairs) | set(WEST.text.pairs)))  # type: ignore[union-attr]


def test_amounts_are_scaled_by_all_of_them() -> None:
    west = replace(WEST, value=LogScale(3.0, 1.0, 2.0, 5.0))
    value = agree({"east": EAST, "west": west}, {"east": 1, "west": 1}).value
    assert value is not None
    assert (value.mean, value.least, value.most) == (2.0, 0.0, 5.0)
    assert value.spread == pytest.approx(np.sqrt(2.0))  # half of the distance, and their own


def test_a_title_that_two_shops_know_counts_once_in_a_list() -> None:
    one = Gazetteer(("colour",), {"colour": {"red": Entry(2, 0, -1, (7, 8))}})
    two = Gazetteer(("colour", "brand"), {"colour": {"red": Entry(1, 1, 5, (8,), (9,))}})
    both = union([one, two])
    assert both.names == ("colour", "brand")
    assert both.values["colour"]["red"] == Entry(2, 1, 5, (7, 8), (9,))
    many = Gazetteer(("colour",), {"colour": {"red": Entry(40, 0)}})
    assert union([one, many]).values["colour"]["red"] == Entry(42, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": NONE}, r"west: its users are \(\), those of east are \('city',\)"),
        ({"stages": ("buy",)}, r"west: its stages are \('buy',\)"),
        ({"users": Fields(("city",), (fit_numeric(np.array([1.0])),))}, "types of users"),
        ({"text": None}, "west: its text are None, those of east are 'letters'"),
    ],
)
def test_shops_with_other_columns_are_named(change: dict[str, object], message: str) -> None:
    west = replace(WEST, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        agree({"east": EAST, "west": west}, {"east": 1, "west": 1})
