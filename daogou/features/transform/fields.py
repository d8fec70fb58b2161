"""The columns of a table as rows and ranks, each by its own code."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daogou.features.numeric import Numeric
from daogou.features.vocab import Vocab
from daogou.tables.engine import name_of


@dataclass(frozen=True)
class Fields:
    """The fitted input columns of one table, in order."""

    names: tuple[str, ...]
    coders: tuple[Vocab | Numeric, ...]

    @property
    def pairs(self) -> list[tuple[str, Vocab | Numeric]]:
        """Each column's name and its code."""
        return list(zip(self.names, self.coders, strict=True))

    @property
    def offsets(self) -> tuple[int, ...]:
        """First row of each column in the one table that all columns of this kind share."""
        sizes = [coder.n_rows for coder in self.coders]
        return tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()

    @property
    def n_rows(self) -> int:
        """Rows of that table."""
        return sum(coder.n_rows for coder in self.coders)

    @property
    def n_numbers(self) -> int:
        """How many of the columns are numbers."""
        return sum(isinstance(coder, Numeric) for coder in self.coders)

    def encode(
        self, columns: Mapping[str, pa.ChunkedArray], n: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Table rows, int32 ``[n, C]``, and ranks of the numbers, float32 ``[n, K]``.

        A column that is not among ``columns`` is encoded as missing: serving may know less.
        """
        rows = np.zeros((n, len(self.names)), dtype=np.int32)
        ranks: list[NDArray[np.float32]] = []
        pieces = zip(self.names, self.coders, self.offsets, strict=True)
        for j, (name, coder, offset) in enumerate(pieces):
            column = columns.get(name)
            if isinstance(coder, Vocab):
                coded = coder.encode(column) if column is not None else 0
            else:
                numbers = as_numbers(column) if column is not None else np.full(n, np.nan)
                coded = coder.bucket(numbers)
                ranks.append(coder.rank(numbers))
            rows[:, j] = coded + offset
        return rows, np.stack(ranks, axis=1) if ranks else np.zeros((n, 0), dtype=np.float32)

    def kept(self, names: Collection[str]) -> "Fields":
        """Those of the columns that are among ``names``, which is what a table may lack."""
        found = {name: coder for name, coder in self.pairs if name in names}
        return Fields(tuple(found), tuple(found.values()))

    def select(self, relation: str, prefix: str = "") -> str:
        """SQL that yields these columns of ``relation``, text as text and numbers as DOUBLE."""
        return ", ".join(
            f"TRY_CAST({relation}.{name_of(prefix + name)} AS "
            f"{'VARCHAR' if isinstance(coder, Vocab) else 'DOUBLE'}) AS {name_of(prefix + name)}"
            for name, coder in self.pairs
        )

    def to_json(self) -> list[dict[str, Any]]:
        """A document from which `from_json` makes equal fields."""
        return [
            {"name": name, "kind": type(coder).__name__.lower(), **coder.to_json()}
            for name, coder in self.pairs
        ]

    @staticmethod
    def from_json(document: list[dict[str, Any]]) -> "Fields":
        """The fields of a document made by `to_json`."""
        makers: Mapping[str, Callable[[Mapping[str, Any]], Vocab | Numeric]]
        makers = {"vocab": Vocab.from_json, "numeric": Numeric.from_json}
        return Fields(
            tuple(field["name"] for field in document),
            tuple(makers[field["kind"]](field) for field in document),
        )


NO_FIELDS: Final = Fields((), ())  # of a table that is not there


def as_numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """An Arrow column of numbers as float64, missing as NaN."""
    numbers: NDArray[np.float64] = (
        column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        if (isinstance(column, pa.Array))
        else column.cast(pa.float64()).to_numpy()
    )
    return numbers.astype(np.float64, copy=False)
