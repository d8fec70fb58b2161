"""A search for settings: what counts as best, what is stopped, and what a kill does not change."""

import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daogou import artifact
from daogou.artifact import read_records
from daogou.config import read_shop, shop_of
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.learn import tune as tune_module
from daogou.learn import watch
from daogou.learn.claim import started_as
from daogou.learn.journal import append_record
from daogou.learn.loop import Progress, quiet
from daogou.learn.trials import Trials
from daogou.learn.tune import tune
from daogou.schema import Shop
from tests.learn.conftest import QUICK

pytestmark = pytest.mark.usefixtures("quick_disk")
EPOCHS = 3
RATES = (0.001, 0.01, 0.1, 1.0)


def shop(**sections: Any) -> Shop:
    events = {
        "path": "events.parquet", "user": "user", "item": "item", "time": "time", "kind": "kind",
        "funnel": ["shown", "click", "buy"],
    }  # fmt: skip
    space = {"fit.learning_rate": {"low": RATES[0], "high": RATES[-1], "log": True, "points": 4}}
    document: dict[str, Any] = {
        "name": "made",
        "events": events,
        "fit": {"epochs": EPOCHS},
        "tune": {"space": space, "halving": 0},
    }
    for name, table in sections.items():
        document[name] = {**document.get(name, {}), **table}
    return shop_of(document, Path("shops"))


class Fits:
    """In place of `fit`: clicks like a rate of 0.01, purchases one of 0.1, and epochs help.

    ``at`` is called at every place where a process could be killed.
    """

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.at: Callable[[str], None] = lambda place: None
        self.fails: Callable[[float], bool] = lambda rate: False
        self.n = 10

    def __call__(
        self, shop: Shop, run: Path, *, resume: bool, progress: Progress, like: Path
    ) -> None:
        assert resume == run.exists() and like.name == "tables"
        assert "tune" not in shop.document
        rate = shop.fit["learning_rate"]
        self.begun.append(rate)
        self.at("begun")
        run.mkdir(exist_ok=True)
        self.at("empty")
        (run / "started.json").write_text(started_as(shop))
        if self.fails(rate):
            raise DataError("the loss became nan")
        log = run / "events.jsonl"
        told = len(read_records(log)) if log.exists() else 0
        for epoch in range(told + 1, EPOCHS + 1):
            losses = {
                name: (abs(math.log10(rate) - best) + 1 / epoch) / 10
                for name, best in (("click", -2.0), ("buy", -1.0), ("match", 0.0))
            }
            watched = shop.fit["watch"]
            score = sum(losses.values()) / 3 if watched == "joint" else losses[watched]
            record = {
                "epoch": epoch,
                "score": score if self.n else math.inf,
                "seconds": float(epoch),
                "validation": {
                    name: {"loss": 2 * loss, "constant": 2.0, "n": self.n}
                    for name, loss in losses.items()
                },
            }
            append_record(log, record)
            self.at(f"told {epoch}")
            progress("epoch", epoch, EPOCHS, "")
            self.at(f"taught {epoch}")
        manifest = {"format": artifact.FORMAT, "fit": {}}
        manifest["digest"] = artifact._digest(manifest)
        artifact.write_document(run / "manifest.json", manifest)
        self.at("whole")


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    made = Fits()
    monkeypatch.setattr(tune_module, "fit", made)
    monkeypatch.setattr(
        tune_module, "compile_tables", lambda shop, folder, progress: folder.mkdir(exist_ok=True)
    )
    return made


def scores(found: Mapping[str, Any]) -> list[Any]:
    return [(one["state"], one["settings"], one["score"]) for one in found["trials"]]


# ---- what is best -------------------------------------------------------------------------


def test_a_grid_finds_its_least_score_and_keeps_that_run(fits: Fits, tmp_path: Path) -> None:
    found = tune(shop(), tmp_path / "out", sampler="grid")
    # Off by 0, 1 and 2 decades at 0.1, and 1 / 3 for the epochs: a tenth of 1 on average.
    assert found["best"]["settings"] == {"fit.learning_rate": pytest.approx(0.1)}
    assert found["best"]["score"] == pytest.approx((1 + 0 + 1 + 3 * (1 / 3)) / 30)
    assert found["best"]["best_epoch"] == EPOCHS
    assert sorted(fits.begun) == pytest.approx(list(RATES))
    assert found["counts"] == {"finished": 4, "stopped": 0, "failed": 0, "unfinished": 0}
    assert json.loads((tmp_path / "out" / "tune.json").read_text("utf-8")) == found
    # 0.001 is behind 0.01 for everybody.
    by_rate = {round(one["settings"]["fit.learning_rate"], 6): one for one in found["trials"]}
    front = {rate for rate, one in by_rate.items() if one["number"] in found["pareto"]}
    assert front == {0.01, 0.1, 1.0}
    kept = json.loads((tmp_path / "out" / "best" / "started.json").read_text())
    assert kept["shop"]["fit"]["learning_rate"] == found["best"]["settings"]["fit.learning_rate"]
    assert list((tmp_path / "out" / "trials").iterdir()) == []


def test_the_objective_is_of_the_task_that_is_named(fits: Fits, tmp_path: Path) -> None:
    found = tune(shop(tune={"objective": "click"}), tmp_path / "out", sampler="grid")
    assert found["best"]["settings"] == {"fit.learning_rate": pytest.approx(0.01)}
    assert found["best"]["score"] == pytest.approx(1 / 30)
    kept = json.loads((tmp_path / "out" / "best" / "started.json").read_text())
    assert kept["shop"]["fit"]["watch"] == "click"  # the epoch is picked by the same


def test_several_tasks_at_once_have_a_front(fits: Fits, tmp_path: Path) -> None:
    found = tune(shop(), tmp_path / "out", sampler="nsga2", trials=5)
    for one in found["trials"]:
        assert one["state"] == "finished" and one["epochs"] == EPOCHS
    held = Trials(tmp_path / "out" / "tune.db", "search", 3)
    values = [trial.values for trial in held.all()]
    held.close()
    assert values == [tuple(one["relative"].values()) for one in found["trials"]]
    assert found["best"]["number"] in found["pareto"]
    assert found["best"]["score"] == min(one["score"] for one in found["trials"])


def test_a_run_that_is_gone_is_fitted_again(fits: Fits, tmp_path: Path) -> None:
    found = tune(shop(), tmp_path / "out", sampler="grid")
    (tmp_path / "out" / "best" / "manifest.json").unlink()
    fits.begun.clear()
    again = tune(shop(), tmp_path / "out", sampler="grid", resume=True)
    assert again == found
    assert fits.begun == [found["best"]["settings"]["fit.learning_rate"]]
    assert (tmp_path / "out" / "best" / "manifest.json").exists()


# ---- what ends early ----------------------------------------------------------------------


def test_a_trial_that_falls_behind_is_stopped(fits: Fits, tmp_path: Path) -> None:
    ended = []
    found = tune(
        shop(tune={"halving": 2}), tmp_path / "out", sampler="random", trials=6,
        progress=lambda what, done, total, words: ended.append(done) if what == "trial" else None,
    )  # fmt: skip
    assert ended == [1, 2, 3, 4, 5, 6]
    assert found["trials"][0]["state"] == "finished"  # nobody came as far before it
    by_epoch: list[dict[int, float]] = []
    for one in found["trials"]:
        own: dict[int, float] = {}
        alive = True
        for epoch in range(1, EPOCHS + 1):
            if not alive:
                break
            first = math.log10(one["settings"]["fit.learning_rate"])
            offs = abs(first + 2) + abs(first + 1) + abs(first)
            own[epoch] = (offs / 3 + 1 / epoch) / 10
            ranked = sorted([*(each[epoch] for each in by_epoch if epoch in each), own[epoch]])
            # After epochs 1 and 2, the better half goes on.
            alive = epoch == EPOCHS or own[epoch] <= ranked[max(len(ranked) // 2, 1) - 1]
        by_epoch.append(own)
        assert one["epochs"] == len(own)
        assert one["state"] == ("finished" if len(own) == EPOCHS else "stopped")
        assert one["score"] == pytest.approx(min(own.values()))
    assert found["counts"]["stopped"] > 0


def test_a_failed_trial_does_not_end_the_search(fits: Fits, tmp_path: Path) -> None:
    fits.fails = lambda rate: rate > 0.05
    found = tune(shop(), tmp_path / "out", sampler="grid")
    assert found["counts"] == {"finished": 2, "stopped": 0, "failed": 2, "unfinished": 0}
    failed = [one for one in found["trials"] if one["state"] == "failed"]
    assert {one["reason"] for one in failed} == {"the loss became nan"}
    assert found["best"]["settings"] == {"fit.learning_rate": pytest.approx(0.01)}


def test_if_all_fail_it_says_why(fits: Fits, tmp_path: Path) -> None:
    fits.fails = lambda rate: True
    with pytest.raises(DataError, match=r"none of 2 trials finished; .*the loss became nan"):
        tune(shop(), tmp_path / "out", trials=2)


def test_without_labels_to_judge_by_it_says_so(fits: Fits, tmp_path: Path) -> None:
    fits.n = 0
    with pytest.raises(DataError, match="no label of click, buy, match"):
        tune(shop(), tmp_path / "out", trials=2)
    assert len(fits.begun) == 1


def test_when_time_is_up_a_trial_is_left_and_gone_on_with_later(
    fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(tune_module.time, "monotonic", lambda: now[0])

    def later(place: str) -> None:
        now[0] += 20.0 * place.startswith("told")  # seconds an epoch

    fits.at = later
    found = tune(shop(), tmp_path / "out", sampler="grid", minutes=1.5)
    # The first takes the first minute; the second is left after the epoch that ends past 90 s.
    assert [one["state"] for one in found["trials"]] == ["finished", "unfinished"]
    assert found["best"]["number"] == 0
    fits.begun.clear()
    whole = tune(shop(), tmp_path / "out", sampler="grid", resume=True)
    assert len(fits.begun) == 3 and whole["counts"]["finished"] == 4
    assert whole["trials"][1]["epochs"] == EPOCHS
    assert scores(whole) == scores(tune(shop(), tmp_path / "other", sampler="grid"))


def test_the_first_trial_is_finished_however_late(
    fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(tune_module.time, "monotonic", lambda: now[0])

    def later(place: str) -> None:
        now[0] += 100.0

    fits.at = later
    found = tune(shop(), tmp_path / "out", minutes=0.1)
    assert found["counts"] == {"finished": 1, "stopped": 0, "failed": 0, "unfinished": 0}


# ---- kills --------------------------------------------------------------------------------


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_module, "fit", Fits())
        patch.setattr(tune_module, "compile_tables", lambda shop, folder, progress: folder.mkdir())
        folder = tmp_path_factory.mktemp("unbroken") / "out"
        return tune(shop(tune={"halving": 2}), folder, sampler="random", trials=4)


def kill_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, when: str) -> None:
    """Let the ``call``-th call of a function be the last thing a process does, or did."""
    real, count = getattr(owner, name), [0]

    def deadly(*words: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == call and when == "before":
            raise Killed
        answer = real(*words, **named)
        if count[0] == call:
            raise Killed
        return answer

    monkeypatch.setattr(owner, name, deadly)


@pytest.mark.parametrize(
    ("owner", "name", "call", "when"),
    [
        (Trials, "begin", 3, "after"),
        (Trials, "report", 3, "before"),
        (watch, "falls_behind", 3, "after"),
        (Trials, "end", 2, "before"),
        (Trials, "end", 2, "after"),
        (tune_module, "_keep", 1, "before"),
        (os, "replace", 1, "before"),  # of what the search is
        (os, "replace", 2, "before"),  # of the best run
        (os, "replace", 2, "after"),
    ],
)
def test_a_killed_search_ends_as_if_it_had_not_been(
    fits: Fits, tmp_path: Path, unbroken: Any, owner: Any, name: str, call: int, when: str
) -> None:
    searched = shop(tune={"halving": 2})
    words: dict[str, Any] = {"sampler": "random", "trials": 4}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_once(patch, owner, name, call, when)
        tune(searched, tmp_path / "out", **words)
    found = tune(searched, tmp_path / "out", resume=True, **words)
    assert scores(found) == scores(unbroken)
    assert found["best"] == {**unbroken["best"], "run": str(tmp_path / "out" / "best")}
    assert found["pareto"] == unbroken["pareto"]
    assert (tmp_path / "out" / "best" / "manifest.json").exists()
    assert list((tmp_path / "out" / "trials").iterdir()) == []


@pytest.mark.parametrize("place", ["empty", "told 1", "taught 1", "whole"])
def test_a_kill_within_a_fit_is_none_either(
    fits: Fits, tmp_path: Path, unbroken: Any, place: str
) -> None:
    seen = [0]

    def kill(now: str) -> None:
        seen[0] += now == "begun"
        if now == place and (seen[0] >= 2 or now == "whole"):
            raise Killed

    searched = shop(tune={"halving": 2})
    fits.at = kill
    with pytest.raises(Killed):
        tune(searched, tmp_path / "out", sampler="random", trials=4)
    fits.at = lambda now: None
    found = tune(searched, tmp_path / "out", sampler="random", trials=4, resume=True)
    assert scores(found) == scores(unbroken)


def test_a_search_can_be_made_longer(fits: Fits, tmp_path: Path, unbroken: Any) -> None:
    searched = shop(tune={"halving": 2})
    tune(searched, tmp_path / "out", sampler="random", trials=2)
    found = tune(searched, tmp_path / "out", sampler="random", trials=4, resume=True)
    assert scores(found) == scores(unbroken)
    fits.begun.clear()
    assert tune(searched, tmp_path / "out", sampler="random", trials=4, resume=True) == found
    assert fits.begun == []


def test_several_processes_share_a_search(fits: Fits, tmp_path: Path) -> None:
    """Threads here: to the locks and the file they are as apart as processes."""
    out = tmp_path / "out"
    tune(shop(), out, sampler="random", trials=1)
    both = threading.Barrier(2, timeout=60)

    def meet(place: str) -> None:
        if place == "begun" and len(fits.begun) <= 3:
            both.wait()  # so that two trials run at once

    fits.at = meet
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(tune(shop(), out, sampler="random", trials=6, resume=True))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    last = tune(shop(), out, sampler="random", trials=6, resume=True)
    assert last["counts"] == {"finished": 6, "stopped": 0, "failed": 0, "unfinished": 0}
    assert len(fits.begun) == len(set(fits.begun)) == 6
    assert last["best"]["score"] == min(one["score"] for one in last["trials"])


# ---- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sampler": "tpee"}, "did you mean 'tpe'"),
        ({"trials": 0}, "--trials: 0"),
        ({"minutes": 0}, "--minutes: 0"),
    ],
)
def test_a_wrong_call_is_refused(words: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        tune(shop(), tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


def test_one_task_has_no_front_and_a_range_no_grid(tmp_path: Path) -> None:
    off = {"enabled": False}
    one = shop(tasks={"buy": off, "match": off})
    with pytest.raises(ConfigError, match="nsga2 weighs tasks against each other"):
        tune(one, tmp_path / "out", sampler="nsga2")
    free = shop(tune={"space": {"model.dropout": {"low": 0.0, "high": 0.5}}})
    with pytest.raises(ConfigError, match=r"model.dropout: a grid needs steps"):
        tune(free, tmp_path / "out", sampler="grid")


def test_a_folder_is_one_search_s(fits: Fits, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="not empty and no search"):
        tune(shop(), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    out = tmp_path / "out"
    tune(shop(), out, trials=1)
    with pytest.raises(ArtifactError, match="holds a search; add --resume"):
        tune(shop(), out, trials=2)
    with pytest.raises(ArtifactError, match="started with other settings"):
        tune(shop(), out, sampler="random", resume=True)
    with pytest.raises(ArtifactError, match="started with other settings"):
        tune(shop(fit={"epochs": 9}), out, resume=True)


# ---- in earnest ---------------------------------------------------------------------------


def test_a_made_shop_is_searched_on_one_store(shop_folder: Path, tmp_path: Path) -> None:
    space = 'tune.space."fit.learning_rate"={low=0.001, high=0.01, log=true}'
    described = read_shop(shop_folder, [*QUICK, "fit.epochs=1", space])
    prepared: list[int] = []

    def progress(what: str, done: int, total: int, words: str) -> None:
        prepared.extend([done] if what == "prepare" else [])

    found = tune(described, tmp_path / "out", trials=2, progress=progress)
    assert prepared == [0, 1, 2, 3]  # once for all
    assert found["counts"]["finished"] == 2
    best = artifact.load(tmp_path / "out" / "best")
    rate = found["best"]["settings"]["fit.learning_rate"]
    assert best.manifest["settings"]["learning_rate"] == rate
    (record,) = read_records(tmp_path / "out" / "best" / "events.jsonl")
    assert found["best"]["score"] == record["score"]
    relative = {
        name: loss["loss"] / loss["constant"] for name, loss in record["validation"].items()
    }
    assert found["best"]["relative"] == relative
    assert found["best"]["score"] == pytest.approx(sum(relative.values()) / len(relative))
    name = "exposures/labels.npy"
    stores = [tmp_path / "out" / folder / "store" / name for folder in ("tables", "best")]
    assert stores[0].exists() and stores[0].samefile(stores[1])


def test_nothing_is_said_where_nobody_asks(fits: Fits, tmp_path: Path, capsys: Any) -> None:
    tune(shop(), tmp_path / "out", sampler="tpe", trials=2, progress=quiet)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
