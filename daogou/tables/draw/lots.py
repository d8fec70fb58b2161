"""What all draws of a made shop have in common: its constants, and how chance is told apart."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from daogou.tables.truth import Floats
from daogou.tables.world import World

WINDOW_H: Final[Mapping[str, int]] = {"click": 1, "cart": 24, "purchase": 72}


def rng_of(seed: int, part: int, domain: int = 0) -> np.random.Generator:
    """Random numbers of one part of the draws."""
    # A stream per part: a knob of one part leaves the others' draws as they were.
    return np.random.default_rng([abs(seed), int(seed < 0), part, *([domain] if domain else [])])


def blend(world: World, base: Floats, fresh: Floats) -> Floats:
    """What a domain has in common with domain 0 and what is its own, at one variance."""
    return np.asarray(np.sqrt(world.overlap) * base + np.sqrt(1 - world.overlap) * fresh)


def standard(values: Floats) -> Floats:
    """Mean 0 and standard deviation 1 in each column."""
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 0, spread, 1.0))


def n_shared(world: World) -> int:
    """How many latent dimensions the later stages have in common with click."""
    return round(world.kappa * world.width)
