"""What a user says of themselves to what the model reads and ranks: no training, no stored state.

An attribute value is a direction among behaviour states, from where the model puts those who have
nothing to do with it to where it puts those who have. A state is moved along it, and user vector,
chances, matching and profile follow, since all of them read it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.errors import ConfigError, unknown
from daogou.features.queries import teaching_queries
from daogou.guide.catalogue import Catalogue
from daogou.guide.score import Scorer, Shoppers

Array = NDArray[Any]
Value = tuple[str, str]  # column, word
ODDS: Final = 2.0  # of a product that carries a value that was set
_VERBS: Final = ("set", "forbid")
_PRODUCTS: Final = 50  # of which an imagined past is made
_USERS: Final = 512  # whose states stand for a value of a profile
_DUST: Final = 1e-6  # an axis shorter than this points nowhere


@dataclass(frozen=True)
class Edits:
    """What was set and what was forbidden, checked. Made by `read_edits`.

    ``set`` has for each value, of products, of profiles or of both, which products carry it,
    bool ``[I + 1]``; ``forbid`` likewise.
    """

    set: Mapping[Value, Array]
    forbid: Mapping[Value, Array]
    n_rows: int

    @cached_property
    def liked(self) -> Array:
        """Which products carry a value that was set, bool ``[I + 1]``."""
        return self._any(self.set)

    @cached_property
    def barred(self) -> Array:
        """Which products carry a value that was forbidden, bool ``[I + 1]``."""
        return self._any(self.forbid)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of which a value is set."""
        return frozenset(column for column, _ in self.set)

    def _any(self, values: Mapping[Value, Array]) -> Array:
        found = np.zeros(self.n_rows, dtype=bool)
        for carries in values.values():
            found |= carries
        return found

    def wish(self, row: int) -> Value | None:
        """The first value that was set and that a product carries."""
        return next((value for value, carries in self.set.items() if carries[row]), None)

    def said(self, column: str) -> list[str]:
        """The values of a column that were set."""
        return [value for name, value in self.set if name == column]

    def denied(self, column: str) -> list[str]:
        """The values of a column that were forbidden."""
        return [value for name, value in self.forbid if name == column]

    def each(self) -> Iterator[tuple[str, Value, "Edits"]]:
        """The verb and the value of each thing said, and all the others without it."""
        for verb in _VERBS:
            for value in getattr(self, verb):
                left = {name: dict(getattr(self, name)) for name in _VERBS}
                del left[verb][value]
                yield verb, value, Edits(**left, n_rows=self.n_rows)

    @property
    def document(self) -> dict[str, dict[str, list[str]]]:
        """As they were given, in lists."""
        return {
            verb: {column: getter(column) for column in dict.fromkeys(name for name, _ in pairs)}
            for verb, pairs, getter in (
                ("set", self.set, self.said), ("forbid", self.forbid, self.denied)
            )
        }  # fmt: skip


def read_edits(
    scorer: Scorer, catalogue: Catalogue, given: Mapping[str, Any] | None
) -> Edits | None:
    """``{"set": {column: value or list}, "forbid": {...}}``, checked; None where nothing is said.

    A column is one that products share (category, brand, an attribute) or one that profiles
    predict. A product carries a value that its catalogue says or, of an attribute that the
    catalogue leaves open, that its title names. A value that no product carries is no error: there
    is nothing to rank by it. Raises ConfigError for any other column, for a value that a profile's
    column never takes, and for edits that contradict each other.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f'edits: {{"set": ..., "forbid": ...}} is wanted, found {given!r}')
    for verb in given or {}:
        if verb not in _VERBS:
            raise ConfigError(f"edits.{verb}: {unknown(str(verb), _VERBS)}")
    pairs = {verb: _pairs(verb, (given or {}).get(verb)) for verb in _VERBS}
    if not any(pairs.values()):
        return None
    classes = profile_classes(scorer)
    for verb, values in pairs.items():
        for column, value in values:
            where = f"edits.{verb}.{column}"
            if column not in catalogue.shared and column not in classes:
                raise ConfigError(f"{where}: {unknown(column, [*catalogue.shared, *classes])}")
            if column not in catalogue.shared and value not in classes[column]:
                raise ConfigError(f"{where}: {unknown(value, classes[column])}")
    _check_sense(scorer, pairs["set"], pairs["forbid"], classes)
    carried = [
        {value: carriers(scorer, catalogue, value) for value in pairs[verb]} for verb in _VERBS
    ]
    return Edits(carried[0], carried[1], catalogue.n_items + 1)


def profile_classes(scorer: Scorer) -> dict[str, tuple[str, ...]]:
    """The values of each column that the run's profiles predict."""
    artifact = scorer.artifact
    tasks = [task for task in artifact.model.tasks if task.family == "profile"]
    names = [task.name.removeprefix("profile.") for task in tasks]
    return {name: artifact.transform.classes(name) for name in names}


def said_of(edits: Edits, column: str, chances: Mapping[str, float]) -> dict[str, float]:
    """A column's distribution once its user has spoken.

    What is set is certain, what is forbidden has no chance, and the others share what is left.

    >>> edits = Edits({}, {("age", "65+"): np.zeros(1, dtype=bool)}, n_rows=1)
    >>> said_of(edits, "age", {"<30": 0.4, "30-64": 0.1, "65+": 0.5})
    {'<30': 0.8, '30-64': 0.2, '65+': 0.0}
    """
    said, denied = edits.said(column), edits.denied(column)
    if said:
        return {value: float(value in said) for value in chances}
    left = {value: 0.0 if value in denied else chance for value, chance in chances.items()}
    total = sum(left.values())
    if total <= 0:
        return {value: float(value not in denied) / (len(left) - len(denied)) for value in left}
    return {value: chance / total for value, chance in left.items()}


def said_of_list(edits: Edits, column: str, chances: Mapping[str, float]) -> dict[str, float]:
    """Likewise of a column of lists, each of whose values has a chance of its own."""
    said, denied = edits.said(column), edits.denied(column)
    return {
        value: 1.0 if value in said else 0.0 if value in denied else chance
        for value, chance in chances.items()
    }


@dataclass(frozen=True)
class Prototypes:
    """Where values lie among the behaviour states of one run; each is made when first asked for."""

    scorer: Scorer
    n_items: int
    made: dict[tuple[str, str, str], "Axis | None"] = field(default_factory=dict)

    @torch.inference_mode()
    def moved(self, shoppers: Shoppers, edits: Edits, *, likes: bool = True) -> Shoppers:
        """The same users with their states moved: at least to what was set, and off what was not.

        A state that lies beyond where a set value's own lie stays, and so does one that has no
        more of a forbidden value than anybody. Forbidding comes last, so that it holds. Without
        ``likes`` the values of products that were set are left out.
        """
        encoded, columns = shoppers.encoded, shoppers.columns
        h, user = encoded.h, self.scorer.artifact.model.user
        assert h is not None and user is not None
        for value, carries in edits.set.items():
            for axis in (self.of_users(value), self.of_products(value, carries) if likes else None):
                if axis is not None:
                    short = (axis.high - h @ axis.direction).clamp(min=0)
                    h = h + short[:, None] * axis.direction
        for value, carries in edits.forbid.items():
            for axis in (self.of_users(value), self.of_products(value, carries)):
                if axis is not None:
                    over = (h @ axis.direction - axis.low).clamp(min=0)
                    h = h - over[:, None] * axis.direction
        u = user.user(h, columns["id"], columns["fields"], columns["numbers"])
        return replace(shoppers, encoded=replace(encoded, h=h, users=u))

    def of_products(self, value: Value, carries: Array) -> "Axis | None":
        """From one who took any products to one who took those that carry the value."""
        key = ("products", *value)
        if key not in self.made:
            self.made[key] = self._of_products(np.flatnonzero(carries))
        return self.made[key]

    def of_users(self, value: Value) -> "Axis | None":
        """From users whose profile says something else to those whose profile says this.

        They are users whose labels teach, as they were when training ended.
        """
        key = ("users", *value)
        if key not in self.made:
            known = profile_classes(self.scorer).get(value[0], ())
            found = value[1] in known
            self.made[key] = self._of_users(value[0], known.index(value[1])) if found else None
        return self.made[key]

    def _of_products(self, rows: Array) -> "Axis | None":
        model = self.scorer.artifact.model
        if not len(rows) or model.user is None or self.scorer.vectors is None:
            return None
        every = np.arange(1, self.n_items + 1)
        history = torch.from_numpy(np.stack([_spread(each, _PRODUCTS) for each in (every, rows)]))
        action = torch.full_like(history, len(self.scorer.artifact.transform.actions))
        with torch.inference_mode():
            events = model.user.read_history(
                self.scorer.vectors, history, action, torch.zeros_like(history)
            )
            low, high = model.user(events, action)
        return axis_of(low, high)

    def _of_users(self, column: str, place: int) -> "Axis | None":
        store, transform = self.scorer.artifact.store, self.scorer.artifact.transform
        queries = teaching_queries(store)
        if column in transform.many.names:
            first = transform.first_values[transform.many.names.index(column)]
            held = np.asarray(store["users/many"][queries.user, first + place], dtype=np.int64)
        else:
            held = np.asarray(
                store["users/profile"][queries.user, transform.profile.names.index(column)]
            ).astype(np.int64)
            held = np.where(held >= 0, held == place, -1)
        means = []
        for side in (0, 1):
            rows = np.flatnonzero(held == side)
            shoppers = self.scorer.shoppers(queries[rows[:: -(-len(rows) // _USERS) or 1]])
            if not len(rows) or shoppers is None or shoppers.encoded.h is None:
                return None
            means.append(shoppers.encoded.h.mean(0))
        return axis_of(*means)


@dataclass(frozen=True)
class Axis:
    """A direction ``[D]`` of length 1, and where along it two prototypes lie: ``low < high``."""

    direction: Tensor
    low: float
    high: float


def axis_of(low: Tensor, high: Tensor) -> Axis | None:
    """The axis from one state ``[D]`` to another; None where they are the same.

    >>> axis = axis_of(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0]))
    >>> axis.direction.tolist(), axis.low, axis.high
    ([0.0, 1.0], 0.0, 2.0)
    """
    length = float((high - low).norm())
    if length < _DUST:
        return None
    direction = (high - low) / length
    return Axis(direction, float(low @ direction), float(high @ direction))


def lifted(before: Tensor, after: Tensor, liked: Tensor) -> Tensor:
    """Log-odds ``[B]`` that an edit moves only the way it asks for.

    A product that carries what was set (``liked [B]``) never falls, and its odds are `ODDS` times
    what they were; any other one never rises. So no product that carries it is overtaken by one
    that does not.
    """
    up = torch.maximum(before, after) + float(np.log(ODDS))
    return torch.where(liked, up, torch.minimum(before, after))


def _spread(rows: Array, n: int) -> NDArray[np.int64]:
    """``n`` of the rows, evenly spread; of fewer some several times."""
    return np.asarray(rows[np.arange(n) * len(rows) // n], dtype=np.int64)


def _pairs(verb: str, given: object) -> list[Value]:
    """Each column and value once, in the order given."""
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"edits.{verb}: {{column: value}} is wanted, found {given!r}")
    found: list[Value] = []
    for column, values in (given or {}).items():
        many = isinstance(values, Collection) and not isinstance(values, str | bytes | Mapping)
        for value in values if many else [values]:
            if not isinstance(value, str) or not value:
                raise ConfigError(f"edits.{verb}.{column}: a text is wanted, found {value!r}")
            found.append((str(column), value))
    return list(dict.fromkeys(found))


def _check_sense(
    scorer: Scorer,
    said: Sequence[Value],
    denied: Sequence[Value],
    classes: Mapping[str, Sequence[str]],
) -> None:
    for column, value in said:
        if (column, value) in denied:
            raise ConfigError(f"edits: {column} {value!r} is both set and forbidden; drop one")
    lists = scorer.artifact.transform.many.names
    for column, known in classes.items():
        if column in lists:
            continue
        if sum(name == column for name, _ in said) > 1:
            raise ConfigError(f"edits.set.{column}: a user has one value; give one")
        if {value for name, value in denied if name == column} >= set(known):
            raise ConfigError(f"edits.forbid.{column}: leaves no value; forbid fewer")


def carriers(scorer: Scorer, catalogue: Catalogue, value: Value) -> Array:
    """Which products carry a value, bool ``[I + 1]``, see `read_edits`."""
    column, word = value
    found = np.zeros(catalogue.n_items + 1, dtype=bool)
    if column not in catalogue.shared:
        return found
    held = catalogue.columns[column]
    carries = pc.fill_null(pc.equal(pc.cast(held, pa.string()), word), False)
    if catalogue.title and column in scorer.artifact.transform.attributes:
        # As a word of its own; Chinese has no spaces, and no borders between its characters.
        border = r"\b" if word.isascii() else ""
        named = pc.match_substring_regex(
            catalogue.columns[catalogue.title], f"{border}{re.escape(word)}{border}",
            ignore_case=True,
        )  # fmt: skip
        carries = pc.or_(carries, pc.and_(pc.is_null(held), pc.fill_null(named, False)))
    found[1:] = carries.to_numpy(zero_copy_only=False)
    return found
