"""A user's behaviour to a state, and the state with id and columns to a user vector."""

import torch
from torch import Tensor, nn

from daogou.features.past import N_AGES
from daogou.model.dropout import Dropout
from daogou.model.embed import Fields, Table, forget, spread


class UserEncoder(nn.Module):
    """What a user did, read as an unordered set with ages, by learned questions.

    ``events = v_j + action + age``; each of ``n_questions`` learned queries attends over them,
    beside the plain mean and the amount of each action. ``h = LN(MLP(...))`` reads behaviour
    only, so profile heads on ``h`` cannot memorise labels by user id. ``u = LN(W h + gate *
    e_id + W columns)`` is for matching and ranking.

    Shapes: items ``[I, D]``, history ``[Q, L]`` (rows of items, 0 past the end), action and age
    ``[Q, L]`` -> events ``[Q, L, D]``, h ``[Q, D]``, u ``[Q, D]``.
    """

    def __init__(
        self,
        frequencies: Tensor,
        fields: Fields,
        n_actions: int,
        width: int,
        *,
        n_questions: int = 4,
        id_dropout: float = 0.1,
        dropout: float = 0.1,
        event_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.actions = nn.Embedding(n_actions + 1, width)
        self.ages = nn.Embedding(N_AGES, width)
        nn.init.normal_(self.actions.weight, std=0.1)
        nn.init.normal_(self.ages.weight, std=0.1)
        self.questions = nn.Linear(width, n_questions)
        n_read = (n_questions + 1) * width + n_actions + 1
        self.read = nn.Sequential(
            nn.Linear(n_read, 2 * width), nn.SiLU(), Dropout(dropout),
            nn.Linear(2 * width, width), nn.LayerNorm(width),
        )  # fmt: skip
        self.ids = Table(len(frequencies), width, std=spread(width))
        self.fields = fields
        self.mix = nn.Linear(width + fields.n_outputs, width)
        self.gate_slope = nn.Parameter(torch.tensor(1.0))
        self.gate_shift = nn.Parameter(torch.tensor(0.0))
        self.norm = nn.LayerNorm(width)
        self.id_dropout = id_dropout
        self.event_dropout = event_dropout
        self.n_actions = n_actions
        self.register_buffer("log_frequency", torch.log1p(frequencies.float()))

    log_frequency: Tensor

    def forget_events(self, action: Tensor) -> Tensor:
        """Actions ``[Q, L]``, in training with a random share of the events gone (0).

        No two passes then see the same history of a user, and the few users whose profile is
        known are not learnt by heart.
        """
        if not self.training or self.event_dropout <= 0:
            return action
        gone = torch.rand(action.shape, device=action.device) < self.event_dropout
        return torch.where(gone, 0, action)

    def read_history(self, items: Tensor, history: Tensor, action: Tensor, age: Tensor) -> Tensor:
        """Events ``[Q, L, D]``; those past the end of a history are zero."""
        taken = items.index_select(0, history.flatten()).view(*history.shape, items.shape[1])
        events: Tensor = taken + self.actions(action) + self.ages(age)
        return events * (action > 0)[..., None]

    def forward(self, events: Tensor, action: Tensor) -> Tensor:
        """The behaviour state ``h [Q, D]``."""
        known = action > 0  # [Q, L]
        # A history without an event would make the softmax over nothing NaN; the finite floor
        # makes it uniform over padding, whose events are zero.
        scores = self.questions(events).masked_fill(~known[..., None], -1e4)  # [Q, L, n]
        answers = torch.einsum("qln,qld->qnd", scores.softmax(1), events).flatten(1)
        count = known.sum(1, keepdim=True)
        mean = events.sum(1) / count.clamp(min=1)
        amounts = torch.stack(
            [(action == kind).sum(1) for kind in range(1, self.n_actions + 1)] + [count[:, 0]], 1
        )
        state: Tensor = self.read(torch.cat([answers, mean, torch.log1p(amounts.float())], dim=1))
        return state

    def user(self, h: Tensor, ids: Tensor, fields: Tensor, numbers: Tensor) -> Tensor:
        """The user vector ``u [Q, D]``."""
        ids = forget(ids, self.id_dropout, self.training)
        gate = torch.sigmoid(self.gate_slope * (self.log_frequency[ids] - 2.0) + self.gate_shift)
        content = torch.cat([h, self.fields(fields, numbers)], dim=1)
        encoded: Tensor = self.norm(self.mix(content) + gate[:, None] * self.ids(ids))
        return encoded
