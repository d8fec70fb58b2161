"""Titles of any length to the attribute values that stand in them, or that they tell."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.features.gazetteer import unrolled
from daogou.features.laid import Laid, lay_out
from daogou.features.tags import runs_of
from daogou.features.text import PADDING
from daogou.features.vocab import Vocab
from daogou.guide.held import Held
from daogou.guide.values import Vocabulary
from daogou.model.heads.extract import ExtractHead

_MOST_OVERLAP: Final = 16  # tokens that neighbouring windows share
LAID: Final = 2048  # titles laid out at once: most words stand in several of them
_SIZE: Final = 512  # windows that the model reads at once

Span = tuple[int, int, str, float]
Rows = NDArray[np.int64]
_SURE: Final = 0.8  # of a value that a title names, for it to count as the product's
LIKELY: Final = 0.5  # from where on a class that no span names is said


@dataclass(slots=True)
class Reading:
    """What a title says: its spans in order, and the likeliest class of each closed attribute.

    Offsets of spans are code points of the title as given. A class comes with its chance; a title
    without a token tells none.
    """

    spans: list[Span]
    classes: dict[str, tuple[str, float]]


class _Windows(NamedTuple):
    """Tokens of a title that are read together; a span counts if it starts at one of its own."""

    title: Rows  # [W]
    first: Rows  # [W] the window's first token, as the title counts them
    size: Rows  # [W] how many it has
    own: Rows  # [W, 2] the first of its own and the one after the last, as the title counts


class _Said(NamedTuple):
    """Spans as tokens of their window, and how likely all of their tags are."""

    window: Rows
    attribute: Rows
    first: Rows
    after: Rows
    chance: NDArray[np.float32]


def read(artifact: Artifact, titles: Sequence[str], *, threads: int = 1) -> Iterator[Reading]:
    """What each title says, in order.

    The model reads as many tokens at once as it was trained on. A longer title is read in windows
    that overlap by up to half; a value belongs to the window in whose middle it begins. Classes
    are told by the first window. Pieces of many titles are read by several ``threads`` at a time;
    torch should then have one itself (`torch.set_num_threads`), or they wait for each other.
    """
    pieces = [titles[first : first + LAID] for first in range(0, len(titles), LAID)]
    read_one = partial(_read, artifact)
    if threads == 1 or len(pieces) <= 1:  # one title is not worth a thread
        yield from chain.from_iterable(map(read_one, pieces))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from chain.from_iterable(pool.map(read_one, pieces))


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of garbage, for what makes many answers and no cycles.

    It would look through what is kept again and again while answers are made. Who finds it off
    leaves it so, and of several threads the first to end has it back on.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@uncollected()
def _read(artifact: Artifact, titles: Sequence[str]) -> list[Reading]:
    model, vocab = artifact.model, artifact.transform.text
    assert model.text is not None and vocab is not None
    head = cast(ExtractHead, model.heads["extract"])
    laid = lay_out(titles)
    windows = _windows(laid.counts, vocab.length)
    rows = vocab.rows(_through(windows, laid))
    found = [Reading([], {}) for _ in titles]
    said: list[_Said] = []
    # Windows of like length are read together, so that little of what is read is padding.
    order = np.argsort(windows.size, kind="stable")
    for start in range(0, len(order), _SIZE):
        some = order[start : start + _SIZE]
        here = torch.from_numpy(rows[some, : max(windows.size[some[-1]], 1)].astype(np.int64))
        with torch.inference_mode():
            states = model.text.tokens(here)
            tags, sure = head.decode(head(states, here), here[..., 0] != PADDING)
            told = head.values.chances(head.values(states, here)) if head.values else []
        said.append(_said(some, tags.numpy(), sure.numpy()))
        tells = np.flatnonzero((windows.first[some] == 0) & (windows.size[some] > 0))
        readings = [found[title] for title in windows.title[some[tells]].tolist()]
        _tell_classes(artifact, [chances[tells] for chances in told], readings)
    _tell_spans(
        artifact, laid, windows, _Said(*map(np.concatenate, zip(*said, strict=True))), found
    )
    return found


def _windows(counts: Rows, length: int) -> _Windows:
    """The windows of titles of so many tokens; a title without any has an empty one."""
    parts = [
        (title, *part)
        for title, count in enumerate(counts.tolist())
        for part in _parts(count, length)
    ]
    table = np.array(parts, dtype=np.int64)
    return _Windows(table[:, 0], table[:, 1], table[:, 2], table[:, 3:])


def _parts(n: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Of n tokens the windows of ``length``: first token, how many, first own, after the own."""
    overlap = min(_MOST_OVERLAP, length // 2)
    last = max(n - length, 0)
    starts = [*range(0, last, length - overlap), last]
    owned = 0
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        # Two neighbours share their overlap half and half.
        border = n if following is None else (following + start + length) // 2
        yield start, min(length, n - start), owned, border
        owned = border


def _through(windows: _Windows, laid: Laid) -> Laid:
    """What windows show of the texts, each window as a text of its own."""
    before = np.cumsum(laid.counts) - laid.counts
    window, place = unrolled(windows.size)
    tokens = (before[windows.title] + windows.first)[window] + place
    texts = [laid.texts[title] for title in windows.title.tolist()]
    ends = np.cumsum(windows.size) - 1
    for part in np.flatnonzero(windows.size < laid.counts[windows.title]).tolist():
        first, last = tokens[ends[part] - windows.size[part] + 1], tokens[ends[part]]
        texts[part] = texts[part][laid.start[first] : laid.end[last]]
    return laid._replace(
        texts=texts, piece=laid.piece[tokens], text=window, place=place,
        start=laid.start[tokens], end=laid.end[tokens], counts=windows.size,
    )  # fmt: skip


def _said(windows: Rows, tags: Rows, sure: NDArray[np.float32]) -> _Said:
    """The spans that tags ``[W, A, L]`` of these windows say."""
    _, n_attributes, length = tags.shape
    row, first, after = runs_of(tags.reshape(-1, length)).T
    run, place = unrolled(after - first)
    each = sure.reshape(-1, length)[row[run], first[run] + place]
    chance = np.multiply.reduceat(each, np.flatnonzero(place == 0)) if len(each) else each
    return _Said(windows[row // n_attributes], row % n_attributes, first, after, chance)


def _tell_spans(
    artifact: Artifact, laid: Laid, windows: _Windows, said: _Said, found: list[Reading]
) -> None:
    """Put spans into their titles' readings, in order."""
    head = cast(ExtractHead, artifact.model.heads["extract"])
    first = windows.first[said.window] + said.first
    own = windows.own[said.window]
    kept = (own[:, 0] <= first) & (first < own[:, 1])
    window, attribute, first = said.window[kept], said.attribute[kept], first[kept]
    title = windows.title[window]
    token = (np.cumsum(laid.counts) - laid.counts)[title] + first
    start, end = laid.start[token], laid.end[token + (said.after - said.first)[kept] - 1]
    names = artifact.transform.attributes
    alphabetical = np.argsort(np.argsort(names))
    order = np.lexsort((alphabetical[attribute], end, start, title))
    if len(windows.title) > len(found):
        order = order[_apart(title[order], attribute[order], start[order], end[order])]
    chances = head.sure(said.chance[kept][order].tolist())
    named = [names[each] for each in attribute[order].tolist()]
    spans = list(zip(start[order].tolist(), end[order].tolist(), named, chances, strict=True))
    first_of = np.searchsorted(title[order], np.arange(len(found) + 1)).tolist()
    for at, (reading, after) in enumerate(zip(found, first_of[1:], strict=True)):
        reading.spans = spans[first_of[at] : after]


def _apart(title: Rows, attribute: Rows, start: Rows, end: Rows) -> NDArray[np.bool_]:
    """Which spans stay: of two of one attribute that meet at a border of windows the earlier."""
    ends: dict[tuple[int, int], int] = {}
    stays = np.zeros(len(title), dtype=bool)
    columns = (column.tolist() for column in (title, attribute, start, end))
    for place, (at, name, begins, stops) in enumerate(zip(*columns, strict=True)):
        if begins >= ends.get((at, name), 0):
            ends[at, name] = stops
            stays[place] = True
    return stays


def _tell_classes(artifact: Artifact, told: list[Tensor], readings: list[Reading]) -> None:
    """Put the likeliest class of each attribute, by its distributions, into these readings."""
    values = artifact.transform.values
    for name, coder, chances in zip(values.names, values.coders, told, strict=True):
        words, best = cast(Vocab, coder).words, chances.max(-1)
        columns = best.values.tolist(), best.indices.tolist()
        for reading, chance, place in zip(readings, *columns, strict=True):
            reading.classes[name] = words[place], chance


def told(vocabularies: Mapping[str, Vocabulary], text: str, reading: Reading) -> dict[str, Any]:
    """The answer of one title, see `Guide.extract`."""
    values: list[dict[str, Any]] = []
    for start, end, attribute, chance in reading.spans:
        raw = text[start:end]
        normal = vocabularies[attribute].normal(raw)
        sure = chance * (normal.sure if normal.how != "raw" else 1.0)
        values.append(
            {
                "attribute": attribute, "value": normal.value, "confidence": sure,
                "from": "span", "text": raw, "span": [start, end], "how": normal.how,
            }
        )  # fmt: skip
    named = {value["attribute"] for value in values} if reading.classes else ()
    values += [
        {
            "attribute": name, "value": value, "confidence": sure,
            "from": "classifier", "text": None, "span": None, "how": "class",
        }
        for name, (value, sure) in reading.classes.items()
        if name not in named and sure >= LIKELY
    ]  # fmt: skip
    return {"text": text, "spans": [list(span) for span in reading.spans], "values": values}


def answers(held: Held, lines: Sequence[object], *, threads: int = 1) -> list[dict[str, Any]]:
    """The answer of each title, see `Guide.extract_many`."""
    titles = [line for line in lines if isinstance(line, str)]
    readings = read(held.artifact, titles, threads=threads)
    found: list[dict[str, Any]] = []
    for first in range(0, len(lines), LAID):
        with uncollected():
            found += [
                told(held.vocabularies, line, next(readings))
                if isinstance(line, str)
                else {"error": f"text: a text is wanted, found {line!r}"}
                for line in lines[first : first + LAID]
            ]
    return found


def named(held: Held, rows: Sequence[int]) -> dict[tuple[str, int], str]:
    """By attribute and row the values that titles surely name and the catalogue leaves open."""
    catalogue = held.catalogue
    shared = [name for name in held.artifact.transform.attributes if name in catalogue.shared]
    open_in = {row: {name for name in shared if catalogue.value(name, row) is None} for row in rows}
    rows = [row for row in rows if open_in[row]]
    found: dict[tuple[str, int], str] = {}
    titles = [catalogue.name(row) for row in rows]
    for row, answer in zip(rows, answers(held, titles), strict=True):
        for value in sorted(answer["values"], key=lambda value: value["confidence"]):
            if value["attribute"] in open_in[row] and value["confidence"] >= _SURE:
                found[value["attribute"], row] = value["value"]
    return found
