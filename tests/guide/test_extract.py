import gc
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daogou.features.laid import lay_out
from daogou.features.tags import BEGIN, spans_of
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
    windows = list(extract._parts(n_tokens, length))
    for token in range(n_tokens):
        ((start, count),) = [(w[0], w[1]) for w in windows if w[2] <= token < w[3]]
        assert start <= token < start + count <= n_tokens
    assert all(count <= length for _, count, _, _ in windows)


def test_a_long_title_is_cut_in_the_middle_of_what_windows_share() -> None:
    # Windows of four of eight tokens share two: 0123 2345 4567.
    assert list(extract._parts(8, 4)) == [(0, 4, 0, 3), (2, 4, 3, 5), (4, 4, 5, 8)]
    assert list(extract._parts(3, 4)) == [(0, 3, 0, 3)]
    assert list(extract._parts(0, 4)) == [(0, 0, 0, 0)]


def test_a_window_is_read_as_if_it_were_a_title(talkative: Guide) -> None:
    length = talkative.artifact.transform.text.length  # type: ignore[union-attr]
    text = ("港屿宽松苹果绿手提包" * length)[: length + 2]  # each character is a token
    first, second = (talkative.extract(each)["spans"] for each in (text[:length], text[2:]))
    border = extract._parts(length + 2, length)
    own = next(iter(border))[3]
    whole = talkative.extract(text)["spans"]
    expected = [s for s in first if s[0] < own] + [
        [s[0] + 2, s[1] + 2, *s[2:]] for s in second if s[0] + 2 >= own
    ]
    assert len(whole) > 3
    assert [s[:3] for s in whole] == [s[:3] for s in expected]


def test_titles_of_a_batch_are_answered_in_order_as_if_alone(talkative: Guide) -> None:
    """By windows of like length and by several threads; long and empty titles among them."""
    names = talkative.artifact.store.titles["text"].to_pylist()
    texts = [*names[:300], "", "  ", " ".join(names[:20]), "👟", *names[300:340]]
    alone = [talkative.extract(text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "LAID", 64)
        patch.setattr(extract, "_SIZE", 24)
        together = talkative.extract_many(texts, threads=3)
    assert [each["text"] for each in together] == texts
    for one, many in zip(alone, together, strict=True):
        assert [span[:3] for span in many["spans"]] == [span[:3] for span in one["spans"]]
        chances = [[span[3] for span in each["spans"]] for each in (many, one)]
        np.testing.assert_allclose(*chances, atol=1e-5)
        assert [each["value"] for each in many["values"]] == [
            each["value"] for each in one["values"]
        ]
    assert sum(len(each["spans"]) for each in together) > 300
    assert talkative.extract_many([]) == []


def test_the_collector_of_garbage_is_left_as_it_was_found(
    talkative: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    told = extract.told
    monkeypatch.setattr(
        extract, "told", lambda *given: found.append(gc.isenabled()) or told(*given)
    )
    assert gc.isenabled()
    talkative.extract_many(["red boot", 7])
    assert gc.isenabled()
    with extract.uncollected(), pytest.raises(ZeroDivisionError), extract.uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()
    with extract.uncollected():
        talkative.extract("red boot")
        assert not gc.isenabled()
    assert found == [False, False]


def test_of_two_spans_of_one_attribute_that_meet_the_earlier_stays(guide: Guide) -> None:
    """Two windows that disagree where they meet: on tokens 1 and 2, and on 2 and 3."""
    laid = lay_out(["a b c d"])
    windows = extract._Windows(*(np.array(each) for each in ([0, 0], [0, 0], [4, 4])),
                               np.array([[0, 2], [2, 4]]))  # fmt: skip
    tokens = ([0, 1, 1], [0, 0, 1], [1, 2, 2], [3, 4, 4])  # window, attribute, first, after
    said = extract._Said(*map(np.array, tokens), np.full(3, 0.5, dtype=np.float32))
    found = [extract.Reading([], {})]
    extract._tell_spans(guide.artifact, laid, windows, said, found)
    names = guide.artifact.transform.attributes
    assert sorted(span[:3] for span in found[0].spans) == sorted(
        [(2, 5, names[0]), (4, 7, names[1])]
    )


def test_an_attribute_that_no_span_names_has_its_likeliest_class(guide: Guide) -> None:
    """Class and chance are those that evaluation sees; half a chance is needed to say it."""
    store, values = guide.artifact.store, guide.artifact.transform.values
    rows = np.arange(len(store["titles/text"]))
    offline = predict.title_values(guide.artifact.model, store, rows)
    texts = store.titles["text"].to_pylist()
    online = [reading.classes for reading in extract.read(guide.artifact, texts)]
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
