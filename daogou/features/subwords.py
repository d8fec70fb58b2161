"""Titles to the sub-words of a tokenizer that lies in a folder, and which of them a token meets."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ArtifactError, ConfigError, optional
from daogou.features.tokens import tokenise
from daogou.schema import Shop

PIECES: Final = 4  # places for sub-words per token of a title; what is beyond is cut off
N_CHANNELS: Final = PIECES + 2
_HALVES: Final = re.compile("[\ud800-\udfff]")
_READ: Final = ("*.json", "*.txt", "*.model", "*.safetensors")


_library: Final = partial(optional, extra="hf", needed_by="text.encoder")


def opened(kind: str, folder: Path, **options: Any) -> Any:
    """What a class of transformers makes of a folder. Raises ConfigError if it cannot."""
    try:
        maker = getattr(_library("transformers"), kind)
        return maker.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0]
        raise ConfigError(
            f"text.encoder: {folder}: {kind} cannot read it ({why}); save model and tokenizer "
            "there with save_pretrained"
        ) from None


@dataclass(frozen=True)
class SubWords:
    """The tokenizer of a folder in Hugging Face format. Made by `open_subwords`."""

    folder: Path
    files: Mapping[str, str]  # SHA-256 of each file that is read
    tune: bool = False  # whether training changes the encoder's weights

    @cached_property
    def _tokenizer(self) -> Any:
        found = opened("AutoTokenizer", self.folder)
        if not found.is_fast:
            raise ConfigError(
                f"text.encoder: {self.folder}: its tokenizer does not say where sub-words stand; "
                "save it as a fast one (tokenizer.json)"
            )
        return found

    @cached_property
    def _most(self) -> int:
        """Sub-words that the encoder reads at once."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        told = config.get("max_position_embeddings") or 512
        return min(int(told), int(self._tokenizer.model_max_length))

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        read = self._tokenizer("a", return_special_tokens_mask=True)
        ids, special = read["input_ids"], read["special_tokens_mask"]
        own = [place for place, each in enumerate(special) if not each] or [len(ids)]
        return ids[: own[0]], ids[own[-1] + 1 :]

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Channels ``[N, L, PIECES + 2]`` that stand beside a title's rows.

        The first `PIECES` of a title's tokens hold, end to end, the numbers of its sub-words plus
        1, 0 beyond them; the last two say from which to before which of these a token meets.
        """
        found = np.zeros((len(texts), length, N_CHANNELS), dtype=np.int32)
        if not texts:
            return found
        whole_texts = [_HALVES.sub("\ufffd", text) for text in texts]  # as UTF-8 can say them
        read = self._tokenizer(whole_texts, add_special_tokens=False, return_offsets_mapping=True)
        before, after = self._around
        for row, text in enumerate(texts):
            tokens = tokenise(text)[:length]
            room = min(len(tokens) * PIECES, self._most) - len(before) - len(after)
            if room <= 0:
                continue
            ids = read["input_ids"][row][:room]
            offsets = np.array(read["offset_mapping"][row][:room], dtype=np.int64).reshape(-1, 2)
            line = np.zeros(len(tokens) * PIECES, dtype=np.int32)
            whole = [*before, *ids, *after]
            line[: len(whole)] = np.array(whole) + 1
            found[row, : len(tokens), :PIECES] = line.reshape(-1, PIECES)
            starts = np.array([token.start for token in tokens])
            ends = np.array([token.end for token in tokens])
            first = np.searchsorted(offsets[:, 1], starts, side="right")
            last = np.searchsorted(offsets[:, 0], ends, side="left")
            meets = last > first
            found[row, : len(tokens), PIECES] = np.where(meets, first + len(before), 0)
            found[row, : len(tokens), PIECES + 1] = np.where(meets, last + len(before), 0)
        return found

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal object."""
        return {"folder": str(self.folder), "files": dict(self.files), "tune": self.tune}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "SubWords":
        """The sub-words of a document; ArtifactError unless the folder is as it was."""
        folder, files = Path(document["folder"]), document["files"]
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: the run's text.encoder is gone; bring it back")
        changed = sorted(set(files.items()) ^ set(_hashes(folder).items()))
        if changed:
            raise ArtifactError(
                f"{folder}/{changed[0][0]}: altered since the run was fitted, which reads titles "
                "with it; restore the folder or fit again"
            )
        return SubWords(folder, files, document["tune"])


def open_subwords(shop: Shop) -> SubWords | None:
    """The tokenizer of the shop's ``text.encoder``, if it has one; nothing is downloaded.

    Raises ConfigError if the folder is not there or not whole, or its weights are pickled, and
    MissingExtra without the extra ``hf``.
    """
    if shop.text.encoder is None:
        return None
    folder = (shop.root / shop.text.encoder).resolve()
    if not folder.is_dir():
        raise ConfigError(f"text.encoder: {folder}: no such folder; give one that is on this disk")
    if not (folder / "config.json").exists():
        raise ConfigError(f"text.encoder: {folder}: no config.json; give a Hugging Face folder")
    if not list(folder.glob("*.safetensors")):
        pickled = " but pickled weights, which can run code" if list(folder.glob("*.bin")) else ""
        raise ConfigError(
            f"text.encoder: {folder}: no .safetensors{pickled}; save it again with "
            "model.save_pretrained(folder)"
        )
    _library("transformers")
    return SubWords(folder, _hashes(folder), shop.text.tune)


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(path for pattern in _READ for path in folder.glob(pattern)):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
