"""What a batch says of one stage, from numbers that can be worked out by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from daogou.model.stages import Seen

NO = float("nan")


def seen(
    labels: Sequence[int],
    chances: Sequence[float],
    *,
    before: Sequence[float] = (),
    happened: Sequence[bool] = (),
    further: Sequence[float] = (),
    delay_h: Sequence[float] = (),
    watched_h: Sequence[float] = (),
    weight: Sequence[float] = (),
) -> Seen:
    """Exposures with these labels, chances of the stage and of the one before (1 if not given).

    ``further`` is a logit too. The stage before happened everywhere unless ``happened`` is given.
    """
    return from_logits(
        labels,
        torch.tensor(chances).logit(),
        torch.tensor(before).log() if before else torch.zeros(len(labels)),
        happened=happened,
        further=further,
        hours=(delay_h, watched_h) if delay_h else None,
        weight=weight,
    )


def from_logits(
    labels: Sequence[int],
    logit: Tensor,
    log_before: Tensor,
    *,
    happened: Sequence[bool] = (),
    further: Sequence[float] = (),
    hours: tuple[Sequence[float], Sequence[float]] | None = None,
    weight: Sequence[float] = (),
) -> Seen:
    n = len(labels)
    said = torch.tensor(further) if further else torch.zeros(n)
    return Seen(
        logit=logit.requires_grad_(),
        further=said[:, None].requires_grad_(),
        log_before=log_before.requires_grad_(),
        label=torch.tensor(labels, dtype=torch.int8),
        happened=torch.tensor(happened) if happened else torch.ones(n, dtype=torch.bool),
        weight=torch.tensor(weight) if weight else torch.ones(n),
        window_h=10.0,
        delay_h=torch.tensor(hours[0]) if hours else None,
        watched_h=torch.tensor(hours[1]) if hours else None,
    )
