import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError
from daogou.guide import Guide
from daogou.guide.fill import Filled, proposals
from daogou.learn.fit import fit
from daogou.model.predict import funnel_scores

CATEGORIES = ["shoes", "bag", "shirt", "trousers", None]
ITEMS_ONLY = """
[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
attributes = ["colour", "brand", "material", "style", "size"]
spans = "spans"
"""
FLAT = """
[events]
path = "rows.parquet"
labels = ["income", "married"]
context = ["hours", "work"]
"""


def made_guide(folder: Path, toml: str) -> Guide:
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    run = folder / "run"
    fit(read_shop(folder, ["fit.epochs=1"]), run)
    return Guide.load(run, verify=False)


@pytest.fixture(scope="module")
def titles_guide(made_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Guide:
    folder = tmp_path_factory.mktemp("titles")
    pq.write_table(pq.read_table(made_shop / "items.parquet"), folder / "items.parquet")
    return made_guide(folder, ITEMS_ONLY)


@pytest.fixture(scope="module")
def flat_guide(tmp_path_factory: pytest.TempPathFactory) -> Guide:
    folder = tmp_path_factory.mktemp("flat")
    rng = np.random.default_rng(0)
    n = 400
    hours = rng.integers(0, 60, n).astype(np.float64)
    table = {
        "hours": hours,
        "work": rng.choice(["state", "private"], n),
        "income": (hours + rng.normal(0, 10, n) > 30).astype(np.int8),
        "married": rng.integers(0, 2, n).astype(np.int8),
    }
    pq.write_table(pa.table(table), folder / "rows.parquet")
    return made_guide(folder, FLAT)


def ids(answer: dict[str, Any]) -> list[str]:
    return [line["item"] for line in answer["items"]]


def test_every_answer_is_json_without_nan(guide: Guide, regular: str) -> None:
    answers = [
        guide.recommend(regular, lang="zh"),
        guide.recommend("stranger"),
        guide.score(regular, ["500001", "nothing"]),
        guide.match(regular, ["500001", "nothing"]),
        guide.profile(regular),
        guide.profile("stranger"),
        guide.extract("red wool boot"),
        guide.explain(regular, 500001, context={"position": 1}),
        guide.explain("stranger", "500001", lang="zh"),
    ]
    for answer in answers:
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_answers_have_the_agreed_keys(guide: Guide, regular: str) -> None:
    answer = guide.recommend(regular)
    assert list(answer) == ["user", "known", "request_id", "items", "fallback", "degraded"]
    assert list(answer["items"][0]) == ["item", "score", "p", "reasons"]
    assert list(answer["items"][0]["p"]) == ["click", "cart", "purchase"]
    reasons = [reason for line in answer["items"] for reason in line["reasons"]]
    assert {tuple(reason) for reason in reasons} == {("kind", "text", "weight")}
    assert {reason["kind"] for reason in reasons} <= {"history", "attribute", "popular"}
    assert all(0 <= reason["weight"] <= 1 for reason in reasons)
    profile = [
        "user",
        "known",
        "columns",
        "preferences",
        "preferred_by",
        "lifecycle",
        "rhythm",
        "returns",
        "evidence",
        "text",
    ]
    assert list(guide.profile(regular)) == profile
    explained = guide.explain(regular, "500001")
    assert list(explained) == ["user", "item", "score", "p", "contributions", "text"]
    assert list(explained["contributions"][0]) == ["feature", "value", "weight"]
    assert list(guide.match(regular, ["500001"])) == ["user", "known", "items"]
    assert list(guide.extract("red")) == ["text", "spans", "values"]


@given(
    user=st.sampled_from(["100001", "100077", "stranger"]),
    k=st.integers(1, 100),
    category=st.sampled_from(CATEGORIES),
    price_max=st.none() | st.integers(0, 200),
    where=st.none()
    | st.fixed_dictionaries({"colour": st.sampled_from(["red", ["blue", "black"]])}),
)
@settings(max_examples=30, deadline=None)
def test_recommendations_are_sorted_distinct_and_pass_the_filters(
    guide: Guide,
    user: str,
    k: int,
    category: str | None,
    price_max: int | None,
    where: dict[str, Any] | None,
) -> None:
    answer = guide.recommend(user, k=k, category=category, price_max=price_max, where=where)
    passing = {
        key
        for row, key in enumerate(guide.catalogue.keys)
        if row
        and (category is None or guide.catalogue.value("category", row) == category)
        and (price_max is None or guide.catalogue.value("price", row) <= price_max)
        and (where is None or guide.catalogue.value("colour", row) in where["colour"])
    }
    found = ids(answer)
    assert len(found) == len(set(found)) == min(k, len(passing))
    assert set(found) <= passing
    scores = [line["score"] for line in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_the_score_counts_each_stage_ten_times_the_one_before(guide: Guide, regular: str) -> None:
    line = guide.recommend(regular)["items"][0]
    p = line["p"]
    expected = (p["click"] + 10 * p["cart"] + 100 * p["purchase"]) / 111
    assert line["score"] == pytest.approx(expected)
    assert p["click"] >= p["cart"] >= p["purchase"]


def test_other_weights_make_another_score(guide: Guide, regular: str) -> None:
    clicks = guide.weighing({"click": 2.0})
    line = clicks.recommend(regular, k=80)["items"]
    assert [each["score"] for each in line] == pytest.approx([each["p"]["click"] for each in line])
    assert clicks.weighing(None).weights == guide.weights
    assert clicks.explain(regular, "500001")["score"] != guide.explain(regular, "500001")["score"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"clikc": 1.0}, r"weights.clikc: no 'clikc' here \(did you mean 'click'\?\)"),
        ({"click": -1.0}, "weights.click: -1.0; give a number, 0 or more"),
        ({"click": float("nan")}, "weights.click: nan; give a number"),
        ({"click": "much"}, "weights.click: 'much'; give a number"),
        ({"click": 0.0}, "weights: all are 0; give one of click, cart, purchase more"),
    ],
)
def test_unfit_weights_are_refused(guide: Guide, weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.weighing(weights)


def test_following_other_settings_changes_those_alone(guide: Guide, regular: str) -> None:
    clicks = guide.following(weights={"click": 1.0})
    assert clicks.weights == {"click": 1.0, "cart": 0.0, "purchase": 0.0}
    assert clicks.following(diversity=0.5).weights == clicks.weights
    assert guide.following(diversity=0.0).recommend(regular) == guide.recommend(regular)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"diversty": 1.0}, r"guide.diversty: no 'diversty' here \(did you mean 'diversity'\?\)"),
        ({"diversity": 1.5}, "guide.diversity: 1.5; give a share from 0 to 1"),
        ({"weights": {"clikc": 1.0}}, r"guide.weights.clikc: no 'clikc' here \(did you mean"),
        ({"weights": {"click": -1.0}}, "guide.weights.click: -1.0; give a number, 0 or more"),
        ({"weights": {}}, "guide.weights: nothing is worth anything; give a stage more than 0"),
        ({"stock": "in_stock"}, "guide.stock: no 'in_stock' here; .* list it in items.shown"),
        ({"seen_days": -1.0, "per_category": -1}, "guide.per_category: -1; give 0 or more"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(
    guide: Guide, changes: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.following(**changes)


def test_a_diversity_may_be_asked_for_once(guide: Guide, regular: str) -> None:
    asked = guide.recommend(regular, diversity=0.9)
    assert asked == guide.following(diversity=0.9).recommend(regular)
    assert ids(asked)[0] == ids(guide.recommend(regular))[0]
    assert ids(asked) != ids(guide.recommend(regular))
    with pytest.raises(ConfigError, match=r"guide.diversity: -1; give a share"):
        guide.recommend(regular, diversity=-1)


def test_money_is_the_chance_of_a_purchase_times_the_price(guide: Guide, regular: str) -> None:
    lines = guide.following(by_value=True).recommend(regular, k=80)["items"]
    for line in lines:
        price = guide.catalogue.value("price", guide.catalogue.row(line["item"]))
        assert line["worth"] == pytest.approx(line["p"]["purchase"] * price)
    worth = [line["worth"] for line in lines]
    assert worth == sorted(worth, reverse=True)
    assert ids({"items": lines}) != ids(guide.recommend(regular, k=80))


def test_products_without_a_price_come_last_by_their_score(guide: Guide, regular: str) -> None:
    prices = [None if j % 2 else 1.0 for j in range(80)]
    columns = {**guide.catalogue.columns, "price": pa.array(prices)}
    some = replace(guide, catalogue=replace(guide.catalogue, columns=columns))
    lines = some.following(by_value=True).recommend(regular, k=80)["items"]
    assert [line["worth"] is None for line in lines] == [False] * 40 + [True] * 40
    scores = [line["score"] for line in lines[40:]]
    assert scores == sorted(scores, reverse=True)


def test_similar_products_are_by_the_cosine_of_their_encodings(guide: Guide) -> None:
    answer = guide.similar("500001", k=3)
    vectors = guide.scorer.vectors
    assert vectors is not None
    units = torch.nn.functional.normalize(vectors, dim=1)
    cosines = units @ units[1]
    cosines[[0, 1]] = -2.0
    best = cosines.topk(3)
    assert ids(answer) == [guide.catalogue.keys[row] for row in best.indices.tolist()]
    scores = [line["score"] for line in answer["items"]]
    assert scores == pytest.approx(best.values.tolist(), abs=1e-5)
    assert answer["item"] == "500001"
    assert (
        ids(guide.similar(500001, k=500)) != [] and len(ids(guide.similar("500001", k=500))) == 79
    )


def test_likeness_is_mutual(guide: Guide) -> None:
    (first,) = guide.similar("500001", k=1)["items"]
    back = {line["item"]: line["score"] for line in guide.similar(first["item"], k=79)["items"]}
    assert back["500001"] == pytest.approx(first["score"], abs=1e-5)


def test_what_is_not_in_the_catalogue_is_like_nothing(guide: Guide, flat_guide: Guide) -> None:
    with pytest.raises(ConfigError, match=r"no '50001' among the 80 products \(did you mean '50"):
        guide.similar("50001")
    with pytest.raises(ConfigError, match="similar: this run encodes no products"):
        flat_guide.similar("50001")


def test_scoring_and_explaining_agree_with_recommending(guide: Guide, regular: str) -> None:
    context = {"device": "ios"}
    lines = guide.recommend(regular, k=5, context=context)["items"]
    scored = guide.score(regular, [line["item"] for line in lines], context=context)["items"]
    for line, again in zip(lines, scored, strict=True):
        explained = guide.explain(regular, line["item"], context=context)
        assert again["score"] == pytest.approx(line["score"], abs=1e-6)
        assert explained["score"] == pytest.approx(line["score"], abs=1e-6)
        assert explained["p"] == pytest.approx(line["p"], abs=1e-6)


def test_few_candidates_are_those_that_match_best(
    guide: Guide, regular: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daogou.guide.guide.CANDIDATES", 5)
    matched = ids(guide.match(regular, guide.catalogue.keys[1:]))
    assert set(ids(guide.recommend(regular, k=5))) == set(matched[:5])
    assert len(ids(guide.recommend(regular, k=9))) == 9, "k may ask for more than the candidates"
    shoes = [
        item for item in matched if guide.catalogue.value("category", int(item) - 500000) == "shoes"
    ]
    assert set(ids(guide.recommend(regular, k=5, category="shoes"))) == set(shoes[:5])


def test_strangers_are_answered_alike_and_marked(guide: Guide) -> None:
    first, second = guide.recommend("stranger"), guide.recommend(-5)
    assert (first["known"], first["fallback"], first["degraded"]) == (False, None, False)
    assert ids(first) == ids(second)
    assert second["user"] == "-5"
    assert {r["kind"] for line in first["items"] for r in line["reasons"]} <= {"popular"}


def test_an_id_may_come_as_a_number(guide: Guide) -> None:
    assert guide.recommend(100001) == guide.recommend("100001")
    assert guide.match(np.int64(100001), [500001]) == guide.match("100001", ["500001"])


def test_request_ids_come_from_whoever_makes_the_guide(made_run: Path, guide: Guide) -> None:
    assert guide.recommend("100001")["request_id"] == "a request"
    other = Guide.load(made_run)
    names = {other.recommend("100001", k=1)["request_id"] for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) == 32 and int(name, 16) for name in names)


def test_matching_sorts_marks_strangers_and_answers_each_once(guide: Guide, regular: str) -> None:
    lines = guide.match(regular, ["500001", "nothing", "500002", 500001, "nowhere"])["items"]
    assert {line["item"]: line["known"] for line in lines} == {
        "500001": True, "500002": True, "nothing": False, "nowhere": False,
    }  # fmt: skip
    scores = {line["item"]: line["score"] for line in lines}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores["nothing"] == scores["nowhere"]
    assert guide.match(regular, [])["items"] == []


def test_unknown_products_are_scored_in_the_order_asked(guide: Guide, regular: str) -> None:
    lines = guide.score(regular, ["nothing", "500002", "500001"])["items"]
    assert [(line["item"], line["known"]) for line in lines] == [
        ("nothing", False), ("500002", True), ("500001", True),
    ]  # fmt: skip


def test_explaining_a_product_that_is_not_there_names_the_nearest(guide: Guide) -> None:
    with pytest.raises(ConfigError, match=r"no '50001' among the 80 products \(did you mean '50"):
        guide.explain("100001", "50001")


def test_contributions_are_by_how_much_the_log_odds_fall(guide: Guide, regular: str) -> None:
    context = {"position": 1}
    answer = guide.explain(regular, "500001", context=context)
    weights = [abs(line["weight"]) for line in answer["contributions"]]
    assert weights == sorted(weights, reverse=True)
    (line,) = [each for each in answer["contributions"] if each["feature"] == "context.position"]
    whole, without = (
        guide.score(regular, ["500001"], context=each)["items"][0]["score"]
        for each in (context, None)
    )
    expected = np.log(whole / (1 - whole)) - np.log(without / (1 - without))
    assert line["weight"] == pytest.approx(expected, abs=1e-5)
    assert line["value"] == 1


def test_a_batch_answers_in_order_and_a_bad_line_with_an_error(guide: Guide) -> None:
    answers = guide.recommend_many(["100001", None, 100002, "", 1.5], k=2)
    assert [answer.get("user") for answer in answers] == ["100001", None, "100002", None, None]
    assert answers[0] == guide.recommend("100001", k=2)
    assert answers[1] == {"error": "user: an id is wanted, text or a whole number, found None"}
    with pytest.raises(ConfigError, match="k: 0; give a whole number, 1 or more"):
        guide.recommend_many(["100001"], k=0)


def test_many_texts_read_as_each_alone(guide: Guide) -> None:
    texts: list[Any] = ["red wool boot", 5, "", "港屿 宽松 苹果绿 亚麻 手提包 小码 " * 9, None]
    answers = guide.extract_many(texts)
    assert answers[1] == {"error": "text: a text is wanted, found 5"}
    assert answers[4] == {"error": "text: a text is wanted, found None"}
    for text, answer in zip(texts, answers, strict=True):
        if isinstance(text, str):
            alone = guide.extract(text)
            assert answer["text"] == text
            assert [s[:3] for s in answer["spans"]] == [s[:3] for s in alone["spans"]]
            sure = [[s[3] for s in each["spans"]] for each in (answer, alone)]
            np.testing.assert_allclose(sure[0], sure[1], atol=1e-6)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"k": 0}, "k: 0; give a whole number"),
        ({"k": True}, "k: True; give a whole number"),
        ({"lang": "fr"}, "lang: no 'fr' here; known: en, zh"),
        ({"where": {"colou": "red"}}, r"where.colou: no 'colou' here \(did you mean 'colour'"),
        ({"context": {"scene": 1}}, "context.scene: no 'scene' here; known: device, position"),
    ],
)
def test_wishes_that_cannot_be_are_refused(guide: Guide, wish: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guide.recommend("100001", **wish)


@pytest.mark.parametrize("user", [None, True, 1.5, "", ["100001"]])
def test_what_is_no_id_is_refused(guide: Guide, user: Any) -> None:
    with pytest.raises(ConfigError, match="user: an id is wanted, text or a whole number, found"):
        guide.recommend(user)


def test_a_text_that_is_none_is_refused(guide: Guide) -> None:
    text: Any = 5
    with pytest.raises(ConfigError, match="text: a text is wanted, found 5"):
        guide.extract(text)


def test_a_shop_of_titles_extracts_and_says_why_it_does_no_more(titles_guide: Guide) -> None:
    assert titles_guide.extract("red wool boot")["text"] == "red wool boot"
    refusals: dict[str, Callable[[], dict[str, Any]]] = {
        "funnel": lambda: titles_guide.recommend("1"),
        "match": lambda: titles_guide.match("1", ["2"]),
        "profile": lambda: titles_guide.profile("1"),
    }
    for family, ask in refusals.items():
        message = rf"this run learnt no {family} task: there is no \[events\] table"
        with pytest.raises(ConfigError, match=message):
            ask()


def test_a_flat_shop_scores_by_context_alone(flat_guide: Guide) -> None:
    many, few = (
        flat_guide.score("anybody", ["anything"], context={"hours": hours})["items"][0]["p"]
        for hours in (55, 5)
    )
    assert set(many) == {"income", "married"}
    assert many["income"] != few["income"]
    answer = flat_guide.recommend("anybody")
    assert (answer["items"], answer["fallback"]) == ([], "popular")
    with pytest.raises(
        ConfigError, match=r"extract: this run learnt no extract task: \[items\] ne"
    ):
        flat_guide.extract("red")
    with pytest.raises(ConfigError, match="extract: this run learnt no extract task"):
        list(proposals(flat_guide, Path("none.parquet"), Filled()))


def test_a_flat_shop_serves_its_offline_scores(flat_guide: Guide) -> None:
    artifact = flat_guide.artifact
    first, last = artifact.store.ranges["test"]
    expected = funnel_scores(artifact.model, artifact.store, "test", history_length=50).chances
    served = flat_guide.scorer.exposure_chances(np.arange(first, last))
    np.testing.assert_allclose(served.T.numpy(), expected, atol=1e-5)


def test_a_number_in_the_context_must_be_one(flat_guide: Guide) -> None:
    with pytest.raises(ConfigError, match=r"context.hours: a number is wanted, found 'many'"):
        flat_guide.score("anybody", ["anything"], context={"hours": "many"})
    missing = flat_guide.score("a", ["b"], context={"hours": float("inf")})
    assert missing["items"] == flat_guide.score("a", ["b"])["items"]


def test_tasks_switched_off_are_said_to_be(made_shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    off = ["tasks.match.enabled=false", "tasks.extract.enabled=false", "fit.epochs=1"]
    fit(read_shop(made_shop, off), run)
    guide = Guide.load(run)
    with pytest.raises(ConfigError, match="no match task: its tasks are switched off"):
        guide.match("100001", ["500001"])
    assert len(guide.recommend("100001", k=80)["items"]) == 80, "without an index all are ranked"


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such run"):
        Guide.load(tmp_path / "nothing")
