"""A world's settings and a seed to its products."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from daogou.tables.draw.lots import blend, n_shared, rng_of, standard
from daogou.tables.titles import ATTRIBUTES, CATEGORIES, VALUES, Title, Wording, write_title
from daogou.tables.truth import Floats, Ints
from daogou.tables.world import World

_ATTRIBUTE_WEIGHT: Final[Mapping[str, float]] = {
    "brand": 1.0,
    "colour": 0.8,
    "material": 0.8,
    "style": 1.0,
    "size": 0.3,
}

_QUALITY: Final = 0.4


@dataclass(frozen=True)
class Items:
    """Products: columns as the shop sees them (rows of `VALUES`), and what drives them."""

    keys: Ints
    category: Ints
    values: Mapping[str, Ints]
    price: Floats
    price_z: Floats
    latent: Floats  # [I, width], click
    later: Floats  # [I, width], cart and purchase
    bias_click: Floats
    bias_later: Floats
    bait: Floats
    log_weight: Floats  # popularity
    arrival: Floats  # share of the log's time before it is on sale
    titles: tuple[Title, ...]


@dataclass(frozen=True)
class _Attributes:
    """Categories and attributes of products ``[I]``, and what each value means for taste."""

    category: Ints
    values: dict[str, Ints]
    meaning: dict[str, Floats]  # [values, 2 width]
    of_category: Floats  # [categories, 2 width]


def _draw_attributes(world: World, rng: np.random.Generator) -> _Attributes:
    n, width, n_categories = world.items, world.width, len(CATEGORIES)
    category = rng.permutation(np.arange(n) % n_categories)
    values: dict[str, Ints] = {}
    meaning: dict[str, Floats] = {}
    for name in ATTRIBUTES:
        n_values = len(VALUES[name])
        liked = np.exp(0.8 * rng.standard_normal((n_categories, n_values)))
        ladder = np.cumsum(liked, axis=1) / liked.sum(1, keepdims=True)
        values[name] = (ladder[category] < rng.random((n, 1))).sum(1).clip(max=n_values - 1)
        meaning[name] = rng.standard_normal((n_values, 2 * width))
    return _Attributes(category, values, meaning, rng.standard_normal((n_categories, 2 * width)))


def make_items(world: World, seed: int) -> Items:
    """Draw the products; their attributes explain ``content`` of their latents' variance.

    Products of a further domain are others, with the same attributes, whose values mean for taste
    what they mean in domain 0 as far as the two overlap.
    """
    rng = rng_of(seed, 1, world.domain)
    n, width, n_categories = world.items, world.width, len(CATEGORIES)
    drawn = _draw_attributes(world, rng)
    category, values = drawn.category, drawn.values
    if world.domain:
        base = _draw_attributes(world, rng_of(seed, 1))
        drawn = _Attributes(
            category,
            values,
            {name: blend(world, base.meaning[name], drawn.meaning[name]) for name in values},
            blend(world, base.of_category, drawn.of_category),
        )
    signal = np.zeros((n, 2 * width))
    for name in ATTRIBUTES:
        signal += _ATTRIBUTE_WEIGHT[name] * drawn.meaning[name][values[name]]
    signal += 0.5 * drawn.of_category[category]
    own = rng.standard_normal((n, 2 * width))
    latent = standard(np.sqrt(world.content) * standard(signal) + np.sqrt(1 - world.content) * own)
    shared = n_shared(world)
    later = np.hstack([world.sign * latent[:, :shared], latent[:, width + shared :]])
    quality, other, bait = rng.standard_normal((3, n))
    log_price = (
        rng.normal(4.0, 0.5, n_categories)[category]
        + rng.normal(0.0, 0.4, len(VALUES["brand"]))[values["brand"]]
        + rng.normal(0.0, 0.3, n)
    )
    late = rng.random(n) < world.cold_items
    arrival = np.where(late, rng.uniform(0.85, 0.97, n), 0.0)
    popularity = world.popularity_sd * rng.standard_normal(n) + 0.3 * quality
    carried = world.sign * np.sqrt(world.kappa) * quality
    draw = random.Random(int(rng.integers(2**62)))
    wording = Wording(world.language, world.omission, world.unseen, world.typo, world.noise)
    titles = tuple(
        write_title(int(category[i]), {name: int(values[name][i]) for name in ATTRIBUTES},
                    wording, draw)
        for i in range(n)
    )  # fmt: skip
    return Items(
        keys=500_001 + n * world.domain + np.arange(n),
        category=category,
        values=values,
        price=np.exp(log_price).round(2),
        price_z=standard(log_price),
        latent=latent[:, :width],
        later=later,
        bias_click=_QUALITY * quality + world.bait * bait,
        bias_later=_QUALITY * (carried + np.sqrt(1 - world.kappa) * other),
        bait=world.bait * bait,
        log_weight=popularity,
        arrival=arrival,
        titles=titles,
    )
