"""Everything that turns a shop's rows into the model's arrays, fitted and frozen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ArtifactError
from daogou.features.text import TextVocab
from daogou.features.transform.fields import NO_FIELDS, Fields
from daogou.features.vocab import Vocab

VERSION: Final = 5
# What the shop's settings say of a transform, and no row of its tables.
SETTLED: Final = (
    "text_columns", "attributes", "actions", "stages", "windows", "domain", "position",
)  # fmt: skip


@dataclass(frozen=True)
class LogScale:
    """Where the logarithms of the training values above 0 lie. Made by `fit_log_scale`."""

    mean: float
    spread: float  # standard deviation, above 0
    least: float
    most: float


def fit_log_scale(logs: NDArray[np.float64]) -> LogScale:
    """The scale of some logarithms ``[n]``; 0 and 1 stand for what too few of them leave open.

    >>> fit_log_scale(np.array([1.0, 3.0]))
    LogScale(mean=2.0, spread=1.0, least=1.0, most=3.0)
    >>> fit_log_scale(np.array([]))
    LogScale(mean=0.0, spread=1.0, least=0.0, most=0.0)
    """
    if not len(logs):
        return LogScale(0.0, 1.0, 0.0, 0.0)
    spread = float(logs.std())
    return LogScale(
        float(logs.mean()), spread if spread > 1e-9 else 1.0, float(logs.min()), float(logs.max())
    )


@dataclass(frozen=True)
class Transform:
    """Everything that turns a shop's rows into the model's arrays, in training and in serving."""

    item_ids: Vocab
    user_ids: Vocab
    items: Fields
    users: Fields
    context: Fields
    profile: Fields  # vocabularies of the profile columns; their words are the classes
    text: TextVocab | None
    text_columns: tuple[str, ...]
    attributes: tuple[str, ...]
    actions: tuple[str, ...]  # kinds of history event
    stages: tuple[str, ...]  # funnel labels
    windows: tuple[float, ...] = ()  # hours within which each stage counts
    domain: str | None = None  # which column of the context is the domain
    position: str | None = None  # and which the place in a list
    value: LogScale | None = None  # of what the last stage is worth
    many: Fields = NO_FIELDS  # vocabularies of the profile columns that hold lists
    values: Fields = NO_FIELDS  # vocabularies of attributes of few values, for their classes
    traits: Fields = NO_FIELDS  # of attributes that the catalogue tells, for habits

    def classes(self, column: str) -> tuple[str, ...]:
        """The values of a profile column, of what its lists hold, or of an attribute's classes."""
        of = (fields for fields in (self.many, self.values) if column in fields.names)
        fields = next(of, self.profile)
        coder = fields.coders[fields.names.index(column)]
        assert isinstance(coder, Vocab)
        return coder.words

    @property
    def first_values(self) -> tuple[int, ...]:
        """Place of each list column's first value among the values of all of them."""
        ends = np.cumsum([0, *(coder.n_rows - 1 for coder in self.many.coders)])
        return tuple(int(start) for start in ends[:-1])

    def to_json(self) -> dict[str, Any]:
        """A document from which `from_json` makes an equal transform."""
        return {
            "version": VERSION,
            "item_ids": self.item_ids.to_json(),
            "user_ids": self.user_ids.to_json(),
            "items": self.items.to_json(),
            "users": self.users.to_json(),
            "context": self.context.to_json(),
            "profile": self.profile.to_json(),
            "text": self.text.to_json() if self.text else None,
            "text_columns": list(self.text_columns),
            "attributes": list(self.attributes),
            "actions": list(self.actions),
            "stages": list(self.stages),
            "windows": list(self.windows),
            "domain": self.domain,
            "position": self.position,
            "value": asdict(self.value) if self.value else None,
            "many": self.many.to_json(),
            "values": self.values.to_json(),
            "traits": self.traits.to_json(),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Transform":
        """The transform of a document made by `to_json`."""
        if document.get("version") != VERSION:
            raise ArtifactError(
                f"transform: version {document.get('version')!r}, this Daogou reads {VERSION}; "
                "fit again, or use the Daogou that made it"
            )
        return Transform(
            item_ids=Vocab.from_json(document["item_ids"]),
            user_ids=Vocab.from_json(document["user_ids"]),
            items=Fields.from_json(document["items"]),
            users=Fields.from_json(document["users"]),
            context=Fields.from_json(document["context"]),
            profile=Fields.from_json(document["profile"]),
            text=TextVocab.from_json(document["text"]) if document["text"] else None,
            text_columns=tuple(document["text_columns"]),
            attributes=tuple(document["attributes"]),
            actions=tuple(document["actions"]),
            stages=tuple(document["stages"]),
            windows=tuple(document["windows"]),
            domain=document["domain"],
            position=document["position"],
            value=LogScale(**document["value"]) if document.get("value") else None,
            many=Fields.from_json(document.get("many", [])),
            values=Fields.from_json(document["values"]),
            traits=Fields.from_json(document["traits"]),
        )
