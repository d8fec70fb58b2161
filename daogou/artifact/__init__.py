"""A trained run on disk and back: weights, transform, store and what they were made from.

A run folder holds ``manifest.json`` (written last), ``model.safetensors``, ``transform.json`` and
``store/``. The manifest names every file with its SHA-256 and carries a digest of itself, and has
sample answers that whoever loads the run must get too.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from daogou.artifact.counts import model_of
from daogou.config import make, shop_of
from daogou.errors import ArtifactError, DaogouError, remedy_for_writing, short_of_memory
from daogou.features.returning import Returning
from daogou.features.store import Store, open_store
from daogou.features.transform import Transform
from daogou.model.build import Shape
from daogou.model.joint import JointModel
from daogou.model.samples import differences, sample_answers
from daogou.schema import Shop

FORMAT: Final = "daogou-run-5"

MANIFEST: Final = "manifest.json"

_NEEDED: Final = ("model.safetensors", "transform.json", str(Path("store") / "store.json"))

_LONGEST_MANIFEST: Final = 1 << 26  # bytes

_LONGEST_TRANSFORM: Final = 1 << 32

_LARGEST: Final = 1 << 20  # of the numbers that say how large a model is


@dataclass(frozen=True)
class Artifact:
    """A loaded run."""

    folder: Path
    shop: Shop
    transform: Transform
    store: Store
    model: JointModel  # in evaluation mode
    manifest: Mapping[str, Any]

    @property
    def history_length(self) -> int:
        """How many events of a history the model reads."""
        return int(self.manifest["history_length"])

    @property
    def digest(self) -> str:
        """What tells this run from every other: a hash of its files' hashes."""
        return _digest(dict(self.manifest["files"]))

    @property
    def refit(self) -> bool:
        """Whether the validation rows taught in the end, so that its store has none of them."""
        return bool(self.manifest.get("fit", {}).get("refit"))

    @property
    def returning(self) -> Returning | None:
        """Who buys again soon; None where the histories did not teach it."""
        found = self.manifest.get("returning")
        return None if found is None else Returning.from_json(found)


def save(
    folder: Path,
    *,
    shop: Shop,
    transform: Transform,
    model: JointModel,
    shape: Shape,
    record: Mapping[str, Any],
) -> None:
    """Write a run beside its already compiled ``store/``; the manifest, last, makes it whole."""
    try:
        write_whole(folder / "transform.json", json.dumps(transform.to_json(), ensure_ascii=False))
        partial = folder / "model.safetensors.partial"
        weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
        save_file(weights, partial)
        # safetensors lets the owner alone read; who may read the rest of a run may read this.
        shutil.copymode(folder / "transform.json", partial)
        os.replace(partial, folder / "model.safetensors")
        store, length = open_store(folder / "store"), int(record["history_length"])
        document: dict[str, Any] = {
            "format": FORMAT,
            "root": str(shop.root.resolve()),
            "shop": shop.document,
            "shape": asdict(shape),
            **record,
            "samples": sample_answers(model, store, history_length=length),
            "files": {str(path.relative_to(folder)): sha256(path) for path in _files(folder)},
        }
        document = plain(document)
        document["digest"] = _digest(document)
        write_document(folder / MANIFEST, document)
    except (OSError, SafetensorError) as error:  # the latter is how a full disk shows
        raise ArtifactError(
            f"{folder}: saving the run failed ({error}); the run is not whole, "
            f"{remedy_for_writing(error)} and run `daogou fit --resume` again"
        ) from None


def load(folder: Path | str, *, verify: bool = True) -> Artifact:
    """Load a run; refuses one that is unfinished, altered or from another version, and says why.

    ``verify=False`` skips hashing the files and asking for the sample answers, for a process that
    has just written them. A run from before there were any has none to give.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        files = _check_files(folder, manifest["files"], verify)
        shop = shop_of(manifest["shop"], Path(manifest["root"]))
        transform = Transform.from_json(_read_json(folder / "transform.json", _LONGEST_TRANSFORM))
        store = open_store(folder / "store")
        _check_store(store, transform, files)
        shape = make("shape", Shape, manifest["shape"])
        _check_sizes(shape, manifest["history_length"])
        model = _model(folder, transform, store, shop, shape)
    except DaogouError:
        raise
    except Exception as error:  # a file from elsewhere may be wrong in any way
        if short_of_memory(error):
            raise
        raise ArtifactError(f"{folder}: not a run that this Daogou can read ({error})") from error
    if verify and "samples" in manifest:
        _check_answers(folder, model, store, manifest)
    return Artifact(folder, shop, transform, store, model, manifest)


def _model(
    folder: Path, transform: Transform, store: Store, shop: Shop, shape: Shape
) -> JointModel:
    """The saved model; ArtifactError if its weights are other ones than those of its manifest.

    Nothing is made as large as a manifest says before the file of weights is known to be as large.
    """
    path = folder / "model.safetensors"
    with torch.device("meta"):  # shapes alone
        wanted = model_of(transform, store, shop, shape).state_dict()
    with safe_open(path, framework="pt") as held:
        found = {name: held.get_slice(name).get_shape() for name in held.keys()}  # noqa: SIM118
    for name in sorted(wanted.keys() | found.keys()):
        if name not in wanted or name not in found:
            wrong = f"{name} is {'missing' if name in wanted else 'not of the model'}"
        elif found[name] != list(wanted[name].shape):
            wrong = f"size mismatch for {name}: {found[name]}, not {list(wanted[name].shape)}"
        else:
            continue
        raise ArtifactError(f"{path}: does not fit its manifest: {wrong}")
    weights = load_file(path)
    for name, weight in weights.items():
        if weight.dtype != wanted[name].dtype:
            raise ArtifactError(
                f"{path}: does not fit its manifest: {name} is {weight.dtype}, not "
                f"{wanted[name].dtype}"
            )
        if not torch.isfinite(weight).all():
            raise ArtifactError(f"{path}: {name} holds numbers that are not finite; fit again")
    model = model_of(transform, store, shop, shape)
    model.load_state_dict(weights)
    model.eval()
    return model


def _check_answers(
    folder: Path, model: JointModel, store: Store, manifest: Mapping[str, Any]
) -> None:
    try:
        length = int(manifest["history_length"])
        found = sample_answers(model, store, history_length=length)
        wrong = differences(manifest["samples"], plain(found))
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ArtifactError(f"{folder}: cannot give its sample answers ({error})") from None
    if wrong:
        raise ArtifactError(
            f"{folder}: does not answer as when it was saved: {'; '.join(wrong)}; its files are "
            "not those that were saved, or another release computes otherwise: restore it, or fit "
            "again"
        )


def _check_files(folder: Path, files: Mapping[str, str], verify: bool) -> frozenset[str]:
    """The names of a run's files, each there, in the folder, and as it was saved."""
    lacking = [name for name in _NEEDED if name not in files]
    if lacking:
        raise ArtifactError(f"{folder / MANIFEST}: names no {', '.join(lacking)}; fit again")
    for name, digest in files.items():
        path = folder / name
        if not path.exists():
            raise ArtifactError(f"{path}: missing from the run; copy the whole folder again")
        _check_inside(folder, path)
        if verify and sha256(path) != digest:
            raise ArtifactError(f"{path}: altered since the run was saved; restore it or fit again")
    return frozenset(files)


def _check_inside(folder: Path, path: Path) -> None:
    """Refuse what leads out of a run's folder, and what is no file, which may never end."""
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{path}: no file in the run's own folder, which a run's files are")


def _check_store(store: Store, transform: Transform, files: frozenset[str]) -> None:
    """Refuse arrays that the manifest does not name, and ids that no table has a row for."""
    read = [f"{name}.npy" for name, array in store.arrays.items() if array.size]
    read += [f"keys/{kind}.parquet" for kind in ("items", "users", "titles", "exposures")]
    for name in (Path("store") / each for each in read):
        if str(name) not in files:
            raise ArtifactError(f"{store.folder.parent / name}: not named by the run's manifest")
    sizes = {"items/id": transform.item_ids.n_rows, "users/id": transform.user_ids.n_rows}
    for each, most in sizes.items():
        ids = store[each]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < most:
            raise ArtifactError(f"{store.folder / each}.npy: ids beyond the {most} that there are")


def _check_sizes(shape: Shape, history_length: object) -> None:
    """Refuse numbers so large that making what they say would be all that a machine can do."""
    told = {**asdict(shape), **(shape.mixer_options or {}), "history_length": history_length}
    for name, value in told.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, int) and not 0 <= each <= _LARGEST:
                raise ArtifactError(f"{MANIFEST}: {name} is {each}; {_LARGEST} is the most")


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest, checked against its own digest."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder}: no such run; `daogou fit shop.toml --out {folder}` makes one"
        )
    if not path.exists():
        if (folder / "shop.toml").exists():
            raise ArtifactError(
                f"{folder}: a shop and no run; `daogou fit {folder} --out RUN` makes one"
            )
        raise ArtifactError(
            f"{folder}: no manifest.json, so this run never finished; "
            "`daogou fit --resume` goes on where it stopped"
        )
    _check_inside(folder, path)
    try:
        document: dict[str, Any] = _read_json(path, _LONGEST_MANIFEST)
        digest, own = document.pop("digest"), _digest(document)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ArtifactError(f"{path}: truncated or not a manifest; fit again") from None
    if document.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: format {document.get('format')!r}, this Daogou reads {FORMAT!r}; "
            "use the Daogou that made it, or fit again"
        )
    if digest != own:
        raise ArtifactError(f"{path}: altered since the run was saved; restore it or fit again")
    return document


def _read_json(path: Path, most: int) -> Any:
    """What a file of so many bytes at most says."""
    size = path.stat().st_size
    if size > most:
        raise ArtifactError(f"{path}: {size} bytes; {most} are the most that one of a run has")
    return json.loads(path.read_text("utf-8"))


def plain(value: Any) -> Any:
    """A document as JSON has it: undefined numbers become null, tuples lists, paths text.

    >>> plain({"auc": float("nan"), "n": 3})
    {'auc': None, 'n': 3}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):  # a number of numpy's
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files that make up a run; logs and checkpoints beside them may change."""
    named = [folder / "model.safetensors", folder / "transform.json"]
    return [*named, *sorted(path for path in (folder / "store").rglob("*") if path.is_file())]


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def legal_name(text: str) -> str:
    """A file's name that says ``text``; what a file system may refuse is written in hex.

    >>> legal_name("profile.gender"), legal_name("add/cart")
    ('profile.gender', 'add%2fcart')
    """
    refused = '/\\:*?"<>|%'
    return "".join(c if c.isprintable() and c not in refused else f"%{ord(c):02x}" for c in text)


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Hash of tensors: their bytes, names, types and shapes."""
    found = hashlib.sha256()
    for name, each in sorted(tensors.items()):
        found.update(f"{name} {each.dtype} {tuple(each.shape)} ".encode())
        found.update(each.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document of plain values, as JSON that people can read; what is NaN is null."""
    write_whole(path, json.dumps(plain(document), ensure_ascii=False, indent=1))


def read_document(path: Path) -> Any:
    """What a file of JSON holds; None without a file."""
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines in order, none without a file.

    A line that is no record was cut by a kill, and what it said came again.
    """
    found: list[dict[str, Any]] = []
    if not path.exists():
        return found
    for line in path.read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def write_whole(path: Path, text: str, *, secret: bool = False, synced: bool = False) -> None:
    """Write a text beside its place and rename it, so that it is there whole or not at all.

    A ``secret`` is to be read by its owner alone. What is ``synced`` outlasts a power cut once
    this returns.
    """
    partial = path.with_name(path.name + ".partial")
    if secret:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600))
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        if synced:
            file.flush()
            os.fsync(file.fileno())
    os.replace(partial, path)
    if synced:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's names; Windows, whose renames last, opens no folder."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
