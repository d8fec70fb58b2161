"""Titles of any length to the attribute values that stand in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch

from daogou.artifact import Artifact
from daogou.features.text import PADDING, spans_of
from daogou.features.tokens import Token, tokenise
from daogou.features.vocab import Vocab
from daogou.model.heads.extract import ExtractHead

_MOST_OVERLAP: Final = 16  # tokens that neighbouring windows share
_SIZE: Final = 256  # windows read at once

Span = tuple[int, int, str, float]


@dataclass(frozen=True)
class _Window:
    """Some tokens of a title; a span counts if it starts at one of the window's own."""

    title: int
    tokens: list[Token]
    own: tuple[int, int]  # offsets in the title where starts are this window's business


def spans(artifact: Artifact, titles: Sequence[str]) -> list[list[Span]]:
    """Spans of each title, in order of their start, in code points of the text as given.

    The model reads as many tokens at once as it was trained on. A longer title is read in windows
    that overlap by up to half; a value belongs to the window in whose middle it begins.
    """
    model, vocab = artifact.model, artifact.transform.text
    assert model.text is not None and vocab is not None
    head = cast(ExtractHead, model.heads["extract"])
    windows = [
        window
        for title, raw in enumerate(titles)
        for window in _windows(title, tokenise(raw), vocab.length)
    ]
    found: list[list[Span]] = [[] for _ in titles]
    for first in range(0, len(windows), _SIZE):
        some = windows[first : first + _SIZE]
        texts = [titles[w.title][w.tokens[0].start : w.tokens[-1].end] for w in some]
        longest = max(len(w.tokens) for w in some)
        rows = torch.from_numpy(vocab.encode(texts)[:, :longest].astype(np.int64))
        with torch.inference_mode():
            tags, sure = head.decode(head(model.text(rows)[0], rows), rows[..., 0] != PADDING)
        read = [
            (window, span)
            for place, window in enumerate(some)
            for span in spans_of(
                titles[window.title],
                window.tokens,
                tags[place].numpy(),
                artifact.transform.attributes,
                sure[place].numpy(),
            )
            if window.own[0] <= span[0] < window.own[1]
        ]
        chances = head.sure([span[3] for _, span in read])
        for (window, span), chance in zip(read, chances, strict=True):
            found[window.title].append((*span[:3], chance))
    return [_apart(each) for each in found]


def classes(artifact: Artifact, titles: Sequence[str]) -> list[dict[str, tuple[str, float]]]:
    """Of each title the likeliest value of each attribute that is read as classes, and its chance.

    A title is read as far as the model reads at once; one without a token says nothing.
    """
    model, vocab = artifact.model, artifact.transform.text
    assert model.text is not None and vocab is not None
    reader, values = cast(ExtractHead, model.heads["extract"]).values, artifact.transform.values
    found: list[dict[str, tuple[str, float]]] = [{} for _ in titles]
    if reader is None:
        return found
    words = [cast(Vocab, coder).words for coder in values.coders]
    for first in range(0, len(titles), _SIZE):
        rows = torch.from_numpy(vocab.encode(titles[first : first + _SIZE]).astype(np.int64))
        present = rows[..., 0] != PADDING
        with torch.inference_mode():
            made = reader.chances(reader(model.text(rows)[0], rows))
        for name, known, chances in zip(values.names, words, made, strict=True):
            sure, best = chances.max(-1)
            for place in present.any(1).nonzero()[:, 0].tolist():
                found[first + place][name] = known[int(best[place])], float(sure[place])
    return found


def _windows(title: int, tokens: list[Token], length: int) -> Iterator[_Window]:
    if not tokens:
        return
    overlap = min(_MOST_OVERLAP, length // 2)
    last = max(len(tokens) - length, 0)
    starts = [*range(0, last, length - overlap), last]
    owned = 0
    for start, after in zip(starts, [*starts[1:], None], strict=True):
        end = start + length
        # Two neighbours share their overlap half and half.
        border = tokens[(after + end) // 2].start if after is not None else tokens[-1].end
        yield _Window(title, tokens[start:end], (owned, border))
        owned = border


def _apart(found: list[Span]) -> list[Span]:
    """Spans in order; of two of one attribute that meet at a border the earlier stays."""
    kept: list[Span] = []
    ends: dict[str, int] = {}
    for span in sorted(found):
        if span[0] >= ends.get(span[2], 0):
            kept.append(span)
            ends[span[2]] = span[1]
    return kept
