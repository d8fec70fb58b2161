"""Linear layers of encoders to the same layers with a change of low rank, which alone is learnt."""

import math
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from daogou.model.joint import JointModel

RANK: Final = 8


class LowRank(nn.Module):
    """``W + B A`` of a weight ``W [O, I]`` that stays as it is, with ``B [O, R]`` and ``A [R, I]``.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, with a scale of 1.
    ``B`` starts at 0, so that at the start nothing has changed.
    """

    def __init__(self, weight: Tensor, rank: int = RANK) -> None:
        super().__init__()
        rank = min(rank, *weight.shape)
        bound = 1 / math.sqrt(weight.shape[1])
        self.a = nn.Parameter(torch.empty(rank, weight.shape[1]).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def encoders_of(model: JointModel) -> list[nn.Module]:
    """The encoders that a model has."""
    return [each for each in (model.text, model.item, model.user) if each is not None]


def freeze(model: JointModel) -> None:
    """Nothing in the encoders learns; mixer and heads do."""
    for encoder in encoders_of(model):
        encoder.requires_grad_(False)


def adapt(model: JointModel) -> None:
    """Of the encoders only changes of low rank, norms and rows of ids learn.

    Norms tell what is usual in a domain, and ids are mostly a domain's own; what columns and words
    mean stays as it is.
    """
    freeze(model)
    for encoder in encoders_of(model):
        layers = list(encoder.modules())
        for layer in layers:
            if isinstance(layer, nn.Linear):
                change = LowRank(layer.weight).to(layer.weight.device)
                parametrize.register_parametrization(layer, "weight", change)
            elif isinstance(layer, nn.LayerNorm):
                layer.requires_grad_(True)
    for side in (model.item, model.user):
        if side is not None:
            cast(nn.Module, side.ids).requires_grad_(True)


def settle(model: JointModel) -> None:
    """Put every change into the weight that it changes: the model is an ordinary one again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
