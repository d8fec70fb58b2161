"""Two fitted transforms to one: a shop's own, and what a source's training knew beside it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError
from daogou.features.labels import NOTHING, fields_labels, places, text_labels, vocab_labels
from daogou.features.numeric import Numeric
from daogou.features.store import NO_SPLIT, Store
from daogou.features.store.writer import rewrite_store
from daogou.features.text import CHANNELS, PADDING, UNKNOWN, TextVocab
from daogou.features.transform import SETTLED, Transform
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab, fit_vocab, union

Array = NDArray[Any]
DOMAIN: Final = "@domain"  # no column of a shop begins so
SOURCE: Final = "source"  # the domain's one value: what is not said to be of the source is of ours
_MIDDLE: Final = 0.5  # the rank of a missing number


def merge(
    source: Transform,
    own: Transform,
    *,
    items: Collection[str] | None = None,
    users: Collection[str] | None = None,
) -> Transform:
    """The own transform with the source's values of everything that both have.

    Ids, categories and words are matched by what they say; those that the source alone has seen in
    training are known too, with how often. A number that both have is read by the source's
    quantiles, so that a value means what it meant there. Of the source's ids those ``items`` and
    ``users`` are taken, None = all. What is predicted (profiles, attributes) is the own.
    """
    return replace(
        own,
        item_ids=_both(source.item_ids, own.item_ids, items),
        user_ids=_both(source.user_ids, own.user_ids, users),
        items=_fields(source.items, own.items),
        users=_fields(source.users, own.users),
        context=_fields(source.context, own.context),
        text=_text(source.text, own.text),
    )


def with_domain(transform: Transform) -> Transform:
    """The transform with a context column that says which exposures are the source's.

    The shop's own are of the unknown domain, row 0: a served request, which says nothing, is too.
    A transform that has a domain keeps it.
    """
    if transform.domain is not None:
        return transform
    context = transform.context
    coder = Vocab((SOURCE,), (1,))
    both = Fields((*context.names, DOMAIN), (*context.coders, coder))
    return replace(transform, context=both, domain=DOMAIN)


def _both(source: Vocab, own: Vocab, kept: Collection[str] | None = None) -> Vocab:
    if kept is not None:
        known = {*own.words, *kept}
        pairs = zip(source.words, source.counts, strict=True)
        source = fit_vocab({word: count for word, count in pairs if word in known})
    return union([own, source])


def _fields(source: Fields, own: Fields) -> Fields:
    before = dict(source.pairs)
    return Fields(
        own.names,
        tuple(_coder(before.get(name), coder) for name, coder in own.pairs),
    )


def _coder(source: Vocab | Numeric | None, own: Vocab | Numeric) -> Vocab | Numeric:
    if isinstance(source, Vocab) and isinstance(own, Vocab):
        return _both(source, own)
    return source if isinstance(source, Numeric) and isinstance(own, Numeric) else own


def _text(source: TextVocab | None, own: TextVocab | None) -> TextVocab | None:
    if source is None or own is None:
        return own
    return own.of_words(dict.fromkeys([*own.words, *source.words]), [source])


# ---- a shop's transform, a while later -------------------------------------------------------

_INPUTS: Final = ("items", "users", "context", "profile", "many", "traits")


def grow(before: Transform, now: Transform) -> Transform:
    """The transform of a shop as it was ``before``, with what it has ``now`` beside that.

    New ids, values and words get rows after the old ones, which keep theirs; how often each was
    seen is what ``now`` says. Quantiles, scales and the length of titles stay, so that an old
    weight means what it meant; lists of values in titles are those of now. Raises `ConfigError`,
    with their names, where columns, kinds, stages or attributes are not the same.
    """
    changed = list(_changes(before, now))
    if changed:
        raise ConfigError(
            "\n".join(f"{each}; go on with what the run has, or fit anew" for each in changed)
        )
    fields = {kind: _grown(getattr(before, kind), getattr(now, kind)) for kind in _INPUTS}
    classes = _grown(before.values, now.values, names=now.values.names)
    return replace(
        before,
        item_ids=_longer(before.item_ids, now.item_ids),
        user_ids=_longer(before.user_ids, now.user_ids),
        text=_read_on(before.text, now.text),
        **cast(Any, fields | {"values": classes}),
    )


def _changes(before: Transform, now: Transform) -> Iterator[str]:
    for kind in _INPUTS:
        old, new = (dict(each.pairs) for each in (getattr(before, kind), getattr(now, kind)))
        where = "events.context" if kind == "context" else kind
        yield from (f"{where}: {name!r} is gone" for name in old if name not in new)
        yield from (f"{where}: {name!r} is new" for name in new if name not in old)
        yield from (
            f"{where}: {name!r} was {_KIND[type(old[name])]} and is {_KIND[type(new[name])]}"
            for name in old
            if name in new and type(old[name]) is not type(new[name])
        )
    for kind in SETTLED:
        one, other = getattr(before, kind), getattr(now, kind)
        if one != other:
            yield f"{kind.replace('_', ' ')}: were {one!r} and are {other!r}"
    if (before.value is None) != (now.value is None):
        yield "events.value: is " + ("new" if before.value is None else "gone")
    one, other = (None if t.text is None else t.text.subwords for t in (before, now))
    if (one and one.to_json()) != (other and other.to_json()):
        yield "text.encoder: is another"


_KIND: Final[Mapping[type, str]] = {Vocab: "a category", Numeric: "a number"}


def _grown(before: Fields, now: Fields, names: tuple[str, ...] | None = None) -> Fields:
    old, new = (dict(each.pairs) for each in (before, now))
    names = before.names if names is None else names
    coders: list[Vocab | Numeric] = []
    for name in names:
        one, other = old.get(name), new[name]
        both = isinstance(one, Vocab) and isinstance(other, Vocab)
        coders.append(_longer(one, other) if both else one or other)  # type: ignore[arg-type]
    return Fields(names, tuple(coders))


def _longer(before: Vocab, now: Vocab) -> Vocab:
    counts = dict(zip(now.words, now.counts, strict=True))
    words = tuple(dict.fromkeys([*before.words, *now.words]))
    return Vocab(words, tuple(counts.get(word, 0) for word in words), before.key)


def _read_on(before: TextVocab | None, now: TextVocab | None) -> TextVocab | None:
    if before is None or now is None:
        return now
    both = _text(now, before)
    assert both is not None
    return replace(both, gazetteer=now.gazetteer)


# ---- the source's rows, as a merged transform has them ------------------------------------


def recode_store(store: Store, source: Transform, merged: Transform, folder: Path) -> Store:
    """The exposures of a source's store as ``merged`` encodes them, under ``folder``.

    No table is read again. A column that the source lacks is missing in it. Exposures are of the
    domain `SOURCE`, if ``merged`` has that. Profiles and titles of the source teach nothing here.
    """
    n_users, n_exposures = len(store["users/id"]), len(store["exposures/item"])
    items = _recoded(store, "items", source.items, merged.items)
    users = _recoded(store, "users", source.users, merged.users)
    shown = _recoded(store, "exposures", source.context, merged.context)
    if merged.domain == DOMAIN:
        column = merged.context.names.index(DOMAIN)
        shown["exposures/fields"][:, column] = merged.context.offsets[column] + 1
    actions = places([None, *source.actions], [None, *merged.actions]).clip(min=0)
    many = sum(coder.n_rows - 1 for coder in merged.many.coders)
    arrays: dict[str, Array] = {
        **items,
        **users,
        **shown,
        "items/id": _ids(store["items/id"], source.item_ids, merged.item_ids),
        "users/id": _ids(store["users/id"], source.user_ids, merged.user_ids),
        "items/traits": np.zeros((len(store["items/id"]), len(merged.traits.names)), np.int32),
        "users/split": np.full(n_users, NO_SPLIT, dtype=np.int8),
        "users/profile": np.full((n_users, len(merged.profile.names)), -1, dtype=np.int16),
        "titles/split": np.full(len(store["titles/split"]), NO_SPLIT, dtype=np.int8),
        "texts/tokens": _tokens(store["texts/tokens"], source.text, merged.text),
        "history/action": actions[store["history/action"]].astype(np.int8),
        "exposures/labels": _columns(
            store["exposures/labels"], source.stages, merged.stages, missing=-1
        ),
    }
    if many:
        arrays["users/many"] = np.full((n_users, many), -1, dtype=np.int8)
    if merged.value is not None:
        nothing = np.full(n_exposures, np.nan, dtype=np.float32)
        arrays["exposures/value"] = store.arrays.get("exposures/value", nothing)
    return rewrite_store(store, folder, {name: [each] for name, each in arrays.items()})


def _recoded(store: Store, kind: str, source: Fields, merged: Fields) -> dict[str, Array]:
    """``fields`` and ``numbers`` of a table, each value under its new number."""
    lut = places(fields_labels(source), fields_labels(merged))
    rows = np.asarray(store[f"{kind}/fields"])
    found = np.empty((len(rows), len(merged.names)), dtype=np.int32)
    both = dict(source.pairs)
    for place, (name, coder, offset) in enumerate(
        zip(merged.names, merged.coders, merged.offsets, strict=True)
    ):
        found[:, place] = offset  # the row of what is not known
        if type(both.get(name)) is type(coder):
            new = lut[rows[:, source.names.index(name)]]
            found[:, place] = np.where(new == NOTHING, offset, new)
    numbers = _columns(
        store[f"{kind}/numbers"], _numbers(source), _numbers(merged), missing=_MIDDLE
    )
    return {f"{kind}/fields": found, f"{kind}/numbers": numbers}


def _numbers(fields: Fields) -> list[str]:
    return [name for name, coder in fields.pairs if isinstance(coder, Numeric)]


def _columns(
    values: Array, names: Collection[str], wanted: Collection[str], *, missing: float
) -> Array:
    """The columns of ``values [n, C]`` that are wanted, by name."""
    at = {name: place for place, name in enumerate(names)}
    found = np.full((len(values), len(wanted)), missing, dtype=values.dtype)
    for place, name in enumerate(wanted):
        if name in at:
            found[:, place] = values[:, at[name]]
    return found


def _ids(ids: Array, source: Vocab, merged: Vocab) -> Array:
    lut = places(vocab_labels(source), vocab_labels(merged)).clip(min=0)
    return lut[ids].astype(np.int32)


def _tokens(tokens: Array, source: TextVocab | None, merged: TextVocab | None) -> Array:
    if source is None or merged is None:
        return np.zeros((len(tokens), 1, merged.n_channels if merged else 1), dtype=np.int32)
    lut = places(text_labels(source), text_labels(merged))
    n = len(CHANNELS)
    found = np.zeros((*tokens.shape[:2], merged.n_channels), dtype=np.int32)
    found[..., :n] = lut[tokens[..., :n]].clip(min=PADDING)
    lost = (tokens[..., 0] != PADDING) & (found[..., 0] == PADDING)
    found[..., 0][lost] = UNKNOWN
    if found.shape[2] > n and tokens.shape[2] == found.shape[2]:
        found[..., n:] = tokens[..., n:]
    return found


def shared(source: Transform, own: Transform) -> Mapping[str, tuple[int, int]]:
    """How many of the own ids and words the source knows too, and of how many, by kind."""
    pairs: dict[str, tuple[Collection[str], Collection[str]]] = {
        "items": (source.item_ids.words, own.item_ids.words),
        "users": (source.user_ids.words, own.user_ids.words),
    }
    if source.text and own.text:
        pairs["words"] = (source.text.words, own.text.words)
    return {kind: (len({*one} & {*other}), len(other)) for kind, (one, other) in pairs.items()}
