import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from daogou import artifact
from daogou.artifact.counts import model_of
from daogou.errors import ConfigError, DaogouError, DataError
from daogou.features.store import Store
from daogou.learn import randomised as learn
from daogou.learn.aggregate import Tensors
from daogou.learn.carriers import Here
from daogou.learn.federate import lead
from daogou.learn.private import generator
from daogou.learn.randomised import drawn, hear, lines_of, randomised, respond
from daogou.learn.settings import settings_of
from daogou.learn.silo import Reply, Silo
from daogou.learn.terms import terms_of
from daogou.learn.variant import varied
from daogou.metrics import stray_chance
from daogou.schema import Shop, Task
from tests import shops as tiny
from tests.learn.parties import QUICK, write_parties
from tests.shops import compile_shop, write_shop

OUTCOMES = np.array([[0, 0], [1, 0], [1, 1]], dtype=np.int8)  # nothing, a click, a purchase
CLICK = Task("click", "funnel", loss="conditional")
BUY = replace(CLICK, name="buy", given="click")
LABEL = {"unit": "label", "epsilon": 1.0}


def test_no_answer_is_likelier_of_one_outcome_than_of_another_by_more_than_e_to_the_epsilon() -> (
    None
):
    # Whatever the outcome, each answer is given by one shift alone: so its chance is the shift's.
    epsilon = 1.3
    stray = stray_chance(epsilon, 3)
    chance_of_shift = np.array([1 - 2 * stray, stray, stray])
    likely = np.zeros((3, 3))  # outcome, answer
    for shift in range(3):
        told = respond(OUTCOMES, np.full(3, shift)).sum(1)
        likely[np.arange(3), told] += chance_of_shift[shift]
    assert np.allclose(likely.sum(1), 1)
    ratios = likely[:, None] / likely[None]
    assert ratios.max() == pytest.approx(np.exp(epsilon))


def test_shifts_are_drawn_with_these_chances() -> None:
    n, epsilon = 200_000, 1.0
    found = np.bincount(drawn(n, 2, epsilon, generator("s")), minlength=3) / n
    stray = stray_chance(epsilon, 3)
    assert found == pytest.approx([1 - 2 * stray, stray, stray], abs=0.005)


def test_what_is_told_is_a_funnel_and_missing_where_labels_are() -> None:
    labels = np.array([[1, 1, 1], [1, 0, -1], [0, -1, 0], [-1, 1, 1]], dtype=np.int8)
    told = respond(labels, np.array([0, 2, 1, 1]))
    assert told.tolist() == [[1, 1, 1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]]


def test_stages_lie_in_lines_and_lines_share_epsilon() -> None:
    alone = replace(CLICK, name="like")
    assert lines_of([CLICK, BUY, alone, Task("match", "match")]) == [[CLICK, BUY], [alone]]
    with pytest.raises(ConfigError, match=r"tasks.fav.given: an earlier stage is given 'click'"):
        lines_of([CLICK, BUY, replace(BUY, name="fav")])
    with pytest.raises(ConfigError, match=r"tasks.buy.loss: 'dfm' reads more than labels"):
        lines_of([CLICK, replace(BUY, loss="dfm")])
    with pytest.raises(ConfigError, match=r"no stage has a label"):
        lines_of([Task("match", "match")])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Any, Store]:
    shop = varied(write_shop(tmp_path_factory.mktemp("told")), model=QUICK["model"])
    return shop, *compile_shop(shop)


def test_two_lines_are_each_told_by_half_of_epsilon(
    made: tuple[Shop, Any, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def note(n: int, n_stages: int, epsilon: float, random: torch.Generator) -> Any:
        asked.append(epsilon)
        return np.zeros(n, dtype=np.int64)

    monkeypatch.setattr(learn, "drawn", note)
    _, transform, store = made
    apart = [CLICK, replace(BUY, given=None)]
    assert np.array_equal(
        randomised(store, transform, apart, 3.0, generator("s"))["exposures/labels"],
        store["exposures/labels"],
    )
    assert asked == [1.5, 1.5]
    alone = randomised(store, transform, [CLICK], 3.0, generator("s"))["exposures/labels"]
    assert set(alone[:, 1].tolist()) == {-1}  # nobody learns it, so that it is not told at all
    assert asked[2:] == [3.0]


def test_labels_that_are_missing_because_of_another_are_refused(
    made: tuple[Shop, Any, Store],
) -> None:
    _, transform, store = made
    labels = np.array(store["exposures/labels"])
    labels[labels[:, 0] == 0, 1] = -1
    leaky = replace(store, arrays={**store.arrays, "exposures/labels": labels})
    with pytest.raises(DataError, match=r"'buy' is known only where 'click' happened"):
        randomised(leaky, transform, [CLICK, BUY], 1.0, generator("s"))


def test_a_model_begins_at_the_rates_behind_what_was_told(made: tuple[Shop, Any, Store]) -> None:
    shop, transform, store = made
    labels = np.repeat(OUTCOMES, [8000, 1500, 500], axis=0)  # a fifth clicks, a quarter of it buys
    many = {
        "exposures/labels": labels,
        "exposures/weight": np.ones(len(labels), dtype=np.float32),
    }
    whole = replace(
        store, arrays={**store.arrays, **many}, ranges={**store.ranges, "train": (0, len(labels))}
    )
    told = randomised(whole, transform, shop.tasks, 3.0, generator("s"))
    assert told["exposures/labels"][:, 0].mean() > 0.21
    model = model_of(transform, store, shop, settings_of(shop)[1])
    hear(model, transform, told, 3.0)
    bias = model.heads["funnel"].out.bias[:, 0].sigmoid()  # type: ignore[union-attr, index]
    assert bias.tolist() == pytest.approx([0.2, 0.25], abs=0.03)


# ---- what leaves a shop ---------------------------------------------------------------------


class Heard(Here):
    """Shops in this process, all of whose answers are kept."""

    def __init__(self, silos: Mapping[str, Silo]) -> None:
        super().__init__(silos)
        self.heard: list[tuple[str, str, str, dict[str, Tensor]]] = []

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        replies = super().ask(what, number, document, sent)
        for name, reply in replies.items():
            assert isinstance(reply, Reply), reply
            said = {key: each for key, each in reply.document.items() if key != "run"}
            self.heard.append((what, name, json.dumps(said), dict(reply.tensors)))
        return replies


def together(
    folder: Path, shops: Mapping[str, Shop], privacy: Mapping[str, Any] | None, **terms: Any
) -> Heard:
    """A federation of two rounds whose shops have secrets of their own that are always the same."""
    silos = {}
    for name, shop in shops.items():
        place = folder / "shops" / name
        silos[name] = Silo(shop, place, key="k")
    heard = Heard(silos)
    ask = heard.ask

    def with_secrets(what: str, *rest: Any) -> Mapping[str, Reply | DaogouError]:
        if what == "agree":
            for name in shops:
                (folder / "shops" / name / "secret.txt").write_text(name)
        return ask(what, *rest)

    heard.ask = with_secrets  # type: ignore[method-assign]
    (folder / "shops").mkdir(parents=True)
    lead(heard, folder, {**QUICK, "federate": {"rounds": 2, "privacy": privacy, **terms}})
    return heard


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shop]:
    return write_parties(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def labelled(
    parties: dict[str, Shop], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Heard]:
    folder = tmp_path_factory.mktemp("labels") / "run"
    return folder, together(folder, parties, LABEL)


@pytest.mark.parametrize(("exposure", "by"), [(1, -1), (5, 1)])
def test_all_that_leaves_a_shop_is_made_of_what_its_labels_are_told_to_be(
    parties: dict[str, Shop], labelled: tuple[Path, Heard], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, exposure: int, by: int,
) -> None:  # fmt: skip
    # In another shop one exposure got an outcome further or less: the second, of training, was
    # clicked, or that of validation was not. Where its coin falls so much shorter or further, what
    # is told is the same, and so is every answer, to the bit. That coin is at most e^epsilon times
    # less or more likely, and so is whatever a server may have heard.
    other = [*tiny.EVENTS, tiny.event(1.5, 1, 11, "click", "r1")]
    if exposure == 5:
        other = [each for each in tiny.EVENTS if each != tiny.event(101, 2, 10, "click", "r4")]
    assert abs(len(other) - len(tiny.EVENTS)) == 1
    east = write_shop(tmp_path / "east", items=_east_items(), events=other)
    shifts_of = learn.drawn

    def otherwise(n: int, n_stages: int, epsilon: float, random: torch.Generator) -> Any:
        shifts = shifts_of(n, n_stages, epsilon, random)
        of_east = shifts_of(n, n_stages, epsilon, generator("east", "labels", 1.0))
        if np.array_equal(shifts, of_east):
            shifts[exposure] = (shifts[exposure] + by) % (n_stages + 1)
        return shifts

    monkeypatch.setattr(learn, "drawn", otherwise)
    again = together(tmp_path / "run", {**parties, "east": east}, LABEL)
    _, first = labelled
    assert len(again.heard) == len(first.heard) > 10
    for one, two in zip(first.heard, again.heard, strict=True):
        assert one[:3] == two[:3]
        assert all(torch.equal(each, two[3][name]) for name, each in one[3].items())


def _east_items() -> list[dict[str, Any]]:
    return [{**row, "title": f"{row['title']} east"} for row in tiny.ITEMS]


def test_a_run_says_what_its_labels_gave_away_and_takes_its_own_for_what_they_are(
    labelled: tuple[Path, Heard],
) -> None:
    folder, _ = labelled
    told = json.loads((folder / "federate.json").read_text())["privacy"]["east"]
    assert told == {"unit": "label", "units": 5, "delta": 0.0, "epsilon": 1.0}
    run = artifact.load(folder / "shops" / "east")
    assert run.manifest["federated"]["privacy"] == told
    assert artifact.read_records(folder / "rounds.jsonl")[0]["epsilon"] == {
        "east": 1.0,
        "west": 1.0,
    }
    head: Any = run.model.heads["funnel"]
    assert [type(each).__name__ for each in head.learnt] == ["Conditional"] * 2


def test_labels_are_told_once(
    parties: dict[str, Shop], labelled: tuple[Path, Heard], tmp_path: Path
) -> None:
    folder, _ = labelled
    silo = Silo(parties["east"], folder / "shops" / "east", key="k")
    one, two = (silo.home.taught()["exposures/labels"] for _ in range(2))
    own = artifact.load(folder / "shops" / "east").store["exposures/labels"]
    assert np.array_equal(one, two) and not np.array_equal(one, own)
    said = json.loads((folder / "shops" / "east" / "terms.json").read_text())
    terms = {**said["terms"], "privacy": {**LABEL, "epsilon": 2.0}}
    with pytest.raises(ConfigError, match=r"gave by other terms; take a new folder"):
        silo.answer("tell", 0, {**said, "terms": terms}, {})


@pytest.mark.parametrize("unit", ["label", "example"])
def test_no_past_is_read_where_it_is_made_of_others_labels(
    parties: dict[str, Shop], labelled: tuple[Path, Heard], tmp_path: Path, unit: str
) -> None:
    folder, heard = labelled
    if unit == "example":
        folder, privacy = tmp_path / "run", {"unit": "example", "steps": 1, "share": 1.0}
        heard = together(folder, parties, privacy)
    run = artifact.load(folder / "shops" / "east")
    assert len(run.store["history/item"]) == 0
    assert run.transform.actions == ()
    (first,) = [said for what, name, said, _ in heard.heard if (what, name) == ("tell", "east")]
    # Products 10, 11 and 12 were shown twice, twice and once; what was done with them adds nothing.
    assert sorted(json.loads(first)["transform"]["item_ids"]["counts"]) == [1, 2, 2]


def test_a_folder_of_tables_that_were_read_with_histories_is_not_gone_on_with(
    parties: dict[str, Shop], tmp_path: Path
) -> None:
    silo = Silo(parties["east"], tmp_path / "east", key="k")
    silo.answer("tell", 0, {"terms": {}, **QUICK}, {})
    with pytest.raises(ConfigError, match=r"east: its tables were read for other privacy"):
        silo.answer("tell", 0, {"terms": {"privacy": LABEL}, **QUICK}, {})


def test_terms_that_a_shop_refused_are_not_what_it_goes_on_by(
    parties: dict[str, Shop], tmp_path: Path
) -> None:
    silo = Silo(parties["east"], tmp_path / "east", key="k")
    silo.answer("tell", 0, {"terms": {"privacy": LABEL}, **QUICK}, {})
    with pytest.raises(ConfigError, match=r"its tables were read for other privacy"):
        silo.answer("tell", 0, {"terms": {}, **QUICK}, {})
    assert silo.home.terms.privacy == LABEL  # or it would teach its labels as they are


def test_a_shop_whose_tables_are_refused_does_not_say_why(tmp_path: Path) -> None:
    unread = [event for event in tiny.EVENTS if event["event"] != "click" or event["user_id"] == 1]
    shop = write_shop(tmp_path / "east", events=unread)  # all that were clicked were bought
    for privacy, said in ((None, "check one_class_label"), (LABEL, "does not pass `daogou check`")):
        silo = Silo(shop, tmp_path / said[:4], key="k")
        with pytest.raises(DataError, match=said) as refused:
            silo.answer("tell", 0, {"terms": {"privacy": privacy}, **QUICK}, {})
        assert ("buy" in str(refused.value)) == (privacy is None)


def test_users_are_not_looked_for_where_labels_alone_are_private() -> None:
    with pytest.raises(ConfigError, match=r"federate.audit: finds users, who are public"):
        terms_of({"audit": 0.5, "privacy": LABEL})
