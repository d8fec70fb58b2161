"""Titles to tokens, rows and tags, and back to spans."""

import itertools
import json
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features.gazetteer import Taught, fit_gazetteer
from daogou.features.laid import lay_out
from daogou.features.tags import find_values, spans_of, tags_of
from daogou.features.text import LISTED, PADDING, UNKNOWN, TextVocab, fit_text
from daogou.features.tokens import Token, normalised, tokenise
from daogou.features.tokens import words_of as words_alone

TITLES = st.text(
    st.one_of(
        st.sampled_from("aBc é1２.,'’-/ \u3000\u0301纯棉Ｔ恤カﾊﾟ한½㎡İ\u200b\ud800"),
        st.characters(),
    ),
    max_size=40,
)
WORD, LEFT, RIGHT, PREFIX, SUFFIX, SHAPE = range(LISTED)


def words_of(raw: str) -> list[str]:
    return [token.text for token in tokenise(raw)]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("Men's 纯棉T恤", ["men's", "纯", "棉", "t", "恤"]),
        ("15.6寸250ml", ["15.6", "寸", "250", "ml"]),
        ("1,000 CZ50,128g", ["1", ",", "000", "cz", "50", ",", "128", "g"]),
        ("500.4500", ["500", ".", "4500"]),
        ("Ａ４　紙", ["a", "4", "紙"]),
        ("パンツ ﾊﾟ 바지", ["パ", "ン", "ツ", "ハ", "゚", "바", "지"]),
        ("cafe\u0301 e\u0301s", ["café", "és"]),
        ("rock’n’roll 'tis", ["rock’n’roll", "'", "tis"]),
        ("a-b/c", ["a", "-", "b", "/", "c"]),
        (" \t\n　", []),
        ("", []),
    ],
)
def test_a_title_falls_into_these_tokens(raw: str, words: list[str]) -> None:
    assert words_of(raw) == [normalised(word) for word in words]


@given(TITLES)
def test_tokens_cover_all_but_space_in_order_and_point_into_the_raw_text(raw: str) -> None:
    tokens = tokenise(raw)
    covered = [place for token in tokens for place in range(token.start, token.end)]
    assert covered == [place for place, character in enumerate(raw) if not character.isspace()]
    for token in tokens:
        assert token.start < token.end
        piece = unicodedata.normalize("NFKC", raw[token.start : token.end])
        assert token.text == piece.lower() != ""


def test_a_title_of_ten_thousand_characters_is_read_at_once() -> None:
    raw = "纯棉Tee's 12.5cm，" * 700
    vocab = fit_text([raw], length=64)
    start = time.perf_counter()
    assert len(tokenise(raw)) == 6 * 700
    assert vocab.encode([raw]).shape == (1, 64, vocab.n_channels)
    assert time.perf_counter() - start < 1


def test_frequent_words_have_the_first_rows_and_unseen_ones_share_one() -> None:
    vocab = fit_text(["Red boot", "red hat", "blue boot red"], length=4, min_count=2)
    assert vocab.words == {"red": 2, "boot": 3}
    words = vocab.encode(["RED coat", "", "boot red boot red boot"])[..., WORD]
    assert words.tolist() == [[2, UNKNOWN, 0, 0], [0, 0, 0, 0], [3, 2, 3, 2]]


def test_pairs_seen_often_enough_have_rows_and_others_say_nothing() -> None:
    # Pairs of the titles, "." being the end: (., 红) x3, (红, 裙) x2, (裙, .) x2, (红, 包), (包, .)
    titles = ["红裙", "红裙", "红包"]
    vocab = fit_text(titles, length=4, pair_count=2)
    assert len(vocab.pairs) == 3
    assert len(fit_text(titles, length=4, pair_count=1, n_pairs=1).pairs) == 1
    ids = vocab.encode(["红裙", "红包", "包裙"])
    known = (ids[:, :2] != PADDING).astype(int)
    assert known[..., LEFT].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert known[..., RIGHT].tolist() == [[1, 1], [0, 0], [0, 1]]


def test_affixes_are_of_words_of_four_letters_and_more() -> None:
    vocab = fit_text(["cotton cottage button hat", "2024"], length=4, pair_count=2)
    ids = vocab.encode(["cottons mutton hat 2024"])[0]
    assert (ids[:, PREFIX] != PADDING).tolist() == [True, False, False, False]  # cot-
    assert (ids[:, SUFFIX] != PADDING).tolist() == [False, True, False, False]  # -ton


def test_shape_tells_scripts_lengths_and_capitals_apart() -> None:
    vocab = fit_text(["a"], length=16)
    ids = vocab.encode(["棉 カ 한 boot Boot BOOT bootie bootlegger 12 1234 %"])[0, :, SHAPE]
    assert len(set(ids[:11].tolist())) == 11
    assert vocab.encode(["boot"])[0, 0, SHAPE] == vocab.encode(["clog"])[0, 0, SHAPE]


@given(st.lists(TITLES, max_size=4), st.integers(1, 6) | st.none())
def test_texts_are_laid_out_as_they_are_tokenised(texts: list[str], length: int | None) -> None:
    laid = lay_out(texts, length)
    found = [
        (text, place, Token(start, end, normalised(laid.pieces[piece])))
        for piece, text, place, start, end in zip(
            *(
                column.tolist()
                for column in (laid.piece, laid.text, laid.place, laid.start, laid.end)
            ),
            strict=True,
        )
    ]
    expected = [
        (number, place, token)
        for number, text in enumerate(texts)
        for place, token in enumerate(tokenise(text)[:length])
    ]
    assert found == expected
    assert laid.counts.tolist() == [len(tokenise(text)[:length]) for text in texts]
    assert len(set(laid.pieces)) == len(laid.pieces)
    assert words_alone(" ".join(texts)) == words_of(" ".join(texts))


@given(st.lists(TITLES, max_size=4), st.lists(TITLES, max_size=4), st.integers(1, 6))
def test_rows_of_different_channels_never_meet(
    taught: list[str], read: list[str], length: int
) -> None:
    gold = [Taught(text, [(0, len(text), "kind")], ["kind"]) for text in taught if text]
    lists = fit_gazetteer(gold)
    vocab = fit_text(taught, length=length, min_count=1, pair_count=1, gazetteer=lists)
    ids = vocab.encode([*taught, *read])
    assert ids.dtype == np.int32
    assert ids.shape == (len(taught) + len(read), length, vocab.n_channels)
    assert ids.max(initial=0) < vocab.n_rows
    parts = [*range(LISTED), slice(LISTED, None)]  # lists share their rows
    rows = [set(ids[..., part].ravel().tolist()) - {PADDING} for part in parts]
    assert sum(map(len, rows)) == len(set().union(*rows))
    present = [min(len(tokenise(text)), length) for text in [*taught, *read]]
    assert (ids[..., WORD] != PADDING).sum(axis=1).tolist() == present
    assert (ids[..., SHAPE] != PADDING).sum(axis=1).tolist() == present
    assert not ids[ids[..., WORD] == PADDING].any()


@given(st.lists(TITLES, min_size=1, max_size=5))
def test_a_title_is_encoded_the_same_in_any_company(texts: list[str]) -> None:
    lists = fit_gazetteer([], [("kind", value, title) for value in ("纯棉", "a") for title in "xy"])
    vocab = fit_text(texts, length=8, min_count=1, pair_count=1, gazetteer=lists)
    alone = [vocab.encode([text])[0].tolist() for text in texts]
    assert vocab.encode(texts).tolist() == alone


def test_matches_have_the_last_rows_in_the_order_of_trust() -> None:
    gold = [Taught("red hat", [(0, 3, "colour")], ["colour"])]
    lists = fit_gazetteer(gold, [("brand", "Red", "a"), ("brand", "Red", "b")])
    vocab = fit_text(["x"], length=2, gazetteer=lists)
    assert lists.names == ("brand", "colour")
    assert vocab.n_rows - vocab.first_match == lists.n_rows
    rows = vocab.encode(["red boot"])[0, :, LISTED:]
    before = vocab.first_match - 1
    numbers = (np.array(each) for each in ([0, 1], [2], [1]))
    codes, none = lists.matches(["red", "boot"], *numbers).tolist()
    assert codes[0] > 0 < codes[1] and not any(none)
    assert rows.tolist() == [[before + codes[0], before + codes[1], PADDING], [PADDING] * 3]


@given(st.lists(TITLES, max_size=5))
def test_a_vocabulary_survives_json(texts: list[str]) -> None:
    gold = [Taught(text, [(0, len(text), "kind")], ["kind"]) for text in texts if text]
    lists = fit_gazetteer(gold)
    vocab = fit_text(texts, length=8, min_count=1, pair_count=1, gazetteer=lists)
    again = TextVocab.from_json(json.loads(json.dumps(vocab.to_json())))
    assert again == vocab
    assert list(again.words) == list(vocab.words)
    assert np.array_equal(again.encode(texts), vocab.encode(texts))


def test_a_document_without_its_parts_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no length, pairs; fit again"):
        TextVocab.from_json({"words": [], "affixes": [], "gazetteer": {}})


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"text\.length: 0; give 1 or more"):
        fit_text([], length=0)


def test_spans_become_begin_and_inside_and_what_is_not_annotated_is_masked() -> None:
    raw = "红色 Acme Pro 包"  # tokens: 红 色 Acme Pro 包
    spans = [(3, 11, "brand"), (0, 2, "colour"), (12, 13, "kind")]
    tags = tags_of(tokenise(raw), spans, ["brand", "colour", "kind"], {"brand", "colour"}, 7)
    assert tags.dtype == np.int8
    assert tags.tolist() == [
        [0, 0, 1, 2, 0, -1, -1],
        [1, 2, 0, 0, 0, -1, -1],
        [-1] * 7,
    ]


def test_a_span_that_cuts_a_token_is_widened_and_the_earlier_of_two_keeps_it() -> None:
    tokens = tokenise("woodenshoes red")
    tags = tags_of(tokens, [(0, 4, "material"), (6, 15, "material")], ["material"], ["material"], 2)
    assert tags.tolist() == [[1, 1]]


def test_touching_spans_of_one_attribute_stay_two_and_long_titles_are_cut() -> None:
    tokens = tokenise("红裙红包红帽")
    spans = [(0, 2, "kind"), (2, 4, "kind"), (4, 6, "kind")]
    assert tags_of(tokens, spans, ["kind"], ["kind"], 3).tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("span", [(3, 3, "kind"), (-1, 2, "kind"), (2, 1, "kind")])
def test_a_span_of_nothing_is_refused(span: tuple[int, int, str]) -> None:
    with pytest.raises(DataError, match=r"of 'kind': needs 0 <= start < end"):
        tags_of(tokenise("boot"), [span], ["kind"], ["kind"], 4)


def test_tags_become_spans_with_the_product_of_their_confidences() -> None:
    raw = "Acme  Pro 包 x"
    tags = np.array([[1, 2, 0, 0, 1], [0, 1, 1, -1, 0], [2, 0, 2, 2, 0]])
    sure = np.array([[0.5, 0.5, 1, 1, 1], [1, 0.25, 0.75, 1, 1], [0.5, 1, 0.5, 0.5, 1]])
    found = spans_of(raw, tokenise(raw), tags, ["brand", "kind", "colour"], sure)
    assert found == [  # four tokens: the tag beyond the title is none
        (0, 4, "colour", 0.5),
        (0, 9, "brand", 0.25),
        (6, 9, "kind", 0.25),
        (10, 11, "kind", 0.75),
        (10, 13, "colour", 0.25),
    ]


@given(TITLES, st.data())
def test_spans_on_token_borders_come_back_as_they_were(raw: str, data: st.DataObject) -> None:
    tokens: list[Token] = tokenise(raw)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(tokens)))))
    spans = [
        (tokens[a].start, tokens[b - 1].end, data.draw(st.sampled_from(["x", "y"])))
        for a, b in itertools.pairwise(cuts)
    ]
    tags = tags_of(tokens, spans, ["x", "y"], ["x", "y"], len(tokens) + 1)
    found = spans_of(raw, tokens, tags, ["x", "y"], np.ones(tags.shape))
    assert [span[:3] for span in found] == spans
    assert all(span[3] == 1 for span in found)


def test_known_values_are_found_whole_longest_first_and_once() -> None:
    values = {"colour": ["RED", "dark red"], "kind": "boot", "size": ["4", ""], "brand": []}
    title = "Dark-Red? dark  red red boots Boot 44 4 boot"
    assert [(title[a:b], name) for a, b, name in find_values(title, values)] == [
        ("Red", "colour"),
        ("dark  red", "colour"),
        ("Boot", "kind"),
        ("4", "size"),
    ]


def test_a_shorter_value_inside_a_longer_one_waits_for_its_own_place() -> None:
    found = find_values("红连衣裙 裙", {"kind": ["裙", "连衣裙"]})
    assert found == [(1, 4, "kind"), (5, 6, "kind")]
