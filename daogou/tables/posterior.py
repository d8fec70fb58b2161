"""What was shown and what followed to the best guess at a shopper's profile: its ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daogou.schema import HOUR_US
from daogou.tables.draw.lots import n_shared
from daogou.tables.draw.outcomes import Outcomes
from daogou.tables.draw.products import Items
from daogou.tables.draw.shoppers import PROFILE, Prior, Users, profile_combinations
from daogou.tables.draw.slates import Exposures
from daogou.tables.titles import CATEGORIES
from daogou.tables.truth import STAGES, Floats, Ints, sigmoid
from daogou.tables.world import World

_CHUNK: Final = 200_000  # rows, so that the working memory stays at some 100 MB


def profile_posterior(
    world: World, users: Users, items: Items, seen: Exposures, outcomes: Outcomes
) -> dict[str, Floats]:
    """The posterior over each profile column's values given what was shown and what followed."""
    width, shared = world.width, n_shared(world)
    scale = 1 / np.sqrt(width)
    n_slots = users.prior.mean.shape[1]
    later_slots = (*range(shared), *range(width, n_slots - 3))
    sense, lean_click, lean_later = range(n_slots - 3, n_slots)
    slots = {
        "click": (*range(width), lean_click),
        "cart": (*later_slots, lean_later),
        "purchase": (*later_slots, lean_later, sense),
    }
    # A logit blurred by intent is nearly a flatter logit (the probit approximation).
    blur = 1 / np.sqrt(1 + np.pi * world.confounder**2 / 8)
    evidence = []
    reached = np.ones(len(seen.user), dtype=bool)
    for stage in STAGES:
        rows = np.flatnonzero(reached)
        user, item = seen.user[rows], seen.item[rows]
        latent = items.latent if stage == "click" else items.later
        parts = [scale * latent[item], np.ones((len(rows), 1))]
        if stage == "purchase":
            parts.append(-world.price_effect * items.price_z[item][:, None])
        design = blur * outcomes.coefficients[stage]["gain"] * np.hstack(parts)
        liked = (design * _slots_of(users)[user][:, slots[stage]]).sum(1)
        drifted = 0.0
        if stage == "click" and world.drift:
            moved = 2 * seen.time_us[rows] / (world.days * 24 * HOUR_US) - 1
            pull = np.einsum("nk,nk->n", users.drift[user], items.latent[item])
            drifted = blur * outcomes.coefficients[stage]["gain"] * scale * moved * pull
        # What is left of the logit when the user's own part is taken out is known of the item.
        offset = blur * outcomes.logits[stage][rows] - liked - drifted
        if stage == "click" and world.position_model == "pbm":
            offset = offset + np.log(outcomes.exam)
        evidence.append(
            Evidence(user, design, slots[stage], offset, outcomes.happened[stage][rows])
        )
        reached = outcomes.happened[stage]
    gram, lean = _policy_evidence(world, users, items, seen)
    posterior = posterior_of_profiles(users.prior, evidence, gram, lean)
    combinations = profile_combinations()
    return {
        f"posterior_{name}_{value}": posterior[:, combinations[:, column] == row].sum(1)
        for column, (name, values) in enumerate(PROFILE.items())
        for row, value in enumerate(values)
    }


def _slots_of(users: Users) -> Floats:
    """The true latents of every user in the order of the prior's."""
    n_slots = users.prior.mean.shape[1]
    width = users.latent.shape[1]
    fresh = users.later[:, width - (n_slots - 3 - width) :]
    return np.hstack(
        [
            users.latent,
            fresh,
            np.stack([users.sensitivity, users.bias_click, users.bias_later], axis=1),
        ]
    )


def _policy_evidence(
    world: World, users: Users, items: Items, seen: Exposures
) -> tuple[Floats, Floats]:
    """What the choice of products shown tells of taste, as a Gaussian: gram and lean.

    The log chance of picking a product by softmax, to second order in taste, with the variance
    of drawing without replacement from the candidates.
    """
    width = world.width
    n_users, n_slots = len(users.keys), users.prior.mean.shape[1]
    gram, lean = np.zeros((n_users, n_slots, n_slots)), np.zeros((n_users, n_slots))
    weight = np.exp(items.log_weight) * (items.arrival == 0)
    strength = world.policy / np.sqrt(width)
    category = items.category[seen.item]
    shown = np.bincount(
        seen.user * len(CATEGORIES) + category, minlength=n_users * len(CATEGORIES)
    ).reshape(n_users, -1)
    for k in range(width):
        lean[:, k] = np.bincount(seen.user, items.latent[seen.item, k], n_users)
    for each in range(len(CATEGORIES)):
        inside = np.flatnonzero(items.category == each)
        share = weight[inside] / max(weight[inside].sum(), 1e-12)
        offered = -np.expm1(world.candidates * np.log1p(-np.minimum(share, 1 - 1e-9)))
        total = max(offered.sum(), 1e-12)
        mean = offered @ items.latent[inside] / total
        centred = items.latent[inside] - mean
        spread = (centred * offered[:, None]).T @ centred / total
        left = max(0.0, 1 - world.positions / total)
        lean[:, :width] -= shown[:, each, None] * mean
        gram[:, :width, :width] += strength**2 * left * shown[:, each, None, None] * spread
    lean[:, :width] *= strength
    return gram, lean


@dataclass(frozen=True)
class Evidence:
    """Outcomes of one stage as a logistic regression on the user's latents.

    ``design [n, a]`` are the coefficients of the latents in ``slots`` (a of them), ``offset [n]``
    the rest of the logit, ``user [n]`` the row of the user, ``outcome [n]`` 0 or 1.
    """

    user: Ints
    design: Floats
    slots: tuple[int, ...]
    offset: Floats
    outcome: NDArray[np.bool_]


def posterior_of_profiles(
    prior: Prior, evidence: Sequence[Evidence], gram: Floats, lean: Floats, *, rounds: int = 6
) -> Floats:
    """Each user's posterior over profiles given outcomes, ``[U, C]``, rows summing to 1.

    The likelihood of a user's latents is replaced by the Gaussian that touches it at the mode
    under the pooled prior (Laplace; Newton's ``rounds`` find the mode), after which the evidence
    for each profile has a closed form. ``gram [U, D, D]`` and ``lean [U, D]`` hold evidence that
    is already Gaussian: -x'Gx/2 + l'x.
    """
    n_users, width = lean.shape
    share = np.exp(prior.log_share)
    pooled_mean = share @ prior.mean
    spread = share @ prior.mean**2 - pooled_mean**2
    pooled_precision = 1.0 / (prior.variance + spread)
    at = pooled_mean.copy()
    diagonal = np.arange(width)
    for _ in range(rounds):
        slope = lean - np.einsum("udk,uk->ud", gram, at)
        curve = gram.copy()
        for each in evidence:
            _add_logistic(each, at, slope, curve)
        precision = curve.copy()
        precision[:, diagonal, diagonal] += pooled_precision
        step = slope - pooled_precision * (at - pooled_mean)
        at = at + np.linalg.solve(precision, step[:, :, None])[:, :, 0]
    # The touching Gaussian in natural form: -x'Hx/2 + r'x, with its slope taken at the mode.
    natural = slope + np.einsum("udk,uk->ud", curve, at)
    curve[:, diagonal, diagonal] += 1.0 / prior.variance
    inverse = np.linalg.inv(curve)
    lifted = natural[:, None, :] + (prior.mean / prior.variance)[None, :, :]
    fit = 0.5 * np.einsum("ucd,udk,uck->uc", lifted, inverse, lifted, optimize=True)
    fit += prior.log_share - 0.5 * (prior.mean**2 / prior.variance).sum(1)
    fit -= fit.max(1, keepdims=True)
    odds = np.exp(fit)
    return np.asarray(odds / odds.sum(1, keepdims=True), dtype=np.float64).reshape(n_users, -1)


def _add_logistic(evidence: Evidence, at: Floats, slope: Floats, curve: Floats) -> None:
    """Add the first and (minus) second derivatives of the log likelihood at ``at``."""
    slots = np.array(evidence.slots)
    n_users = len(at)
    for begin in range(0, len(evidence.user), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        user, design = evidence.user[rows], evidence.design[rows]
        chance = sigmoid(evidence.offset[rows] + (design * at[user][:, slots]).sum(1))
        surprise = evidence.outcome[rows] - chance
        bend = chance * (1.0 - chance)
        for i, slot in enumerate(slots):
            slope[:, slot] += np.bincount(user, surprise * design[:, i], n_users)
            bent = bend * design[:, i]
            for j in range(i + 1):
                total = np.bincount(user, bent * design[:, j], n_users)
                curve[:, slot, slots[j]] += total
                if j < i:
                    curve[:, slots[j], slot] += total
