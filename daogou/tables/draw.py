"""A world's settings and a seed to its products, shoppers, slates and what came of them."""

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.tables.titles import ATTRIBUTES, CATEGORIES, VALUES, Title, Wording, write_title
from daogou.tables.truth import STAGES, Floats, Ints, over_intent, sigmoid
from daogou.tables.world import World

WINDOW_H: Final[Mapping[str, int]] = {"click": 1, "cart": 24, "purchase": 72}
PROFILE: Final[Mapping[str, tuple[str, ...]]] = {
    "gender": ("F", "M"),
    "age_band": ("18-24", "25-34", "35-49", "50+"),
    "tier": ("gold", "silver", "bronze"),
}
CITIES: Final = ("Hangzhou", "Shanghai", "Chengdu", "Shenzhen", "Xi'an", "Wuhan", "Lyon", "Oslo")
DEVICES: Final = ("app", "web", "mini-program")
EPOCH_US: Final = 1_704_067_200_000_000  # 2024-01-01 UTC
HOUR_US: Final = 3_600_000_000

# How much each profile column moves taste, and each attribute the product's latents.
_PROFILE_SHARE: Final[Mapping[str, float]] = {"gender": 0.25, "age_band": 0.45, "tier": 0.30}
_ATTRIBUTE_WEIGHT: Final[Mapping[str, float]] = {
    "brand": 1.0,
    "colour": 0.8,
    "material": 0.8,
    "style": 1.0,
    "size": 0.3,
}
_USER_BIAS_SD: Final = 0.3
_QUALITY: Final = 0.4
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


def _rng(seed: int, part: int, domain: int = 0) -> np.random.Generator:
    # A stream per part: a knob of one part leaves the others' draws as they were.
    return np.random.default_rng([abs(seed), int(seed < 0), part, *([domain] if domain else [])])


def _blend(world: World, base: Floats, fresh: Floats) -> Floats:
    """What a domain has in common with domain 0 and what is its own, at one variance."""
    return np.asarray(np.sqrt(world.overlap) * base + np.sqrt(1 - world.overlap) * fresh)


def _standard(values: Floats) -> Floats:
    """Mean 0 and standard deviation 1 in each column."""
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 0, spread, 1.0))


def n_shared(world: World) -> int:
    """How many latent dimensions the later stages have in common with click."""
    return round(world.kappa * world.width)


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
    rng = _rng(seed, 1, world.domain)
    n, width, n_categories = world.items, world.width, len(CATEGORIES)
    drawn = _draw_attributes(world, rng)
    category, values = drawn.category, drawn.values
    if world.domain:
        base = _draw_attributes(world, _rng(seed, 1))
        drawn = _Attributes(
            category,
            values,
            {name: _blend(world, base.meaning[name], drawn.meaning[name]) for name in values},
            _blend(world, base.of_category, drawn.of_category),
        )
    signal = np.zeros((n, 2 * width))
    for name in ATTRIBUTES:
        signal += _ATTRIBUTE_WEIGHT[name] * drawn.meaning[name][values[name]]
    signal += 0.5 * drawn.of_category[category]
    own = rng.standard_normal((n, 2 * width))
    latent = _standard(
        np.sqrt(world.content) * _standard(signal) + np.sqrt(1 - world.content) * own
    )
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
        price_z=_standard(log_price),
        latent=latent[:, :width],
        later=later,
        bias_click=_QUALITY * quality + world.bait * bait,
        bias_later=_QUALITY * (carried + np.sqrt(1 - world.kappa) * other),
        bait=world.bait * bait,
        log_weight=popularity,
        arrival=arrival,
        titles=titles,
    )


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
        return np.where(is_shared[:, None], _blend(world, one, other), other)

    return _People(
        keys=either(base.keys, fresh.keys),
        city=either(base.city, fresh.city),
        chances=base.chances,
        profile={name: either(base.profile[name], fresh.profile[name]) for name in PROFILE},
        means={name: _blend(world, base.means[name], fresh.means[name]) for name in PROFILE},
        own=blended(base.own, fresh.own),
        later=blended(base.later, fresh.later),
    )


def make_users(world: World, seed: int) -> Users:
    """Draw the shoppers; their profile explains ``profile_strength`` of their taste's variance."""
    rng = _rng(seed, 2, world.domain)
    n, width = world.users, world.width
    people = _draw_people(world, rng)
    if world.domain:
        base = _draw_people(dataclasses.replace(world, domain=0), _rng(seed, 2))
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
    rng = _rng(seed, 3)
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
    rng = _rng(seed, 4)
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
