"""Values that training titles and the catalogue taught to what a title's tokens match."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daogou.features.tokens import Span, title_hash, tokenise

MATCHES: Final = 3  # lists that one token may match
PLACES: Final = 4  # inside, first, last, whole
TRUSTS: Final = 5  # catalogue only, seldom, often, nearly always in few titles, in several
N_CODES: Final = PLACES * TRUSTS
_SEVERAL: Final = 3  # titles in which a value was gold
_MANY: Final = 8  # titles beyond which one more or less says nothing
_LONGEST: Final = 12  # tokens of a value
_NO_TITLE: Final = -2  # no title's hash


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
    def _walk(self) -> "_Walk":
        return _walk_of(self.names, self.values)

    def matches(
        self,
        words: Sequence[str],
        tokens: NDArray[np.int64],
        counts: NDArray[np.int64],
        titles: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Each token's matches ``[P, MATCHES]``, the most trusted first, 0 for none.

        ``tokens [P]`` are numbers of ``words``, title after title; ``counts [N]`` says how many of
        them each title has, and ``titles [N]`` which title it is, by its hash. On one list the
        longest value wins where two overlap, and of equals the first.

        >>> red = fit_gazetteer([], [("colour", "Red", "a"), ("colour", "Red", "b")])
        >>> red.matches(["red", "hat"], np.array([0, 1]), np.array([2]), np.array([7])).tolist()
        [[4, 0, 0], [0, 0, 0]]
        """
        found = np.zeros((len(tokens), MATCHES), dtype=np.int64)
        walk = self._walk
        owner = np.repeat(np.arange(len(counts)), counts)
        left = np.cumsum(counts)[owner] - np.arange(len(tokens))
        start, length, entry = walk.values_at(words, tokens, left)
        trust = walk.trust(entry, titles, owner[start])
        start, length, entry, trust = (x[trust >= 0] for x in (start, length, entry, trust))
        number = walk.number[entry]
        kept = _longest_first(start, length, number, len(self.names))
        start, length, trust, number = (x[kept] for x in (start, length, trust, number))
        each, place = unrolled(length)
        kind = (place == 0) + 2 * (place == length[each] - 1)
        code = 1 + (number[each] * TRUSTS + trust[each]) * PLACES + kind
        token = start[each] + place
        order = np.lexsort((code, -length[each], -trust[each], token))
        token = token[order]
        rank = np.arange(len(token)) - np.searchsorted(token, token)
        few = rank < MATCHES
        found[token[few], rank[few]] = code[order][few]
        return found

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


class _Walk(NamedTuple):
    """The lists' values as one tree of words, and what is known of each, in arrays.

    Node 0 is the root. ``steps``, ascending, are ``node * n_words + word``, and ``after`` the nodes
    they lead to. A node's entries are those from ``first`` of it to ``first`` of the next.
    """

    words: Mapping[str, int]
    steps: NDArray[np.int64]
    after: NDArray[np.int64]
    first: NDArray[np.int64]
    number: NDArray[np.int64]  # of each entry its list, and so on
    hits: NDArray[np.int64]
    misses: NDArray[np.int64]
    catalogue: NDArray[np.int64]
    of_hits: NDArray[np.int64]  # [E, most], 0 where there is none
    of_misses: NDArray[np.int64]
    trusted: NDArray[np.int64]  # by a title that taught nothing
    taught: NDArray[np.int64]  # hashes of titles that did, ascending

    def values_at(
        self, words: Sequence[str], tokens: NDArray[np.int64], left: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Start, length and entry of every value that stands in the tokens.

        ``left [P]`` is how many tokens a title has from each on.
        """
        known = np.fromiter((self.words.get(word, 0) for word in words), np.int64, len(words))
        word, n_words = known[tokens], len(self.words) + 1
        at, node = np.arange(len(tokens)), np.zeros(len(tokens), dtype=np.int64)
        starts, lengths, entries = ([np.zeros(0, dtype=np.int64)] for _ in range(3))
        length = 0
        while len(at):
            step = node * n_words + word[at + length]
            there = np.searchsorted(self.steps, step).clip(max=max(len(self.steps) - 1, 0))
            goes = self.steps[there] == step if len(self.steps) else np.zeros(len(at), dtype=bool)
            at, node = at[goes], self.after[there[goes]]
            length += 1
            many = self.first[node + 1] - self.first[node]
            each, place = unrolled(many)
            starts.append(at[each])
            lengths.append(np.full(len(each), length))
            entries.append(self.first[node][each] + place)
            more = left[at] > length
            at, node = at[more], node[more]
        return np.concatenate(starts), np.concatenate(lengths), np.concatenate(entries)

    def trust(
        self, entry: NDArray[np.int64], titles: NDArray[np.int64], whose: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How far to trust a match of each entry, 0 to 4; -1 not at all.

        ``whose`` is its title's place in ``titles``, which are hashes. What that title itself
        taught does not count.
        """
        found = self.trusted[entry]
        own = np.flatnonzero(np.isin(titles, self.taught)[whose])
        found[own] = self._trust(entry[own], titles[whose[own]])
        return found

    def _trust(self, entry: NDArray[np.int64], title: NDArray[np.int64]) -> NDArray[np.int64]:
        hits = self.hits[entry] - (self.of_hits[entry] == title[:, None]).any(1)
        misses = self.misses[entry] - (self.of_misses[entry] == title[:, None]).any(1)
        elsewhere = (self.catalogue[entry] >= 0) & (self.catalogue[entry] != title)
        often = np.where(hits >= _SEVERAL, 4, 3)
        seldom = np.where(hits >= misses, 2, 1)
        found = np.where(hits < 9 * misses, seldom, often)
        return np.where(hits > 0, found, elsewhere - 1)


def _walk_of(names: Sequence[str], values: Mapping[str, Mapping[str, Entry]]) -> _Walk:
    words: dict[str, int] = {}
    steps: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, Entry]] = []  # node, list
    for number, name in enumerate(names):
        for value, entry in values.get(name, {}).items():
            node = 0
            for each in value.split(" "):
                word = words.setdefault(each, len(words) + 1)
                node = steps.setdefault((node, word), len(steps) + 1)
            entries.append((node, number, entry))
    entries.sort(key=lambda each: each[:2])
    nothing = np.zeros(0, dtype=np.int64)
    n_words = len(words) + 1
    codes = np.array([node * n_words + word for node, word in steps], dtype=np.int64)
    order = np.argsort(codes)
    nodes = np.array([node for node, _, _ in entries], dtype=np.int64)

    def column(what: Callable[[Entry], int]) -> NDArray[np.int64]:
        return np.array([what(entry) for *_, entry in entries], dtype=np.int64)

    def hashes(what: Callable[[Entry], Sequence[int]]) -> NDArray[np.int64]:
        table = np.zeros((len(entries), _MANY), dtype=np.int64)
        for row, (*_, entry) in enumerate(entries):
            table[row, : len(what(entry))] = what(entry)
        return table

    walk = _Walk(
        words, codes[order], np.array(list(steps.values()), dtype=np.int64)[order],
        np.searchsorted(nodes, np.arange(len(steps) + 2)),
        np.array([number for _, number, _ in entries], dtype=np.int64),
        column(lambda entry: entry.hits), column(lambda entry: entry.misses),
        column(lambda entry: entry.catalogue),
        hashes(lambda entry: entry.of_hits), hashes(lambda entry: entry.of_misses),
        nothing, nothing,
    )  # fmt: skip
    every = np.arange(len(entries))
    heard = (walk.of_hits.ravel(), walk.of_misses.ravel(), walk.catalogue)
    return walk._replace(
        trusted=walk._trust(every, np.full(len(entries), _NO_TITLE)),
        taught=np.unique(np.concatenate(heard)),
    )


def unrolled(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each of so many in a row: whose it is, and its place among those.

    >>> unrolled(np.array([2, 0, 1]))
    (array([0, 0, 2]), array([0, 1, 0]))
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def _longest_first(
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    number: NDArray[np.int64],
    n_lists: int,
) -> NDArray[np.int64]:
    """Which of these matches stay: of two of one list that overlap the longer, then the first."""
    order = np.lexsort((start, -length))
    owner, place = unrolled(length[order])
    first, lists = start[order], number[order]
    cells, cell = np.unique((first[owner] + place) * n_lists + lists[owner], return_inverse=True)
    taken = np.zeros(len(cells), dtype=bool)
    stays = np.zeros(len(order), dtype=bool)
    ends = np.cumsum(length[order])
    for long in np.unique(length)[::-1].tolist():
        where = np.flatnonzero(length[order] == long)
        own = cell[(ends[where] - long)[:, None] + np.arange(long)]  # [W, long]
        while len(where):
            free = ~taken[own].any(1)
            where, own = where[free], own[free]
            claimed = np.full(len(cells), len(order))
            np.minimum.at(claimed, own, where[:, None])  # whoever starts first
            wins = (claimed[own] == where[:, None]).all(1)
            taken[own[wins]] = True
            stays[where[wins]] = True
            where, own = where[~wins], own[~wins]
    return order[stays]


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
    >>> made.names, made.values["colour"]["red"].hits, list(made.values["brand"])
    (('colour', 'brand'), 1, ['red'])
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


def union(gazetteers: Sequence[Gazetteer]) -> Gazetteer:
    """What several shops know of their lists, as one; a title that two of them know counts once.

    A value's titles are told apart while no shop has too many of them to name each.
    """
    names = dict.fromkeys(name for each in gazetteers for name in each.names)
    values: dict[str, dict[str, Entry]] = {}
    for name in names:
        lists = [each.values.get(name, {}) for each in gazetteers]
        for value in sorted({value for one in lists for value in one}):
            found = [one[value] for one in lists if value in one]
            hits, of_hits = _counted([(each.hits, each.of_hits) for each in found])
            misses, of_misses = _counted([(each.misses, each.of_misses) for each in found])
            in_one = {each.catalogue for each in found} - {-1}
            catalogue = -1 if not in_one else (in_one.pop() if len(in_one) == 1 else 0)
            entry = Entry(hits, misses, catalogue, of_hits, of_misses)
            values.setdefault(name, {})[value] = entry
    return Gazetteer(tuple(names), values)


def _counted(found: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[int, tuple[int, ...]]:
    """How many titles several counts of them come to, and which those are if all are named."""
    if any(len(titles) < n for n, titles in found):
        return sum(n for n, _ in found), ()
    titles = sorted({title for _, named in found for title in named})
    return len(titles), _few(titles)


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
