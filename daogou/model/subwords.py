"""Sub-words of titles to a vector for each token, by a transformer that lies in a folder."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.subwords import PIECES, SubWords, opened


class SubWordEncoder(nn.Module):
    """A transformer's last states, their mean over each token's sub-words, and a linear map.

    Shapes: channels ``[N, L, PIECES + 2]`` -> ``[N, L, D]``, 0 for a token that meets no sub-word.
    Unless it is tuned the transformer never learns, is always in evaluation mode and is no part of
    the state: its weights stay in their folder.
    """

    def __init__(self, subwords: SubWords, width: int) -> None:
        super().__init__()
        with torch.device("cpu"):  # also where a run that is read asks for shapes alone
            network = opened(
                "AutoModel", subwords.folder, use_safetensors=True, dtype=torch.float32
            )
        self.tuned = network.requires_grad_(subwords.tune) if subwords.tune else None
        self._frozen: tuple[Any, ...] = (
            () if subwords.tune else (network.requires_grad_(False).eval(),)
        )
        self.out = nn.Linear(network.config.hidden_size, width, bias=False)

    def forward(self, channels: Tensor) -> Tensor:
        ids = channels[..., :PIECES].flatten(1)  # [N, L * PIECES]
        filled = (ids > 0).any(1).nonzero()[:, 0]
        found = self.out.weight.new_zeros(*channels.shape[:2], self.out.out_features)
        if not len(filled):
            return found + 0 * self.out.weight.sum()
        ids, meets = ids[filled], channels[filled][..., PIECES:]
        ids = ids[:, : int((ids > 0).any(0).sum())]
        states = functional.pad(self._states(ids).cumsum(1), (0, 0, 1, 0))  # [M, S + 1, H]
        first, after = (meets[..., place, None].expand(-1, -1, states.shape[2]) for place in (0, 1))
        count = (meets[..., 1] - meets[..., 0]).clamp(min=1)[..., None]
        mean = (states.gather(1, after) - states.gather(1, first)) / count
        return found.index_copy(0, filled, self.out(mean))

    def _states(self, ids: Tensor) -> Tensor:
        """The transformer's last states ``[M, S, H]`` of sub-words, 0 = none."""
        network = self.tuned if self.tuned is not None else self._frozen[0].to(ids.device)
        with torch.set_grad_enabled(self.tuned is not None and torch.is_grad_enabled()):
            read = network(input_ids=(ids - 1).clamp(min=0), attention_mask=(ids > 0).long())
        states: Tensor = read.last_hidden_state
        return states
