import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.guide import Guide, dialogue
from daogou.guide.catalogue import Facet
from daogou.guide.dialogue import Question, information_gain, narrow, questions
from daogou.guide.facets import Facets, bands, within
from daogou.learn.fit import fit
from daogou.tables.simulate import simulate

Answer = dict[str, Any]

# Rows 1 to 6; row 0 is the unknown product.
SHOP = Facets(
    {
        "colour": Facet(("red", "blue", "grey"), np.array([-1, 0, 0, 1, 1, 2, -1])),
        "kind": Facet(("boot",), np.array([-1, 0, 0, 0, 0, 0, 0])),
    },
    "price",
    np.array([np.nan, 10.0, 20.0, 30.0, 40.0, 50.0, np.nan]),
)
ALL = np.array([False, *[True] * 6])
ROWS = np.arange(1, 7)


def left(*answers: Answer) -> tuple[list[int], list[Any]]:
    found = narrow(SHOP, ALL, answers)
    return np.flatnonzero(found.kept).tolist(), found.relaxed


def entropy(*chances: float) -> float:
    return -sum(p * math.log2(p) for p in chances if p > 0)


def test_the_gain_is_that_worked_by_hand() -> None:
    """Two of four alike: the answer is one of two, even chances, so one bit."""
    assert information_gain(np.ones(4), np.array([0, 0, 1, 1])) == pytest.approx(1.0)
    # Chances 1/2, 1/4, 1/8, 1/8; the first alone against the rest.
    weights = np.array([4.0, 2.0, 1.0, 1.0])
    assert information_gain(weights, np.array([0, 1, 1, 1])) == pytest.approx(1.0)
    assert information_gain(weights, np.array([0, 1, 2, 2])) == pytest.approx(
        entropy(0.5, 0.25, 0.25)
    )
    # Half of the shoppers cannot answer and nothing is learnt of them: of 2 bits, half of what
    # is told apart, (1/4)(2 - 0) twice.
    assert information_gain(np.ones(4), np.array([0, 1, -1, -1])) == pytest.approx(1.0)


@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_the_gain_is_the_entropy_that_goes(weights: list[float], data: st.DataObject) -> None:
    """By its definition: entropy before, less what is expected to be left after the answer."""
    groups = np.array([data.draw(st.integers(-1, 3)) for _ in weights])
    mass = np.array(weights)
    found = information_gain(mass, groups)
    if mass.sum() <= 0:
        assert found == 0
        return
    p = mass / mass.sum()
    after = 0.0
    for group in range(-1, 4):
        inside = p[groups == group]
        chance = inside.sum()
        if chance > 0:
            after += chance * (entropy(*p) if group < 0 else entropy(*(inside / chance)))
    assert found == pytest.approx(max(entropy(*p) - after, 0.0), abs=1e-9)


def test_the_question_that_tells_most_comes_first() -> None:
    found = questions(SHOP, ALL, ROWS, np.ones(6), asked=(), lang="en")
    assert [each.column for each in found] == ["price", "colour"], "kind tells nothing apart"
    colour = found[1]
    assert [(chip.text, chip.count, chip.share) for chip in colour.chips] == [
        ("red", 2, pytest.approx(1 / 3)),
        ("blue", 2, pytest.approx(1 / 3)),
        ("grey", 1, pytest.approx(1 / 6)),
    ]
    assert questions(SHOP, ALL, ROWS, np.ones(6), asked=["price", "colour"], lang="en") == []


def test_the_likely_products_decide_what_tells_most() -> None:
    """Prices tell six even products apart best, but among the reds and blues only colours do."""
    kept = np.array([False, True, False, False, True, False, False])
    shop = Facets(SHOP.columns, "price", np.where(kept, 10.0, SHOP.prices))
    weights = np.array([1.0, 1e-6, 1e-6, 1.0, 1e-6, 1e-6])
    assert questions(shop, ALL, ROWS, weights, asked=(), lang="en")[0].column == "colour"


def test_many_values_leave_room_for_all_others() -> None:
    codes = np.array([-1, *range(9)])
    shop = Facets({"size": Facet(tuple("abcdefghi"), codes)}, None, np.full(10, np.nan))
    (size,) = questions(
        shop, np.arange(10) > 0, np.arange(1, 10), np.arange(9.0) + 1, asked=(), lang="zh"
    )
    assert [chip.text for chip in size.chips] == [*"ihgfe", "其他"]
    assert size.chips[-1].count == 4
    rest = narrow(shop, np.arange(10) > 0, [size.chips[-1].answer])
    assert np.flatnonzero(rest.kept).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        ({"column": "colour", "value": "red"}, [1, 2]),
        ({"column": "colour", "value": ["red", "grey"]}, [1, 2, 5]),
        ({"column": "colour", "not": ["red"]}, [3, 4, 5]),
        ({"column": "colour", "any": True}, [1, 2, 3, 4, 5, 6]),
        ({"column": "price", "from": 20, "to": 40}, [2, 3]),
        ({"column": "price", "from": None, "to": 20}, [1]),
        ({"column": "price", "from": 50}, [5]),
    ],
)
def test_an_answer_leaves_what_fits(answer: Answer, rows: list[int]) -> None:
    assert left(answer) == (rows, [])


def test_of_answers_that_contradict_each_other_the_newest_yields() -> None:
    red, blue = {"column": "colour", "value": "red"}, {"column": "colour", "value": "blue"}
    cheap, nothing = {"column": "price", "to": 15}, {"column": "colour", "value": "mauve"}
    assert left(red, blue, cheap) == ([1], [blue])
    assert left(blue, cheap, red) == ([3, 4], [cheap, red])
    assert left(nothing) == ([1, 2, 3, 4, 5, 6], [nothing])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("red", r"answers\[0\]: an object with 'column' is wanted"),
        ({"value": "red"}, r"answers\[0\]: an object with 'column' is wanted"),
        (
            {"column": "color", "value": "red"},
            r"answers\[0\].column: no 'color' here \(did you mean",
        ),
        ({"column": "colour"}, "says nothing about colour"),
        ({"column": "colour", "from": 3}, "says nothing about colour"),
        ({"column": "price", "from": "low"}, r"answers\[0\].from: a number is wanted, found 'low'"),
    ],
)
def test_what_is_no_answer_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        narrow(SHOP, ALL, [answer])


@given(
    prices=st.lists(st.floats(0.01, 1e5) | st.just(math.nan), min_size=0, max_size=40),
    n=st.integers(2, 6),
)
@settings(max_examples=60, deadline=None)
def test_bands_share_prices_out_and_none_is_empty(prices: list[float], n: int) -> None:
    array = np.array(prices, dtype=np.float64)
    found = bands(array, np.ones(len(array)), n)
    assert len(found) != 1 and len(found) <= n
    if found:
        inside = np.stack([within(array, band) for band in found])
        assert inside.any(1).all()
        assert (inside.sum(0) == np.isfinite(array)).all()


# ---- asked by a guide ---------------------------------------------------------------------


def turns(guide: Guide, user: str | None, choose: Callable[[list[Answer]], Answer]) -> list[Answer]:
    """A whole dialogue, each turn's document."""
    documents = [guide.ask(user)]
    while documents[-1]["question"]:
        state = documents[-1]["state"]
        chip = choose(documents[-1]["question"]["chips"])
        state["answers"].append(chip["answer"])
        documents.append(guide.ask(**state))
        assert documents[-1]["left"] == chip["count"] > 0
        assert documents[-1]["relaxed"] == []
    return documents


@pytest.mark.parametrize("place", [0, -2, -1])
def test_every_chip_leads_on_and_the_dialogue_ends(guide: Guide, regular: str, place: int) -> None:
    for user in (regular, None):
        documents = turns(guide, user, lambda chips: chips[place])
        asked = [each["question"]["column"] for each in documents[:-1]]
        assert len(asked) == len(set(asked)) > 0
        assert documents[-1]["done"] == ("alike" if place == -1 else "few")
        assert all(json.loads(json.dumps(each, allow_nan=False)) == each for each in documents)


def test_a_turn_has_the_agreed_keys_and_a_reason_for_each_product(
    guide: Guide, regular: str
) -> None:
    for lang in ("en", "zh"):
        document = guide.ask(regular, lang=lang, k=3)
        assert list(document) == [
            "user", "known", "question", "done", "left", "items", "relaxed", "state",
        ]  # fmt: skip
        assert list(document["question"]) == ["column", "text", "gain", "chips"]
        for chip in document["question"]["chips"]:
            assert list(chip) == ["text", "count", "share", "answer"]
        assert len(document["items"]) == 3
        assert all(line["reason"]["text"] for line in document["items"])


def test_without_answers_the_products_are_those_recommended(guide: Guide, regular: str) -> None:
    found, wanted = guide.ask(regular, k=5), guide.recommend(regular, k=5)
    assert [line["item"] for line in found["items"]] == [line["item"] for line in wanted["items"]]


def test_what_is_wished_for_or_answered_is_not_asked(guide: Guide, regular: str) -> None:
    first = guide.ask(regular)["question"]["column"]
    value = guide.catalogue.value(first, 1)
    for known in ({"where": {first: value}}, {"answers": [{"column": first, "any": True}]}):
        document = guide.ask(regular, **known)  # type: ignore[arg-type]
        assert document["question"] is None or document["question"]["column"] != first


def test_a_query_narrows_and_one_that_finds_nothing_is_relaxed(guide: Guide) -> None:
    narrowed = guide.ask(query="shirt")
    assert narrowed["left"] == guide.search("shirt")["total"] < guide.catalogue.n_items
    relaxed = guide.ask(query="zzz")
    assert relaxed["left"] == guide.catalogue.n_items
    assert relaxed["relaxed"] == [{"query": "zzz", "text": "zzz"}]
    assert relaxed["state"]["query"] == ""


def test_contradictions_are_told_and_leave_the_state(guide: Guide) -> None:
    red, blue = ({"column": "colour", "value": value} for value in ("red", "blue"))
    document = guide.ask(answers=[red, blue])
    assert document["relaxed"] == [{**blue, "text": "colour: blue"}]
    assert document["state"]["answers"] == [red]


def test_a_session_that_likes_something_is_asked_with_that_in_mind(guide: Guide) -> None:
    event = {"item": "500001", "kind": "purchase"}
    plain, moved = guide.ask(), guide.ask(events=[event])
    assert moved["events"]["read"] == 1
    assert [line["score"] for line in plain["items"]] != [line["score"] for line in moved["items"]]


def test_what_is_forbidden_is_in_no_chip_and_what_is_set_is_not_asked(
    guide: Guide, regular: str
) -> None:
    first = guide.ask(regular)["question"]
    column, value = first["column"], first["chips"][0]["text"]
    without = guide.ask(regular, edits={"forbid": {column: value}})
    assert without["left"] < guide.catalogue.n_items
    if without["question"]["column"] == column:
        assert value not in [chip["text"] for chip in without["question"]["chips"]]
    with_it = guide.ask(regular, edits={"set": {column: value}})
    assert with_it["question"]["column"] != column
    assert with_it["left"] == guide.catalogue.n_items, "a wish is no filter"
    assert guide.ask(**with_it["state"]) == with_it


def test_where_nothing_passes_nothing_is_asked(guide: Guide) -> None:
    document = guide.ask(where={"colour": "no such colour"})
    assert (document["left"], document["done"], document["items"]) == (0, "few", [])


# ---- a shopper who knows what they want ---------------------------------------------------


def n_questions(
    guide: Guide, user: str, target: str, at: int, choose: Callable[[list[Question]], Question]
) -> int:
    """How many answers, given truthfully, until the target is among the first four.

    Asked at the moment ``at``: what the user did from then on, the target among it, is not known.
    """
    wanted = np.arange(len(guide.catalogue.keys)) == guide.catalogue.row(target)
    every = dialogue.questions

    def one(*given: Any, **known: Any) -> list[Question]:
        some = every(*given, **known)
        return [choose(some)] if some else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialogue, "questions", one)
        document = guide.ask(user, at=at)
        for n in range(20):
            if target in [line["item"] for line in document["items"]]:
                return n
            assert document["question"], "few were left, and the target not among them"
            chips = [chip["answer"] for chip in document["question"]["chips"]]
            true = next(each for each in chips if not narrow(guide.facets, wanted, [each]).relaxed)
            document["state"]["answers"].append(true)
            document = guide.ask(**document["state"], at=at)
            if document["done"] == "alike":
                return n + 1
    return 20


@pytest.mark.slow
def test_a_shopper_finds_what_they_want_in_fewer_questions_than_by_chance(tmp_path: Path) -> None:
    """Targets are what users of a made shop went on to click after the run was fitted."""
    simulate(tmp_path, "easy", users=400, items=600, exposures=20_000)
    fit(read_shop(tmp_path, ["fit.epochs=2"]), tmp_path / "run")
    guide = Guide.load(tmp_path / "run", verify=False)
    store = guide.artifact.store
    first, last = store.ranges["test"]
    clicked = np.flatnonzero(store["exposures/labels"][first:last, 0] == 1)[:240] + first
    users = {row: key for key, row in store.user_rows.items()}
    rng = np.random.default_rng(0)
    told, chance = [], []
    for exposure in clicked.tolist():
        query = store["exposures/query"][exposure]
        user = users[int(store["queries/user"][query])]
        target = guide.catalogue.keys[int(store["exposures/item"][exposure])]
        wish = guide, user, target, int(store["queries/time"][query])
        told.append(n_questions(*wish, lambda some: some[0]))
        chance.append(n_questions(*wish, lambda some: some[rng.integers(len(some))]))
    fewer = np.array(chance) - np.array(told)
    assert fewer.mean() > 2 * fewer.std(ddof=1) / math.sqrt(len(fewer)), (told, chance)
    assert np.mean(told) < 4, told
