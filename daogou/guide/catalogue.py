"""A catalogue's columns to the rows that a filter keeps and the values that a reason names."""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daogou.artifact import Artifact
from daogou.errors import ConfigError, unknown
from daogou.features.vocab import Vocab
from daogou.guide.words import called, is_price

Array = NDArray[Any]
_MOST_VALUES: Final = 50_000  # a column with more is a name, not something products share
_NO: Final = ("", "0", "0.0", "false", "no", "n", "否", "无")
_MOST_KEYS: Final = 20_000  # how many ids are compared to find one like a misspelt one


@dataclass(frozen=True)
class Facet:
    """One column that products share: the values, and which of them each product has."""

    values: tuple[str, ...]
    codes: Array  # [I + 1]: places in ``values``, -1 where missing and for the unknown product

    def value(self, row: int) -> str | None:
        """What a product holds, as text; None where it is missing."""
        code = self.codes[row]
        return None if code < 0 else self.values[code]

    def counts(self, mask: Array) -> Array:
        """How many of the products of bool ``mask [I + 1]`` hold each value, ``[V]``."""
        codes = self.codes[mask]
        return np.bincount(codes[codes >= 0], minlength=len(self.values))


@dataclass(frozen=True)
class Catalogue:
    """What the shop wrote about its products. Made by `fit_catalogue`."""

    keys: list[str]  # by row, row 0 is the unknown one
    rows: Mapping[str, int]
    columns: Mapping[str, pa.Array]  # the product of row r at r - 1
    title: str | None  # the column to call a product by
    shared: Mapping[str, Mapping[str, float]]  # column -> value -> its share of the catalogue
    withdrawn: frozenset[int] = frozenset()  # rows that are known and no longer offered

    @property
    def n_items(self) -> int:
        """Products."""
        return len(self.keys) - 1

    def row(self, item: object) -> int:
        """Row of a product by the shop's own id; 0 where the catalogue lacks it."""
        return self.rows.get(str(item), 0)

    def known_row(self, item: object) -> int:
        """Like `row`, but raises ConfigError for a product that the catalogue lacks."""
        row = self.row(item)
        if not row:
            near = self._like(str(item))
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError(
                f"item: no {str(item)!r} among the {self.n_items} products{hint}; "
                "give the id of a product of the catalogue"
            )
        return row

    def value(self, column: str, row: int) -> Any:
        """What the shop wrote about a product; None for the unknown one."""
        return self.columns[column][row - 1].as_py() if row else None

    @cached_property
    def coded(self) -> Mapping[str, Facet]:
        """The columns that products share, coded once: what is read of many products at a time."""
        return {name: _coded(self.columns[name]) for name in self.shared}

    def name(self, row: int) -> str:
        """What to call a product: its title, or its id where it has none."""
        title = self.value(self.title, row) if self.title else None
        return str(title) if title else self.keys[row]

    @property
    def price_column(self) -> str | None:
        """The column of prices, if there is one that holds numbers."""
        for name in sorted(self.columns, key=lambda name: name != "price"):
            kind = self.columns[name].type
            is_number = any(
                is_kind(kind)
                for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
            )
            if is_price(name) and is_number:
                return name
        return None

    def with_products(
        self, keys: Sequence[str], rows: NDArray[np.int64], columns: Mapping[str, pa.Array]
    ) -> "Catalogue":
        """The catalogue with products ``[n]`` at their rows; those from its end on are added.

        They are offered from now on, if they were withdrawn before.
        """
        known = [*self.keys, *[""] * (max(int(rows.max()) + 1 - len(self.keys), 0))]
        for key, row in zip(keys, rows.tolist(), strict=True):
            known[row] = key
        source = np.arange(len(known) - 1)  # of each row, in the old columns and then the new
        source[rows - 1] = len(self.keys) - 1 + np.arange(len(rows))
        return replace(
            self,
            keys=known,
            rows={**self.rows, **dict(zip(keys, rows.tolist(), strict=True))},
            columns={
                name: pa.concat_arrays([values, columns[name]]).take(pa.array(source))
                for name, values in self.columns.items()
            },
            withdrawn=self.withdrawn - set(rows.tolist()),
        )

    def keep(
        self,
        category: str | None,
        price_max: float | None,
        where: Mapping[str, object] | None,
        *,
        brand: str | None = None,
        price_min: float | None = None,
        in_stock: bool = False,
        exclude: Iterable[object] = (),
    ) -> NDArray[np.bool_] | None:
        """Which rows pass, bool ``[I + 1]`` (the unknown row never does); None without a filter.

        ``category``, ``brand``, the prices and ``in_stock`` ask the column of that name, or else
        the first whose name holds the word. ``where`` maps a column to the value wanted, or to a
        list of them; None is a missing value. In stock is what is not `out_of_stock`. Withdrawn
        products and those whose ids are in ``exclude`` never pass. Raises ConfigError for a column
        that is not there.
        """
        masks: list[Array] = []
        for word, name in (("category", category), ("brand", brand)):
            if name is not None:
                masks.append(self._is_among(self.named(word), [name]))
        if price_max is not None:
            masks.append(self.prices("price_max", np.inf) <= _number("price_max", price_max))
        if price_min is not None:
            masks.append(self.prices("price_min", -np.inf) >= _number("price_min", price_min))
        if in_stock:
            masks.append(~self.out_of_stock(self.named("stock"))[1:])
        for column, wanted in (where or {}).items():
            if column not in self.columns:
                raise ConfigError(f"where.{column}: {unknown(column, self.columns)}")
            if isinstance(wanted, Mapping | bytes):
                raise ConfigError(f"where.{column}: a value or a list is wanted, found {wanted!r}")
            many = isinstance(wanted, Collection) and not isinstance(wanted, str)
            masks.append(self._is_among(column, list(cast(Any, wanted)) if many else [wanted]))
        out = {self.row(item) for item in exclude} | self.withdrawn
        if not masks and not out:
            return None
        kept = np.ones(len(self.keys), dtype=bool)
        kept[1:] = np.logical_and.reduce(masks) if masks else True
        kept[[0, *out]] = False
        return kept

    def out_of_stock(self, column: str) -> NDArray[np.bool_]:
        """Which rows ``[I + 1]`` have none left: 0 or less, false, no; not what is not said."""
        if column not in self._none_left:
            values = self.columns[column]
            if pa.types.is_string(values.type):
                words = pc.utf8_lower(pc.utf8_trim_whitespace(values))
                none = pc.is_in(words, value_set=pa.array(_NO)).to_numpy(zero_copy_only=False)
            else:
                none = as_floats(values) <= 0
            self._none_left[column] = np.concatenate([[False], none])
        return self._none_left[column]

    @cached_property
    def _none_left(self) -> dict[str, NDArray[np.bool_]]:
        """What `out_of_stock` has found."""
        return {}

    def named(self, word: str, wish: str | None = None) -> str:
        """The column that a shopper calls so (`words.called`).

        ConfigError where there is none, which says that ``wish`` wants it, or else the word.
        """
        name = called(word, self.columns)
        if name is None:
            raise ConfigError(f"{wish or word}: {unknown(word, self.columns)}")
        return name

    def _is_among(self, column: str, wanted: list[object]) -> Array:
        values = self.columns[column]
        if pa.types.is_nested(values.type):
            raise ConfigError(f"where.{column}: holds {values.type}, which no single value equals")
        found = np.zeros(len(values), dtype=bool)
        if None in wanted:
            found |= pc.is_null(values).to_numpy(zero_copy_only=False)
        given = [value for value in wanted if value is not None]
        if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
            numbers = [_number(f"where.{column}", value) for value in given]
            return np.asarray(found | np.isin(as_floats(values), numbers))
        wanted_texts = pa.array([spelt(value) for value in given], pa.string())
        among = pc.is_in(pc.cast(values, pa.string()), value_set=wanted_texts)
        return np.asarray(found | among.to_numpy(zero_copy_only=False))

    def prices(self, wish: str, missing: float) -> NDArray[np.float64]:
        """Price of each product, ``[I]``, ``missing`` where there is none; ``wish`` wants it."""
        column = self.named("price", wish)
        values = self.columns[column]
        if pa.types.is_nested(values.type) or pa.types.is_string(values.type):
            raise ConfigError(
                f"{wish}: column {column!r} holds {values.type}, not numbers; "
                "write prices as numbers, or filter with where"
            )
        return np.nan_to_num(as_floats(values), nan=missing)

    def _like(self, item: str) -> str | None:
        known = self.keys[1:]
        if len(known) > _MOST_KEYS:
            known = [key for key in known if key[:2] == item[:2]][:_MOST_KEYS]
        close = difflib.get_close_matches(item, known, n=1)
        return close[0] if close else None


def fit_catalogue(artifact: Artifact) -> Catalogue:
    """Read an artifact's catalogue, and count the values that its products share.

    Those are of the columns that the model reads as words and of the attributes; a price never
    counts as a thing in common.
    """
    store, transform = artifact.store, artifact.transform
    table = store.catalogue
    columns = {
        name: table.column(place).combine_chunks()
        for place, name in enumerate(table.column_names)
        if place
    }
    coded = transform.items.pairs
    words = [name for name, coder in coded if isinstance(coder, Vocab)]
    shared: dict[str, Mapping[str, float]] = {}
    for name in dict.fromkeys([*words, *transform.attributes]):
        if name in columns and not is_price(name):
            shares = _shares(columns[name])
            if shares:
                shared[name] = shares
    title = transform.text_columns[0] if transform.text_columns else None
    return Catalogue(
        store.item_keys, store.item_rows, columns, title if title in columns else None, shared
    )


def _shares(values: pa.Array) -> dict[str, float]:
    """Share of each value; empty where the column is one of names or of lists."""
    if pa.types.is_nested(values.type) or not len(values):
        return {}
    counts = pc.value_counts(pc.cast(values.drop_null(), pa.string()))
    if len(counts) > _MOST_VALUES:
        return {}
    return {
        value: count / len(values)
        for value, count in zip(
            counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True
        )
    }


def _coded(values: pa.Array) -> Facet:
    encoded = pc.cast(values, pa.string()).dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return Facet(tuple(encoded.dictionary.to_pylist()), np.concatenate([[-1], codes]))


def as_floats(values: pa.Array) -> NDArray[np.float64]:
    """A column of numbers, NaN where missing."""
    # An integer too large for a float is rounded: here it is compared, never used as an id.
    floats: NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return floats


def spelt(value: object) -> str:
    """A value as the text that Arrow makes of it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    # Half a surrogate pair is no text that a table could hold, so it may become any other.
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _number(where: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ConfigError(f"{where}: a number is wanted, found {value!r}")
    return number
