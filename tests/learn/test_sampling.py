"""Which families a step teaches: shares by hand, rows once, and heads that are left alone."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from daogou.artifact.counts import model_of
from daogou.balance import BALANCERS, Fixed
from daogou.config import read_shop
from daogou.errors import ConfigError
from daogou.features.batch import Batch, make_batch
from daogou.features.epoch import Epoch
from daogou.features.queries import Queries, teaching_queries
from daogou.features.store import Store
from daogou.learn import course
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.learn.loop import Learner
from daogou.learn.sampling import (
    SAMPLINGS,
    SOURCES,
    Sampling,
    Standing,
    judged,
    slowed,
    steps_of,
    stopped_of,
    taken_apart,
)
from daogou.learn.settings import Settings, settings_of
from daogou.learn.validate import TaskLoss
from daogou.learn.variant import varied
from daogou.model.build import Shape
from daogou.model.joint import JointModel
from daogou.schema import Shop, Task
from tests.learn.conftest import QUICK
from tests.shops import TOML, USERS, compile_shop, write_shop

EVERY_FAMILY = frozenset(["funnel", "match", "profile", "extract"])
READERS = [frozenset(["funnel", "match"]), frozenset(["profile"]), frozenset(["extract"])]
NOTHING = np.zeros(0, dtype=np.int64)


def planned(exposures: int, profiles: int, titles: int, *, n_steps: int) -> Epoch:
    """A joint plan of so many rows: titles are 100 and up, profiles 1000 and up."""

    def pieces(first: int, n: int) -> list[Any]:
        return np.array_split(np.arange(first, first + n), n_steps)

    return Epoch(
        pieces(0, exposures),
        pieces(100, titles),
        [np.array([1]) for _ in range(n_steps)],
        [Queries(user, user + 1, user + 2) for user in pieces(1000, profiles)],
    )


def sizes(plan: Epoch) -> list[tuple[int, int, int]]:
    """Exposures, profiles and titles of each step."""
    steps = zip(plan.exposures, plan.taught, plan.titles, strict=True)
    return [(len(shown), len(taught.user), len(titles)) for shown, taught, titles in steps]


# ---- shares -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "wanted"),
    [
        # 6 steps for 90 exposures, 15 rows each; sqrt(10 / 90) = 1/3, sqrt(40 / 90) = 2/3.
        (1.0, {"exposures": 6, "profiles": 1, "titles": 3}),  # 10 / 15 = 0.7, 40 / 15 = 2.7
        (0.5, {"exposures": 6, "profiles": 2, "titles": 4}),
        (0.0, {"exposures": 6, "profiles": 6, "titles": 6}),
    ],
)
def test_steps_go_by_a_power_of_the_rows(alpha: float, wanted: dict[str, int]) -> None:
    rows = {"exposures": 90, "profiles": 10, "titles": 40}
    assert steps_of(rows, 6, alpha=alpha) == wanted


def test_a_source_takes_one_step_at_least_and_none_without_rows() -> None:
    assert steps_of({"exposures": 900, "profiles": 0, "titles": 1}, 3, alpha=1.0) == {
        "exposures": 3, "titles": 1,
    }  # fmt: skip
    assert steps_of({"exposures": 0, "profiles": 0, "titles": 0}, 3, alpha=1.0) == {}


def test_a_source_takes_no_more_steps_than_it_has_rows() -> None:
    assert steps_of({"exposures": 90, "profiles": 2}, 9, alpha=0.0)["profiles"] == 2


def test_without_exposures_the_largest_source_is_the_measure() -> None:
    found = steps_of({"exposures": 0, "profiles": 20, "titles": 80}, 8, alpha=1.0)
    assert found == {"profiles": 2, "titles": 8}


def test_steps_apart_read_one_source_each_by_hand() -> None:
    plan = taken_apart(planned(90, 10, 40, n_steps=6), EVERY_FAMILY, alpha=0.5, seed=(0, 0))
    assert len(plan) == 6 + 2 + 4
    assert sorted(sizes(plan)) == sorted([(15, 0, 0)] * 6 + [(0, 5, 0)] * 2 + [(0, 0, 10)] * 4)
    assert [len(extra) for extra in plan.extra_items] == [n > 0 for n, _, _ in sizes(plan)]
    assert [plan.n_steps(family) for family in ("funnel", "match", "profile", "extract")] == [
        6, 6, 2, 4,
    ]  # fmt: skip


@settings(deadline=None)
@given(
    st.integers(0, 80), st.integers(0, 30), st.integers(0, 90), st.integers(1, 9),
    st.floats(0, 1), st.integers(0, 99), st.sets(st.sampled_from(sorted(EVERY_FAMILY)), min_size=1),
)  # fmt: skip
def test_apart_every_row_is_read_once_and_by_those_who_read_it(
    exposures: int,
    profiles: int,
    titles: int,
    n_steps: int,
    alpha: float,
    seed: int,
    families: set[str],
) -> None:
    joint = planned(max(exposures, n_steps) if exposures else 0, profiles, titles, n_steps=n_steps)
    plan = taken_apart(joint, frozenset(families), alpha=alpha, seed=(seed, 0))
    assert plan.families is not None
    read = {
        source: np.concatenate([NOTHING, *rows]).tolist()
        for source, rows in (
            ("exposures", plan.exposures),
            ("profiles", [taught.user for taught in plan.taught]),
            ("titles", plan.titles),
        )
    }
    given_rows = {
        "exposures": np.concatenate(joint.exposures).tolist(),
        "profiles": np.concatenate([taught.user for taught in joint.taught]).tolist(),
        "titles": np.concatenate(joint.titles).tolist(),
    }
    for source, readers in SOURCES.items():
        assert read[source] == (given_rows[source] if readers & families else []), source
    for taught, step in zip(plan.families, sizes(plan), strict=True):
        (place,) = np.flatnonzero(step)
        assert taught == READERS[place] & families
    for taught_users in plan.taught:
        assert (taught_users.end == taught_users.user + 1).all()
        assert (taught_users.time == taught_users.user + 2).all()


def test_the_order_of_steps_follows_from_seed_and_epoch() -> None:
    joint = planned(90, 30, 40, n_steps=9)

    def order(seed: tuple[int, int]) -> Any:
        return taken_apart(joint, EVERY_FAMILY, alpha=0.5, seed=seed).families

    assert order((3, 1)) == order((3, 1))
    assert order((3, 1)) != order((3, 2))
    assert order((3, 1)) != order((4, 1))


def test_a_joint_plan_stays_as_it_is() -> None:
    joint = planned(90, 10, 40, n_steps=6)
    assert Sampling().plan(joint, EVERY_FAMILY, seed=(0, 0), stopped=["extract"]) is joint
    assert Sampling("stop_and_go").plan(joint, EVERY_FAMILY, seed=(0, 0)) is joint
    assert joint.n_steps("extract") == 6


# ---- stop and go ------------------------------------------------------------------------


def test_a_stopped_family_is_taught_at_one_step_in_four() -> None:
    plan = slowed(planned(60, 12, 24, n_steps=6), EVERY_FAMILY, {"match", "extract"})
    assert sizes(plan) == [(10, 2, 4), *[(10, 2, 0)] * 3, (10, 2, 4), (10, 2, 0)]
    assert [len(extra) for extra in plan.extra_items] == [1, 0, 0, 0, 1, 0]
    assert [plan.n_steps(family) for family in ("funnel", "match", "profile", "extract")] == [
        6, 2, 6, 2,
    ]  # fmt: skip


def test_exposures_are_left_out_where_all_who_read_them_have_stopped() -> None:
    plan = slowed(planned(60, 12, 24, n_steps=6), EVERY_FAMILY, {"match", "funnel"})
    assert sizes(plan) == [(10, 2, 4), *[(0, 2, 4)] * 3, (10, 2, 4), (0, 2, 4)]


def standing_after(*losses: float) -> list[bool]:
    standing, found = Standing(), []
    for loss in losses:
        standing = standing.after(loss)
        found.append(standing.stopped)
    return found


def test_two_epochs_that_gain_less_than_a_thousandth_stop_a_family() -> None:
    assert standing_after(1.0, 0.9995, 0.9991) == [False, False, True]
    assert standing_after(1.0, 0.9995, 0.9989) == [False, False, False]  # 0.11 % in two epochs
    assert standing_after(1.0, 1.2, 0.99, 0.995, 0.995) == [False] * 4 + [True]


def test_a_stopped_family_goes_on_when_it_is_half_a_percent_worse() -> None:
    stopped = [1.0, 1.0, 1.0]
    assert standing_after(*stopped, 1.004, 1.006) == [False, False, True, True, False]
    # By others it got better, to 0.98; 0.98 * 1.005 = 0.9849.
    assert standing_after(*stopped, 0.98, 0.984, 0.985)[3:] == [True, True, False]
    # Gone on, it has two epochs again, from where it stands.
    assert standing_after(*stopped, 1.1, 1.1, 1.1)[3:] == [False, False, True]


def test_a_family_that_learns_by_heart_stays_stopped() -> None:
    """It is 10 % worse than its best ever, and no worse than when it stopped."""
    assert standing_after(0.5, 0.53, 0.55, 0.55, 0.552) == [False, False, True, True, True]


def test_an_undefined_loss_decides_nothing() -> None:
    assert standing_after(1.0, float("nan"), 1.0, float("nan"), 1.0) == [False] * 4 + [True]


def test_a_loss_below_zero_gets_worse_upwards() -> None:
    assert standing_after(-1.0, -1.0005, -1.0005, -0.996, -0.994)[2:] == [True, True, False]


def test_a_family_s_loss_is_the_mean_of_its_tasks_over_their_constants() -> None:
    tasks = [Task("click", "funnel"), Task("buy", "funnel"), Task("extract", "extract")]
    losses = {
        "click": TaskLoss(0.3, 0.6, 9),
        "buy": TaskLoss(0.7, 1.0, 9),
        "extract": TaskLoss(math.nan, math.nan, 0),
    }
    found = judged({"funnel": Standing(best=0.6, since=1)}, tasks, losses)
    assert found == {"funnel": Standing(True, pytest.approx(0.6)), "extract": Standing()}  # type: ignore[arg-type]


def test_where_all_have_stopped_all_go_on() -> None:
    still, going = Standing(stopped=True), Standing()
    assert stopped_of({"funnel": still, "match": going}) == {"funnel"}
    assert stopped_of({"funnel": still, "match": still}) == frozenset()
    assert stopped_of({}) == frozenset()


# ---- what a step leaves alone -----------------------------------------------------------

MODEL = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Store]:
    users = [USERS[0], USERS[1] | {"part": "train"}, USERS[2]]  # two genders to tell apart
    shop = write_shop(tmp_path_factory.mktemp("sampling"), users=users)
    return shop, *compile_shop(shop)


def learner_of(made: tuple[Any, Any, Store], **settings: Any) -> Learner:
    shop, transform, store = made
    torch.manual_seed(0)
    return Learner(model_of(transform, store, shop, MODEL), Settings(**settings))


def batch_of(store: Store) -> Batch:
    """What every family could learn from."""
    taught = teaching_queries(store)
    assert len(taught.user)
    return make_batch(
        store, np.arange(5), history_length=4, extra_items=np.array([1, 2, 4]),
        titles=np.array([0, 1]), taught=taught,
    )  # fmt: skip


def weights_of(model: JointModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("mixer", ["ple", "stem", "star"])
@pytest.mark.parametrize("family", sorted(EVERY_FAMILY))
def test_families_that_a_step_does_not_teach_keep_their_heads_bit_for_bit(
    made: tuple[Any, Any, Store], family: str, mixer: str
) -> None:
    """In spite of momentum, weight decay and penalties, which would move them."""
    shop, transform, store = made
    torch.manual_seed(0)
    shape = Shape(**(vars(MODEL) | {"mixer": mixer}))
    if mixer == "star":
        shop = read_shop(shop.root, ['events.domain="device"'])
    pulls = Settings(l1=0.01, l2=0.1, row_l2=0.1)
    learner = Learner(model_of(transform, store, shop, shape), pulls)
    batch = batch_of(store)
    learner.step(batch)
    before = weights_of(learner.model)
    losses, _ = learner.step(batch, families=frozenset([family]))
    after = weights_of(learner.model)
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    heads = {name.split(".")[1] for name in moved if name.startswith("heads.")}
    assert heads == {family}
    assert any(name.startswith("text.") for name in moved), "what is shared learns"
    own = learner.model.places[family]
    assert (losses[own] != 0).all()
    others = torch.ones(len(losses), dtype=torch.bool)
    others[own] = False
    assert (losses[others] == 0).all()


def test_a_head_that_is_not_taught_does_not_run(
    made: tuple[Any, Any, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(made)

    def run(*_: Any) -> None:
        raise AssertionError("the funnel's towers ran")

    monkeypatch.setattr(type(learner.model.heads["funnel"]), "towers", run)
    learner.step(batch_of(made[2]), families=frozenset(["extract", "match"]))


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What balancers were asked with, and the losses they were shown after steps."""
    seen: list[Any] = []

    class Watching(Fixed):
        hears = True
        needs_gram = looks_back = True

        def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
            seen.append((losses, gram))
            return torch.ones_like(losses)

        def after(self, losses: Tensor) -> None:
            seen.append(losses)

    monkeypatch.setitem(BALANCERS, "watching", Watching)
    yield seen


def test_a_balancer_is_asked_where_the_funnel_is_taught(
    made: tuple[Any, Any, Store], watching: list[Any]
) -> None:
    learner = learner_of(made, balancer="watching")
    batch = batch_of(made[2])
    learner.step(batch, families=frozenset(["extract"]))
    assert watching == []
    learner.step(batch, families=frozenset(["funnel", "match"]))
    (losses, gram), after = watching
    assert (losses != 0).all()
    assert gram is not None
    assert (after != 0).all()


def test_a_gram_is_taken_every_so_many_steps_of_the_funnel(
    made: tuple[Any, Any, Store], watching: list[Any]
) -> None:
    learner = learner_of(made, balancer="watching", gram_every=2, rows_per_step=1)
    learner.settings = Settings(**(vars(learner.settings) | {"sampling": "temperature"}))
    plan = learner.plan(made[2], 6, 0)
    assert plan.families is not None
    assert plan.families[0] == {"profile"}, "or the first Gram would be due at the first step"
    losses = learner.epoch(made[2], plan, (6, 0))
    grams = [told[1] for told in watching if isinstance(told, tuple)]
    assert len(grams) == plan.n_steps("funnel") == 5
    assert grams[0] is grams[1] and grams[2] is grams[3]
    assert grams[1] is not grams[2] and grams[3] is not grams[4]
    assert losses.isfinite().all()


def test_a_task_s_mean_loss_is_over_the_steps_that_taught_it(
    made: tuple[Any, Any, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(made)
    ones = torch.ones(len(learner.model.tasks))

    def one(*_: Any, families: frozenset[str], **__: Any) -> Any:
        taught = torch.tensor([task.family in families for task in learner.model.tasks])
        return ones * taught, None

    monkeypatch.setattr(learner, "step", one)
    joint = planned(4, 1, 2, n_steps=2)
    joint.taught[:] = [Queries(NOTHING, NOTHING, NOTHING)] * 2
    joint.titles[:] = [np.array([0]), np.array([1])]
    plan = taken_apart(joint, EVERY_FAMILY, alpha=1.0, seed=(0, 0))
    found = learner.epoch(made[2], plan, (0, 0))
    # click, buy, match, profile.gender (never taught), extract
    np.testing.assert_equal(found.numpy(), [1.0, 1.0, 1.0, np.nan, 1.0])


# ---- fits -------------------------------------------------------------------------------

TINY = ("fit.epochs=2", "fit.history_length=4", "fit.extra_items=4", "model.width=8",
        "fit.waive=['profile_column_one_value']")  # fmt: skip


def events_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_each_mode_repeats_exactly_and_tells_what_it_taught(
    shop_folder: Path, tmp_path: Path, sampling: str
) -> None:
    shop = read_shop(shop_folder, [*QUICK, f"fit.sampling={sampling}", "fit.epochs=1"])
    fit(shop, tmp_path / "one")
    fit(shop, tmp_path / "two", like=tmp_path / "one")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())
    (record,) = events_of(tmp_path / "one")
    steps = record["steps"]
    assert list(steps) == ["funnel", "match", "profile", "extract"]
    assert steps["funnel"] == steps["match"] == 5, "1,346 exposures, four fifths, 256 a step"
    if sampling in ("joint", "stop_and_go"):
        assert steps["profile"] == steps["extract"] == 5
    elif sampling == "temperature":
        assert 1 <= steps["extract"] < 5
    assert all(loss is not None for loss in record["train"].values())


NAMES = {"funnel": ("click", "buy"), "match": ("match",), "profile": ("profile.gender",),
         "extract": ("extract",)}  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Shop, Path]:
    """A family, a shop that has no other, and its compiled tables."""
    family, folder = request.param, tmp_path_factory.mktemp("alone")
    if family == "extract":
        toml = TOML.split("[users]")[0]
        write_shop(folder / "shop", users=(), events=(), toml=toml)
    else:
        write_shop(folder / "shop", users=[USERS[0], USERS[1] | {"part": "train"}, USERS[2]])
    off = [] if family == "extract" else [
        f'tasks."{name}".enabled=false'
        for other, some in NAMES.items() if other != family for name in some
    ]  # fmt: skip
    shop = read_shop(folder / "shop", [*TINY, *off])
    compile_tables(shop, folder / "tables")
    return family, shop, folder / "tables"


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_shop_of_one_family_works_in_every_mode(
    alone: tuple[str, Shop, Path], tmp_path: Path, sampling: str
) -> None:
    family, shop, tables = alone
    answer = fit(varied(shop, training={"sampling": sampling}), tmp_path / "run", like=tables)
    assert answer["tasks"] == list(NAMES[family])
    assert all(record["steps"] == {family: 1} for record in events_of(tmp_path / "run"))


def scripted(losses: dict[str, list[float]], *, n_done: int = 0) -> Any:
    """A validation that gives a family's losses in turn; the others get better every time."""
    n_calls = n_done

    def validation(model: JointModel, *_: Any, **__: Any) -> dict[str, TaskLoss]:
        nonlocal n_calls
        n_calls += 1
        found = {}
        for task in model.tasks:
            script = losses.get(task.family, [])
            loss = script[n_calls - 1] if n_calls <= len(script) else 1.0 / n_calls
            found[task.name] = TaskLoss(loss, 1.0, 1)
        return found

    return validation


SCRIPT = {"extract": [0.5, 0.5, 0.5, 0.5, 0.51, 0.4], "profile": [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]}


def test_stop_and_go_goes_on_after_a_stop_of_the_machine_as_if_there_had_been_none(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (*QUICK, "fit.sampling=stop_and_go", "fit.epochs=6", "fit.patience=9",
            "fit.history_length=5")  # fmt: skip
    shop = read_shop(shop_folder, sets)
    monkeypatch.setattr(course, "validation_losses", scripted(SCRIPT))
    fit(shop, tmp_path / "whole")

    run = tmp_path / "run"
    for n_done, until in ((0, 2), (2, 4)):  # one epoch without a gain, and while both stand still

        def stop(what: str, done: int, total: int, words: str, until: int = until) -> None:
            if what == "epoch" and done == until:
                raise KeyboardInterrupt

        monkeypatch.setattr(course, "validation_losses", scripted(SCRIPT, n_done=n_done))
        with pytest.raises(KeyboardInterrupt):
            fit(shop, run, progress=stop, resume=n_done > 0)
    monkeypatch.setattr(course, "validation_losses", scripted(SCRIPT, n_done=4))
    fit(shop, run, resume=True)
    one, two = (load_file(each / "model.safetensors") for each in (tmp_path / "whole", run))
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name
    assert events_steps(run) == events_steps(tmp_path / "whole")
    # Two epochs without a gain stop both; at 0.51 extraction is 2 % worse, and goes on.
    taught = [(steps["profile"], steps["extract"]) for steps in events_steps(tmp_path / "whole")]
    assert taught == [(5, 5), (5, 5), (5, 5), (2, 2), (2, 2), (2, 5)]


def events_steps(run: Path) -> list[dict[str, int]]:
    return [record["steps"] for record in events_of(run)]


def test_only_stop_and_go_leaves_out_who_stands_still(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "validation_losses", scripted(SCRIPT))
    shop = read_shop(shop_folder, [*QUICK, "fit.epochs=5", "fit.patience=9"])
    fit(shop, tmp_path / "run")
    assert all(set(steps.values()) == {5} for steps in events_steps(tmp_path / "run"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "fit.sampling=jiont",
            r"fit\.sampling: no 'jiont' here \(did you mean 'joint'\?\); "
            r"known: joint, proportional, stop_and_go, temperature",
        ),
        (
            "fit.sampling_power=1.5",
            r"fit\.sampling_power: 1\.5; give a share from 0 to 1",
        ),
        ("fit.sampling_power=-0.5", r"fit\.sampling_power: -0\.5; give 0 or more"),
    ],
)
def test_a_wrong_setting_is_named(shop_folder: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(read_shop(shop_folder, [setting]))
