"""What users say of themselves is followed at once, and nowhere but in their own answer."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.errors import ConfigError
from daogou.guide import Guide
from daogou.guide.edit import carriers, lifted, read_edits

COLUMNS = ("category", "brand", "colour", "material")


def held(guide: Guide) -> list[tuple[str, str]]:
    """Every value that products share."""
    return [(name, v) for name in COLUMNS for v in guide.catalogue.shared[name]]


def carrying(guide: Guide, column: str, value: str) -> set[str]:
    found = carriers(guide.scorer, guide.catalogue, (column, value))
    return {guide.catalogue.keys[row] for row in np.flatnonzero(found)}


def ranked(answer: dict[str, Any]) -> list[str]:
    return [line["item"] for line in answer["items"]]


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_what_is_forbidden_is_left_out_and_comes_last(guide: Guide, data: st.DataObject) -> None:
    column, value = data.draw(st.sampled_from(held(guide)))
    user = data.draw(st.sampled_from(["100001", "100077", "stranger"]))
    edits = {"forbid": {column: value}}
    barred = carrying(guide, column, value)
    every = guide.catalogue.keys[1:]
    assert set(ranked(guide.recommend(user, k=100, edits=edits))) == set(every) - barred
    before, after = guide.match(user, every), guide.match(user, every, edits=edits)
    assert set(ranked(after)[len(every) - len(barred) :]) == barred
    places = [ranked(answer).index(item) for item in barred for answer in (before, after)]
    assert all(old <= new for old, new in zip(places[::2], places[1::2], strict=True))
    assert all(("forbidden" in line) == (line["item"] in barred) for line in after["items"])


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_what_is_set_is_overtaken_by_nothing_that_lacks_it(
    guide: Guide, data: st.DataObject
) -> None:
    column, value = data.draw(st.sampled_from(held(guide)))
    user = data.draw(st.sampled_from(["100001", "100077", "stranger"]))
    edits = {"set": {column: [value]}}
    liked, every = carrying(guide, column, value), guide.catalogue.keys[1:]
    for ask in (
        lambda **said: guide.recommend(user, k=100, **said),
        lambda **said: guide.match(user, every, **said),
    ):
        before, after = ask(), ask(edits=edits)
        scores = [{line["item"]: line["score"] for line in a["items"]} for a in (before, after)]
        for item in every:
            if item in liked:
                assert scores[1][item] > scores[0][item]
            else:
                assert scores[1][item] <= scores[0][item] + 1e-7
        old, new = ranked(before), ranked(after)
        for mine in liked:
            ahead = {item for item in new[: new.index(mine)] if item not in liked}
            assert ahead <= set(old[: old.index(mine)])


def test_an_explanation_with_edits_is_of_the_score_they_give_and_tells_what_each_did(
    guide: Guide, regular: str
) -> None:
    column, liked = held(guide)[0]
    other = next(v for name, v in held(guide) if name == "colour")
    edits = {"set": {column: [liked]}, "forbid": {"colour": [other]}}
    carries = carrying(guide, column, liked) - carrying(guide, "colour", other)
    item = min(carries)
    plain, told = guide.explain(regular, item), guide.explain(regular, item, edits=edits)
    (line,) = guide.score(regular, [item], edits=edits)["items"]
    assert told["score"] == pytest.approx(line["score"], rel=1e-6)
    assert told["p"] == pytest.approx(line["p"], rel=1e-6)
    assert told["edits"] == edits and "forbidden" not in told
    weights = {(each["feature"], each["value"]): each["weight"] for each in told["contributions"]}
    # What was set is worth what the log-odds lose without it, which is at least its odds of 2.
    alone = guide.explain(regular, item, edits={"forbid": edits["forbid"]})["score"]
    lost = math.log(told["score"] / (1 - told["score"])) - math.log(alone / (1 - alone))
    assert weights[f"edit.set.{column}", liked] == pytest.approx(lost, rel=1e-5)
    assert lost > math.log(2) - 1e-6
    assert weights["edit.forbid.colour", other] <= 1e-6
    inputs = {each["feature"]: each["weight"] for each in plain["contributions"]}
    rest = {feature: weight for (feature, _), weight in weights.items() if feature in inputs}
    assert rest == inputs
    barred = min(carrying(guide, "colour", other))
    assert guide.explain(regular, barred, edits=edits)["forbidden"] is True


def test_an_empty_edit_changes_nothing_bit_for_bit(guide: Guide, regular: str) -> None:
    for empty in (None, {}, {"set": {}, "forbid": {}}, {"set": {"brand": []}}):
        assert guide.recommend(regular, edits=empty) == guide.recommend(regular)
        assert guide.profile(regular, edits=empty) == guide.profile(regular)
        items = guide.catalogue.keys[1:20]
        assert guide.match(regular, items, edits=empty) == guide.match(regular, items)


def test_edits_are_of_one_answer_and_taken_back_by_leaving_them_out(
    guide: Guide, regular: str
) -> None:
    brand = next(iter(guide.catalogue.shared["brand"]))
    edits = {"set": {"gender": "F"}, "forbid": {"brand": brand}}
    users = (regular, "100001", "stranger")
    before = [(guide.recommend(user), guide.profile(user)) for user in users]
    assert guide.recommend(regular, edits=edits) != before[0][0]
    assert [(guide.recommend(user), guide.profile(user)) for user in users] == before


def test_the_profile_says_what_was_said_and_the_rest_of_it_follows(
    guide: Guide, regular: str
) -> None:
    plain = guide.profile(regular)
    said = guide.profile(regular, edits={"set": {"gender": "M"}})
    assert said["columns"]["gender"] == {"M": 1.0, "F": 0.0}
    assert said["columns"]["age_band"] != plain["columns"]["age_band"]
    assert said["edits"] == {"set": {"gender": ["M"]}, "forbid": {}}
    assert "gender" not in {line["column"] for line in said["evidence"]}
    likeliest = next(iter(plain["columns"]["age_band"]))
    denied = guide.profile(regular, edits={"forbid": {"age_band": likeliest}})
    assert denied["columns"]["age_band"][likeliest] == 0.0
    assert sum(denied["columns"]["age_band"].values()) == pytest.approx(1.0)


def test_preferences_lead_with_what_is_set_and_lack_what_is_forbidden(
    guide: Guide, regular: str
) -> None:
    shares = guide.profile(regular)["preferences"]["colour"]
    first, second = list(shares)[:2]
    rare = min(guide.catalogue.shared["colour"], key=lambda value: shares.get(value, 0.0))
    edits = {"set": {"colour": rare}, "forbid": {"colour": [first]}}
    after = guide.profile(regular, edits=edits)["preferences"]["colour"]
    assert next(iter(after)) == rare
    assert first not in after
    ratio = shares[second] / (1 - shares[first]) / 2
    assert after[second] == pytest.approx(ratio)


def test_a_state_is_moved_to_the_prototype_and_no_further(guide: Guide, regular: str) -> None:
    """Along one axis: up to where a set value lies, down to where nobody in particular does."""
    scorer, prototypes = guide.scorer, guide.prototypes
    shoppers = scorer.shoppers(scorer.queries([scorer.artifact.store.user_rows[regular]]))
    assert shoppers is not None and shoppers.encoded.h is not None
    for column, value in [("brand", next(iter(guide.catalogue.shared["brand"]))), ("gender", "F")]:
        for verb in ("set", "forbid"):
            edits = read_edits(scorer, guide.catalogue, {verb: {column: value}})
            assert edits is not None
            (carries,) = [*edits.set.values(), *edits.forbid.values()]
            axis = (
                prototypes.of_users((column, value))
                if column == "gender"
                else prototypes.of_products((column, value), carries)
            )
            assert axis is not None and axis.low < axis.high
            moved = prototypes.moved(shoppers, edits).encoded
            assert moved.h is not None and moved.users is not None
            before = float(shoppers.encoded.h[0] @ axis.direction)
            after = float(moved.h[0] @ axis.direction)
            wanted = max(before, axis.high) if verb == "set" else min(before, axis.low)
            assert after == pytest.approx(wanted, abs=1e-4)
            again = prototypes.moved(replace(shoppers, encoded=moved), edits).encoded
            assert again.h is not None
            torch.testing.assert_close(again.h, moved.h, atol=1e-4, rtol=0)


def test_a_title_names_what_the_catalogue_leaves_open(guide: Guide) -> None:
    row = next(
        row for row in range(1, 81)
        if (value := guide.catalogue.value("colour", row)) and value in guide.catalogue.name(row)
    )  # fmt: skip
    value = guide.catalogue.value("colour", row)
    holes = pa.array([None] * guide.catalogue.n_items, pa.string())
    without = replace(guide.catalogue, columns={**guide.catalogue.columns, "colour": holes})
    found = carriers(guide.scorer, without, ("colour", value))
    assert found[row] and not found.all()
    other = pa.array(["another"] * guide.catalogue.n_items, pa.string())
    told = replace(guide.catalogue, columns={**guide.catalogue.columns, "colour": other})
    assert not carriers(guide.scorer, told, ("colour", value)).any()


def test_reasons_name_what_was_asked_for(guide: Guide, regular: str) -> None:
    brand = next(iter(guide.catalogue.shared["brand"]))
    for lang, text in (("en", f"you asked for brand {brand}"), ("zh", f"你指定的品牌：{brand}")):
        answer = guide.recommend(regular, k=80, edits={"set": {"brand": brand}}, lang=lang)
        carrying_it = carrying(guide, "brand", brand)
        for line in answer["items"]:
            said = [reason for reason in line["reasons"] if reason["kind"] == "edit"]
            wanted = [{"kind": "edit", "text": text, "weight": 1.0}]
            assert said == (wanted if line["item"] in carrying_it else [])


def test_few_candidates_are_chosen_with_the_edit(
    guide: Guide, regular: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.guide.guide.CANDIDATES", 5)
    every, brand = guide.catalogue.keys[1:], next(iter(guide.catalogue.shared["brand"]))
    edits = {"set": {"brand": brand}, "forbid": {"category": "shoes"}}
    matched = ranked(guide.match(regular, every, edits=edits))[:5]
    assert set(ranked(guide.recommend(regular, k=5, edits=edits))) == set(matched)


def test_odds_are_lifted_only_the_way_that_was_asked_for() -> None:
    before, after = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([2.0, 0.5, 2.0, 0.5])
    liked = torch.tensor([True, True, False, False])
    two = math.log(2)
    torch.testing.assert_close(
        lifted(before, after, liked), torch.tensor([2 + two, 1 + two, 1.0, 0.5])
    )


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], 'edits: {"set": ..., "forbid": ...} is wanted'),
        ({"like": {}}, "edits.like: no 'like' here"),
        ({"set": "red"}, "edits.set: {column: value} is wanted, found 'red'"),
        ({"set": {"color": "red"}}, "edits.set.color: no 'color' here \\(did you mean 'colour'"),
        ({"set": {"price": "9"}}, "edits.set.price: no 'price' here"),
        ({"forbid": {"brand": 3}}, "edits.forbid.brand: a text is wanted, found 3"),
        ({"set": {"gender": "X"}}, "edits.set.gender: no 'X' here"),
        ({"set": {"gender": ["F", "M"]}}, "edits.set.gender: a user has one value"),
        ({"forbid": {"gender": ["F", "M"]}}, "edits.forbid.gender: leaves no value"),
        ({"set": {"gender": "F"}, "forbid": {"gender": "F"}}, "'F' is both set and forbidden"),
    ],
)
def test_edits_that_mean_nothing_are_refused(guide: Guide, edits: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.recommend("100001", edits=edits)


def test_a_value_that_no_product_carries_changes_no_ranking(guide: Guide, regular: str) -> None:
    edits = {"set": {"brand": "nobody's"}, "forbid": {"colour": ["no colour"]}}
    assert ranked(guide.recommend(regular, edits=edits)) == ranked(guide.recommend(regular))


def test_answers_with_edits_are_json(guide: Guide, regular: str, tmp_path: Path) -> None:
    edits = {"set": {"gender": "F", "material": "wool"}, "forbid": {"colour": ["red"]}}
    answers = (
        guide.recommend(regular, edits=edits, lang="zh"),
        guide.match(regular, ["500001", "nothing"], edits=edits),
        guide.profile("stranger", edits=edits),
    )
    for answer in answers:
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert list(answer)[-1] == "edits"
