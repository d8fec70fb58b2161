"""What privacy of users costs, and what it takes from who asks who was in training.

    python benchmarks/privacy.py OUT [--users 1000 4000 30000] [--seeds 3]

A made world that one sees through: products have attributes, users a hidden taste of six numbers,
a click has the chance ``sigmoid(bias + u . (x A))``. The matrix A is shared and learnt by
federated averaging over users, each of whom keeps a vector of their own; a round samples users,
each fits their vector on A as it is and gives one gradient of A, cut to a length; noise is added to
the sum. AUC is that of new impressions of the same users. Then a world of few users is learnt by
heart and asked who was in it. OUT gets ``privacy.md``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from record import about, keep_line, kept_lines, show

from daogou.metrics import auc, epsilon, membership

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

GROUPS: Final = (40, 30, 10, 6, 5, 3)  # values of each attribute: 94 in all
WIDTH: Final = 6
ITEMS: Final = 2000
SHOWN: Final = 100  # impressions that teach, of each user; as many judge
BIAS, SCALE, CLIP, RATE, LOCAL = -1.5, 0.35, 0.15, 0.06, 8
ROUNDS: Final = {1000: (100, 120), 4000: (400, 120), 30000: (1000, 150)}  # users -> sampled, rounds
NOISES: Final = (0.0, 1.0, 2.0, 4.0)
MORE: Final = (8.0, 16.0)  # of the few, whom it takes more to hide
FEW, FEW_SAMPLED, FEW_ROUNDS = 120, 40, 300  # the world that is learnt by heart


@dataclass(frozen=True)
class Line:
    """One training of the shared matrix."""

    seed: int
    users: int
    noise: float
    epsilon: float
    auc: float
    oracle: float
    attack: float  # AUC of who was in training
    tpr: float  # at 1 in 1,000; of few users, at none


@dataclass(frozen=True)
class World:
    """Impressions of N users: products ``[N, 2 * SHOWN]`` and clicks, the first half teaches."""

    attributes: Floats  # [ITEMS, 94]
    truth: Floats  # [94, WIDTH]
    tastes: Floats  # [N, WIDTH]
    items: Rows
    clicks: NDArray[np.float32]


def made(n: int, seed: int) -> World:
    """A world of n users."""
    rng = np.random.default_rng(seed)
    attributes = np.concatenate(
        [np.eye(size)[rng.integers(0, size, ITEMS)] for size in GROUPS], axis=1
    )
    truth = rng.normal(size=(sum(GROUPS), WIDTH)) * SCALE
    tastes = rng.normal(size=(n, WIDTH))
    items = rng.integers(0, ITEMS, (n, 2 * SHOWN))
    seen = (attributes @ truth)[items]
    logits = BIAS + np.einsum("nsd,nd->ns", seen, tastes)
    clicks = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return World(attributes, truth, tastes, items, clicks)


def own_vectors(seen: Floats, clicks: NDArray[np.float32]) -> Floats:
    """Each user's vector ``[n, WIDTH + 1]``, the last a bias: Newton's steps with a prior of 1."""
    n, _, width = seen.shape
    inputs = np.concatenate([seen, np.ones((n, seen.shape[1], 1))], axis=2)
    vector = np.zeros((n, width + 1))
    for _ in range(LOCAL):
        p = 1 / (1 + np.exp(-np.einsum("nsd,nd->ns", inputs, vector)))
        slope = np.einsum("nsd,ns->nd", inputs, p - clicks) + vector
        curve = np.einsum("nsd,ns,nse->nde", inputs, p * (1 - p), inputs) + np.eye(width + 1)
        vector = vector - np.linalg.solve(curve, slope[..., None])[..., 0]
    return vector


def gradients(world: World, shared: Floats, users: Rows) -> Floats:
    """Each user's mean gradient of the shared matrix ``[n, 94, WIDTH]``."""
    items, clicks = world.items[users, :SHOWN], world.clicks[users, :SHOWN]
    seen = (world.attributes @ shared)[items]
    vector = own_vectors(seen, clicks)
    logits = np.einsum("nsd,nd->ns", seen, vector[:, :-1]) + vector[:, -1:]
    wrong = (1 / (1 + np.exp(-logits)) - clicks) / SHOWN
    found = np.empty((len(users), *shared.shape))
    for place, (item, error) in enumerate(zip(items, wrong, strict=True)):
        found[place] = np.outer(error @ world.attributes[item], vector[place, :-1])
    return found


def learnt(world: World, users: Rows, sampled: int, rounds: int, noise: float, seed: int) -> Floats:
    """The shared matrix after so many rounds of clipped sums with noise, by Adam.

    Without noise nothing is clipped either: what privacy costs is both.
    """
    rng = np.random.default_rng([seed, 7])
    shared = rng.normal(size=world.truth.shape) * 0.1
    first, second = np.zeros_like(shared), np.zeros_like(shared)
    for step in range(1, rounds + 1):
        drawn = users[rng.random(len(users)) < sampled / len(users)]
        given = gradients(world, shared, drawn)
        if noise:
            length = np.sqrt((given**2).sum((1, 2), keepdims=True))
            given = given * np.minimum(1, CLIP / np.maximum(length, 1e-12))
        total = given.sum(0) + rng.normal(size=shared.shape) * noise * CLIP
        mean = total / sampled
        first = 0.9 * first + 0.1 * mean
        second = 0.99 * second + 0.01 * mean**2
        bias = np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        shared = shared - RATE * bias * first / (np.sqrt(second) + 1e-8)
    return shared


def scored(world: World, shared: Floats, users: Rows, judged: slice) -> tuple[Floats, Floats]:
    """Chances and losses of some impressions of users, by vectors of those that teach."""
    seen = (world.attributes @ shared)[world.items[users]]
    vector = own_vectors(seen[:, :SHOWN], world.clicks[users, :SHOWN])
    logits = np.einsum("nsd,nd->ns", seen, vector[:, :-1]) + vector[:, -1:]
    p = 1 / (1 + np.exp(-logits[:, judged]))
    clicks = world.clicks[users, judged]
    return p, -(np.where(clicks == 1, np.log(p), np.log1p(-p))).mean(1)


def quality(world: World, shared: Floats, users: Rows) -> tuple[float, float]:
    """AUC of new impressions within users' own orders, and that of the truth."""
    p, _ = scored(world, shared, users, slice(SHOWN, None))
    clicks = world.clicks[users, SHOWN:].ravel() == 1
    seen = (world.attributes @ world.truth)[world.items[users, SHOWN:]]
    oracle = np.einsum("nsd,nd->ns", seen, world.tastes[users])
    return auc(p.ravel(), clicks), auc(oracle.ravel(), clicks)


def noises_of(n: int) -> tuple[float, ...]:
    """The noises that so many users are trained with."""
    return NOISES + MORE if n == FEW else NOISES


def line_of(n: int, noise: float, seed: int) -> Line:
    few = n == FEW
    sampled, rounds = (FEW_SAMPLED, FEW_ROUNDS) if few else ROUNDS[n]
    world = made(2 * n if few else n + 1000, seed)
    users, others = np.arange(n), np.arange(n, len(world.items))
    shared = learnt(world, users, sampled, rounds, noise, seed)
    some = users[:2000]
    value, oracle = quality(world, shared, some)
    _, inside = scored(world, shared, some, slice(0, SHOWN))
    _, outside = scored(world, shared, others, slice(0, SHOWN))
    attack = membership(inside, outside)
    spent = epsilon(noise, sampled / n, rounds, 1 / n)
    return Line(seed, n, noise, spent, value, oracle, attack["auc"], attack["tpr"])


def table(lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """A row for each size and noise, means over seeds."""
    rows = []
    for n in sorted({line.users for line in lines}):
        free = _mean(lines, n, 0.0, "auc")
        for noise in noises_of(n):
            spent = _mean(lines, n, noise, "epsilon")
            value = _mean(lines, n, noise, "auc")
            rows.append(
                [
                    f"{n:,}", f"{noise:g}", "-" if noise == 0 else f"{spent:.2f}", f"{value:.4f}",
                    f"{value - free:+.4f}", f"{_mean(lines, n, noise, 'oracle'):.4f}",
                    f"{_mean(lines, n, noise, 'attack'):.3f}",
                ]
            )  # fmt: skip
    return ["users", "noise", "epsilon", "AUC", "for privacy", "oracle", "who was in it"], rows


def _mean(lines: list[Line], n: int, noise: float, what: str) -> float:
    found: list[Any] = [
        getattr(line, what) for line in lines if (line.users, line.noise) == (n, noise)
    ]
    return float(np.mean(found)) if found else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--users", type=int, nargs="*", default=list(ROUNDS), choices=ROUNDS)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "privacy.jsonl"
    lines = kept_lines(path, Line)
    for seed in range(asked.seeds):
        for n in (FEW, *asked.users):
            for noise in noises_of(n):
                if any((one.seed, one.users, one.noise) == (seed, n, noise) for one in lines):
                    continue
                lines.append(line_of(n, noise, seed))
                keep_line(path, lines[-1])
                title = about("privacy.py", [str(asked.out)])["command"]
                show(asked.out / "privacy.md", {title: table(lines)}, 110)


if __name__ == "__main__":
    main()
