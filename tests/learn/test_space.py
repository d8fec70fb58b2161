"""A space of settings: read, refused where it cannot be searched, walked as a grid."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.config import apply, shop_of
from daogou.errors import ConfigError
from daogou.learn.dimension import Dimension, Range
from daogou.learn.settings import settings_of
from daogou.learn.space import Space, default_space, shop_with, tuning_of
from daogou.schema import Shop

EVENTS = {
    "path": "events.parquet", "user": "user", "item": "item", "time": "time", "kind": "kind",
    "funnel": ["shown", "click", "buy"],
}  # fmt: skip
RATE = {"low": 0.001, "high": 0.1, "log": True}


def shop(space: Mapping[str, Any] | None = None, **sections: Any) -> Shop:
    document = {"name": "made", "events": dict(EVENTS), **sections}
    if space is not None:
        document["tune"] = {"space": space}
    return shop_of(document, Path())


def keys(read: Space) -> list[str]:
    return [each.key for each in read.dimensions]


# ---- reading ------------------------------------------------------------------------------


def test_quoted_and_nested_keys_mean_the_same() -> None:
    nested = {"fit": {"learning_rate": RATE}, "model": {"mixer": {"choices": ["mmoe", "ple"]}}}
    quoted = {"fit.learning_rate": RATE, "model.mixer": {"choices": ["mmoe", "ple"]}}
    assert tuning_of(shop(nested))[1] == tuning_of(shop(quoted))[1]


def test_a_range_has_the_type_of_its_setting() -> None:
    # 0 to 1 would be two whole numbers if the values said the type.
    _, space, _ = tuning_of(
        shop({"fit.weight_decay": {"low": 0, "high": 1}, "fit.epochs": {"low": 1, "high": 4}})
    )
    assert [each.kind for each in space.dimensions] == [float, int]
    assert space.dimensions[0].ends == (0.0, 1.0) and isinstance(space.dimensions[0].ends[0], float)


def test_a_setting_comes_after_what_it_depends_on() -> None:
    space = {
        "model.mixer_options.n_experts": {
            "low": 2, "high": 8, "when": {"model": {"mixer": "mmoe"}}
        },
        "fit.learning_rate": RATE,
        "model.mixer": {"choices": ["ple", "mmoe"]},
    }  # fmt: skip
    read = tuning_of(shop(space))[1]
    assert keys(read) == ["fit.learning_rate", "model.mixer", "model.mixer_options.n_experts"]
    n_experts = read.dimensions[2]
    assert n_experts.is_asked({"model.mixer": "mmoe"})
    assert not n_experts.is_asked({"model.mixer": "ple"})
    assert not n_experts.is_asked({})
    assert n_experts.document() == {"low": 2, "high": 8, "when": {"model.mixer": ("mmoe",)}}


def test_without_a_space_there_is_a_small_one() -> None:
    tuning, space, objective = tuning_of(shop())
    assert keys(space) == list(default_space(shop()))
    assert (tuning.halving, objective) == (3, "joint")
    assert len(space.grid()) == 3 * 3 * 3 * (1 + 3 + 1)  # mmoe with 2, 5 and 8 experts


def test_of_one_stage_no_mixer_is_searched() -> None:
    one = shop(tasks={"buy": {"enabled": False}})
    assert "model.mixer" not in default_space(one)


def test_the_objective_is_what_picks_the_epoch_unless_it_is_named() -> None:
    assert tuning_of(shop(fit={"watch": "buy"}))[2] == "buy"
    assert tuning_of(shop(fit={"watch": "buy"}, tune={"objective": "click"}))[2] == "click"


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"fit.learning_rte": RATE}, "did you mean 'learning_rate'"),
        ({"fit.buckets": {"low": 8, "high": 64}}, "all trials read one store"),
        ({"fit.calibration": {"choices": ["none", "platt"]}}, "what trials are compared by"),
        ({"fit.threads": {"choices": [1, 2]}}, "not what is learnt"),
        ({"split.test": {"low": 0.1, "high": 0.2}}, r"settings of \[fit\] and \[model\]"),
        ({"seed": {"choices": [1, 2]}}, r"settings of \[fit\] and \[model\]"),
        ({"tasks.click.given": {"choices": ["buy"]}}, "known: own, weight"),
        ({"tasks.clik.weight": {"low": 0.5, "high": 1}}, "did you mean 'click'"),
        ({"tasks.click.weight": {"low": 0, "high": 1}}, "no say in the joint score"),
        ({"tasks.click.weight": {"choices": [0, 1]}}, "no say in the joint score"),
        ({"fit.learning_rate": {"low": 0.1}}, "give low and high"),
        ({"fit.learning_rate": {"low": 0.1, "high": 0.1}}, "low must be less"),
        ({"fit.learning_rate": {"low": 0, "high": 0.1, "log": True}}, "above 0"),
        ({"fit.learning_rate": {**RATE, "step": 0.1}}, "step and log"),
        ({"fit.learning_rate": {"low": 0.1, "high": 1, "step": -0.1}}, "step is -0.1"),
        ({"fit.learning_rate": {**RATE, "points": 0}}, "points is 0"),
        ({"fit.learning_rate": {"low": 0.1, "high": 1, "step": 0.1, "points": 3}}, "not both"),
        ({"fit.learning_rate": {**RATE, "choices": [0.1]}}, "not both"),
        ({"fit.learning_rate": {"low": 0.1, "hgh": 1}}, "did you mean 'high'"),
        ({"fit.learning_rate": 0.1}, "a table is wanted"),
        ({"fit.epochs": {"low": 1, "high": 2.5}}, "whole numbers"),
        ({"model.mixer": {"low": 1, "high": 2}}, "no number; give choices"),
        ({"model.mixer": {"choices": ["ple", "ple"]}}, "listed twice"),
        ({"model.mixer": {"choices": ["ple", "plee"]}}, "with model.mixer = 'plee'.*'ple'"),
        ({"model.dropout": {"low": 0.0, "high": 1.5}}, "with model.dropout = 1.5"),
        ({"fit.epochs": {"choices": [1, "two"]}}, "with fit.epochs = 'two'"),
        ({"fit.epochs": {"low": 1, "high": 2, "when": {"model.mixer": "ple"}}}, "known: fit.epo"),
        ({"model.mixer_options.n_experts": {"low": 2, "high": 4}}, "no 'n_experts' here"),
    ],
)
def test_what_cannot_be_searched_is_refused(space: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tuning_of(shop(space))


def test_an_option_that_not_every_mixer_has_needs_a_condition() -> None:
    space = {
        "model.mixer": {"choices": ["ple", "mmoe"]},
        "model.mixer_options.n_shared": {"low": 1, "high": 2},
    }
    with pytest.raises(ConfigError, match=r"mixer = 'mmoe', .*n_shared = 1: .*no 'n_shared' here"):
        tuning_of(shop(space))


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"fit.learning_rate": 0.01}, "a condition needs choices"),
        ({"model.mixer": "mmo"}, "did you mean 'mmoe'"),
    ],
)
def test_a_condition_is_a_choice_of_the_space(when: Mapping[str, Any], said: str) -> None:
    space = {
        "fit.learning_rate": RATE,
        "model.mixer": {"choices": ["ple", "mmoe"]},
        "model.dropout": {"low": 0.0, "high": 0.5, "when": when},
    }
    with pytest.raises(ConfigError, match=said):
        tuning_of(shop(space))


def test_settings_cannot_depend_on_each_other() -> None:
    space = {
        "model.mixer": {"choices": ["ple", "mmoe"], "when": {"model.own_norm": True}},
        "model.own_norm": {"choices": [True, False], "when": {"model.mixer": "ple"}},
    }
    with pytest.raises(ConfigError, match="depend on each other"):
        tuning_of(shop(space))


def test_every_problem_is_told_at_once() -> None:
    wrong = shop(tune={"objective": "joit", "halving": 1, "space": {"fit.epoch": RATE}})
    with pytest.raises(ConfigError) as raised:
        tuning_of(wrong)
    assert len(str(raised.value).split("\n")) == 3


# ---- a point ------------------------------------------------------------------------------


def test_a_point_is_a_shop_with_these_settings() -> None:
    made = shop({"fit.learning_rate": RATE}, fit={"epochs": 3}, tasks={"click": {"weight": 2.0}})
    point = {
        "fit.learning_rate": 0.01,
        "model.expert_widths": [8, 4],
        "tasks.click.weight": 0.5,
        "model.mixer_options.n_shared": 3,
    }
    found = shop_with(made, point)
    settings, shape = settings_of(found)
    assert (settings.learning_rate, settings.epochs) == (0.01, 3)
    assert (shape.expert_widths, shape.mixer_options) == ((8, 4), {"n_shared": 3})
    assert found.task("click").weight == 0.5
    assert "tune" not in found.document
    assert made.document["fit"] == {"epochs": 3}  # the shop itself is as it was


def test_another_mixer_does_not_get_the_shop_s_options() -> None:
    made = shop(model={"mixer": "mmoe", "mixer_options": {"n_experts": 6}})
    assert settings_of(shop_with(made, {"model.mixer": "ple"}))[1].mixer_options is None
    kept = settings_of(shop_with(made, {"model.mixer": "mmoe"}))[1]
    assert kept.mixer_options == {"n_experts": 6}


def test_a_space_can_be_set_on_the_command_line() -> None:
    document: dict[str, Any] = {"events": dict(EVENTS)}
    apply(document, 'tune.space."fit.learning_rate"={low=0.001, high=0.1, log=true}')
    apply(document, "tune.space.model.mixer={choices=['ple', 'mmoe']}")
    assert keys(tuning_of(shop_of(document, Path()))[1]) == ["fit.learning_rate", "model.mixer"]


# ---- grids --------------------------------------------------------------------------------


def dimension(key: str, kind: type | None, **given: Any) -> Dimension:
    when = {name: (value,) for name, value in given.pop("when", {}).items()}
    return Dimension(key, kind, Range(**given), when)


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (dimension("a", float, low=1.0, high=100.0, log=True, points=3), [1.0, 10.0, 100.0]),
        (dimension("a", float, low=0.0, high=1.0, points=3), [0.0, 0.5, 1.0]),
        (dimension("a", float, low=0.0, high=1.0, points=1), [0.0]),
        (dimension("a", float, low=0.0, high=0.5, step=0.2), [0.0, 0.2, 0.4]),
        (dimension("a", int, low=1.0, high=5.0, step=2.0), [1, 3, 5]),
        (dimension("a", int, low=1.0, high=2.0, points=5), [1, 2]),  # no more than there are
        (dimension("a", None, choices=("x", "y")), ["x", "y"]),
    ],
)
def test_the_steps_of_a_grid(made: Dimension, values: list[Any]) -> None:
    assert made.steps() == pytest.approx(values)


def test_a_grid_has_each_combination_that_makes_sense() -> None:
    mixer = dimension("m", None, choices=("ple", "mmoe"))
    experts = dimension("n", int, low=2.0, high=4.0, step=2.0, when={"m": "mmoe"})
    dropout = dimension("d", None, choices=(0.1, 0.2))
    assert Space((mixer, experts, dropout)).grid() == [
        {"m": "ple", "d": 0.1},
        {"m": "ple", "d": 0.2},
        {"m": "mmoe", "n": 2, "d": 0.1},
        {"m": "mmoe", "n": 2, "d": 0.2},
        {"m": "mmoe", "n": 4, "d": 0.1},
        {"m": "mmoe", "n": 4, "d": 0.2},
    ]


def test_a_grid_needs_steps_and_an_end() -> None:
    with pytest.raises(ConfigError, match=r"tune.space.fit.x: a grid needs steps; add points = 3"):
        Space((dimension("fit.x", float, low=0.0, high=1.0),)).grid()
    with pytest.raises(ConfigError, match="more than 100000 points"):
        Space(tuple(dimension(f"{i}", None, choices=tuple(range(20))) for i in range(4))).grid()


@given(
    low=st.floats(1e-6, 1.0), ratio=st.floats(1.01, 1e6), points=st.integers(2, 20),
    log=st.booleans(),
)  # fmt: skip
def test_points_rise_from_end_to_end(low: float, ratio: float, points: int, log: bool) -> None:
    high = low * ratio
    found = dimension("a", float, low=low, high=high, log=log, points=points).steps()
    assert found == sorted(found) and len(found) == points
    assert (found[0], found[-1]) == (low, high)
