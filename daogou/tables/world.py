"""A preset's name and overrides to the checked settings of a made shop."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from daogou.errors import ConfigError, unknown
from daogou.tables.titles import CATEGORIES, LANGUAGES


@dataclass(frozen=True)
class World:
    """How a made shop behaves; every field may be overridden by name.

    Rates are conditional on the stage before; ``*_sd`` is the standard deviation of a stage's
    logit over exposures without intent and position: it sets how predictable the stage is.
    """

    users: int = 2_000
    items: int = 1_000
    exposures: int = 600_000  # about: a slate short of products has fewer
    days: int = 90
    positions: int = 10  # products of a slate
    candidates: int = 40  # drawn by popularity, from which the logging policy picks
    width: int = 6  # latent dimensions of each stage's taste
    kappa: float = 0.5  # share of the dimensions that later stages have in common with click
    sign: int = 1  # -1: what draws clicks repels carts, in the common dimensions
    confounder: float = 0.6  # coefficient of a slate's hidden intent in every logit
    click_rate: float = 0.05
    cart_rate: float = 0.15
    purchase_rate: float = 0.30
    click_sd: float = 1.1
    cart_sd: float = 1.0
    purchase_sd: float = 0.8
    theta: float = 0.5  # exam(position) = (1 + position) ** -theta, positions from 0
    position_model: str = "logit"  # log exam added to the click logit; "pbm": exam times chance
    shuffled: float = 0.1  # share of slates in random order
    policy: float = 0.7  # weight of the true click taste in what is shown, and where
    content: float = 0.8  # share of products' latent variance that their attributes explain
    bait: float = 0.2  # click-bait: more clicks, fewer purchases
    price_effect: float = 0.3
    profile_strength: float = 0.5  # share of the variance of taste that the profile explains
    drift: float = 0.2  # taste moves by twice this over the log
    activity_sd: float = 0.8
    popularity_sd: float = 0.8
    cold_items: float = 0.04  # share that appears only after 85 % of the time
    cold_users: float = 0.03
    delay_shape: float = 0.35  # Weibull, from exposure to purchase
    delay_scale_h: float = 0.64
    domain: int = 0  # 0: a shop by itself; 1 and on: further shops of the same seed and sizes
    overlap: float = 1.0  # share of taste, and of what attributes mean for it, that 0 has too
    shared_users: float = 1.0  # share of a further domain's users who are those of domain 0
    language: str = "both"
    omission: float = 1.0
    unseen: float = 0.05
    typo: float = 0.03
    noise: float = 0.15


PRESETS: Final[Mapping[str, World]] = {
    "default": World(),
    "easy": World(
        users=1_000,  # some 500 exposures each: enough to learn a taste well
        kappa=1.0,
        confounder=0.3,
        click_rate=0.20,
        cart_rate=0.25,
        purchase_rate=0.40,
        click_sd=1.5,
        cart_sd=1.3,
        purchase_sd=1.1,
        theta=0.3,
        profile_strength=0.6,
        drift=0.0,
        activity_sd=0.4,
    ),
    "aliexpress": World(confounder=0.4, click_sd=0.75, cart_sd=0.8, purchase_sd=0.6),
    "confounded": World(confounder=1.2),
    "transfer": World(
        users=800,
        items=400,
        exposures=375_000,
        kappa=1.0,
        confounder=0.0,
        click_rate=0.25,
        cart_rate=0.25,
        purchase_rate=0.32,
        click_sd=1.2,
        cart_sd=1.2,
        purchase_sd=1.0,
        theta=0.3,
        policy=0.3,
        content=0.3,
        bait=0.0,
        price_effect=0.0,
        drift=0.0,
        activity_sd=0.5,
        cold_items=0.0,
        cold_users=0.0,
    ),
}


def world_of(preset: str, overrides: Mapping[str, Any]) -> World:
    """The preset's settings with ``overrides`` by field name.

    Raises `ConfigError` naming everything that is unknown or out of range.

    >>> world_of("easy", {"kappa": 0}).kappa
    0.0
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: {unknown(preset, PRESETS)}")
    base = PRESETS[preset]
    kinds = {field.name: type(getattr(base, field.name)) for field in dataclasses.fields(World)}
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in kinds:
            problems.append(f"simulate.{name}: {unknown(name, kinds)}")
            continue
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = whole or (kinds[name] is float and isinstance(value, float))
        if not (isinstance(value, str) if kinds[name] is str else fits):
            problems.append(f"simulate.{name}: {kinds[name].__name__} is wanted, found {value!r}")
            continue
        settings[name] = kinds[name](value)
    world = dataclasses.replace(base, **settings)
    problems += _out_of_range(world)
    if problems:
        raise ConfigError("\n".join(problems))
    return world


_SHARES: Final = ("kappa", "shuffled", "profile_strength", "content", "cold_items", "cold_users",
                  "unseen", "typo", "noise", "overlap", "shared_users")  # fmt: skip
_AT_LEAST: Final[Mapping[str, float]] = {
    "users": 10,
    "items": 5 * len(CATEGORIES),
    "exposures": 100,
    "days": 7,
    "positions": 1,
    "candidates": 2,
    "width": 1,
    "confounder": 0,
    "domain": 0,
    "theta": 0,
    "policy": 0,
    "click_sd": 0,
    "cart_sd": 0,
    "purchase_sd": 0,
    "activity_sd": 0,
    "popularity_sd": 0,
    "omission": 0,
}


def _out_of_range(world: World) -> list[str]:
    problems = []
    for name in _SHARES:
        if not 0 <= getattr(world, name) <= 1:
            problems.append(f"simulate.{name}: {getattr(world, name)} is no share; give 0 to 1")
    for name, least in _AT_LEAST.items():
        if not getattr(world, name) >= least:
            problems.append(
                f"simulate.{name}: {getattr(world, name)} is too small; give {least} or more"
            )
    for name in ("click_rate", "cart_rate", "purchase_rate"):
        if not 0 < getattr(world, name) < 1:
            problems.append(
                f"simulate.{name}: {getattr(world, name)} is no rate; give a number between 0 and 1"
            )
    for name in ("delay_shape", "delay_scale_h"):
        if not getattr(world, name) > 0:
            problems.append(f"simulate.{name}: {getattr(world, name)} must be positive")
    if world.sign not in (-1, 1):
        problems.append(f"simulate.sign: {world.sign} is no sign; give 1 or -1")
    for name, legal in (("language", LANGUAGES), ("position_model", ("logit", "pbm"))):
        if getattr(world, name) not in legal:
            problems.append(f"simulate.{name}: {unknown(getattr(world, name), legal)}")
    return problems
