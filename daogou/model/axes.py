"""What rows and columns of a model's weights stand for, and weights of one model to another's.

Two shops have tables of other sizes and layers of other inputs. What both have is found by name:
an id's row, a category's, a word's, the inputs that a column makes, a stage's layers.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou.features.labels import NOTHING, Labels, fields_labels, places, text_labels, vocab_labels
from daogou.features.numeric import Numeric
from daogou.features.repeats import N_PER_MARK
from daogou.features.transform import Transform
from daogou.features.transform import fields as features
from daogou.features.vocab import Vocab
from daogou.model.embed import BASIS
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.model.meet import N_AFFINITIES

_ZERO: Final = -2  # the place of what was never read: it says nothing at first
_SILENCE: Final = object()
_NOBODY: Final = object()
_INPUT: Final = "input"


@dataclass(frozen=True)
class Axes:
    """A weight's name wherever it is, and what the places of its dimensions stand for.

    A dimension without labels means the same in every model of one shape.
    """

    key: str
    labels: Mapping[int, Labels] = field(default_factory=dict)


def axes_of(model: JointModel, transform: Transform) -> dict[str, Axes]:
    """The axes of every weight of a model, by its name there."""
    known = _encoders(model, transform)
    if "funnel" in model.heads:
        known |= _funnel(model, transform)
    known |= _profile(model, transform) if "profile" in model.heads else {}
    known |= _extract(transform) if "extract" in model.heads else {}
    return {name: known.get(name, Axes(name)) for name, _ in model.named_parameters()}


def _inputs(fields: features.Fields, width: int, apart: str | None = None) -> list[Hashable]:
    """What the columns' outputs are (`daogou.model.embed.Fields`), without the column ``apart``."""
    pairs = [each for each in fields.pairs if each[0] != apart]
    found: list[Hashable] = [
        (_INPUT, "row", name, place) for name, _ in pairs for place in range(width)
    ]
    return found + [
        (_INPUT, "rank", name, place)
        for name, coder in pairs if isinstance(coder, Numeric) for place in range(BASIS)
    ]  # fmt: skip


def _run(name: str, n: int) -> list[Hashable]:
    return [(_INPUT, name, place) for place in range(n)]


def _rows(kind: str, labels: Labels) -> list[Hashable]:
    return [(kind, label) for label in labels]


def _encoders(model: JointModel, transform: Transform) -> dict[str, Axes]:
    labels: dict[str, dict[int, Labels]] = {}
    if model.text is not None and transform.text is not None:
        labels["text.table.weight"] = {0: _rows("text", text_labels(transform.text))}
    if model.item is not None:
        labels["item.ids.weight"] = {0: _rows("id", vocab_labels(transform.item_ids))}
        labels["item.fields.table.weight"] = {0: _rows("field", fields_labels(transform.items))}
        table, width = model.item.fields.table, 0
        content = _inputs(transform.items, table.embedding_dim) if table is not None else []
        if model.text is not None:
            width = model.text.table.embedding_dim
        labels["item.mix.weight"] = {1: [*content, *_run("text", width)]}
    if model.user is not None:
        width = model.user.ids.embedding_dim
        labels["user.ids.weight"] = {0: _rows("id", vocab_labels(transform.user_ids))}
        labels["user.fields.table.weight"] = {0: _rows("field", fields_labels(transform.users))}
        table = model.user.fields.table
        content = _inputs(transform.users, table.embedding_dim) if table is not None else []
        labels["user.mix.weight"] = {1: [*_run("h", width), *content]}
        labels["user.actions.weight"] = {0: [None, *transform.actions]}
        n_read = (model.user.questions.out_features + 1) * width
        kinds: list[Hashable] = [(_INPUT, "amount", name) for name in transform.actions]
        read = [*_run("answer", n_read), *kinds, (_INPUT, "amount", None)]
        labels["user.read.0.weight"] = {1: read}
    return {name: Axes(name, each) for name, each in labels.items()}


def repeats_axis(transform: Transform) -> list[Hashable]:
    """What the counts of a past are of (`daogou.features.repeats`): a mark, and which count."""
    marks = (None, *transform.items.names)
    return [(_INPUT, "repeats", mark, kind) for kind in range(N_PER_MARK) for mark in marks]


def rates_axis(model: JointModel) -> list[Hashable]:
    """What the counts of a product are of (`daogou.model.rates`): exposures, then each stage."""
    stages = [task for task in model.tasks if task.family == "funnel" and not task.is_value]
    return [(_INPUT, "rate", name) for name in (None, *(task.name for task in stages))]


def _funnel(model: JointModel, transform: Transform) -> dict[str, Axes]:
    head = cast(FunnelHead, model.heads["funnel"])
    stages = [task.name for task in model.tasks if task.family == "funnel"]
    read = _met(model, head, transform)
    at = "heads.funnel."
    found: dict[str, dict[int, Labels]] = {
        f"{at}wide": {0: stages, 1: read},
        f"{at}meet.context.table.weight": {0: _rows("field", fields_labels(transform.context))},
        f"{at}own.rows.weight": {0: _own_rows(head, transform, stages)},
        f"{at}position.bias.weight": {0: _places(transform, stages)},
        f"{at}hidden.weight": {1: stages},
        f"{at}hidden.bias": {0: stages},
        f"{at}out.weight": {1: stages},
        f"{at}out.bias": {0: stages},
    }
    axes = {name: Axes(name, labels) for name, labels in found.items()}
    sizes = {
        name: list(weight.shape)
        for name, weight in head.named_parameters()
        if at + name not in axes and not name.startswith("meet.")
    }
    reads = {len(each): each for each in (read, [*read, *_own_inputs(head, transform)])}
    # Inputs are told by how many there are, unless a layer has as many units.
    alike = head.hidden.weight.shape[0] in reads or any(
        each.count(n) > 1 for each in sizes.values() for n in reads
    )
    for name, each in sizes.items():
        # Experts and gates are told apart by the tasks' places: they are the same for the same.
        key = f"{at}{name} of {', '.join(stages)}"
        if alike:
            key = f"{key} with {read}"
        known = reads
        if name.endswith("mixer.enter.weight"):  # of PEPNet: the domain, then the inputs
            known = {each[1]: [*_run("domain", each[1] - len(read)), *read]}
        labels = {dim: known[n] for dim, n in enumerate(each) if n in known and not alike}
        axes[at + name] = Axes(key, labels | _by_domain(name, transform))
    return axes


def _own_inputs(head: FunnelHead, transform: Transform) -> list[Hashable]:
    """What a task's own rows give a mixer (`daogou.model.own.OwnRows`)."""
    if head.own is None:
        return []
    ids = [name for name, n in (("user", head.own.n_users), ("item", head.own.n_items)) if n]
    columns = [name for name in transform.context.names if name != transform.position]
    width = head.own.rows.embedding_dim
    found: list[Hashable] = []
    for each in (*(["user item"] if len(ids) == 2 else []), *ids, *columns):
        found += [(_INPUT, "own", each, place) for place in range(width)]
    assert len(found) == head.own.n_outputs
    return found


def _own_rows(head: FunnelHead, transform: Transform, stages: Sequence[str]) -> Labels:
    """The rows that belong to one stage each, as `daogou.model.own.OwnRows` puts them."""
    if head.own is None:
        return []
    known: list[tuple[str, Hashable]] = []
    if head.own.n_users:
        known += [("user", each) for each in vocab_labels(transform.user_ids)]
    if head.own.n_items:
        known += [("item", each) for each in vocab_labels(transform.item_ids)]
    known += [("field", each) for each in fields_labels(transform.context)]
    owners = [stages[place] for place in head.owners.tolist()]
    return [("own", *each, stage) for each in known for stage in owners]


def _places(transform: Transform, stages: Sequence[str]) -> Labels:
    """What places in a list add to each stage, as `daogou.model.position.Position` has them."""
    context, name = transform.context, transform.position
    of = [label for label in fields_labels(context) if cast(tuple[str, Any], label)[0] == name]
    return [("place", label, stage) for label in of for stage in stages]


def _by_domain(name: str, transform: Transform) -> dict[int, Labels]:
    """The dimension of a mixer's weight that says whose it is, where a domain has its own."""
    layer = name.removeprefix("mixer.").removeprefix("mixer.")  # that of a mixer some leave, too
    if not layer.startswith(("domains", "factors.", "shifts.")):
        return {}
    domain = [label for label in fields_labels(transform.context)
              if cast(tuple[str, Any], label)[0] == transform.domain]  # fmt: skip
    rows = [("domain", label) for label in domain] or [("domain", (None, None))]
    return {0: rows if layer == "domains" else rows[1:]}


def _met(model: JointModel, head: FunnelHead, transform: Transform) -> list[Hashable]:
    """What the mixer's inputs are, as `daogou.model.meet.Meet` puts them side by side."""
    meet, context = head.meet, head.meet.context
    found: list[Hashable] = []
    if hasattr(meet, "ask"):  # there are users and products
        for part in ("v", "u", "u v", "attended", "attended v"):
            found += _run(part, meet.ask.in_features)
        found += _run("affinity", N_AFFINITIES)
        found += repeats_axis(transform) if meet.n_repeats else []
    else:
        others = sum(each.n_outputs for each in (context, meet.rates) if each)
        found += _run("one side", meet.n_outputs - others)
    if meet.rates is not None:
        found += rates_axis(model)
    if context is not None:
        assert context.table is not None
        found += _inputs(transform.context, context.table.embedding_dim, transform.position)
    assert len(found) == meet.n_outputs
    return found


def _profile(model: JointModel, transform: Transform) -> dict[str, Axes]:
    found = {}
    columns = [task.name.removeprefix("profile.") for task in model.tasks
               if task.family == "profile"]  # fmt: skip
    for name, weight in model.heads["profile"].named_parameters():
        _, _, rest = name.partition("networks.")
        number, _, layer = rest.partition(".")
        if not number.isdigit():
            continue
        column = columns[int(number)]
        classes = [("class", word) for word in transform.classes(column)]
        is_last = weight.shape[0] == len(classes) and not layer.startswith("0.")
        labels: dict[int, Labels] = {0: classes} if is_last else {}
        found[f"heads.profile.{name}"] = Axes(f"heads.profile {column} {layer}", labels)
    return found


def _extract(transform: Transform) -> dict[str, Axes]:
    names = transform.attributes
    found: dict[str, Mapping[int, Labels]] = {
        f"heads.extract.{each}": {0: names} for each in ("query", "bias", "steps")
    }
    if transform.text is not None:
        found["heads.extract.values.bag.weight"] = {0: _rows("text", text_labels(transform.text))}
    axes = {name: Axes(name, labels) for name, labels in found.items()}
    for place, (name, coder) in enumerate(transform.values.pairs):
        classes = [("class", word) for word in cast(Vocab, coder).words]
        for part in ("weight", "bias"):
            key = f"heads.extract.values.out {name} {part}"
            axes[f"heads.extract.values.out.{place}.{part}"] = Axes(key, {0: classes})
    for part in ("weight", "bias"):
        where = f"heads.extract.values.ask.{part}"
        axes[where] = Axes(where, {0: transform.values.names})
    return axes


# ---- from one to the other ------------------------------------------------------------------


@torch.no_grad()
def carry(
    weights: Mapping[str, Tensor],
    of: Mapping[str, Axes],
    model: JointModel,
    axes: Mapping[str, Axes],
    *,
    stand_in: bool = True,
) -> list[str]:
    """Give a model the weights of another wherever they stand for the same; names of those given.

    ``of`` are the axes of the ``weights``, ``axes`` the model's. With ``stand_in`` an id, category
    or word that the other lacks gets the row that it has for what is unknown, so that content has
    to say who that is, and an input that the other never read starts at 0; a stage, class or
    attribute of its own starts as a new one does. Without, all such keep what they have.
    """
    called = {each.key: name for name, each in of.items()}
    given = []
    for name, weight in model.named_parameters():
        theirs = called.get(axes[name].key)
        if theirs is None:
            continue
        source, ok = weights[theirs], True
        fresh = torch.zeros_like(weight, dtype=torch.bool)
        silent = torch.zeros_like(fresh)
        for dim in range(weight.dim()):
            labels, known = axes[name].labels.get(dim), of[theirs].labels.get(dim)
            if labels is None or known is None:
                ok = ok and source.shape[dim] == weight.shape[dim]
                continue
            at = torch.from_numpy(_sought(labels, known, stand_in=stand_in))
            source = source.index_select(dim, at.clamp(min=0))
            shape = [1] * weight.dim()
            shape[dim] = len(at)
            fresh |= (at == NOTHING).view(shape)
            silent |= (at == _ZERO).view(shape)
        if ok and source.shape == weight.shape:
            found = torch.where(silent, 0.0, source.to(weight))
            weight.copy_(torch.where(fresh, weight, found))
            given.append(name)
    return given


def _sought(labels: Labels, known: Labels, *, stand_in: bool) -> NDArray[np.int64]:
    """Where each label, or what stands in for it, is among those that the other model has."""
    at = places(labels, known)
    if not stand_in:
        return at
    instead = [_stand_in(label) for label in labels]
    others = places(instead, known)
    others[[each is _NOBODY for each in instead]] = NOTHING
    others[[each is _SILENCE for each in instead]] = _ZERO
    return np.where(at != NOTHING, at, others)


def _stand_in(label: Hashable) -> Hashable:
    """Whose place a label takes that the other model lacks, where it is not left as it begins."""
    if not isinstance(label, tuple):
        return _NOBODY
    kind, *rest = label
    if kind == "own":
        table, value, stage = rest
        return (kind, table, (value[0], None) if table == "field" else None, stage)
    if kind == "id":
        return ("id", None)
    if kind == "field":
        return ("field", (rest[0][0], None))
    if kind == "text":
        return ("text", ("unknown",)) if rest[0][0] == "word" else _SILENCE
    return _SILENCE if kind == _INPUT else _NOBODY
