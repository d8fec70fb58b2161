"""A user, a product and a score to reasons for it, and to what each input contributed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.columns import Columns
from daogou.features.numeric import Numeric
from daogou.features.queries import Queries
from daogou.features.transform.fields import Fields
from daogou.guide import words
from daogou.guide.catalogue import Catalogue
from daogou.guide.edit import Edits
from daogou.guide.score import Past, Scorer, Shoppers, funnel_chances, read_users
from daogou.model.encoded import Encoded
from daogou.model.group import grid_of
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import marks_of
from daogou.schema import DAY_US

Array = NDArray[Any]
HALF_LIFE_DAYS: Final = 14.0  # an event this old counts half as much for what a user prefers
_POPULAR: Final = 0.5  # a product liked more than this share of the others may be called popular
_MOST_REASONS: Final = 3
_FLOOR: Final = 1e-7  # keeps log-odds finite


@dataclass(frozen=True)
class Contribution:
    """One input of a score, what it said, and the chances ``[T]`` had it been missing."""

    feature: str
    value: object
    without: Tensor


def weights_of(past: Past) -> Array:
    """What each event counts for preferences, ``[L]``: ``0.5 ** (age / 14 days)``, at most 1."""
    age_days = np.maximum(past.now - past.time, 0) / DAY_US
    weights: Array = 0.5 ** (age_days / HALF_LIFE_DAYS)
    # A past so long ago that all its weights vanish still says what was preferred then.
    return weights / weights.max() if len(weights) and weights.max() > 0 else weights + 1.0


def carried(
    catalogue: Catalogue,
    column: str,
    row: int,
    named: Mapping[tuple[str, int], str] | None = None,
) -> str | None:
    """A product's value of a shared column: the catalogue's, or if that is open ``named``'s."""
    value = catalogue.coded[column].value(row)
    return named.get((column, row)) if value is None and named is not None else value


def preferences(
    catalogue: Catalogue, past: Past, named: Mapping[tuple[str, int], str] | None = None
) -> dict[str, dict[str, float]]:
    """Of each column that products share, the values in a user's past and their shares.

    Shares add up to 1 over a column; events count as `weights_of` says. Largest first, equal ones
    by name; columns without any value in the past are left out. ``named`` has values of products
    that the catalogue leaves open, by column and row.
    """
    weights = weights_of(past).tolist()
    found: dict[str, dict[str, float]] = {}
    for column in catalogue.shared:
        masses: dict[str, float] = {}
        for row, weight in zip(past.item.tolist(), weights, strict=True):
            value = carried(catalogue, column, row, named)
            if value is not None and weight > 0:
                masses[value] = masses.get(value, 0.0) + weight
        total = sum(masses.values())
        if total > 0:
            ranked = sorted(masses.items(), key=lambda pair: (-pair[1], pair[0]))
            found[column] = {value: mass / total for value, mass in ranked}
    return found


@torch.inference_mode()
def reasons(
    scorer: Scorer,
    catalogue: Catalogue,
    queries: Queries,
    shoppers: Shoppers | None,
    rows: Sequence[int],
    *,
    popularity: Array,
    edits: Edits | None = None,
    lang: str,
) -> list[list[dict[str, Any]]]:
    """For each of some products why one user might want it, at most three reasons each.

    ``edit``: a value that the user asked for and the product carries; its weight is 1.
    ``history``: the product in the past that the score's attention weighs most, if more than
    evenly; its weight is that share of the attention. ``attribute``: a value that the past holds
    more often than the catalogue does; its weight is its share of the past. ``popular``: more
    than half of the catalogue is liked less; its weight is that share. A new user's unpopular
    product has no reason, and none is made up.

    ``popularity [I + 1]`` is the share of the catalogue that each row beats.
    """
    past = scorer.past(queries) if shoppers is not None else None
    weights = _attention(scorer, shoppers, rows) if past is not None and len(past.item) else None
    remembered: list[list[dict[str, Any]]] = [[]] * len(rows)
    if past is not None and weights is not None:
        remembered = _from_history(scorer, catalogue, past, weights, rows, lang)
    liked = preferences(catalogue, past) if past is not None else {}
    found: list[list[dict[str, Any]]] = []
    for row, of_past in zip(rows, remembered, strict=True):
        some: list[dict[str, Any]] = []
        wish = edits.wish(row) if edits is not None else None
        if wish is not None:
            text = words.because_of_edit(*wish, lang)
            some.append({"kind": "edit", "text": text, "weight": 1.0})
        some += of_past
        some += _from_values(catalogue, liked, row, lang)
        if popularity[row] > _POPULAR:
            text = words.because_of_many(float(popularity[row]), lang)
            some.append({"kind": "popular", "text": text, "weight": float(popularity[row])})
        found.append(some[:_MOST_REASONS])
    return found


def _attention(
    scorer: Scorer, shoppers: Shoppers | None, rows: Sequence[int]
) -> NDArray[np.float64] | None:
    """Attention of candidates over one user's events, ``[B, L]``; None where there is no funnel."""
    model = scorer.artifact.model
    if shoppers is None or "funnel" not in model.heads or scorer.vectors is None:
        return None
    events = shoppers.encoded.events
    assert events is not None
    meet = cast(FunnelHead, model.heads["funnel"]).meet
    nobody_else = grid_of(torch.zeros(len(rows), dtype=torch.int64))
    v = scorer.vectors[torch.tensor(rows, dtype=torch.int64)]
    weights = meet.attention(v, events, shoppers.columns["action"], nobody_else)
    return weights.double().numpy()


def _from_history(
    scorer: Scorer,
    catalogue: Catalogue,
    past: Past,
    weights: NDArray[np.float64],
    rows: Sequence[int],
    lang: str,
) -> list[list[dict[str, Any]]]:
    """For each of some products the reason that the past has, if any."""
    n = min(len(past.item), weights.shape[1])
    items, place = np.unique(past.item[:n], return_inverse=True)
    counts = np.bincount(place)
    found: list[list[dict[str, Any]]] = []
    for row, own in zip(rows, weights[:, :n], strict=True):
        totals = np.bincount(place, weights=own)
        best = int(totals.argmax())
        if totals[best] <= counts[best] / (n + 1):  # no more than an even share
            found.append([])
            continue
        # Of several events with one product the strongest deed is the one to name.
        action = int(past.action[:n][place == best].max())
        text = words.because_of_history(
            scorer.artifact.transform.actions[action],
            catalogue.name(int(items[best])),
            int(items[best]) == row,
            lang,
        )
        weight = min(float(totals[best]), 1.0)
        found.append([{"kind": "history", "text": text, "weight": weight}])
    return found


def _from_values(
    catalogue: Catalogue, liked: Mapping[str, Mapping[str, float]], row: int, lang: str
) -> list[dict[str, Any]]:
    best: tuple[float, str, str, float] | None = None
    for column, shares in liked.items():
        value = catalogue.coded[column].value(row)
        if value is None:
            continue
        share = shares.get(value, 0.0)
        gain = share - catalogue.shared[column].get(value, 0.0)
        if gain > 0 and (best is None or gain > best[0]):
            best = gain, column, value, share
    if best is None:
        return []
    _, column, value, share = best
    text = words.because_of_value(column, value, lang)
    return [{"kind": "attribute", "text": text, "weight": min(share, 1.0)}]


@torch.inference_mode()
def contributions(
    scorer: Scorer,
    catalogue: Catalogue,
    asked: tuple[str | None, Queries],
    row: int,
    given: Mapping[str, object] | None,
) -> tuple[Tensor, list[Contribution]]:
    """Chances ``[T]`` of one user, product and context, and what they were without each input.

    Occlusion: an input (an id, one column, the title, the whole history, one column of the
    context) is replaced by its missing value, the one the model has for rows that lack it, and
    everything is scored again, in one batch. Effects need not add up: two inputs that say the
    same hide each other. Inputs that are missing already are left out.
    """
    artifact = scorer.artifact
    model, transform = artifact.model, artifact.transform
    context = scorer.context(given, 1)
    said = [name for name, value in (given or {}).items() if value is not None]
    inputs: list[tuple[str, object]] = []
    at: list[tuple[int, int, int]] = [(0, 0, 0)]  # user, item and context variant of each row
    known, shoppers, n_history, no_past = scorer.items, None, 0, -1
    if scorer.vectors is not None:
        known, names = _item_variants(scorer, catalogue, row)
        shoppers = scorer.shoppers(asked[1])
        if shoppers is not None:
            history = shoppers.columns["history"][0]
            n_history = len(history)
            known = Encoded(
                **{
                    name: torch.cat([getattr(scorer.items, name)[history], variants])
                    for name, variants in known.present()
                }
            )
            columns, user_names = _user_variants(scorer, shoppers.columns, asked[0])
            shoppers = read_users(model, known, columns)
            inputs += user_names
            at += [(place, 0, 0) for place in range(1, len(user_names) + 1)]
            no_past = len(user_names)  # the last of the variants
        inputs += names
        at += [(0, place, 0) for place in range(1, len(names) + 1)]
    rows, ranks = _without_each(transform.context, *context)
    for name in said:
        inputs.append((f"context.{name}", (given or {})[name]))
        at.append((0, 0, 1 + transform.context.names.index(name)))
    if shoppers is None:
        shoppers = Shoppers(Columns({}), known)
    places = torch.tensor(at, dtype=torch.int64)
    item, repeats = places[:, 1] + n_history, None
    if no_past > 0 and known.marks is not None:
        one_user = torch.zeros(len(places), dtype=torch.int64)
        repeats = scorer.repeats(asked[1], one_user, known.marks[item])
        repeats[places[:, 0] == no_past] = 0.0
    chances = funnel_chances(
        model,
        shoppers,
        places[:, 0],
        item,
        (rows[places[:, 2].numpy()], ranks[places[:, 2].numpy()]),
        repeats,
    )
    found = [
        Contribution(feature, value, chances[:, place])
        for place, (feature, value) in enumerate(inputs, start=1)
        if value is not None
    ]
    return chances[:, 0], found


def log_odds(chance: Tensor) -> Tensor:
    """Log-odds of a chance, kept finite."""
    return chance.double().clamp(_FLOOR, 1 - _FLOOR).logit()


def _item_variants(
    scorer: Scorer, catalogue: Catalogue, row: int
) -> tuple[Encoded, list[tuple[str, object]]]:
    """A product as it is and without each of its inputs; what those are."""
    transform, model = scorer.artifact.transform, scorer.artifact.model
    product = scorer.described(row)
    item_id, has_text = product.id, bool(product.tokens.any())
    fields, numbers = _without_each(transform.items, product.fields, product.numbers)
    n = len(fields)
    # As it is, without each column, without its id, without its text.
    pick = np.array([*range(n), 0, 0])
    ids = np.array([*[item_id] * n, 0, item_id])
    texts = np.array([*[1] * n, 1, 0])
    pooled = None
    if model.text is not None:
        tokens = np.stack([np.zeros_like(product.tokens), product.tokens]).astype(np.int64)
        pooled = model.text(torch.from_numpy(tokens))[1]
    traits = np.repeat(product.traits, len(pick), axis=0)
    columns = _columns(
        id=ids, fields=fields[pick], numbers=numbers[pick], traits=traits, text=texts
    )
    title = catalogue.name(row) if has_text and model.text is not None else None
    names: list[tuple[str, object]] = [
        (f"item.{name}", catalogue.value(name, row)) for name in transform.items.names
    ]
    heard = scorer.newcomers.heard.get(row) if scorer.newcomers is not None else None
    names += [
        ("item.heard", heard.said(scorer.stages))
        if heard
        else ("item.id", catalogue.keys[row] if item_id else None),
        (f"item.{catalogue.title or 'text'}", title),
    ]
    # Without its id a product is none of those in the history.
    same = torch.tensor([*[row] * n, row if heard else 0, row])
    vectors, marks = model.encode_items(columns, pooled), marks_of(same, columns)
    lift = scorer.items.lift
    if lift is not None:
        lift = lift[[*[row] * n, 0, row]]  # the unknown product's is 0
    return Encoded(items=vectors, marks=marks, item_ids=columns["id"], lift=lift), names


def _user_variants(
    scorer: Scorer, columns: Columns, user: str | None
) -> tuple[Columns, list[tuple[str, object]]]:
    """A user as they are and without each of their inputs, their history on rows of its own."""
    transform = scorer.artifact.transform
    fields, numbers = _without_each(
        transform.users, columns["fields"].numpy(), columns["numbers"].numpy()
    )
    n = len(fields)
    user_id = int(columns["id"][0])
    pick = np.array([*range(n), 0, 0])
    length = columns["history"].shape[1]
    events = int((columns["action"][0] > 0).sum())
    kept = torch.ones(n + 2, 1, dtype=torch.int64)
    kept[n + 1] = 0
    variants = Columns(
        {
            **_columns(
                id=np.array([*[user_id] * n, 0, user_id]),
                fields=fields[pick],
                numbers=numbers[pick],
            ).tensors,
            "history": torch.arange(length).expand(n + 2, length),
            "action": columns["action"] * kept,
            "age": columns["age"] * kept,
        }
    )
    said = _said(transform.users, columns["fields"][0].numpy())
    names: list[tuple[str, object]] = [
        (f"user.{name}", value) for name, value in zip(transform.users.names, said, strict=True)
    ]
    names += [("user.id", user if user_id else None), ("user.history", events or None)]
    return variants, names


def _without_each(fields: Fields, rows: Array, ranks: Array) -> tuple[Array, Array]:
    """Encoded columns as they are, then once without each: ``[1 + C, C]`` and ``[1 + C, K]``."""
    missing_rows, missing_ranks = fields.encode({}, 1)
    n = len(fields.names)
    rows, ranks = np.repeat(rows, 1 + n, axis=0), np.repeat(ranks, 1 + n, axis=0)
    number = 0
    for place, coder in enumerate(fields.coders):
        rows[1 + place, place] = missing_rows[0, place]
        if isinstance(coder, Numeric):
            ranks[1 + place, number] = missing_ranks[0, number]
            number += 1
    return rows, ranks


def _said(fields: Fields, rows: Array) -> list[str | None]:
    """What encoded columns ``[C]`` said: a word, or the bounds of a number; None is missing."""
    found: list[str | None] = []
    coded = zip(fields.coders, fields.offsets, rows.tolist(), strict=True)
    for coder, offset, row in coded:
        place = row - offset
        if not place:
            found.append(None)
        elif isinstance(coder, Numeric):
            edges = ("", *(f"{edge:g}" for edge in coder.edges), "")
            found.append(f"{edges[place - 1]}..{edges[place]}")
        else:
            found.append(coder.words[place - 1])
    return found


def _columns(**arrays: Array) -> Columns:
    tensors = {}
    for name, array in arrays.items():
        kind = np.float32 if name == "numbers" else np.int64
        tensors[name] = torch.from_numpy(np.array(array, dtype=kind))
    return Columns(tensors)
