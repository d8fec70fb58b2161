"""Delays: densities by hand, what each exposure teaches, and a planted Weibull found again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.model.stages import Seen
from daogou.model.stages.dfm import Dfm
from tests.model.stages.hand import NO, seen

# The window is 10 hours, and the rate 10 windows' (1 per hour) where the further output is 0.


def nats(
    label: int, chance: float, delay_h: float, watched_h: float, log_rate: float = 0.0
) -> float:
    given = seen([label], [chance], further=[log_rate], delay_h=[delay_h], watched_h=[watched_h])
    return float(Dfm()(given).item())


@pytest.mark.parametrize("label", [1, -1])
def test_what_happened_counts_by_the_density_of_its_delay(label: int) -> None:
    # p = 1/2, 2 per hour: after half an hour 20 e^-1 per window; a censored label teaches as well.
    found = nats(label, 0.5, 0.5, 4.0, math.log(2))
    assert found == pytest.approx(math.log(2) - math.log(20) + 1, rel=1e-5)


def test_what_has_not_happened_yet_counts_by_the_chance_of_waiting_on() -> None:
    # After 2 hours at 1 per hour: 1 - p + p e^-2.
    found = nats(-1, 0.25, NO, 2.0)
    assert found == pytest.approx(-math.log(0.75 + 0.25 * math.exp(-2)), rel=1e-5)


def test_a_no_says_that_it_did_not_happen_within_the_window() -> None:
    found = nats(0, 0.25, NO, NO)
    assert found == pytest.approx(-math.log(0.75 + 0.25 * math.exp(-10)), rel=1e-5)


@pytest.mark.parametrize("delay_h", [NO, 11.0])
def test_a_yes_without_a_delay_in_the_window_says_that_it_happened_within_it(
    delay_h: float,
) -> None:
    found = nats(1, 0.25, delay_h, 10.0, math.log(0.1))
    assert found == pytest.approx(-math.log(0.25 * -math.expm1(-1)), rel=1e-5)


def test_an_exposure_that_was_not_watched_teaches_nothing() -> None:
    assert nats(-1, 0.25, NO, 0.0) == 0.0
    assert nats(-1, 0.25, NO, NO) == 0.0


def test_where_the_stage_before_did_not_happen_nothing_is_learnt() -> None:
    given = seen([0, -1], [0.5] * 2, happened=[False] * 2, delay_h=[NO] * 2, watched_h=[5.0] * 2)
    assert Dfm()(given).item() == 0.0


def test_without_delays_the_labels_teach_the_chance_within_the_window() -> None:
    given = seen([1, 0, -1], [0.25] * 3, further=[math.log(0.1)] * 3)
    within = 0.25 * -math.expm1(-1)
    wanted = -(math.log(within) + math.log(1 - within)) / 3
    assert Dfm()(given).item() == pytest.approx(wanted, rel=1e-5)


def test_a_shape_of_two_by_hand() -> None:
    # S = exp(-(t / 2 h)^2): a density of t / 2 S per hour, 10 times that per window.
    made = Dfm()
    made.log_shape.data.fill_(2 * math.atanh(math.log(2) / 2))
    assert made.shape.item() == pytest.approx(2.0)
    given = seen([1], [0.5], further=[math.log(0.5)], delay_h=[3.0], watched_h=[10.0])
    assert made(given).item() == pytest.approx(math.log(2) - math.log(15) + 2.25, rel=1e-5)
    waiting = seen([-1], [0.5], further=[math.log(0.5)], delay_h=[NO], watched_h=[3.0])
    wanted = -math.log(0.5 + 0.5 * math.exp(-2.25))
    assert made(waiting).item() == pytest.approx(wanted, rel=1e-5)
    chance = made.chance(given.logit, given.further, 10.0)
    assert chance.item() == pytest.approx(0.5 * -math.expm1(-25.0), rel=1e-5)


def test_the_answer_is_the_chance_within_the_window() -> None:
    logit, further = torch.tensor([0.0]), torch.tensor([[math.log(0.1)]])
    found = Dfm().chance(logit, further, 10.0)
    assert found.item() == pytest.approx(0.5 * -math.expm1(-1), rel=1e-5)
    assert Dfm().log_chance(logit, further, 10.0).item() == pytest.approx(math.log(found.item()))


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 0.95), st.floats(-3, 1), st.floats(0.1, 1.5), st.floats(1.0, 9.0))
def test_all_that_can_become_of_an_exposure_has_a_chance_of_one(
    chance: float, log_rate: float, log_shape: float, watched_h: float
) -> None:
    """The density up to a moment, by the midpoint rule, and the chance of waiting on beyond it."""
    made = Dfm().double()
    made.log_shape.data.fill_(log_shape)
    n = 20_000
    hours = (torch.arange(n + 1, dtype=torch.float64) + 0.5) / n * watched_h
    hours[n] = math.nan
    given = Seen(
        torch.full_like(hours, chance).logit(), torch.full_like(hours, log_rate)[:, None],
        torch.zeros_like(hours), torch.full_like(hours, -1), hours > -1, torch.ones_like(hours),
        10.0, hours, torch.full_like(hours, watched_h),
    )  # fmt: skip
    likelihood = (-made.nats(given)).exp()
    total = likelihood[:n].sum() * (watched_h / n / 10.0) + likelihood[n]
    assert total.item() == pytest.approx(1.0, abs=1e-3)


def test_a_planted_weibull_is_found_though_most_windows_are_open() -> None:
    """A chance of 0.3, a shape of 0.7, 20 hours; watched for 0 to 72 hours of a window of 72."""
    generator = torch.Generator().manual_seed(0)
    n, window_h = 20_000, 72.0
    ever = torch.rand(n, generator=generator) < 0.3
    delay = 20.0 * (-torch.rand(n, generator=generator).log()) ** (1 / 0.7)
    watched = (100.0 * torch.rand(n, generator=generator)).clamp(max=window_h)
    is_seen = ever & (delay < watched)
    label = torch.where(watched == window_h, is_seen, -1).to(torch.int8)
    made, said = Dfm(), torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([said, made.log_shape], lr=0.05)
    for _ in range(300):
        rows = said.expand(n, 2)
        given = Seen(
            rows[:, 0], rows[:, 1:], torch.zeros(n), label, torch.ones(n, dtype=torch.bool),
            torch.ones(n), window_h, torch.where(is_seen, delay, math.nan), watched,
        )  # fmt: skip
        optimiser.zero_grad()
        made(given).backward()
        optimiser.step()
    assert said[0].sigmoid().item() == pytest.approx(0.3, abs=0.015)
    assert made.shape.item() == pytest.approx(0.7, abs=0.03)
    scale_h = window_h / 10.0 * math.exp(-said[1].item())
    assert scale_h == pytest.approx(20.0, rel=0.15)
    within = 0.3 * -math.expm1(-((window_h / 20.0) ** 0.7))
    answer = made.chance(said[:1], said[None, 1:], window_h).item()
    assert answer == pytest.approx(within, abs=0.01)
    naive = is_seen.float().mean().item()
    assert abs(answer - within) < 0.2 * abs(naive - within)
