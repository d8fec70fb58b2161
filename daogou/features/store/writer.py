"""A store's arrays written piece by piece, and stores made of other stores."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from daogou.errors import DataError, remedy_for_writing
from daogou.features.store import Array, Store, open_store
from daogou.features.transform.fields import Fields

KEY: Final = "@key"  # ours, beside columns that a shop names freely


@dataclass(frozen=True)
class Writer:
    """Writes a store's arrays piece by piece, so that none is ever whole in memory, and lists them.

    Written as files and not through a memory map: on a full disk a write to a map kills the
    process, and a map's pages count as the process's own until they are flushed.
    """

    folder: Path
    arrays: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    files: dict[str, BinaryIO] = field(default_factory=dict)

    def append(self, name: str, values: Array) -> None:
        """More rows of the array, which begins with the first of them."""
        if name not in self.files:
            path = self.folder / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[name] = path.open("wb")
            self.arrays[name] = (str(values.dtype), [0, *values.shape[1:]])
            self._head(name)
        dtype, shape = self.arrays[name]
        assert dtype == str(values.dtype) and shape[1:] == list(values.shape[1:])
        self.files[name].write(np.ascontiguousarray(values).data)
        shape[0] += len(values)

    def finish(self) -> None:
        """Say in each file how long its array became; what was written can be read."""
        for name, file in self.files.items():
            file.seek(0)
            self._head(name)
            file.seek(0, os.SEEK_END)
            file.flush()

    def close(self) -> None:
        """Let go of the files; a disk that is full now was full before and has been told of."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()

    def read(self, name: str) -> Array:
        """An array that is finished, mapped."""
        shape = self.arrays[name][1]
        path = self.folder / f"{name}.npy"
        array: Array = np.load(path, mmap_mode="r") if 0 not in shape else np.zeros(shape)
        return array

    def _head(self, name: str) -> None:
        dtype, shape = self.arrays[name]
        # Always as long: the format leaves room for the rows to grow.
        head = {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        write_array_header_1_0(self.files[name], head | {"shape": tuple(shape)})


@contextlib.contextmanager
def written(folder: Path) -> Iterator[Writer]:
    """A writer of a store beside ``folder``, which becomes it when the block ends well."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer = Writer(partial)
    try:
        yield writer
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: writing the store failed ({error.strerror or error}); nothing was kept, "
            f"{remedy_for_writing(error)} or give another folder"
        ) from None
    finally:
        writer.close()
        shutil.rmtree(partial, ignore_errors=True)  # gone already if all went well


def append_fields(
    writer: Writer, kind: str, fields: Fields, columns: Mapping[str, pa.ChunkedArray], n: int
) -> None:
    """``n`` more rows of a kind's columns, as the transform has them."""
    rows, ranks = fields.encode(columns, n)
    writer.append(f"{kind}/fields", rows)
    writer.append(f"{kind}/numbers", ranks)


def named_columns(batch: pa.RecordBatch) -> dict[str, pa.ChunkedArray]:
    """A batch's columns by their names."""
    return {name: batch.column(i) for i, name in enumerate(batch.schema.names)}


def link_store(folder: Path, into: Path) -> None:
    """A store a second time; its files have two names where the disk can: none is written again."""
    shutil.copytree(folder, into, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rewrite_store(store: Store, folder: Path, arrays: Mapping[str, Iterable[Array]]) -> Store:
    """A store under ``folder`` like another, but that some arrays are these, in pieces of rows."""
    with written(folder) as writer:
        link_store(store.folder, writer.folder)
        listed = writer.folder / "store.json"
        document = json.loads(listed.read_text())
        # Away with the second names first: what is written through one is written for both.
        listed.unlink()
        for name, pieces in arrays.items():
            (writer.folder / f"{name}.npy").unlink(missing_ok=True)
            for piece in pieces:
                writer.append(name, piece)
        writer.finish()
        document["arrays"] |= writer.arrays
        listed.write_text(json.dumps(document, indent=1))
    return open_store(folder)
