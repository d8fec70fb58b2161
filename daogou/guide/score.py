"""Users at moments, catalogue rows and a context to chances, from item vectors made once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.artifact import Artifact
from daogou.errors import ConfigError, unknown
from daogou.features.batch import Batch, users_of
from daogou.features.columns import Columns
from daogou.features.past import recent_events, repeats_of, shown_to
from daogou.features.queries import Events, Queries, full_queries, queries_of
from daogou.features.rhythm import Rhythm, fit_rhythm
from daogou.features.store import Store
from daogou.features.vocab import Vocab
from daogou.guide.heard import Newcomers
from daogou.guide.kept import NOWHERE, Kept
from daogou.model import predict
from daogou.model.encoded import Encoded
from daogou.model.heads.funnel import FunnelHead
from daogou.model.heads.profile import ProfileHead
from daogou.model.joint import JointModel, marks_of
from daogou.model.samples import CLOSE

Array = NDArray[Any]
_NO_COLUMNS: Final = Columns({})
_SAMPLE: Final = 32  # products by which vectors that were kept are judged
_USERS: Final = 64  # by whom it is judged what is usual


@dataclass(frozen=True)
class Shoppers:
    """Users at moments, read once.

    ``columns`` are those of a batch's ``users``; ``columns["history"]`` holds rows of
    ``encoded.items``, and those are the rows of the catalogue unless somebody says otherwise.
    """

    columns: Columns
    encoded: Encoded
    queries: Queries | None = None  # who was asked, at which moments


@dataclass(frozen=True)
class Past:
    """One user's events that the model reads, newest first: ``[L]`` each, no padding."""

    item: Array  # catalogue rows
    action: Array  # places in the transform's actions
    time: Array  # microseconds
    now: int  # the moment from which ages count


@dataclass(frozen=True)
class Described:
    """What the encoders read of one product: its id row, columns and title."""

    id: int
    fields: Array  # [1, C]
    numbers: Array  # [1, K]
    traits: Array  # [1, A]
    tokens: Array  # [L, F]


@dataclass(frozen=True)
class Scorer:
    """An artifact with the vectors of its whole catalogue. Made by `fit_scorer`."""

    artifact: Artifact
    items: Encoded  # the catalogue's vectors, marks and id rows; row 0 is the unknown product
    now: int  # just after the last event of the log, microseconds
    start: int  # the first event of the log
    shown_until: int  # just after the last exposure of the log, or `now` if that is later
    live: Mapping[int, Described] = field(default_factory=dict)  # rows the store does not tell
    newcomers: Newcomers | None = None  # what `items.lift` is made of

    @property
    def vectors(self) -> Tensor | None:
        """Of the catalogue, ``[I + 1, D]``; None in a flat shop."""
        return self.items.items

    @cached_property
    def lengths(self) -> Tensor:
        """How long each of the vectors is, ``[I + 1]``."""
        assert self.vectors is not None
        lengths: Tensor = torch.linalg.vector_norm(self.vectors, dim=1)
        return lengths.clamp(min=1e-12)

    @property
    def stages(self) -> tuple[str, ...]:
        """The funnel tasks that have a chance, in order; an amount comes after them."""
        return tuple(
            task.name
            for task in self.artifact.model.tasks
            if task.family == "funnel" and not task.is_value
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of event that are read: those of histories, then an exposure's if it counts."""
        actions, exposure = self.artifact.transform.actions, self.exposure
        return actions if exposure is None or exposure in actions else (*actions, exposure)

    @property
    def exposure(self) -> str | None:
        """The kind of event that says what was shown; None where profiles do not count that.

        Histories may hold it too.
        """
        events, heads = self.artifact.shop.events, self.artifact.model.heads
        if events is None or not events.funnel or "profile" not in heads:
            return None
        counts = cast(ProfileHead, heads["profile"]).shown is not None
        return events.funnel[0] if counts else None

    def since(self, kind: str) -> int:
        """From when on, in microseconds, the run's log has no event of a kind that is read."""
        return self.now if kind in self.artifact.transform.actions else self.shown_until

    def described(self, row: int) -> Described:
        """What is read of the product at a row of the catalogue."""
        if row in self.live:
            return self.live[row]
        store = self.artifact.store
        at = slice(row, row + 1)
        tokens = np.array(store["texts/tokens"][int(store["items/text"][row])])
        return Described(
            int(store["items/id"][row]),
            store["items/fields"][at],
            store["items/numbers"][at],
            store["items/traits"][at],
            tokens,
        )

    @cached_property
    def rhythm(self) -> Rhythm:
        """How often the shop's users come."""
        return fit_rhythm(self.artifact.store)

    def queries(
        self,
        users: Sequence[int],
        at: int | None = None,
        live: Events | None = None,
        shown: Events | None = None,
    ) -> Queries:
        """User rows at moment ``at`` (microseconds), their histories strictly before it.

        None is the end of the log, with everything known. ``live`` are further events of one user,
        ``shown`` what they were shown since.
        """
        rows = np.asarray(users, dtype=np.int64)
        store = self.artifact.store
        start = store["users/start"]
        if at is None or at >= self.now:
            now = self.now if at is None else at
            moment = np.full(len(rows), now, dtype=np.int64)
            return Queries(rows, start[rows + 1], moment, live, shown)
        time = store["history/time"]
        ends = [
            start[row] + np.searchsorted(time[start[row] : start[row + 1]], at, side="left")
            for row in rows.tolist()
        ]
        moment = np.full(len(rows), at, dtype=np.int64)
        return Queries(rows, np.array(ends, dtype=np.int64), moment, live, shown)

    def seen(self, queries: Queries) -> Columns:
        """What users had been shown, as a batch's ``users`` tell profiles of it."""
        assert self.items.marks is not None and self.items.item_ids is not None
        rows = torch.from_numpy(shown_to(self.artifact.store, queries))
        return Columns({"shown": self.items.marks[rows], "shown_id": self.items.item_ids[rows]})

    def past(self, queries: Queries, place: int = 0) -> Past:
        """The events of one query that the model reads."""
        artifact = self.artifact
        read = recent_events(artifact.store, queries, place, artifact.history_length)
        return Past(read.item, read.action, read.time, now=int(queries.time[place]))

    @torch.inference_mode()
    def shoppers(self, queries: Queries) -> Shoppers | None:
        """Users read from the item vectors; None in a shop whose model knows no users."""
        if self.artifact.model.user is None or self.vectors is None:
            return None
        store = self.artifact.store
        # Padding changes nothing but the time it takes.
        longest = int((queries.end - store["users/start"][queries.user]).max(initial=1))
        longest += len(queries.live.time) if queries.live is not None else 0
        length = min(max(longest, 1), self.artifact.history_length)
        columns = users_of(store, queries, length)
        return replace(read_users(self.artifact.model, self.items, columns), queries=queries)

    def repeats(self, queries: Queries, user: Tensor, marks: Tensor) -> Tensor:
        """How the pasts repeat products with these marks ``[B, M]``, ``[B, 3 M]``.

        ``user [B]`` are places among the queries. Of the past, products have the marks that they
        have now.
        """
        assert self.items.marks is not None
        store = self.artifact.store
        n = 1 + store["items/fields"].shape[1]  # not the marks that only profiles read
        known = self.items.marks[:, :n]
        found = repeats_of(
            store, queries, user.numpy(), marks[:, :n].numpy(),
            lambda rows: known[torch.from_numpy(rows.copy())].numpy(),
        )  # fmt: skip
        return torch.from_numpy(found)

    @torch.inference_mode()
    def chances(
        self, shoppers: Shoppers | None, user: Tensor, item: Tensor, context: tuple[Array, Array]
    ) -> Tensor:
        """Chance of each stage over all exposures, ``[T, B]``, on the served path.

        Where the run has learnt an amount its expected value is one more row, the last.

        ``user [B]`` are places among the shoppers, ``item [B]`` rows of the catalogue; of
        ``context`` the rows are ``[B, C]`` and the ranks ``[B, K]``.
        """
        repeats = None
        if shoppers is None:
            shoppers = Shoppers(_NO_COLUMNS, self.items)
        elif shoppers.queries is not None and self.items.marks is not None:
            repeats = self.repeats(shoppers.queries, user, self.items.marks[item])
        return funnel_chances(self.artifact.model, shoppers, user, item, context, repeats)

    def context(self, given: Mapping[str, object] | None, n: int) -> tuple[Array, Array]:
        """A context said in words, encoded for ``n`` exposures; what is not said is missing.

        Raises ConfigError for a column that the shop's context does not have, or for a word where
        a number is wanted.
        """
        fields = self.artifact.transform.context
        columns: dict[str, pa.ChunkedArray] = {}
        for name, value in (given or {}).items():
            if name not in fields.names:
                raise ConfigError(f"context.{name}: {unknown(name, fields.names)}")
            coder = fields.coders[fields.names.index(name)]
            columns[name] = _encodable(f"context.{name}", value, is_word=isinstance(coder, Vocab))
        rows, ranks = fields.encode(columns, 1) if columns else self._unsaid
        return np.repeat(rows, n, axis=0), np.repeat(ranks, n, axis=0)

    @cached_property
    def _unsaid(self) -> tuple[Array, Array]:
        """The context of which nothing is said."""
        return self.artifact.transform.context.encode({}, 1)

    @torch.inference_mode()
    def exposure_chances(self, rows: Array) -> Tensor:
        """Chances ``[T, n]`` of exposures of the store, as serving would have scored them."""
        store = self.artifact.store
        queries, user = queries_of(store, rows)
        item = torch.from_numpy(store["exposures/item"][rows].astype(np.int64))
        context = (store["exposures/fields"][rows], store["exposures/numbers"][rows])
        return self.chances(self.shoppers(queries), torch.from_numpy(user), item, context)


def fit_scorer(artifact: Artifact, kept: Kept = NOWHERE) -> Scorer:
    """Encode the catalogue of an artifact once, or take the vectors that were kept."""
    model, store = artifact.model, artifact.store
    vectors = None
    if model.item is not None:
        some = np.unique(np.linspace(0, store.n_items, _SAMPLE).astype(np.int64))

        def made() -> dict[str, Tensor]:
            return {"items": predict.item_vectors(model, store)}

        def fit(found: Mapping[str, Tensor]) -> bool:
            if len(found["items"]) != store.n_items + 1:
                return False
            now = predict.item_vectors(model, store, some)
            return torch.allclose(found["items"][torch.from_numpy(some)], now, atol=CLOSE)

        vectors = kept.arrays("vectors", made, fit)["items"]
    now = int(full_queries(store, np.zeros(1, dtype=np.int64)).time[0])
    times = store["history/time"]
    rows = torch.arange(store.n_items + 1)
    columns = Columns(
        {
            name: torch.from_numpy(np.array(store[f"items/{name}"], dtype=np.int64))
            for name in ("fields", "traits", "id")
        }
    )
    items = Encoded(items=vectors, marks=marks_of(rows, columns), item_ids=columns["id"])
    shown = store.arrays.get("shown/time", ())
    return Scorer(
        artifact,
        items,
        now,
        start=int(times.min()) if len(times) else now,
        shown_until=max(now, int(np.max(shown)) + 1) if len(shown) else now,
    )


def some_users(store: Store) -> list[int]:
    """The rows of some users, evenly spread, the unknown one first."""
    n = store.n_users
    found: list[int] = np.unique(np.linspace(0, n, min(n + 1, _USERS)).astype(np.int64)).tolist()
    return found


def read_users(model: JointModel, known: Encoded, columns: Columns) -> Shoppers:
    """Users encoded beside the items that are ``known``, whose rows their ``history`` holds."""
    items = known.items
    assert model.user is not None and items is not None
    events = model.user.read_history(items, columns["history"], columns["action"], columns["age"])
    h = model.user(events, columns["action"])
    u = model.user.user(h, columns["id"], columns["fields"], columns["numbers"])
    return Shoppers(columns, replace(known, events=events, h=h, users=u, user_ids=columns["id"]))


def funnel_chances(
    model: JointModel,
    shoppers: Shoppers,
    user: Tensor,
    item: Tensor,
    context: tuple[Array, Array],
    repeats: Tensor | None = None,
) -> Tensor:
    """The funnel head's chances ``[T, B]`` of users ``[B]`` meeting items ``[B]``.

    ``repeats [B, 3 M]`` say how the users' pasts repeat the items, where the model knows both.
    """
    head = cast(FunnelHead, model.heads["funnel"])
    fields, numbers = context
    exposures = Columns(
        {
            "item": item,
            "user": user,
            "fields": torch.from_numpy(np.array(fields, dtype=np.int64)),
            "numbers": torch.from_numpy(np.array(numbers, dtype=np.float32)),
            **({} if repeats is None else {"repeats": repeats}),
        }
    )
    batch = Batch(
        exposures, shoppers.columns, _NO_COLUMNS, _NO_COLUMNS, _NO_COLUMNS, torch.zeros(0)
    )
    return head.chances(shoppers.encoded, batch)[0]


def _encodable(where: str, value: object, *, is_word: bool) -> pa.ChunkedArray:
    """One value as the column that the transform encodes; words as the tables spell them."""
    if value is None:
        return pa.chunked_array([pa.array([None], pa.string() if is_word else pa.float64())])
    if not is_word:
        try:
            number = float(cast(Any, value))
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: a number is wanted, found {value!r}") from None
        number = number if math.isfinite(number) else math.nan
        return pa.chunked_array([pa.array([number], pa.float64())])
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    # Half a surrogate pair is no text that a table could hold, so it may become any unseen word.
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return pa.chunked_array([pa.array([text], pa.string())])
