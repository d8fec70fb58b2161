"""A trained model and its users' known profiles to straight paths, solved and weighed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.batch import make_batch
from daogou.features.queries import profiled_users, queries_after
from daogou.features.store import Store
from daogou.learn.factors import loadings_before
from daogou.learn.linear import Basis, basis_of, fit_linear, nats_of
from daogou.model import predict
from daogou.model.encoded import Encoded
from daogou.model.heads.profile import Choice, Listed, Ordered, ProfileHead
from daogou.model.joint import JointModel, marks_of

Array = NDArray[np.int64]
Choices = dict[str, dict[str, Any]]
PRECISIONS: Final = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
LEAST: Final = 20  # users who choose, for any choice
MOST_USERS: Final = {"train": 1536, "validation": 512}  # evenly spread; more take minutes to solve
FOLDS: Final = 5
_MANY: Final = 1000  # users of whom one fold is enough to choose by
_UNCHOSEN: Final = 300.0
_GAIN: Final = 2.0  # nats of all who are held out; with less it may be luck that chooses
_SIZE: Final = 512  # users read at once


def choose_straight(model: JointModel, store: Store, *, history_length: int) -> Choices:
    """Solve each column's straight path by the users who teach, and weigh it by those who choose.

    Of some precisions of the prior, and of the columns of items with many values each alone, all
    or none, the factors of what was taken, what was shown and its factors, one after another, that
    is taken which makes the known profiles of both likeliest out of fold. Factors have no labels
    to learn by heart and are those of all users (`daogou.learn.factors`). Solved by those who
    teach, the path and the network then get the weights for their logits under which the choosing
    users' labels, which taught neither, are likeliest: 0 or more, under a normal prior of spread 1
    around a half each (Wolpert, "Stacked Generalization", Neural Networks 1992). Chances so weighed
    are calibrated. With fewer than `LEAST` choosing users the precision is 300, only counts of
    columns of few values are read, and each path counts a half.

    Histories are read to the end of the validation split: what happens in the test's time is its
    labels, and none of them changes a weight. A column that teaches fewer than two classes has no
    path, and its network answers alone.

    The answer has for each column that has a path its ``precision``, what it reads (`Choice`),
    what the ``network`` and the ``straight`` path count, and how many users ``taught`` and
    ``chose``.
    """
    if "profile" not in model.heads:
        return {}
    head = cast(ProfileHead, model.heads["profile"])
    head.paths.copy_(torch.tensor([1.0, 0.0]))
    _find_factors(head, store)
    teaches, chooses = (_read(head, store, split, history_length) for split in MOST_USERS)
    if teaches is None:
        return {}
    both = teaches.beside(chooses)
    head.compare_with(teaches.counted)
    networks = _networks(model, store, chooses, history_length)
    found: Choices = {}
    for place, name in _names(model):
        solver = _Solver(head, place, teaches.of(store, head, place))
        if not solver.teachable:
            continue
        precision, choice, weights = _UNCHOSEN, Choice(), (0.5, 0.5)
        known = chooses.of(store, head, place) if chooses is not None else None
        n_chose = 0 if known is None else len(known.labels)
        if known is not None and n_chose >= LEAST:
            precision, choice = _Solver(head, place, both.of(store, head, place)).choose()
            solver.keep(precision, choice)
            network = networks[place][known.places]
            weights = weigh(network, head.straight(known.counted, place), known.labels, solver.kind)
        solver.keep(precision, choice)
        head.paths[place] = torch.tensor(weights)
        found[name] = {
            "precision": precision, **asdict(choice), "network": weights[0], "straight": weights[1],
            "taught": len(solver.target), "chose": n_chose,
        }  # fmt: skip
    return found


def teach_straight(
    model: JointModel,
    store: Store,
    choices: Mapping[str, Any],
    *,
    history_length: int,
    anew: bool = False,
    held_out: bool = False,
) -> None:
    """Solve what was chosen once more, by the users who chose too.

    There is no choice left for their labels to make, and a path is better with more of them. What
    the validation split says about these columns from here on is not held out. A model that
    nothing was chosen for looks ``anew`` at factors and at what is usual. ``held_out`` is the way
    back: those who teach solve alone, as when it was chosen, and those who chose are new to it.
    """
    if "profile" not in model.heads:
        return
    head = cast(ProfileHead, model.heads["profile"])
    if anew:
        _find_factors(head, store)
    if not choices:
        return
    teaches, chose = (_read(head, store, split, history_length) for split in MOST_USERS)
    assert teaches is not None
    both = teaches if held_out else teaches.beside(chose)
    if anew:
        head.compare_with(both.counted)
    for place, name in _names(model):
        if name in choices:
            chosen = choices[name]
            told = {each.name: chosen[each.name] for each in fields(Choice)}
            reads = Choice(**told | {"many": tuple(told["many"])})  # a list in a manifest
            solver = _Solver(head, place, both.of(store, head, place))
            solver.keep(chosen["precision"], reads)


def weigh(first: Tensor, second: Tensor, labels: Tensor, kind: str) -> tuple[float, float]:
    """What each of two answers' logits ``[n, V]`` should count, see `choose_straight`.

    >>> sure = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(500, 1)
    >>> weights = weigh(sure, torch.zeros_like(sure), torch.tensor([0, 1] * 500), "categorical")
    >>> weights[0] > 1, weights[1]
    (True, 0.5)
    """
    ones = torch.ones(len(labels), dtype=torch.float64)
    sides = torch.stack([first.double(), second.double()])

    def nats(weights: Tensor) -> Tensor:
        loss = nats_of((weights[:, None, None] * sides).sum(0), labels, ones, kind)
        return loss * len(labels) + (weights - 0.5).square().sum() / 2

    def least(free: tuple[int, ...]) -> Tensor:
        """The likeliest weights when those not in ``free`` are 0: the sum is convex."""
        weights = torch.zeros(2, dtype=torch.float64)
        at = torch.full((len(free),), 0.5, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS([at], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            total = nats(weights.index_put((torch.tensor(free),), at)) / len(labels)
            total.backward()
            return total

        solver.step(loss)
        return weights.index_put((torch.tensor(free),), at.detach())

    found = least((0, 1))
    if (found < 0).any():
        alone = [least((side,)).clamp(min=0) for side in (0, 1)]
        found = min(alone, key=lambda weights: float(nats(weights)))
    return float(found[0]), float(found[1])


@dataclass(frozen=True)
class _Labelled:
    """Known users: ``counted [n, C]``, ``labels [n]`` or, of a list, ``[n, V]``.

    ``places [n]`` are theirs among those who were read.
    """

    places: Array
    counted: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Counted:
    """Users with some known profile and their habits, ``[U, C]``."""

    rows: Array
    counted: Tensor

    def beside(self, others: "_Counted | None") -> "_Counted":
        """These users, then the others if there are any."""
        if others is None:
            return self
        rows = np.concatenate([self.rows, others.rows])
        return _Counted(rows, torch.cat([self.counted, others.counted]))

    def of(self, store: Store, head: ProfileHead, place: int) -> _Labelled:
        """Those whose value of one column is known."""
        kind = head.kinds.get(place)
        if isinstance(kind, Listed):
            last = kind.first + head.n_outputs[place]
            values = np.asarray(store["users/many"][self.rows, kind.first : last])
            places = np.flatnonzero((values >= 0).any(1))
        else:
            values = np.asarray(store["users/profile"][self.rows, head.columns[place]])
            places = np.flatnonzero(values >= 0)
        labels = torch.from_numpy(values[places].astype(np.int64))
        return _Labelled(places, self.counted[places], labels)


class _Solver:
    """One column's path, to be solved for several precisions and choices of what is read."""

    def __init__(self, head: ProfileHead, place: int, labelled: _Labelled) -> None:
        self.head, self.place = head, place
        found = head.kinds.get(place)
        self.kind, self.n_classes = "categorical", head.n_outputs[place]
        self.target = labelled.labels
        if isinstance(found, Listed):
            self.kind = "multilabel"
        elif isinstance(found, Ordered):
            self.kind, self.n_classes = "ordinal", len(found.order)
            self.target = torch.tensor(found.ranks, dtype=torch.int64)[labelled.labels]
        self.habits = head.standard(labelled.counted)

    @property
    def teachable(self) -> bool:
        """Whether there are two answers to tell apart."""
        return len(self.target) > 1 and len(self.target.unique(dim=0)) > 1

    def keep(self, precision: float, choice: Choice) -> None:
        """Put the solution for a precision and what is read into the head."""
        read = self.head.reading(choice)
        basis = basis_of(self.habits[:, read])
        made = fit_linear(basis, self.target, self.n_classes, precision, kind=self.kind)
        weight = getattr(self.head, f"straight_{self.place}")
        weight.zero_()
        weight[:, read] = made.weight.to(weight.dtype)
        getattr(self.head, f"shift_{self.place}").copy_(made.shift)

    def choose(self) -> tuple[float, Choice]:
        """The precision and the choice under which held-out labels are likeliest.

        One thing after another is read beside the best so far, if it gains `_GAIN` at least. Along
        the precisions it goes on as long as the next is better: the loss has one valley.
        """
        fold = np.random.default_rng(0).permutation(len(self.target)) % FOLDS
        outs = [fold == k for k in range(FOLDS if len(fold) < _MANY else 1)]
        at, best, least = PRECISIONS.index(_UNCHOSEN), Choice(), float("inf")
        for more in ({}, *self._further()):
            choice = replace(best, **more)
            x = self.habits[:, self.head.reading(choice)]
            parts = [
                (basis_of(x[~out]), self.target[~out], x[out], self.target[out]) for out in outs
            ]
            place, found = self._valley(parts, at)
            if found < least - _GAIN:
                at, best, least = place, choice, found
        return PRECISIONS[at], best

    def _valley(
        self, parts: Sequence[tuple[Basis, Tensor, Tensor, Tensor]], at: int
    ) -> tuple[int, float]:
        """Place of the best precision, looking from one of them, and the nats held out there."""
        tried: dict[int, float] = {-1: float("inf"), len(PRECISIONS): float("inf")}

        def loss(at: int) -> float:
            if at not in tried:
                tried[at] = sum(self._held_out(PRECISIONS[at], *part) for part in parts)
            return tried[at]

        step = 1 if loss(at + 1) < loss(at) else -1
        while loss(at + step) < loss(at):
            at += step
        return at, loss(at)

    def _further(self) -> list[dict[str, Any]]:
        """What may be read beside the counts of columns of few values, in the order of trying."""
        taken, shown = self.head.taken, self.head.shown
        assert taken is not None
        every = tuple(taken.tastes.many)
        many = dict.fromkeys([*((each,) for each in every), *([every] if every else [])])
        found: list[dict[str, Any]] = [{"many": each} for each in many]
        if taken.tastes.n_factors:
            found.append({"factors": True})
        if shown is not None:
            found.append({"shown": True})
            found += [{"shown": True, "shown_factors": True}] if shown.tastes.n_factors else []
        return found

    def _held_out(
        self, precision: float, basis: Basis, target: Tensor, x: Tensor, y: Tensor
    ) -> float:
        made = fit_linear(basis, target, self.n_classes, precision, kind=self.kind)
        ones = torch.ones(len(y), dtype=torch.float64)
        return float(nats_of(made.logits(x), y, ones, self.kind)) * len(y)


def _read(head: ProfileHead, store: Store, split: str, length: int) -> _Counted | None:
    """The habits of a split's users with a known profile; None where there is nothing to read."""
    rows = profiled_users(store, split)
    rows = rows[:: -(-len(rows) // MOST_USERS[split]) or 1]
    if head.taken is None or not len(rows):
        return None
    queries = queries_after(store, rows, *MOST_USERS)
    pieces = []
    for start in range(0, len(rows), _SIZE):
        piece = queries[slice(start, start + _SIZE)]
        batch = make_batch(store, queries=piece, history_length=length, shown=True)
        items = batch.items
        known = Encoded(marks=marks_of(items["row"], items), item_ids=items["id"])
        counted = head.habits(known, batch.users)
        assert counted is not None
        pieces.append(counted)
    return _Counted(rows, torch.cat(pieces))


def _find_factors(head: ProfileHead, store: Store) -> None:
    """The loadings of products, from all users' pasts to the end of the validation split."""
    until = queries_after(store, np.zeros(1, dtype=np.int64), *MOST_USERS).time[0]
    for past, kind in zip(head.pasts, ("history", "shown"), strict=False):
        if past.tastes.n_ids:
            past.loadings.copy_(loadings_before(store, kind, int(until), past.tastes.n_ids))


@torch.inference_mode()
def _networks(model: JointModel, store: Store, users: _Counted | None, length: int) -> list[Tensor]:
    """The networks' logits ``[U, V_p]`` of each column."""
    head = cast(ProfileHead, model.heads["profile"])
    if users is None:
        return []
    queries = queries_after(store, users.rows, *MOST_USERS)
    pieces = [
        head.logits(encoded.h.expand(len(head.columns), -1, -1))
        for _, encoded in predict.encoded_queries(model, store, queries, history_length=length)
        if encoded.h is not None
    ]
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def _names(model: JointModel) -> list[tuple[int, str]]:
    tasks = [task for task in model.tasks if task.family == "profile"]
    return [(place, task.name) for place, task in enumerate(tasks)]
