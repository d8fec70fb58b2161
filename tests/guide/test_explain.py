from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from daogou.features.numeric import fit_numeric
from daogou.features.transform.fields import Fields
from daogou.features.vocab import fit_vocab
from daogou.guide import Guide, explain
from daogou.guide.catalogue import Catalogue
from daogou.guide.score import Past
from daogou.model.group import grid_of
from daogou.model.heads.funnel import FunnelHead
from daogou.model.meet import Meet

DAY_US = explain.DAY_US


def test_attention_is_what_the_model_attends_with() -> None:
    torch.manual_seed(0)
    meet = Meet(4, has_items=True, has_users=True, context=None, attend_length=3)
    v, events = torch.randn(6, 4), torch.randn(2, 5, 4)
    action = torch.tensor([[1, 2, 0, 0, 0], [1, 1, 1, 1, 1]])
    user = torch.tensor([0, 0, 0, 1, 1, 1])
    weights = meet.attention(v, events, action, grid_of(user))
    attended = torch.einsum("bl,bld->bd", weights, events[:, :3][user])
    torch.testing.assert_close(attended, meet.attend(v, events, action, grid_of(user)))
    assert (weights >= 0).all() and (weights.sum(1) < 1).all()
    assert (weights[:3, 2] == 0).all(), "an event past the end takes nothing"


def make_past(items: list[int], ages_days: list[float]) -> Past:
    now = 1000 * DAY_US
    time = np.array([now - round(age * DAY_US) for age in ages_days], dtype=np.int64)
    rows = np.array(items, dtype=np.int64)
    return Past(rows, np.zeros_like(rows), time, now)


CATALOGUE = Catalogue(
    ["", "a", "b", "c"],
    {"a": 1, "b": 2, "c": 3},
    {"brand": pa.array(["Acme", "Bexley", None]), "colour": pa.array(["red", "red", "blue"])},
    None,
    {"brand": {"Acme": 1 / 3, "Bexley": 1 / 3}, "colour": {"red": 2 / 3, "blue": 1 / 3}},
)


def test_an_event_two_weeks_older_counts_half() -> None:
    # Acme today weighs 1, Bexley two weeks ago 1/2: shares 2/3 and 1/3. Product c has no brand.
    found = explain.preferences(CATALOGUE, make_past([1, 2, 3], [0, 14, 28]))
    assert found["brand"] == pytest.approx({"Acme": 2 / 3, "Bexley": 1 / 3})
    # Red 1 + 1/2, blue 1/4.
    assert found["colour"] == pytest.approx({"red": 6 / 7, "blue": 1 / 7})
    assert list(found["brand"]) == ["Acme", "Bexley"]


def test_a_past_long_ago_still_says_what_was_preferred() -> None:
    found = explain.preferences(CATALOGUE, make_past([2], [1e5]))
    assert found["brand"] == {"Bexley": 1.0}


def test_no_past_means_no_preference() -> None:
    assert explain.preferences(CATALOGUE, make_past([], [])) == {}


def test_each_column_is_missing_in_one_variant() -> None:
    fields = Fields(
        ("price", "brand", "size"),
        (
            fit_numeric(np.array([1.0, 2.0, 3.0])),
            fit_vocab({"Acme": 1}),
            fit_numeric(np.array([1.0, 5.0])),
        ),
    )
    given = {"price": pa.chunked_array([[3.0]]), "brand": pa.chunked_array([["Acme"]])}
    given["size"] = pa.chunked_array([[5.0]])
    rows, ranks = explain._without_each(fields, *fields.encode(given, 1))
    # Buckets: price 4 rows from 0, brand 2 rows from 4, size 3 rows from 6.
    assert rows.tolist() == [[3, 5, 8], [0, 5, 8], [3, 4, 8], [3, 5, 6]]
    assert ranks.tolist() == [[1.0, 1.0], [0.5, 1.0], [1.0, 1.0], [1.0, 0.5]]
    assert explain._said(fields, rows[0]) == ["2.5..", "Acme", "3.."]
    assert explain._said(fields, np.array([2, 4, 7])) == ["1.5..2.5", None, "..3"]


def contributions(guide: Guide, user: str, item: str, context: Any = None) -> Any:
    row = guide.artifact.store.user_rows.get(user, 0)
    asked = (user, guide.scorer.queries([row]))
    found = explain.contributions(
        guide.scorer, guide.catalogue, asked, guide.catalogue.row(item), context
    )
    return found[0], {each.feature: each for each in found[1]}


def served(guide: Guide, user: str, item: str, **options: Any) -> list[float]:
    (line,) = guide.score(user, [item], **options)["items"]
    return list(cast(dict[str, float], line["p"]).values())


def test_with_nothing_missing_it_is_the_served_score(guide: Guide, regular: str) -> None:
    context = {"position": 2, "device": "ios"}
    chances, _ = contributions(guide, regular, "500003", context)
    expected = served(guide, regular, "500003", context=context)
    np.testing.assert_allclose(chances.numpy(), expected, atol=1e-6)


def test_without_its_context_it_is_the_score_without_context(guide: Guide, regular: str) -> None:
    _, found = contributions(guide, regular, "500003", {"position": 2})
    expected = served(guide, regular, "500003")
    np.testing.assert_allclose(found["context.position"].without.numpy(), expected, atol=1e-6)


def test_without_history_it_is_the_score_before_the_first_event(guide: Guide, regular: str) -> None:
    _, found = contributions(guide, regular, "500003")
    expected = served(guide, regular, "500003", at=guide.scorer.start)
    np.testing.assert_allclose(found["user.history"].without.numpy(), expected, atol=1e-6)
    assert found["user.history"].value > 1


def test_every_input_that_says_something_is_there(guide: Guide, regular: str) -> None:
    _, found = contributions(guide, regular, "500003", {"position": 2, "device": None})
    assert set(found) == {
        "item.category", "item.brand", "item.price", "item.title", "item.id",
        "user.city", "user.id", "user.history", "context.position",
    }  # fmt: skip
    assert found["user.id"].value == regular
    assert found["item.id"].value == "500003"
    assert found["item.price"].value == guide.catalogue.value("price", 3)


def test_of_a_stranger_nothing_is_said(guide: Guide) -> None:
    _, found = contributions(guide, "stranger", "500003")
    assert not [name for name in found if name.startswith("user.")]


def test_log_odds_stay_finite() -> None:
    found = explain.log_odds(torch.tensor([0.0, 0.5, 1.0]))
    assert found.isfinite().all()
    assert found[1] == 0


@torch.inference_mode()
def test_history_reasons_name_what_attention_weighs_most(guide: Guide, regular: str) -> None:
    row = guide.artifact.store.user_rows[regular]
    queries = guide.scorer.queries([row])
    shoppers = guide.scorer.shoppers(queries)
    past = guide.scorer.past(queries)
    assert shoppers is not None and shoppers.encoded.events is not None
    assert guide.scorer.vectors is not None
    candidates = list(range(1, guide.catalogue.n_items + 1))
    meet = cast(FunnelHead, guide.artifact.model.heads["funnel"]).meet
    weights = meet.attention(
        guide.scorer.vectors[1:], shoppers.encoded.events, shoppers.columns["action"],
        grid_of(torch.zeros(len(candidates), dtype=torch.int64)),
    )  # fmt: skip
    found = explain.reasons(
        guide.scorer, guide.catalogue, queries, shoppers, candidates,
        popularity=guide.popularity, lang="en",
    )  # fmt: skip
    n = len(past.item)
    said = 0
    for place, some in enumerate(found):
        totals = np.bincount(past.item, weights=weights[place, :n].double().numpy())
        for reason in (each for each in some if each["kind"] == "history"):
            said += 1
            assert reason["weight"] == pytest.approx(totals.max(), abs=1e-5)
            best = int(totals.argmax())
            name = "this before" if best == candidates[place] else guide.catalogue.name(best)
            assert reason["text"].endswith(name)
    assert said > 10


def test_no_popularity_is_made_up(guide: Guide) -> None:
    assert guide.popularity[0] == 0
    rows = np.argsort(guide.popularity)[[0, -1]].tolist()
    least, most = explain.reasons(
        guide.scorer, guide.catalogue, guide.scorer.queries([0]), None, rows,
        popularity=guide.popularity, lang="en",
    )  # fmt: skip
    assert least == []
    assert [reason["kind"] for reason in most] == ["popular"]
