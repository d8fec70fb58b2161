import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.features.text import BEGIN, spans_of
from daogou.features.tokens import tokenise
from daogou.guide import Guide, extract
from daogou.model import predict


@pytest.fixture
def talkative(guide: Guide) -> Iterator[Guide]:
    """The guide of a head that sees a value in every other token: one epoch taught few."""
    head: Any = guide.artifact.model.heads["extract"]
    kept = head.bias.detach().clone()
    head.bias.data[:, BEGIN] += 3.5
    yield guide
    head.bias.data.copy_(kept)


def test_a_title_reads_as_it_does_offline(talkative: Guide) -> None:
    store, attributes = talkative.artifact.store, talkative.artifact.transform.attributes
    rows = np.arange(len(store["titles/text"]))
    n_spans = 0
    for piece, tags, sure in predict.title_tags(talkative.artifact.model, store, rows):
        for at, row in enumerate(piece):
            title = talkative.catalogue.name(int(store["titles/item"][row]))
            tokens = tokenise(title)
            if len(tokens) > tags.shape[-1]:
                continue  # offline it is cut, here it is read in windows
            expected = spans_of(title, tokens, tags[at], attributes, sure[at])
            found = talkative.extract(title)["spans"]
            n_spans += len(found)
            assert [span[:3] for span in found] == [list(span[:3]) for span in expected]
            np.testing.assert_allclose(
                [span[3] for span in found], [span[3] for span in expected], atol=1e-5
            )
    assert n_spans > 50


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_any_text_is_answered_with_spans_inside_it(guide: Guide, text: str) -> None:
    answer = guide.extract(text)
    assert answer["text"] == text
    ends: dict[str, int] = {}
    for start, end, attribute, confidence in answer["spans"]:
        assert 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert 0 <= confidence <= 1 + 1e-6
        assert start >= ends.get(attribute, 0), "spans of one attribute do not overlap"
        ends[attribute] = end


@pytest.mark.parametrize("text", ["", "   ", "👟" * 50, "\ud83d half", "a" * 10_000, "\x00"])
def test_odd_texts_are_ordinary(guide: Guide, text: str) -> None:
    assert guide.extract(text)["text"] == text


def test_ten_thousand_characters_take_moments(talkative: Guide) -> None:
    text = ("港屿 宽松 苹果绿 👟 手提包 red wool boot, " * 400)[:10_000]
    started = time.perf_counter()
    spans = talkative.extract(text)["spans"]
    assert time.perf_counter() - started < 10
    assert max(span[1] for span in spans) > 9_000, "the end of a long text is read too"


@given(st.integers(1, 120), st.integers(1, 40))
def test_every_token_belongs_to_exactly_one_window(n_tokens: int, length: int) -> None:
    tokens = tokenise(" ".join("x" * n_tokens))
    windows = list(extract._windows(0, tokens, length))
    owners = [
        [i for i, w in enumerate(windows) if w.own[0] <= token.start < w.own[1]] for token in tokens
    ]
    assert all(len(owner) == 1 for owner in owners)
    for token, (owner,) in zip(tokens, owners, strict=True):
        assert token in windows[owner].tokens
    assert all(len(window.tokens) <= length for window in windows)


def test_a_long_title_is_cut_in_the_middle_of_what_windows_share() -> None:
    tokens = tokenise(" ".join("abcdefgh"))  # token i starts at 2 i
    windows = list(extract._windows(0, tokens, 4))  # they share two tokens
    assert [[token.text for token in w.tokens] for w in windows] == [
        list("abcd"), list("cdef"), list("efgh"),
    ]  # fmt: skip
    assert [w.own for w in windows] == [(0, 6), (6, 10), (10, 15)]


def test_of_two_spans_of_one_attribute_that_meet_the_earlier_stays() -> None:
    spans = [(4, 9, "colour", 0.9), (0, 5, "colour", 0.5), (3, 6, "size", 0.7)]
    assert extract._apart(spans) == [(0, 5, "colour", 0.5), (3, 6, "size", 0.7)]


def test_an_attribute_that_no_span_names_has_its_likeliest_class(guide: Guide) -> None:
    """Class and chance are those that evaluation sees; half a chance is needed to say it."""
    store, values = guide.artifact.store, guide.artifact.transform.values
    rows = np.arange(len(store["titles/text"]))
    offline = predict.title_values(guide.artifact.model, store, rows)
    texts = store.titles["text"].to_pylist()
    online = extract.classes(guide.artifact, texts)
    assert values.names
    for place, name in enumerate(values.names):
        words = guide.artifact.transform.classes(name)
        for row in rows.tolist():
            word, chance = online[row][name]
            assert word == words[int(offline[place][row].argmax())]
            assert chance == pytest.approx(offline[place][row].max(), abs=1e-5)
    for text, likeliest in zip(texts, online, strict=True):
        answer = guide.extract(text)
        spans = {span[2] for span in answer["spans"]}
        said = {
            each["attribute"]: each for each in answer["values"] if each["from"] == "classifier"
        }
        wanted = {name for name, (_, chance) in likeliest.items() if chance >= 0.5} - spans
        assert said.keys() == wanted
        assert all(said[name]["value"] == likeliest[name][0] for name in wanted)
    assert guide.extract("")["values"] == []
