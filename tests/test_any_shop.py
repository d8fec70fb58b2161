"""Any shop at all: it is learnt from and answers soundly, or is refused with a reason."""

import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from daogou import artifact
from daogou.config import read_shop
from daogou.errors import DaogouError
from daogou.guide import Guide
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.learn.settings import settings_of
from daogou.tables import engine_for, prepare
from daogou.tables.check import check
from tests.odd_shops import Document, Table, odd_shops, write_odd

TITLES = ("red boot", "", "😀" * 300, "长" * 3000)


def lived_through(folder: Path) -> Document:
    """Everything that a shop is asked for: checked, fitted, evaluated, and its answers."""
    shop = read_shop(folder)
    settings_of(shop)
    with engine_for(shop) as engine:
        found = check(engine, shop, prepare(engine, shop))
    failed = sorted({each.name for each in found if each.level == "FAIL"})
    told: Document = {"fit": fit(read_shop(folder, [f"fit.waive={failed}"]), folder / "run")}
    run = artifact.load(folder / "run")
    guide = Guide.of(run)
    told["report"] = evaluate(run)
    users = [*[*run.store.user_rows][:2], "nobody at all", 7]
    families = {task.family for task in run.model.tasks}
    if "funnel" in families and run.shop.events and run.shop.events.item:
        told["recommend"] = [guide.recommend(user, k=5) for user in users]
        shown = told["recommend"][0]["items"][:1]
        told["explain"] = [guide.explain(user, line["item"]) for user in users for line in shown]
    if run.shop.items:
        who = users[0] if "recommend" in told else None
        told["search"] = [guide.search(query, who) for query in ("", "red", "红 色", "'\"")]
    if "match" in families:
        told["match"] = [guide.match(user, [*run.store.item_rows][:3]) for user in users]
    if "profile" in families:
        told["profile"] = [guide.profile(user) for user in users]
    if "extract" in families:
        told["extract"] = [guide.extract(title) for title in TITLES]
    told["catalogue"] = run.store.item_rows
    return told


def is_sound(told: Document) -> None:
    """Chances are chances, numbers are numbers, and what is offered is there to be had."""
    for name, entry in told["report"]["tasks"].items():
        assert "n" in entry, (name, entry)
        for number in numbers(entry):
            assert not math.isinf(number), (name, entry)
    for answer in told.get("recommend", ()):
        offered = [line["item"] for line in answer["items"]]
        assert len(set(offered)) == len(offered) <= 5
        assert set(offered) <= set(told["catalogue"]), answer
        for line in answer["items"]:
            assert math.isfinite(line["score"]), line
            assert all(0 <= chance <= 1 for chance in line["p"].values()), line
    for answer in told.get("explain", ()):
        assert math.isfinite(answer["score"]), answer
        assert all(math.isfinite(line["weight"]) for line in answer["contributions"]), answer
    for answer in told.get("search", ()):
        assert {line["item"] for line in answer["items"]} <= set(told["catalogue"]), answer
    for answer in told.get("match", ()):
        assert all(math.isfinite(line["score"]) for line in answer["items"]), answer
    for answer in told.get("profile", ()):
        for chances in answer["columns"].values():
            assert all(0 <= each <= 1 for each in numbers(chances)), answer
    for title, answer in zip(TITLES, told.get("extract", ()), strict=False):
        for first, last, _, confidence in answer["spans"]:
            assert 0 <= first < last <= len(title)
            assert 0 <= confidence <= 1


def numbers(value: Any) -> list[float]:
    """Every number in a document."""
    if isinstance(value, dict):
        return [each for inner in value.values() for each in numbers(inner)]
    if isinstance(value, list | tuple):
        return [each for inner in value for each in numbers(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def is_told(error: DaogouError) -> None:
    """A refusal says where, what was found and what to do."""
    for line in str(error).split("\n"):
        assert re.match(r"\S.*: .", line), line
    assert re.search(r";|did you mean|known:|--set|\b(give|name|list) ", str(error)), str(error)


def tried(shop: tuple[Document, dict[str, Table], str]) -> bool:
    """Whether a shop is learnt from; refused otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        write_odd(Path(folder), *shop)
        try:
            told = lived_through(Path(folder))
        except DaogouError as error:
            is_told(error)
            return False
    is_sound(told)
    return True


def learnt_from(examples: int) -> float:
    """The share of so many odd shops that something is learnt from."""
    learnt: list[bool] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(shop=odd_shops())
    def one(shop: tuple[Document, dict[str, Table], str]) -> None:
        learnt.append(tried(shop))

    one()
    return sum(learnt) / len(learnt)


def test_a_few_odd_shops_are_learnt_from_or_refused_with_a_reason() -> None:
    assert learnt_from(3) > 0


@pytest.mark.slow
def test_many_odd_shops_are_learnt_from_or_refused_with_a_reason() -> None:
    assert 0.25 < learnt_from(150) < 1, "or one of the two is not tried"
