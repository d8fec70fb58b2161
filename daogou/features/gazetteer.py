"""Values that training titles and the catalogue taught to what a title's tokens match."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from daogou.features.tokens import Span, title_hash, tokenise

MATCHES: Final = 3  # lists that one token may match
PLACES: Final = 4  # inside, first, last, whole
TRUSTS: Final = 5  # catalogue only, seldom, often, nearly always in few titles, in several
N_CODES: Final = PLACES * TRUSTS
_SEVERAL: Final = 3  # titles in which a value was gold
_MANY: Final = 8  # titles beyond which one more or less says nothing
_LONGEST: Final = 12  # tokens of a value


class Entry(NamedTuple):
    """What is known of a value on one list."""

    hits: int = 0  # titles in which it was gold
    misses: int = 0  # titles, annotated for the list's attribute, in which it was not
    catalogue: int = -1  # -1 not in the catalogue, else hash of the one title with it, 0 several
    of_hits: tuple[int, ...] = ()  # hashes of the titles, none if there are many
    of_misses: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """Of the training titles in which it stood, the share in which it was meant."""
        return self.hits / max(self.hits + self.misses, 1)

    def trust(self, title: int) -> int:
        """How far to trust a match in the title of this hash, 0 to 4; -1 not at all.

        What that title itself taught does not count.
        """
        hits = self.hits - (title in self.of_hits)
        misses = self.misses - (title in self.of_misses)
        if not hits:
            return 0 if self.catalogue >= 0 and self.catalogue != title else -1
        if hits < 9 * misses:
            return 2 if hits >= misses else 1
        return 4 if hits >= _SEVERAL else 3


@dataclass(frozen=True)
class Gazetteer:
    """Lists of values: one for each attribute, and for other columns. Made by `fit_gazetteer`.

    A token may match `MATCHES` lists. A match is a number from 1 on: of a list, of the token's
    place in the value, and of how far the list's word is to be trusted, by the training titles in
    which the value was and was not gold. A training title is matched as if it had never been
    read: a match that repeats the gold would teach to trust every list.
    """

    names: tuple[str, ...] = ()  # of the lists; attributes first
    values: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)  # by list, then value

    @property
    def n_rows(self) -> int:
        """How many matches there are."""
        return len(self.names) * N_CODES

    @cached_property
    def _trie(self) -> dict[str, Any]:
        """Nested dicts, token by token; at the key "" the lists that hold the value."""
        root: dict[str, Any] = {}
        for number, name in enumerate(self.names):
            for value, entry in self.values.get(name, {}).items():
                node = root
                for word in value.split(" "):
                    node = node.setdefault(word, {})
                node.setdefault("", []).append((number, entry))
        return root

    def matches(self, words: Sequence[str], title: int) -> list[list[int]]:
        """For each word of a title at most `MATCHES` matches, the most trusted first.

        On one list the longest value wins where two overlap, and of equals the first.
        """
        found: list[tuple[int, int, int, int]] = []  # -length, start, list, trust
        for start, word in enumerate(words):
            node = self._trie.get(word)
            after = start + 1
            while node is not None:
                for number, entry in node.get("", ()):
                    trust = entry.trust(title)
                    if trust >= 0:
                        found.append((start - after, start, number, trust))
                node = node.get(words[after]) if after < len(words) else None
                after += 1
        if not found:
            return [[]] * len(words)
        here: list[list[tuple[int, int, int]]] = [[] for _ in words]
        taken: set[tuple[int, int]] = set()
        for length, start, number, trust in sorted(found):
            places = range(start, start - length)
            cells = {(place, number) for place in places}
            if cells & taken:
                continue
            taken |= cells
            for place in places:
                kind = (place == start) + 2 * (place == places[-1])
                code = 1 + (number * TRUSTS + trust) * PLACES + kind
                here[place].append((-trust, length, code))
        return [[code for *_, code in sorted(each)[:MATCHES]] for each in here]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs to make an equal gazetteer."""
        return {
            "names": list(self.names),
            "values": {
                name: {value: list(entry) for value, entry in values.items()}
                for name, values in self.values.items()
            },
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Gazetteer":
        """The gazetteer that `to_json` wrote."""
        return Gazetteer(
            tuple(document["names"]),
            {
                name: {
                    value: Entry(entry[0], entry[1], entry[2], tuple(entry[3]), tuple(entry[4]))
                    for value, entry in values.items()
                }
                for name, values in document["values"].items()
            },
        )


class Taught(NamedTuple):
    """A training title with its gold spans and the attributes that were looked for in it."""

    text: str
    spans: Sequence[Span]
    annotated: Collection[str]


def fit_gazetteer(
    gold: Iterable[Taught] = (),
    catalogue: Iterable[tuple[str, str, str]] = (),
    *,
    attributes: Sequence[str] = (),
) -> Gazetteer:
    """Lists of the values in training titles and in a catalogue's (column, value, title).

    All must be free of validation and test. ``attributes`` have the first lists; columns of other
    names have lists of their own. Two titles of one text are one.

    >>> one = Taught("red boot", [(0, 3, "colour")], ["colour"])
    >>> made = fit_gazetteer([one], [("brand", "Red", "red hat")], attributes=["colour"])
    >>> made.names, made.values["colour"]["red"].hits, len(made.matches(["red"], title=1)[0])
    (('colour', 'brand'), 1, 2)
    """
    titles = {title_hash(each.text): each for each in gold}
    hits: dict[tuple[str, str], list[int]] = {}  # (list, value) -> hashes of titles
    for code, title in titles.items():
        pairs = {(name, spelt(title.text[start:end])) for start, end, name in title.spans}
        for pair in sorted(pairs):
            hits.setdefault(pair, []).append(code)
    known: dict[tuple[str, str], int] = {}
    for column, value, text in catalogue:
        pair, code = (column, spelt(value)), title_hash(text)
        known[pair] = code if known.get(pair, code) == code else 0
    pairs = {pair for pair in [*hits, *known] if _can_match(pair[1])}
    others = sorted({name for name, _ in pairs} - set(attributes))
    names = (*attributes, *others)
    values: dict[str, dict[str, Entry]] = {}
    misses = _misses(titles, hits, pairs)
    for name, value in sorted(pairs):
        yes, no = hits.get((name, value), []), misses.get((name, value), [])
        values.setdefault(name, {})[value] = Entry(
            len(yes), len(no), known.get((name, value), -1), _few(yes), _few(no)
        )
    return Gazetteer(names, values)


def _can_match(value: str) -> bool:
    words = value.split(" ")
    return len(words) <= _LONGEST and all(words)


def _few(titles: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(titles)) if len(titles) <= _MANY else ()


def _misses(
    titles: Mapping[int, Taught],
    hits: Mapping[tuple[str, str], Sequence[int]],
    pairs: Collection[tuple[str, str]],
) -> dict[tuple[str, str], list[int]]:
    """Titles in which a value stands that its attribute was looked for and is not there."""
    lists: dict[str, list[str]] = {}
    for name, value in sorted(pairs):
        lists.setdefault(value, []).append(name)
    longest = max((len(value.split(" ")) for value in lists), default=0)
    is_gold = {pair: set(codes) for pair, codes in hits.items()}
    found: dict[tuple[str, str], list[int]] = {}
    for code, title in titles.items():
        words = [token.text for token in tokenise(title.text)]
        here = {
            " ".join(words[start:after])
            for start in range(len(words))
            for after in range(start + 1, min(start + longest, len(words)) + 1)
        }
        for value in sorted(here & lists.keys()):
            for name in lists[value]:
                if name in title.annotated and code not in is_gold.get((name, value), ()):
                    found.setdefault((name, value), []).append(code)
    return found


def spelt(value: str) -> str:
    """A value as its tokens, with a space between: what two spellings of it have in common.

    >>> spelt("Ｖ-neck")
    'v - neck'
    """
    return " ".join(token.text for token in tokenise(value))
