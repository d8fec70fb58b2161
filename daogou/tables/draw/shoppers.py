"""A world's settings and a seed to its shoppers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from daogou.tables.draw.lots import blend, n_shared, rng_of
from daogou.tables.titles import CATEGORIES
from daogou.tables.truth import Floats, Ints
from daogou.tables.world import World

PROFILE: Final[Mapping[str, tuple[str, ...]]] = {
    "gender": ("F", "M"),
    "age_band": ("18-24", "25-34", "35-49", "50+"),
    "tier": ("gold", "silver", "bronze"),
}

CITIES: Final = ("Hangzhou", "Shanghai", "Chengdu", "Shenzhen", "Xi'an", "Wuhan", "Lyon", "Oslo")

# How much each profile column moves taste, and each attribute the product's latents.
_PROFILE_SHARE: Final[Mapping[str, float]] = {"gender": 0.25, "age_band": 0.45, "tier": 0.30}

_USER_BIAS_SD: Final = 0.3

_SENSITIVITY: Final[Mapping[str, float]] = {"gold": 0.3, "silver": 1.0, "bronze": 1.7}

_SENSITIVITY_SD: Final = 0.5


@dataclass(frozen=True)
class Prior:
    """What is known of a user before any behaviour: a mixture of C Gaussians of one spread.

    ``mean [C, D]`` of each profile, ``variance [D]`` within a profile, ``log_share [U, C]``.
    """

    mean: Floats
    variance: Floats
    log_share: Floats


@dataclass(frozen=True)
class Users:
    """Shoppers: profile as rows of `PROFILE`, and what drives them."""

    keys: Ints
    city: Ints
    profile: Mapping[str, Ints]
    prior: Prior  # over profiles and latents; see `_slots`
    latent: Floats
    later: Floats
    drift: Floats
    bias_click: Floats
    bias_later: Floats
    sensitivity: Floats
    mix: Floats  # [U, categories]
    activity: Floats
    arrival: Floats


def _profile_means(world: World, rng: np.random.Generator) -> dict[str, Floats]:
    """The mean taste of each value of each profile column, ``[values, width]``.

    The values of a column are the corners of a regular simplex, and columns lie at right angles
    while there is room, so that how well a column can be told is set by its share alone.
    """
    total = sum(len(values) - 1 for values in PROFILE.values())
    axes = rng.standard_normal((total, world.width))
    if total <= world.width:
        axes = np.linalg.qr(axes.T)[0].T
    else:
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    means, used = {}, 0
    for name, values in PROFILE.items():
        count = len(values)
        centred = np.eye(count) - 1 / count
        corners = np.linalg.svd(centred)[0][:, : count - 1] * np.sqrt(count / (count - 1))
        radius = np.sqrt(
            world.width * world.profile_strength * _PROFILE_SHARE[name] * (count - 1) / count
        ) * np.sqrt(count / (count - 1))
        corners *= radius / np.linalg.norm(corners[0])
        means[name] = corners @ axes[used : used + count - 1]
        used += count - 1
    return means


def profile_combinations() -> Ints:
    """All profiles, ``[C, columns]``: rows of each column's values."""
    grid = np.meshgrid(*(np.arange(len(values)) for values in PROFILE.values()), indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1)


@dataclass(frozen=True)
class _People:
    """Who the shoppers ``[U]`` are, and what of their taste a domain shares with another."""

    keys: Ints
    city: Ints
    chances: Mapping[str, Floats]  # of each value of a profile column, by city
    profile: dict[str, Ints]
    means: dict[str, Floats]  # the taste of each value of a profile column
    own: Floats  # [U, width], what no profile tells of the taste for clicks
    later: Floats  # [U, width], the taste of later stages


def _draw_people(world: World, rng: np.random.Generator) -> _People:
    n, width = world.users, world.width
    city = rng.integers(len(CITIES), size=n)
    by_city = np.exp(0.5 * rng.standard_normal((len(CITIES), len(PROFILE["tier"]))))
    chances = {
        "gender": np.tile([0.55, 0.45], (len(CITIES), 1)),
        "age_band": np.tile([0.2, 0.35, 0.3, 0.15], (len(CITIES), 1)),
        "tier": by_city / by_city.sum(1, keepdims=True),
    }
    profile = {
        name: (np.cumsum(chance, 1)[city] < rng.random((n, 1))).sum(1).clip(max=chance.shape[1] - 1)
        for name, chance in chances.items()
    }
    return _People(
        keys=100_001 + n * world.domain + np.arange(n),
        city=city,
        chances=chances,
        profile=profile,
        means=_profile_means(world, rng),
        own=rng.standard_normal((n, width)),
        later=rng.standard_normal((n, width)),
    )


def _of_domain(world: World, base: _People, fresh: _People) -> _People:
    """A further domain's people: the first of them those of domain 0, with taste that overlaps."""
    n_shared_users = round(world.shared_users * world.users)
    is_shared = np.arange(world.users) < n_shared_users

    def either(one: Ints, other: Ints) -> Ints:
        return np.where(is_shared, one, other)

    def blended(one: Floats, other: Floats) -> Floats:
        return np.where(is_shared[:, None], blend(world, one, other), other)

    return _People(
        keys=either(base.keys, fresh.keys),
        city=either(base.city, fresh.city),
        chances=base.chances,
        profile={name: either(base.profile[name], fresh.profile[name]) for name in PROFILE},
        means={name: blend(world, base.means[name], fresh.means[name]) for name in PROFILE},
        own=blended(base.own, fresh.own),
        later=blended(base.later, fresh.later),
    )


def make_users(world: World, seed: int) -> Users:
    """Draw the shoppers; their profile explains ``profile_strength`` of their taste's variance."""
    rng = rng_of(seed, 2, world.domain)
    n, width = world.users, world.width
    people = _draw_people(world, rng)
    if world.domain:
        base = _draw_people(dataclasses.replace(world, domain=0), rng_of(seed, 2))
        people = _of_domain(world, base, people)
    city, chances, profile, means = people.city, people.chances, people.profile, people.means
    within = 1 - world.profile_strength
    mean = sum((means[name][profile[name]] for name in PROFILE), np.zeros((n, width)))
    latent = mean + np.sqrt(within) * people.own
    fresh = people.later
    shared = n_shared(world)
    tiers = np.array([_SENSITIVITY[tier] for tier in PROFILE["tier"]])
    combinations = profile_combinations()
    columns = list(PROFILE)
    prior_mean = np.zeros((len(combinations), 2 * width - shared + 3))
    for column, name in enumerate(columns):
        prior_mean[:, :width] += means[name][combinations[:, column]]
    prior_mean[:, -3] = tiers[combinations[:, columns.index("tier")]]
    variance = np.ones(prior_mean.shape[1])
    variance[:width] = max(within, 1e-6)
    variance[-3:] = _SENSITIVITY_SD**2, _USER_BIAS_SD**2, _USER_BIAS_SD**2
    log_share = sum(
        (np.log(chances[name][city][:, combinations[:, i]]) for i, name in enumerate(columns)),
        np.zeros((n, len(combinations))),
    )
    late = rng.random(n) < world.cold_users
    return Users(
        keys=people.keys,
        city=city,
        profile=profile,
        prior=Prior(prior_mean, variance, log_share),
        latent=latent,
        later=np.hstack([latent[:, :shared], fresh[:, shared:]]),
        drift=world.drift * rng.standard_normal((n, width)),
        bias_click=_USER_BIAS_SD * rng.standard_normal(n),
        bias_later=_USER_BIAS_SD * rng.standard_normal(n),
        sensitivity=tiers[profile["tier"]] + _SENSITIVITY_SD * rng.standard_normal(n),
        mix=rng.dirichlet(np.full(len(CATEGORIES), 0.6), n),
        activity=np.exp(world.activity_sd * rng.standard_normal(n)),
        arrival=np.where(late, rng.uniform(0.85, 0.97, n), 0.0),
    )
