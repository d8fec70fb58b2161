"""Rows of tables to what they stand for, so that tables of two shops are matched by value."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from daogou.features.laid import N_SHAPES
from daogou.features.text import CHANNELS, LISTED, TextVocab
from daogou.features.transform.fields import Fields
from daogou.features.vocab import Vocab

Labels = Sequence[Hashable]
NOTHING = -1  # where a label is not among others


def vocab_labels(vocab: Vocab) -> list[Hashable]:
    """What each row of a vocabulary's table stands for, ``[n_rows]``; None is the unknown one."""
    return [None, *vocab.words]


def fields_labels(fields: Fields) -> list[Hashable]:
    """What each row of the columns' one table stands for: the column, and its value or bucket.

    None is the row of an unknown value, or of a missing number. Buckets have numbers: they mean
    the same in two shops only where both read the column by the same quantiles.
    """
    found: list[Hashable] = []
    for name, coder in fields.pairs:
        rows = coder.words if isinstance(coder, Vocab) else range(1, coder.n_rows)
        found += [(name, None), *((name, row) for row in rows)]
    return found


def text_labels(text: TextVocab) -> list[Hashable]:
    """What each row of the words' table stands for: a channel of a token and its value."""
    return [("padding",), ("unknown",), *_channels(text)]


def _channels(text: TextVocab) -> Iterator[Hashable]:
    yield from ((CHANNELS[0], word) for word in text.words)
    for channels, codes in ((CHANNELS[1:3], text.pairs), (CHANNELS[3:5], text.affixes)):
        for channel in channels:
            yield from ((channel, code) for code in codes)
    yield from ((CHANNELS[5], number) for number in range(N_SHAPES))
    n_codes = text.gazetteer.n_rows // max(len(text.gazetteer.names), 1)
    for name in text.gazetteer.names:
        yield from ((CHANNELS[LISTED], name, code) for code in range(n_codes))


def places(of: Labels, among: Labels) -> NDArray[np.int64]:
    """Where each label of ``of`` is ``among`` others, `NOTHING` where it is not.

    >>> places(["a", "b"], ["c", "b"]).tolist()
    [-1, 1]
    """
    known = {label: place for place, label in enumerate(among)}
    return np.array([known.get(label, NOTHING) for label in of], dtype=np.int64)
