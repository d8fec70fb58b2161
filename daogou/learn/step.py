"""One training step, the same for plain, transfer, meta and federated training."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from daogou.balance import Balancer
from daogou.features.batch import Batch
from daogou.learn.peers import ALONE, Peers
from daogou.model.encoded import Encoded
from daogou.model.joint import JointModel


@dataclass(frozen=True)
class Stepped:
    """What a step saw: detached losses and weights ``[T]``, and the Gram if one was taken."""

    losses: Tensor
    weights: Tensor
    gram: Tensor | None


def backward(  # noqa: PLR0913 - what a step depends on, all of it
    model: JointModel,
    batch: Batch,
    static: Tensor,
    balancer: Balancer,
    gram: Tensor | None = None,
    *,
    take_gram: bool = True,
    families: Collection[str] | None = None,
    learns: Tensor | None = None,
    peers: Peers = ALONE,
) -> Stepped:
    """Fill ``.grad`` of every weight for one batch; the caller owns the optimisers.

    Each family's heads read detached copies of the encodings, so that their backward pass ends
    there; then one shared pass runs through the encoders. Task weights (``static [T]`` times the
    balancer's) act at the fork, not in the loss: a task of weight 0 still trains its own layers.
    ``gram`` is a kept one: used as it is when ``take_gram`` is false, else averaged with the new
    one, so that the earlier a Gram was taken, the less it counts. A task of static weight 0 is to
    the balancer one without a label: it steers no other's weight. ``families`` are those to teach,
    None = all: the heads of the others do not run, and none of their weights gets a gradient.
    ``learns [T]`` is 0 for tasks that do not even learn their own layers; None = none such.
    Of several ``peers`` each has a part of the batch; they weigh tasks by what all of them saw, and
    only for that wait for each other here.
    """
    encoded = model.encode(batch)
    taught = model.heads if families is None else [each for each in model.heads if each in families]
    leaves = {family: encoded.leaves() for family in taught}
    weights = static.clone()
    found = model.losses(leaves, batch, weights)
    funnel = model.places["funnel"] if "funnel" in leaves else slice(0, 0)
    losses = found.values.detach()
    balanced = found.values[funnel]
    heard = heard_of(static[funnel])
    if len(balanced) and balancer.hears:
        losses = peers.mean(losses)
        if balancer.needs_gram and take_gram and found.shared is not None:
            weights[funnel] = 1.0
            # Each row's gradient is 1 / peers.n of what its own process takes it for, squared here.
            taken = peers.mean(balancer.take(balanced, found.shared)) / peers.n
            taken = taken * heard[:, None] * heard
            gram = taken if gram is None else (gram + taken) / 2
        # Some draw their weights, or keep of a batch more than its Gram.
        weights[funnel] = static[funnel] * peers.led(balancer(losses[funnel] * heard, gram))
    (found.values if learns is None else found.values * learns).sum().backward()
    _shared_backward(encoded, leaves)
    return Stepped(losses, weights, gram)


def heard_of(static: Tensor) -> Tensor:
    """1 for tasks whose losses a balancer hears of, 0 for those of static weight 0: ``[T]``."""
    return (static > 0).to(static.dtype)


def _shared_backward(encoded: Encoded, leaves: dict[str, Encoded]) -> None:
    """One pass through the encoders with the summed gradients that arrived at the copies."""
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for name, output in encoded.present():
        arrived = [
            copy.grad
            for family in leaves.values()
            if (copy := getattr(family, name)) is not None and copy.grad is not None
        ]
        if arrived and output.requires_grad:
            outputs.append(output)
            gradients.append(sum(arrived[1:], start=arrived[0]))
    if outputs:
        torch.autograd.backward(outputs, gradients)
