"""Values that were taught, and what the tokens of a title match of them."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daogou.features.gazetteer import (
    MATCHES,
    PLACES,
    TRUSTS,
    Entry,
    Gazetteer,
    Taught,
    fit_gazetteer,
)
from daogou.features.tokens import title_hash, tokenise
from tests.features.test_text import TITLES

CATALOGUE, SELDOM, OFTEN, FEW, SEVERAL = range(TRUSTS)
INSIDE, FIRST, LAST, WHOLE = range(PLACES)


def coded(made: Gazetteer, *titles: str) -> list[list[int]]:
    """The matches of all tokens of some titles, one after another."""
    lines = [[token.text for token in tokenise(title)] for title in titles]
    words = sorted({word for line in lines for word in line})
    tokens = np.array([words.index(word) for line in lines for word in line], dtype=np.int64)
    counts = np.array([len(line) for line in lines], dtype=np.int64)
    codes = np.array([title_hash(title) for title in titles], dtype=np.int64)
    found = made.matches(words, tokens, counts, codes)
    assert found.shape == (len(tokens), MATCHES)
    assert (np.diff((found > 0).astype(int), axis=1) <= 0).all(), "none comes before one"
    return [[code for code in line if code] for line in found.tolist()]


def matched(made: Gazetteer, title: str) -> list[list[tuple[str, int, int]]]:
    """List, trust and place of each token's matches, as words say them."""
    found = []
    for codes in coded(made, title):
        parts = [(*divmod((code - 1) // PLACES, TRUSTS), (code - 1) % PLACES) for code in codes]
        found.append([(made.names[name], trust, place) for name, trust, place in parts])
    return found


def listed(**values: list[str]) -> Gazetteer:
    """A catalogue in which two products have each value."""
    pairs = [(name, value, title) for name, all_ in values.items() for value in all_
             for title in ("one", "two")]  # fmt: skip
    return fit_gazetteer([], pairs)


def test_the_longest_value_of_a_list_is_matched_with_its_ends() -> None:
    made = listed(kind=["Boot", "rain boot"], brand=["Rain & Co"])
    assert made.names == ("brand", "kind")
    kind = ("kind", CATALOGUE)
    assert matched(made, "RAIN boot boot") == [[(*kind, FIRST)], [(*kind, LAST)], [(*kind, WHOLE)]]
    brand = ("brand", CATALOGUE)
    assert matched(made, "Rain & Co rain") == [
        [(*brand, FIRST)], [(*brand, INSIDE)], [(*brand, LAST)], [],
    ]  # fmt: skip
    assert matched(made, "boo") == [[]]


def test_a_word_on_two_lists_matches_both_and_the_more_trusted_comes_first() -> None:
    gold = [Taught(f"apple {i}", [(0, 5, "brand")], ["brand"]) for i in range(3)]
    made = fit_gazetteer(
        gold, [("fruit", "apple", "a"), ("fruit", "apple", "b")], attributes=["fruit", "brand"]
    )
    assert made.names == ("fruit", "brand")
    assert matched(made, "apple")[0] == [("brand", SEVERAL, WHOLE), ("fruit", CATALOGUE, WHOLE)]


def test_trust_is_by_how_often_the_value_was_meant_where_it_stood() -> None:
    # "green" stands in four titles that were read for colours and is a colour in one of them;
    # "tea" was not looked for, so nothing is known against it.
    titles = ["green apron", "green tea", "green tea mug", "green tea pot"]
    gold = [Taught(text, [(0, 5, "colour")] if text == "green apron" else [], ["colour"])
            for text in titles]  # fmt: skip
    gold += [Taught("red tea", [(0, 3, "colour"), (4, 7, "drink")], ["colour", "drink"])]
    made = fit_gazetteer(gold)
    assert made.values["colour"]["green"][:3] == (1, 3, -1)
    assert matched(made, "green lamp")[0] == [("colour", SELDOM, WHOLE)]
    assert matched(made, "tea")[0] == [("drink", FEW, WHOLE)]
    for hits, misses, trust in ((9, 1, SEVERAL), (9, 2, OFTEN), (2, 0, FEW)):
        made = Gazetteer(("kind",), {"kind": {"hat": Entry(hits, misses)}})
        assert matched(made, "hat") == [[("kind", trust, WHOLE)]]


def test_a_training_title_is_matched_as_if_it_had_never_been_read() -> None:
    # Otherwise every such value would be gold where it is learnt, and only there.
    gold = [Taught("Acme boot", [(0, 4, "brand"), (5, 9, "kind")], ["brand", "kind"]),
            Taught("red boot", [(4, 8, "kind")], ["brand", "kind"])]  # fmt: skip
    made = fit_gazetteer(gold)
    kind = [("kind", FEW, WHOLE)]
    assert matched(made, "ACME boot") == [[], kind]
    assert matched(made, "acme hat") == [[("brand", FEW, WHOLE)], []]
    assert matched(made, "red boot") == [[], kind]
    # Nor does a miss count in its own title: without "boot" it was a kind wherever it stood.
    made = fit_gazetteer([*gold, Taught("boot box", [(5, 8, "kind")], ["kind"])])
    assert matched(made, "new boot")[1] == [("kind", OFTEN, WHOLE)]
    assert matched(made, "boot box")[0] == kind
    # A catalogue's word for it is evidence from elsewhere, unless it is this very product's.
    for title, found in (("Acme hat", [("brand", CATALOGUE, WHOLE)]), ("acme boot", [])):
        made = fit_gazetteer(gold, [("brand", "ACME", title)])
        assert matched(made, "Acme boot")[0] == found


def test_of_many_lists_the_most_trusted_are_kept() -> None:
    columns = [f"c{i}" for i in range(MATCHES + 2)]
    pairs = [(name, "mint", title) for name in columns for title in ("one", "two")]
    made = fit_gazetteer([Taught("a mint", [(2, 6, "c4")], ["c4"])], pairs)
    found = matched(made, "mint")[0]
    assert len(found) == MATCHES
    assert found[0] == ("c4", FEW, WHOLE)


def test_of_equally_long_values_that_overlap_the_first_stays_and_makes_room_for_the_third() -> None:
    made = listed(kind=["a b c", "c d e", "e f g", "g h"])
    whole = [[("kind", CATALOGUE, place)] for place in (FIRST, INSIDE, LAST)]
    assert matched(made, "a b c d e f g h") == [*whole, [], *whole, []]
    assert matched(made, "c d e f g h") == [*whole, [], *whole[::2]]


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), WORDS), max_size=12),
    st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=3),
)
def test_all_titles_at_once_match_what_looking_at_every_place_finds(
    values: list[tuple[str, str]], titles: list[str]
) -> None:
    made = listed(**{name: [each for of, each in values if of == name] for name, _ in values})
    expected: list[list[int]] = []
    for title in titles:
        words = title.split()
        places = [
            (start - after, start, number)
            for number, name in enumerate(made.names)
            for start in range(len(words))
            for after in range(start + 1, len(words) + 1)
            if " ".join(words[start:after]) in made.values[name]
        ]
        here: list[list[tuple[int, int]]] = [[] for _ in words]
        taken: set[tuple[int, int]] = set()
        for length, start, number in sorted(places):
            tokens = range(start, start - length)
            if taken.isdisjoint((token, number) for token in tokens):
                taken |= {(token, number) for token in tokens}
                for token in tokens:
                    kind = (token == tokens[0]) + 2 * (token == tokens[-1])
                    here[token].append((length, 1 + number * TRUSTS * PLACES + kind))
        expected += [[code for _, code in sorted(each)[:MATCHES]] for each in here]
    assert coded(made, *titles) == expected


@given(st.lists(TITLES, max_size=5), TITLES)
def test_a_gazetteer_survives_json(texts: list[str], title: str) -> None:
    gold = [Taught(text, [(0, len(text), "kind")], ["kind", "x"]) for text in texts if text]
    made = fit_gazetteer(gold, [("x", text, text) for text in texts], attributes=["kind"])
    again = Gazetteer.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert matched(again, title) == matched(made, title)


def test_an_empty_value_is_on_no_list() -> None:
    assert listed(kind=["", "  "]).n_rows == 0
