"""Products and shoppers to what was shown to whom, and when."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daogou.schema import HOUR_US
from daogou.tables.draw.lots import rng_of
from daogou.tables.draw.products import Items
from daogou.tables.draw.shoppers import Users
from daogou.tables.titles import CATEGORIES
from daogou.tables.truth import Floats, Ints
from daogou.tables.world import World

DEVICES: Final = ("app", "web", "mini-program")

EPOCH_US: Final = 1_704_067_200_000_000  # 2024-01-01 UTC


@dataclass(frozen=True)
class Exposures:
    """What was shown, in order of time: one row per product of a slate."""

    slate: Ints
    user: Ints  # rows of users
    item: Ints
    position: Ints
    shuffled: NDArray[np.bool_]
    device: Ints
    time_us: Ints  # since the log's start
    intent: Floats


def _make_slates(world: World, users: Users, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """User row, time in microseconds and device of every slate, in order of time.

    Sessions come by the user's activity and the hour of the week, and hold one slate or a few.
    """
    n_slates = -(-world.exposures // world.positions)
    lengths = 1 + rng.poisson(1.0, n_slates)
    session = np.repeat(np.arange(n_slates), lengths)[:n_slates]
    n_sessions = int(session[-1]) + 1
    weight = np.cumsum(users.activity * (1 - users.arrival))
    user = np.searchsorted(weight, rng.random(n_sessions) * weight[-1], side="right")
    hours = np.arange(world.days * 24 + 1)
    busy = np.where((hours // 24) % 7 >= 5, 1.3, 1.0)
    busy = busy * (1.05 + np.sin((hours % 24 - 14) / 24 * 2 * np.pi))
    passed = np.concatenate([[0.0], np.cumsum(busy[:-1])])
    begin = np.interp(users.arrival[user] * hours[-1], hours, passed)
    start_h = np.interp(begin + rng.random(n_sessions) * (passed[-1] - begin), passed, hours)
    device = rng.integers(len(DEVICES), size=n_sessions)
    first = np.concatenate([[0], np.cumsum(np.bincount(session))])[session]
    wait_us = (np.arange(n_slates) - first) * 120_000_000 + rng.integers(60_000_000, size=n_slates)
    time_us = (start_h[session] * HOUR_US).astype(np.int64) + wait_us
    order = np.argsort(time_us, kind="stable")
    return user[session][order], time_us[order], device[session][order]


def make_exposures(world: World, users: Users, items: Items, seed: int) -> Exposures:
    """Draw the slates: candidates by popularity in one category, then the logging policy's pick."""
    rng = rng_of(seed, 3)
    user, time_us, device = _make_slates(world, users, rng)
    n_slates = len(user)
    shuffled = rng.random(n_slates) < world.shuffled
    intent = rng.standard_normal(n_slates)
    by_category = np.argsort(items.category, kind="stable")
    ladder = np.cumsum(np.exp(items.log_weight[by_category]))
    ends = np.cumsum(np.bincount(items.category, minlength=len(CATEGORIES)))
    tops = ladder[ends - 1]
    floors = np.concatenate([[0.0], tops[:-1]])
    mix = np.cumsum(users.mix, axis=1)
    n_shown = min(world.positions, world.candidates)
    slates, shown = [], []
    for begin in range(0, n_slates, 20_000):
        rows = slice(begin, begin + 20_000)
        here = user[rows]
        category = (mix[here] < rng.random((len(here), 1))).sum(1).clip(max=len(CATEGORIES) - 1)
        height = floors[category] + (tops - floors)[category] * rng.random(
            (world.candidates, len(here))
        )
        drawn = np.searchsorted(ladder, height.T.ravel(), side="right").reshape(len(here), -1)
        drawn = np.sort(drawn.clip(max=len(ladder) - 1), axis=1)
        offered = by_category[drawn]
        taste = np.einsum("sk,sck->sc", users.latent[here], items.latent[offered], optimize=True)
        score = world.policy / np.sqrt(world.width) * taste + rng.gumbel(size=offered.shape)
        score[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = -np.inf  # the same product drawn again
        score[items.arrival[offered] * world.days * 24 * HOUR_US > time_us[rows, None]] = -np.inf
        if n_shown < world.candidates:
            best = np.argpartition(-score, n_shown - 1, axis=1)[:, :n_shown]
        else:
            best = np.tile(np.arange(world.candidates), (len(here), 1))
        best_score = np.take_along_axis(score, best, 1)
        random_order = np.where(np.isfinite(best_score), rng.random(best.shape), -np.inf)
        rank = np.argsort(-np.where(shuffled[rows, None], random_order, best_score), axis=1)
        order = np.take_along_axis(best, rank, 1)
        valid = np.isfinite(np.take_along_axis(score, order, 1))
        picked = np.take_along_axis(offered, order, 1)
        slates.append(np.where(valid, np.arange(begin, begin + len(here))[:, None], -1))
        shown.append(picked)
    slate, item = np.concatenate(slates), np.concatenate(shown)
    kept = slate.ravel() >= 0
    position = np.tile(np.arange(n_shown), n_slates)[kept]
    slate = slate.ravel()[kept]
    return Exposures(
        slate=slate,
        user=user[slate],
        item=item.ravel()[kept],
        position=position,
        shuffled=shuffled[slate],
        device=device[slate],
        time_us=time_us[slate],
        intent=intent[slate],
    )
