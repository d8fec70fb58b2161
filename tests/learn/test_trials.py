"""Trials in a file, and the next one as a function of those before it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import ArtifactError, MissingExtra
from daogou.learn import trials as trials_module
from daogou.learn.dimension import Dimension, Range
from daogou.learn.space import Space
from daogou.learn.trials import Trials, falls_behind, front, is_rung, params_of

pytestmark = pytest.mark.usefixtures("quick_disk")
SPACE = Space(
    (
        Dimension("rate", float, Range(low=0.001, high=1.0, log=True), {}),
        Dimension("widths", None, Range(choices=([8, 4], [16])), {}),
        Dimension("mixer", None, Range(choices=("ple", "mmoe")), {}),
        Dimension("experts", int, Range(low=2, high=8), {"mixer": ("mmoe",)}),
    )
)


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Trials]:
    made = Trials(tmp_path / "tune.db", "search", 1)
    yield made
    made.close()


def begin(trials: Trials, sampler: str = "random", seed: int = 0) -> int:
    return trials.begin(trials.propose(SPACE, sampler, seed))


def test_a_trial_is_written_whole_and_read_back(trials: Trials, tmp_path: Path) -> None:
    number = begin(trials)
    trials.report(number, 1, 0.75)
    trials.end(number, "finished", [0.5], {"score": 0.5, "relative": {"click": None}})
    failed = begin(trials)
    trials.end(failed, "failed", [], {"reason": "the loss became nan"})
    begin(trials)
    trials.close()
    again = Trials(tmp_path / "tune.db", "search", 1)
    one, two, three = again.all()
    again.close()
    assert (one.state, one.values, one.by_epoch) == ("finished", (0.5,), {1: 0.75})
    assert one.notes == {"score": 0.5, "relative": {"click": None}}
    assert (two.state, two.values, two.notes["reason"]) == ("failed", (), "the loss became nan")
    assert (three.state, three.number) == ("unfinished", 2)


def test_settings_come_back_as_the_shop_has_them(trials: Trials) -> None:
    for _ in range(8):
        begin(trials)
    found = [params_of(SPACE, trial) for trial in trials.all()]
    assert all(one["widths"] in ([8, 4], [16]) for one in found)
    assert all(0.001 <= one["rate"] <= 1 for one in found)
    assert all(("experts" in one) == (one["mixer"] == "mmoe") for one in found)
    assert {one["mixer"] for one in found} == {"ple", "mmoe"}
    assert all(type(one["experts"]) is int for one in found if "experts" in one)


def test_a_grid_has_each_point_once_and_then_an_end(trials: Trials) -> None:
    grid = Space((Dimension("a", None, Range(choices=(1, 2, 3)), {}), SPACE.dimensions[1]))
    while (proposed := trials.propose(grid, "grid", 0)) is not None:
        trials.begin(proposed)
    found = [params_of(grid, trial) for trial in trials.all()]
    assert len(found) == 6 and all(point in found for point in grid.grid())
    assert found != grid.grid()  # in no order, so that a smaller budget covers it evenly


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "nsga2"])
def test_the_next_trial_follows_from_those_before_it(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks, in which process, and whatever else it has drawn."""
    monkeypatch.setattr(trials_module, "POPULATION", 4)
    n_objectives = 2 if sampler == "nsga2" else 1
    held = Trials(tmp_path / "tune.db", "search", n_objectives)
    for _ in range(11):  # more than tpe and gp draw at random
        number = begin(held, sampler)
        rate = held.all()[number].params["rate"]
        held.report(number, 1, 2 * rate)
        if number == 3:
            held.end(number, "failed", [], {})
        elif number == 5 and n_objectives == 1:
            held.end(number, "stopped", [2 * rate], {})
        else:
            held.end(number, "finished", [rate, 1 - rate][:n_objectives], {})
    begin(held, sampler)  # another process works on this one
    proposed = held.propose(SPACE, sampler, 0)
    held.close()
    torch.manual_seed(1)
    np.random.seed(1)
    again = Trials(tmp_path / "tune.db", "search", n_objectives)
    same = again.propose(SPACE, sampler, 0)
    assert (same.params, same.system_attrs) == (proposed.params, proposed.system_attrs)
    assert again.propose(SPACE, sampler, 1).params != proposed.params
    begin(again, sampler)
    assert again.propose(SPACE, sampler, 0).params != proposed.params
    again.close()


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_that_learns_goes_where_it_was_good(sampler: str, trials: Trials) -> None:
    space = Space(SPACE.dimensions[:1])
    for _ in range(20):
        number = trials.begin(trials.propose(space, sampler, 3))
        rate = trials.all()[number].params["rate"]
        trials.end(number, "finished", [abs(np.log10(rate) + 1)], {})
    found = [one.values[0] for one in trials.all()]
    assert np.median(found[10:]) < np.median(found[:10]) / 2


def test_a_file_of_another_search_is_refused(trials: Trials, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="other objectives"):
        Trials(tmp_path / "tune.db", "search", 2)


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'daogou\[tune\]'"):
        Trials(Path("nowhere"), "search", 1)


# ---- stopping and fronts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "others", "factor", "stopped"),
    [
        (9.0, [], 3, False),  # the first of all goes on
        (2.0, [1.0], 3, True),  # of two only the better
        (2.0, [1.0, 3.0, 4.0, 5.0, 6.0], 3, False),  # two of six
        (3.0, [1.0, 2.0, 4.0, 5.0, 6.0], 3, True),
        (1.0, [1.0, 1.0], 3, False),  # equal to the best
    ],
)
def test_one_in_so_many_goes_on(
    value: float, others: list[float], factor: int, stopped: bool
) -> None:
    assert falls_behind(value, others, factor) == stopped


def test_without_halving_there_is_no_rung() -> None:
    assert not any(is_rung(epoch, 0) for epoch in range(30))
    assert [epoch for epoch in range(20) if is_rung(epoch, 2)] == [1, 2, 4, 8, 16]


def test_a_front_by_hand() -> None:
    assert front([[1, 9], [2, 2], [9, 1], [2, 3], [3, 3]]) == [0, 1, 2]
    assert front([[1.0], [1.0], [2.0]]) == [0, 1]
    assert front([]) == []


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_each_point_is_on_the_front_or_behind_one_of_it(points: list[Any]) -> None:
    chosen = front(points)
    for place, own in enumerate(points):
        behind = any(
            all(a <= b for a, b in zip(points[one], own, strict=True)) and points[one] != own
            for one in chosen
        )
        assert behind != (place in chosen)
