"""Fits whose validation rows teach too once they have chosen: `fit.refit`."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from daogou import artifact
from daogou.config import read_shop
from daogou.errors import ConfigError, DataError
from daogou.features.store import open_store
from daogou.learn import contenders
from daogou.learn import fit as fit_module
from daogou.learn import relate as relate_module
from daogou.learn import tune as tune_module
from daogou.learn.compare import compare
from daogou.learn.evaluate import evaluate
from daogou.learn.finish import Finished, finish_like
from daogou.learn.fit import fit
from daogou.learn.guard import guard
from daogou.learn.onto import Onto
from daogou.learn.settings import refits, settings_of
from daogou.learn.variant import judged_by_validation
from daogou.model.calibrated import Curve
from daogou.schema import Shop
from tests.learn.test_fit import taught
from tests.shops import EVENTS, ITEMS, TOML, USERS, event, item, write_shop

SETS = (
    "fit.epochs=3", "fit.patience=3", "fit.rows_per_step=2", "fit.history_length=4",
    "fit.extra_items=4", "model.width=8", "model.text_width=8", "fit.refit=true",
)  # fmt: skip
TITLES: str = TOML.split("[users]")[0]
Weights = dict[str, Tensor]


def weights_of(run: Path) -> Weights:
    return load_file(run / "model.safetensors")


def same(one: Weights, other: Weights) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refit") / "shop"
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def plain(shop: Path) -> Path:
    """A run that is not refitted."""
    fit(read_shop(shop, [*SETS, "fit.refit=false"]), shop.parent / "plain")
    return shop.parent / "plain"


@pytest.fixture(scope="module")
def run(shop: Path) -> Path:
    fit(read_shop(shop, SETS), shop.parent / "run")
    return shop.parent / "run"


def test_the_run_has_learnt_the_validation_rows_and_says_what_they_said_before(
    run: Path, plain: Path
) -> None:
    store, before = open_store(run / "store"), artifact.read_manifest(plain)["fit"]
    assert store.ranges == {"train": (0, 6), "validation": (6, 6), "test": (6, 8)}
    assert store["exposures/labels"][4, 1] == 0  # its day of buying ends in no later split
    assert set(store["users/split"].tolist()) == {0, 2, 9}
    assert store["titles/split"].tolist() == [0, 0, 0, 2]
    loaded = artifact.load(run)  # gives its sample answers
    assert loaded.refit and loaded.transform.text is not None
    assert "green" in loaded.transform.text.gazetteer.values["colour"]
    told = loaded.manifest["fit"]
    assert told["refit"]["epochs"] == told["best_epoch"] == before["best_epoch"]
    assert told["validation"] == before["validation"]
    assert told["epochs"] == before["epochs"] and before["refit"] is None
    names = ("events.jsonl", "refit.jsonl")
    records = [artifact.read_records(run / name) for name in names]
    assert [len(each) for each in records] == [told["epochs"], told["best_epoch"]]
    assert not (run / "chosen").exists() and not (run / "checkpoint").exists()


def test_tables_that_grow_between_the_two_trainings_are_told(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop")

    def grow(what: str, done: int, total: int, words: str) -> None:
        if what == "epoch":
            write_shop(tmp_path / "shop", events=[*EVENTS, event(240, 1, 10, "shown", "r9")])

    with pytest.raises(DataError, match=r"'events': 15}.* have .*'events': 16}.*; begin anew"):
        fit(read_shop(tmp_path / "shop", SETS), tmp_path / "run", progress=grow)
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_it_is_the_fit_of_a_shop_whose_validation_rows_were_training_rows(
    run: Path, tmp_path: Path
) -> None:
    """Up to the number of epochs, which is all of them here, and what validation taught."""
    toml = TOML.replace('validation_from = "2024-01-04T08:00:00"', "validation = 0")
    write_shop(
        tmp_path / "shop", toml=toml,
        items=[row | {"part": row["part"].replace("validation", "train")} for row in ITEMS],
        users=[row | {"part": row["part"].replace("validation", "train")} for row in USERS],
    )  # fmt: skip
    fit(read_shop(tmp_path / "shop", [*SETS, "fit.refit=false"]), tmp_path / "whole")
    whole = artifact.read_manifest(tmp_path / "whole")["fit"]
    assert whole["best_epoch"] == artifact.read_manifest(run)["fit"]["best_epoch"] == 3
    assert same(taught(weights_of(tmp_path / "whole")), taught(weights_of(run)))


def test_no_row_of_the_test_changes_a_weight_and_each_of_validation_does(
    shop: Path, run: Path, tmp_path: Path
) -> None:
    # What users 1 and 3 do from the test's first moment on, who user 3 is, what 13's title says.
    late = [
        event(row["ts"].day * 24 - 24 + row["ts"].hour, 3, 10, "leave", None)
        if row["ts"].day > 7 and row["event"] != "shown" else row
        for row in EVENTS
    ]  # fmt: skip
    assert sum(one != two for one, two in zip(late, EVENTS, strict=True)) == 2
    untouched = write_shop(
        tmp_path / "test", events=late,
        items=[*ITEMS[:3], item(13, "ochre scarf", "test", category="scarves", price=98.0)],
        users=[*USERS[:2], {**USERS[2], "gender": "F"}],
    )  # fmt: skip
    fit(read_shop(untouched.root, SETS), tmp_path / "run")
    assert same(weights_of(tmp_path / "run"), weights_of(run))
    told = dict(
        items=[*ITEMS[:2], {**ITEMS[2], "spans": []}, ITEMS[3]],
        users=[USERS[0], {**USERS[1], "gender": "F"}, USERS[2]],
        events=[row for row in EVENTS if (row["request"], row["event"]) != ("r4", "click")],
    )
    for name, rows in told.items():
        write_shop(tmp_path / name, **{name: rows})  # type: ignore[arg-type]
        fit(read_shop(tmp_path / name, SETS), tmp_path / f"run-{name}")
        assert not same(weights_of(tmp_path / f"run-{name}"), weights_of(run)), name


@pytest.mark.parametrize(("what", "times"), [("epoch", 2), ("prepare", 6), ("refit", 1)])
def test_left_anywhere_and_resumed_it_has_the_weights_of_a_fit_that_was_not(
    shop: Path, run: Path, tmp_path: Path, what: str, times: int
) -> None:
    heard: list[str] = []

    def stop(each: str, done: int, total: int, words: str) -> None:
        heard.append(each)
        if heard.count(what) == times:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(read_shop(shop, SETS), tmp_path / "run", progress=stop)
    fit(read_shop(shop, SETS), tmp_path / "run", resume=True)
    assert same(weights_of(tmp_path / "run"), weights_of(run))
    for name in ("events.jsonl", "refit.jsonl"):
        both = [artifact.read_records(folder / name) for folder in (run, tmp_path / "run")]
        assert [one["train"] for one in both[0]] == [one["train"] for one in both[1]]


def test_a_tracker_hears_the_epochs_that_chose_and_one_end(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    class Heard:
        def epoch(self, record: Any) -> None:
            heard.append(record["epoch"])

        def end(self, answer: Any) -> None:
            heard.append(answer["refit"]["epochs"])

    monkeypatch.setattr(fit_module, "_tracker", lambda *given: Heard())
    fit(read_shop(shop, [*SETS, "fit.epochs=1"]), tmp_path / "run")
    assert heard == [1, 1]


# ---- what is taken over -----------------------------------------------------------------


def test_what_validation_taught_is_taken_over_and_what_was_counted_is_not(
    run: Path, plain: Path
) -> None:
    chosen, model = artifact.load(plain).model, artifact.load(run).model
    curve = Curve((-1.0, 1.0), (-2.0, 0.5), 0.7)
    heads: Any = chosen.heads
    for name in ("funnel", "extract"):
        heads[name].calibrated.set(0, curve)
    heads["profile"].paths[0, 0] = 0.25
    heads["match"].tally.weights[2] = 0.125
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    done = Finished({}, {}, {}, {})
    finish_like(model, chosen, done, artifact.load(run).store, history_length=4)
    after, wanted = model.state_dict(), chosen.state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {
        *(f"heads.{name}.calibrated.{part}" for name in ("funnel", "extract")
          for part in ("said", "mended", "slope", "used")),
        "heads.profile.paths", "heads.match.tally.weights",
    }  # fmt: skip
    for name in changed:
        assert torch.equal(after[name], wanted[name]), name


# ---- when, and what else may not --------------------------------------------------------


def test_titles_alone_are_refitted_unless_told_and_shops_with_events_when_told(
    shop: Path, tmp_path: Path
) -> None:
    titles = write_shop(tmp_path, users=(), events=(), toml=TITLES).root

    def asked(folder: Path, *sets: str) -> bool:
        described = read_shop(folder, sets)
        return refits(described, settings_of(described)[0])

    assert asked(titles) and not asked(titles, "fit.refit=false")
    assert not asked(titles, "fit.sampling=stop_and_go")
    assert asked(shop, "fit.refit=true") and not asked(shop)
    told = judged_by_validation(read_shop(titles, ["fit.epochs=2"]))
    assert told.fit == {"epochs": 2, "refit": False}
    as_it_is = read_shop(shop)
    assert judged_by_validation(as_it_is) is as_it_is


def test_what_is_judged_by_validation_is_refused_or_not_refitted(
    shop: Path, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"its validation rows taught it .*ask for --split test"):
        evaluate(artifact.load(run), split="validation")
    with pytest.raises(DataError, match=r"its validation rows taught it"):
        evaluate(artifact.load(run), split="validation", data=read_shop(shop))
    assert evaluate(artifact.load(run))["split"] == "test"
    described = read_shop(shop, SETS)
    with pytest.raises(ConfigError, match=r"fit\.refit: a guarded run is judged by validation"):
        guard(described, tmp_path / "guarded")
    with pytest.raises(ConfigError, match=r"fit\.refit: stop_and_go asks validation"):
        settings_of(read_shop(shop, [*SETS, "fit.sampling=stop_and_go"]))
    for asked in ({"onto": Onto(run)}, {"keep_each": True}):
        with pytest.raises(ConfigError, match=r"fit\.refit: the second training begins anew"):
            fit(described, tmp_path / "begun", **asked)  # type: ignore[arg-type]
        assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize(
    ("module", "name", "ask"),
    [
        (contenders, "fit", compare),
        (relate_module, "fit", relate_module.relate),
        (tune_module, "compile_tables", tune_module.tune),
    ],
)
def test_comparisons_searches_and_relations_leave_it_out(
    module: ModuleType, name: str, ask: Callable[..., Any], shop: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[Shop] = []

    def fitted(described: Shop, *given: Any, **named: Any) -> None:
        asked.append(described)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, fitted)
    with pytest.raises(KeyboardInterrupt):
        ask(read_shop(shop, SETS), tmp_path / "folder")
    assert [described.fit["refit"] for described in asked] == [False]
