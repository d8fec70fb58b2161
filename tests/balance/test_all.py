"""What every balancer in the table must do."""

import math
from collections.abc import Callable

import pytest
import torch
import torchjd.aggregation as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daogou.balance import BALANCERS, Balancer
from daogou.balance.from_gram import OfGram
from daogou.errors import ConfigError
from tests.laws import (
    check_goes_on_as_before,
    check_hurts_no_task,
    check_ignores_order,
    check_ignores_units,
    check_is_finite,
    gram_of,
)

CONFLICT = gram_of((1.0, 0.0), (-1.0, 2.0), (0.5, 0.5))
UNEQUAL = torch.tensor([0.3, 0.7, 0.1])
LOSSES = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=4)

# Drawn anew, or in a random order of tasks: not the same for every order.
DRAWN = {"random", "pcgrad", "gradvac"}
# The one that means a certain task.
NAMED = {"metabalance"}
# Those for whom a loss is an amount of nats: theirs is not the same in other units.
NATS = {"stch", "uw", "imtl_l"}
# Those that promise a step that hurts nobody. Nash-MTL does too, but TorchJD's solver may stop
# short of it; all others may hurt some task.
PROMISE = {"upgrad", "dualproj", "mgda", "config"}
# An option that each may not be given, and what is said.
ILLEGAL: tuple[tuple[str, dict[str, float], str], ...] = (
    ("stch", {"mu": 0.0}, r"mu: 0\.0; give more than 0"),
    ("dwa", {"temperature": 0.0}, r"temperature: 0\.0; give more than 0"),
    ("cagrad", {"c": -1.0}, r"c: -1\.0; give 0 or more"),
    ("gradvac", {"beta": 1.5}, r"beta: 1\.5; give 0 to 1"),
    ("fairgrad", {"alpha": 0.0}, r"alpha: 0\.0; give more than 0"),
    ("gradnorm", {"alpha": -1.0}, r"alpha: -1\.0; give 0 or more"),
    ("gradnorm", {"learning_rate": 0.0}, r"learning_rate: 0\.0; give more than 0"),
    ("famo", {"learning_rate": -1.0}, r"learning_rate: -1\.0; give more than 0"),
    ("uw", {"learning_rate": -1.0}, r"learning_rate: -1\.0; give more than 0"),
    ("imtl_l", {"learning_rate": math.nan}, r"learning_rate: nan; give more than 0"),
    ("db_mtl", {"decay": 1.0}, r"decay: 1\.0; give 0 up to 1, without 1"),
    ("metabalance", {"decay": 1.0}, r"decay: 1\.0; give 0 up to 1, without 1"),
    ("metabalance", {"relax": 1.5}, r"relax: 1\.5; give 0 to 1"),
    ("bilevel", {"rate": 0.0}, r"rate: 0\.0; give more than 0"),
    ("metabalance", {"target": 3}, r"target: 3; give a place from -3 to 2, as there are 3"),
)
# Those whose weights sum to T whatever the gradients are, and those whose step is never longer
# than the plain sum.
SUMS = {"mgda", "imtl_g", "fairgrad", "nash_mtl", "db_mtl", "gradnorm", "bilevel"}
SHORTER = {"dualproj", "mgda", "cagrad", "config", "fairgrad", "nash_mtl"}
# Those of which each weight is this or more.
LEAST = {"upgrad": 1.0, "dualproj": 1.0, "pcgrad": 1.0, "gradvac": 1.0, "cagrad": 1 / 1.4}
# TorchJD's own aggregator of each method, and by how much its weights are multiplied: None where
# ours are brought to a sum of T.
AGGREGATORS: dict[str, tuple[Callable[[], theirs.Aggregator], float | None]] = {
    "upgrad": (theirs.UPGrad, 3.0),
    "dualproj": (theirs.DualProj, 3.0),
    "mgda": (theirs.MGDA, 3.0),
    "pcgrad": (theirs.PCGrad, 1.0),
    "gradvac": (theirs.GradVac, 1.0),
    "cagrad": (lambda: theirs.CAGrad(c=0.4), 3.0 / 1.4),
    "imtl_g": (theirs.IMTLG, 3.0),
    "aligned_mtl": (theirs.AlignedMTL, 3.0),
    "fairgrad": (lambda: theirs.FairGrad(alpha=1.0), None),
    "nash_mtl": (lambda: theirs.NashMTL(3), None),
    "config": (theirs.ConFIG, 1.0),
}


@pytest.mark.parametrize("name", BALANCERS)
@settings(deadline=None, max_examples=40)
@given(losses=LOSSES)
def test_gives_one_finite_weight_per_task(name: str, losses: list[float]) -> None:
    generator = torch.Generator().manual_seed(len(losses))
    gradients = torch.randn(len(losses), 3, generator=generator)
    balancer = BALANCERS[name](len(losses))
    check_is_finite(balancer, torch.tensor(losses), gradients @ gradients.T)
    balancer.after(torch.tensor(losses) * 0.9)


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("n_tasks", [1, 3])
def test_survives_tasks_without_a_label_in_the_batch(name: str, n_tasks: int) -> None:
    """Such a task has a loss of 0 and a gradient of 0; it weighs 1."""
    balancer = BALANCERS[name](n_tasks)
    gram = torch.zeros(n_tasks, n_tasks)
    check_is_finite(balancer, torch.zeros(n_tasks), gram)
    balancer.after(torch.zeros(n_tasks))
    gram[0, 0] = 4.0
    losses = torch.zeros(n_tasks)
    losses[0] = 1.0
    for _ in range(3):
        check_is_finite(balancer, losses, gram)
        balancer.after(0.9 * losses)
        balancer.end_epoch()
    assert balancer(losses, gram)[1:].tolist() == [1.0] * (n_tasks - 1)


@pytest.mark.parametrize("name", sorted(set(BALANCERS) - DRAWN - NAMED))
def test_ignores_task_order(name: str) -> None:
    # In CONFLICT the third gradient is the shortest mean of the others: which of the two ways to
    # make it mgda takes is up to rounding, and so to the machine.
    gram = gram_of((1.0, 0.0), (-1.0, 2.0), (0.5, 1.0))
    check_ignores_order(lambda: BALANCERS[name](3), UNEQUAL, gram)


@pytest.mark.parametrize("name", sorted({"pcgrad", "gradvac"}))
def test_one_of_two_tasks_is_as_good_as_the_other(name: str) -> None:
    """Of two tasks each has one other: their order draws nothing."""
    gram = gram_of((1.0, 0.0), (-1.0, 2.0))
    check_ignores_order(lambda: BALANCERS[name](2), torch.tensor([0.3, 0.7]), gram)


@pytest.mark.parametrize("name", sorted(set(BALANCERS) - NATS))
def test_ignores_the_units_of_losses(name: str) -> None:
    check_ignores_units(lambda: BALANCERS[name](3), UNEQUAL, CONFLICT)


@pytest.mark.parametrize("name", BALANCERS)
def test_goes_on_from_its_state(name: str) -> None:
    check_goes_on_as_before(lambda: BALANCERS[name](3), UNEQUAL, CONFLICT)


@pytest.mark.parametrize("name", sorted(set(BALANCERS) - {"fixed"}))
def test_weights_move(name: str) -> None:
    torch.manual_seed(0)
    balancer = BALANCERS[name](3)
    gram = gram_of((1.0, 0.0), (-2.0, 0.5), (0.5, 0.5))
    losses = UNEQUAL.clone()
    most = 0.0
    for _ in range(100):
        weights = balancer(losses, gram.clone())
        most = max(most, float((weights - 1.0).abs().max()))
        losses = losses * torch.tensor([0.999, 0.9999, 0.99])
        balancer.after(losses)
        balancer.end_epoch()
    assert most > 1e-3


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", BALANCERS)
def test_without_conflict_and_between_equals_it_is_the_plain_sum(name: str, size: int) -> None:
    """Random weights are those of the plain sum on average."""
    torch.manual_seed(0)
    balancer = BALANCERS[name](size)
    times = 400 if name == "random" else 10
    losses = torch.full((size,), 0.4)
    found = torch.stack([balancer(losses, 2.5 * torch.eye(size)) for _ in range(times)])
    if name == "random":
        torch.testing.assert_close(found.mean(0), torch.ones(size), rtol=0, atol=0.15)
    else:
        torch.testing.assert_close(found, torch.ones(times, size), rtol=0, atol=2e-2)


@pytest.mark.parametrize("cosine", [-0.19, 0.5, 0.98])
@pytest.mark.parametrize("name", sorted(SUMS | SHORTER | {"aligned_mtl"}))
def test_between_equals_at_other_angles_too(name: str, cosine: float) -> None:
    """One length and one angle between any two; aligned MTL's sum alone falls with the cosine."""
    gram = cosine * torch.ones(5, 5) + (1 - cosine) * torch.eye(5)
    found = BALANCERS[name](5)(torch.full((5,), 0.4), gram)
    # Aligned MTL: the root of the least eigenvalue, 1 - cosine or 1 + 4 cosine (of the ones).
    each = min(1.0, ((1 - cosine) / (1 + 4 * cosine)) ** 0.5) if name == "aligned_mtl" else 1.0
    torch.testing.assert_close(found, torch.full((5,), each), rtol=1e-2, atol=0)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", sorted(SUMS | SHORTER | set(LEAST)))
def test_weights_and_step_keep_what_the_docstring_says_of_them(name: str, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for _ in range(10):
        gradients = torch.randn(size, 8, generator=generator) * (1 + 3 * torch.rand(size, 1))
        gradients[0] = 0.3 * gradients[0] - gradients[1]
        gram = gradients @ gradients.T
        weights = BALANCERS[name](size)(torch.rand(size) + 0.1, gram)
        if name in SUMS:
            assert float(weights.sum()) == pytest.approx(size, rel=1e-4)
        if name in SHORTER:
            assert weights @ gram @ weights <= gram.sum() * 1.001
        assert weights.min() >= LEAST.get(name, -torch.inf) - 1e-3


@pytest.mark.parametrize("name", sorted(PROMISE))
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_the_step_hurts_no_task_whatever_the_size_of_the_gradients(name: str, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        gradients = torch.randn(3, 6, generator=generator)
        check_hurts_no_task(BALANCERS[name](3), torch.ones(3), gradients @ gradients.T * size)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem:UserWarning")
@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_update_is_that_of_torchjd_s_aggregator(name: str) -> None:
    """On gradients at the mixer's input, brought to a mean square length of 1 as ours are."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        gradients = torch.randn(3, 7, generator=generator, dtype=torch.float64)
        gradients = gradients / (gradients.square().sum(1).mean()).sqrt()
        make, factor = AGGREGATORS[name]
        torch.manual_seed(1)
        wanted = make()(gradients)
        torch.manual_seed(1)
        weights = BALANCERS[name](3)(UNEQUAL, (gradients @ gradients.T).float())
        found = gradients.T @ weights.double()
        wanted *= found.norm() / wanted.norm() if factor is None else factor
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3 * float(wanted.norm()))


def test_every_weighting_of_a_gram_is_held_to_torchjd() -> None:
    ours = {name for name, maker in BALANCERS.items() if issubclass(maker, OfGram)}  # type: ignore[arg-type]
    assert ours == set(AGGREGATORS)


@pytest.mark.parametrize("name", BALANCERS)
def test_says_whether_it_needs_a_gram(name: str) -> None:
    balancer = BALANCERS[name](2)
    if not balancer.needs_gram:
        assert balancer(torch.ones(2), None).isfinite().all()


def no_solution(gram: Tensor) -> Tensor:
    raise ValueError("no solution")


def no_number(gram: Tensor) -> Tensor:
    return torch.full((len(gram),), torch.nan)


@pytest.mark.parametrize("fails", [no_solution, no_number])
@pytest.mark.parametrize("name", ["upgrad", "cagrad", "nash_mtl"])
def test_where_a_solver_fails_all_tasks_weigh_one_and_it_goes_on(
    name: str, fails: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    balancer = BALANCERS[name](3)
    assert isinstance(balancer, OfGram)
    before = balancer(UNEQUAL, CONFLICT.clone())
    solver = balancer.weighting.weighting if name == "nash_mtl" else balancer.weighting
    assert balancer.failures == 0
    with monkeypatch.context() as patch:
        patch.setattr(solver, "forward", fails)
        kind = type(balancer).__name__
        why = r"ValueError: no solution" if fails is no_solution else r"its weights are \[nan"
        with pytest.warns(
            UserWarning, match=rf"^fit\.balancer: the solver of {kind} failed \({why}.*weigh 1"
        ):
            assert balancer(UNEQUAL, CONFLICT.clone()).tolist() == [1.0, 1.0, 1.0]
        # A second failure says nothing more: a warning would be an error here.
        assert balancer(UNEQUAL, CONFLICT.clone()).tolist() == [1.0, 1.0, 1.0]
    assert balancer.failures == 2
    torch.testing.assert_close(balancer(UNEQUAL, CONFLICT.clone()), before, rtol=1e-2, atol=0)


def test_an_interruption_is_no_failure_of_a_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(gram: Tensor) -> Tensor:
        raise KeyboardInterrupt

    balancer = BALANCERS["upgrad"](3)
    assert isinstance(balancer, OfGram)
    monkeypatch.setattr(balancer.weighting, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        balancer(UNEQUAL, CONFLICT)


@pytest.mark.parametrize("name", sorted(set(BALANCERS) - DRAWN - {"dwa"}))
def test_what_is_learnt_of_an_absent_task_stays_as_it_is(name: str) -> None:
    """Numbers and moments too, bit for bit; an epoch's mean, which DWA takes, needs all batches."""
    balancer = BALANCERS[name](3)
    for by in (1.0, 0.7, 0.9):  # momentum gathers
        balancer(UNEQUAL * by, CONFLICT * by**2)
        balancer.after(UNEQUAL.square() * by)
    there = torch.tensor([1.0, 0.0, 1.0])
    before = {key: value for key, value in balancer.state().items() if value.shape == (3,)}
    for by in (1.0, 0.7, 0.9):
        balancer(UNEQUAL * there * by, CONFLICT * torch.outer(there, there) * by)
        balancer.after(UNEQUAL.square() * there * by)
    after = balancer.state()
    if name == "nash_mtl":
        assert torch.equal(after["last"], before["last"])
    for key, value in before.items():
        assert after[key][1] == value[1], key


@pytest.mark.parametrize("name", sorted(set(BALANCERS) - {"dwa"}))
def test_a_kept_gram_is_read_once(name: str) -> None:
    """What runs or learns from Grams does not move while `fit.gram_every` keeps one."""
    balancer = BALANCERS[name](3)
    if not balancer.needs_gram:
        return
    for by in (1.0, 0.7):
        gram = CONFLICT * by
        balancer(UNEQUAL * by, gram)
    before = balancer.state()
    for by in (0.6, 0.5):
        balancer(UNEQUAL * by, gram)
    assert all(torch.equal(value, before[key]) for key, value in balancer.state().items())
    balancer(UNEQUAL * 0.5, gram.clone())
    if name in {"db_mtl", "metabalance", "gradnorm", "gradvac", "bilevel"}:
        assert any(not torch.equal(value, before[key]) for key, value in balancer.state().items())


@pytest.mark.parametrize("name", sorted(name for name in BALANCERS if name not in DRAWN))
def test_a_new_epoch_after_kept_grams_goes_on_as_before(name: str) -> None:
    """An epoch's first Gram is taken anew: one restored at its start answers as the old one."""
    one = BALANCERS[name](3)
    for epoch in range(2):
        gram = CONFLICT * (1.0 + epoch)
        for step in range(3):
            one(UNEQUAL * 0.9**step, gram)
            one.after(UNEQUAL.square())
        one.end_epoch()
    other = BALANCERS[name](3)
    other.restore(one.state())
    again = gram.clone()
    for step in range(3):
        found = []
        for each in (one, other):
            found.append(each(UNEQUAL.flip(0) * 0.8**step, again))
            each.after(UNEQUAL * 0.7)
        assert torch.equal(*found), f"step {step}"


@pytest.mark.parametrize(("name", "options", "said"), ILLEGAL)
def test_an_option_out_of_its_range_is_said(
    name: str, options: dict[str, float], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^fit\.balancer_options\.{said}"):
        BALANCERS[name](3, **options)


@pytest.mark.parametrize("name", BALANCERS)
def test_goes_on_after_a_loss_below_zero(name: str) -> None:
    """An amount's loss is of a density. Balancers that take logarithms leave it out meanwhile."""
    balancer = BALANCERS[name](3)
    for losses in ((0.5, 0.4, -0.2), (0.5, 0.4, 0.1), (0.4, 0.4, -0.1), (0.4, 0.3, 0.2)):
        check_is_finite(balancer, torch.tensor(losses), CONFLICT.clone())
        balancer.after(torch.tensor(losses) - 0.15)
        balancer.end_epoch()
    assert all(value.isfinite().all() for value in balancer.state().values())


def test_a_plain_balancer_has_nothing_to_remember() -> None:
    balancer: Balancer = BALANCERS["fixed"](3)
    assert balancer.state() == {}
