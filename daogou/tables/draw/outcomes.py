"""What was shown to what came of it, and how likely that was."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.schema import HOUR_US
from daogou.tables.draw.lots import WINDOW_H, rng_of
from daogou.tables.draw.products import Items
from daogou.tables.draw.shoppers import Users
from daogou.tables.draw.slates import Exposures
from daogou.tables.truth import STAGES, Floats, Ints, over_intent, sigmoid
from daogou.tables.world import World


@dataclass(frozen=True)
class Outcomes:
    """What followed each exposure, and how likely it was."""

    happened: Mapping[str, NDArray[np.bool_]]  # each stage implies the one before
    after_us: Mapping[str, Ints]  # from the exposure; where it happened
    truth: Mapping[str, Floats]  # columns of truth/exposures.parquet
    coefficients: Mapping[str, Mapping[str, float]]
    logits: Mapping[str, Floats]  # at intent 0, position included (not exam, under "pbm")
    exam: Floats


def _solve_intercept(logits: Floats, weight: Floats, rate: float) -> float:
    """The intercept at which the weighted mean chance is ``rate``, by bisection."""
    low, high = -40.0, 40.0
    whole = weight.sum()
    for _ in range(36):
        middle = (low + high) / 2
        if float(weight @ sigmoid(logits + middle)) < rate * whole:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _raw_logits(world: World, users: Users, items: Items, seen: Exposures) -> dict[str, Floats]:
    """Each stage's liking without intercept, gain, position and intent."""
    u, i = seen.user, seen.item
    scale = 1 / np.sqrt(world.width)
    click = scale * np.einsum("nk,nk->n", users.latent[u], items.latent[i])
    if world.drift:
        moved = 2 * seen.time_us / (world.days * 24 * HOUR_US) - 1
        click += scale * moved * np.einsum("nk,nk->n", users.drift[u], items.latent[i])
    click += users.bias_click[u] + items.bias_click[i]
    cart = scale * np.einsum("nk,nk->n", users.later[u], items.later[i])
    cart += users.bias_later[u] + items.bias_later[i]
    deterred = world.price_effect * users.sensitivity[u] * items.price_z[i] + items.bait[i]
    return {"click": click, "cart": cart, "purchase": cart - deterred}


def make_outcomes(world: World, users: Users, items: Items, seen: Exposures, seed: int) -> Outcomes:
    """Draw what followed each exposure, after solving the intercepts that give the rates.

    Raises `ConfigError` where a click rate is out of reach of the examined share.
    """
    rng = rng_of(seed, 4)
    n = len(seen.user)
    exam: Floats = (1.0 + seen.position.astype(np.float64)) ** -world.theta
    pbm = world.position_model == "pbm"
    hidden = world.confounder * seen.intent
    reached = exam if pbm else np.ones(n)
    # The delay must leave the window's share of purchases in it for labels to follow the truth.
    scale_h = world.delay_scale_h * np.exp(0.2 * items.price_z[seen.item])
    in_time = -np.expm1(-((WINDOW_H["purchase"] / scale_h) ** world.delay_shape))
    truth: dict[str, Floats] = {}
    logits: dict[str, Floats] = {}
    coefficients: dict[str, dict[str, float]] = {}
    happened: dict[str, NDArray[np.bool_]] = {}
    before = np.ones(n, dtype=bool)
    for stage, raw in _raw_logits(world, users, items, seen).items():
        gain = getattr(world, f"{stage}_sd") / max(float(raw.std()), 1e-9)
        eta = gain * raw
        rate = getattr(world, f"{stage}_rate")
        if stage == "click":
            eta += 0.0 if pbm else np.log(exam)
            rate /= exam.mean() if pbm else 1.0
            if rate >= 1:
                raise ConfigError(
                    f"simulate.click_rate: {world.click_rate} is more than is examined at theta "
                    f"{world.theta}; give less than {exam.mean():.3f}"
                )
        intercept = _solve_intercept(eta + hidden, reached, rate)
        logits[stage] = eta + intercept
        chance = sigmoid(logits[stage] + hidden)
        chance = chance * exam if pbm and stage == "click" else chance
        reached = chance if stage == "click" else reached * chance
        before = before & (rng.random(n) < chance)
        happened[stage] = before
        truth[f"p_{stage}"] = reached * in_time if stage == "purchase" else reached
        coefficients[stage] = {"intercept": intercept, "gain": gain}
    known = over_intent(list(logits.values()), world.confounder, exam if pbm else None)
    for stage, each in zip(STAGES, known, strict=True):
        truth[f"k_{stage}"] = each * in_time if stage == "purchase" else each
    for kind in ("p", "k"):
        for stage, given in (("cart", "click"), ("purchase", "cart")):
            truth[f"{kind}_{stage}_given"] = truth[f"{kind}_{stage}"] / truth[f"{kind}_{given}"]
    truth |= {"exam": exam, "intent": seen.intent}
    after = {"click": rng.integers(1_000_000, 60_000_000, size=n)}
    chosen = np.minimum(rng.exponential(300e6, n), 20.0 * HOUR_US).astype(np.int64)
    after["cart"] = after["click"] + 1_000_000 + chosen
    delay_h = np.minimum(scale_h * rng.exponential(size=n) ** (1 / world.delay_shape), 1e6)
    after["purchase"] = np.maximum((delay_h * HOUR_US).astype(np.int64), after["cart"] + 1_000_000)
    return Outcomes(happened, after, truth, coefficients, logits, exam)
