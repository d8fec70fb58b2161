"""Words to rows: the most frequent first, unseen ones together in row 0."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.features.vocab import UNKNOWN, Vocab, fit_vocab

COUNTS = st.dictionaries(st.text(), st.integers(1, 9), max_size=20)


def test_rows_go_by_count_and_ties_by_the_word() -> None:
    vocab = fit_vocab({"clog": 1, "mule": 2, "boot": 2, "sandal": 7})
    assert vocab.words == ("sandal", "boot", "mule", "clog")
    assert vocab.counts == (7, 2, 2, 1)
    assert vocab.n_rows == 5
    assert vocab.frequencies().tolist() == [0, 7, 2, 2, 1]


def test_a_rare_word_gets_no_row() -> None:
    vocab = fit_vocab({"clog": 1, "boot": 2}, min_count=2)
    assert vocab.encode(["clog", "boot"]).tolist() == [UNKNOWN, 1]


def test_unseen_missing_and_empty_words_are_the_unknown_one() -> None:
    vocab = fit_vocab({"boot": 1})
    assert vocab.encode(["shoe", None, "", "Boot", "boot "]).tolist() == [0, 0, 0, 0, 0]


def test_an_empty_word_that_was_seen_has_a_row_of_its_own() -> None:
    assert fit_vocab({"": 3, "a": 1}).encode(["", None, "a"]).tolist() == [1, 0, 2]


def test_a_vocabulary_of_nothing_knows_nothing() -> None:
    vocab = fit_vocab({})
    assert (vocab.n_rows, vocab.encode(["a", None]).tolist()) == (1, [0, 0])
    assert vocab.encode([]).shape == (0,)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", None, "a"]),
        pa.array(["b", None, "a"], pa.large_string()).cast(pa.string()),
        pa.chunked_array([["b"], [None, "a"]]),
        pa.chunked_array([], pa.string()),
    ],
)
def test_arrow_columns_are_read_as_lists_are(column: pa.Array) -> None:
    rows = fit_vocab({"a": 2, "b": 1}).encode(column)
    assert rows.tolist() == fit_vocab({"a": 2, "b": 1}).encode(column.to_pylist()).tolist()
    assert rows.dtype == np.int32


@given(COUNTS, st.integers(1, 4))
def test_encoding_finds_each_word_where_it_was_put(counts: dict[str, int], least: int) -> None:
    vocab = fit_vocab(counts, min_count=least)
    assert vocab.encode(vocab.words).tolist() == list(range(1, vocab.n_rows))
    assert set(vocab.words) == {word for word, count in counts.items() if count >= least}
    assert dict(zip(vocab.words, vocab.counts, strict=True)).items() <= counts.items()


@given(COUNTS, st.lists(st.none() | st.text(), max_size=20))
def test_decoding_what_was_encoded_gives_known_words_back(
    counts: dict[str, int], words: list[str | None]
) -> None:
    vocab = fit_vocab(counts)
    rows = vocab.encode(words)
    assert all(0 <= row < vocab.n_rows for row in rows)
    back = [None, *vocab.words]
    assert [back[row] for row in rows] == [word if word in counts else None for word in words]


@given(COUNTS)
def test_the_order_in_which_words_are_counted_does_not_matter(counts: dict[str, int]) -> None:
    assert fit_vocab(dict(reversed(counts.items()))) == fit_vocab(counts)


@given(COUNTS)
def test_text_on_disk_gives_an_equal_vocabulary(counts: dict[str, int]) -> None:
    vocab = fit_vocab(counts)
    assert Vocab.from_json(json.loads(json.dumps(vocab.to_json()))) == vocab
