"""Token states to tags: which tokens of a title name which attribute's value."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.features.text import INSIDE, MASKED, OUTSIDE
from daogou.model.encoded import Encoded, TaskLosses, weigh

N_TAGS: Final = 3
NEVER: Final = -1e4  # the score of a forbidden step: finite, so that 0 * NEVER is no NaN


class ExtractHead(nn.Module):
    """Tags begin / inside / outside for every attribute at once, as a chain per attribute.

    Lafferty et al., "Conditional Random Fields", ICML 2001, with three tags and a transition matrix
    per attribute; the step outside -> inside is forbidden. Attributes are tagged apart, so that
    their spans may overlap.

    Shapes: ``[N, L, D]`` -> ``[N, A, L, 3]``, with N titles, L tokens, A attributes.
    """

    forbidden: Tensor

    def __init__(
        self,
        width: int,
        n_attributes: int,
        *,
        hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_attributes = n_attributes
        self.own = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, n_attributes * N_TAGS)
        self.steps = nn.Parameter(torch.zeros(n_attributes, N_TAGS, N_TAGS))
        forbidden = torch.zeros(N_TAGS, N_TAGS)
        forbidden[OUTSIDE, INSIDE] = NEVER
        self.register_buffer("forbidden", forbidden, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Logits ``[N, A, L, 3]`` of token states ``[N, L, D]``."""
        n_titles, length, _ = states.shape
        hidden = self.dropout(functional.silu(self.own(states)))
        logits: Tensor = self.out(hidden).view(n_titles, length, self.n_attributes, N_TAGS)
        return logits.transpose(1, 2)

    def transitions(self) -> Tensor:
        """Scores ``[A, 3, 3]`` of stepping from a tag (rows) to the next (columns)."""
        return self.steps + self.forbidden

    def loss(self, logits: Tensor, tags: Tensor) -> Tensor:
        """Negative log-likelihood per annotated tag; 0 where nothing is annotated.

        ``tags`` is integer ``[N, A, L]``; -1 is not annotated and adds nothing. The sum over
        annotated tags is divided by their number, so attributes annotated more often count more.
        """
        known = tags != MASKED
        n_known = known.sum().clamp(min=1)
        rows = known.any(dim=-1)  # [N, A]
        attribute = rows.nonzero()[:, 1]
        lines, gold, known = logits[rows], tags[rows].long().clamp(min=0), known[rows]
        steps = self.transitions()[attribute]  # [R, 3, 3]
        total = (log_partition(lines, steps, known) - score(lines, steps, gold, known)).sum()
        return total / n_known

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """The loss over the batch's titles with gold spans, ``[1]``; 0 where there is none."""
        assert encoded.tokens is not None
        if not len(batch.titles):
            return TaskLosses((encoded.tokens.sum() * 0)[None])
        states = weigh(encoded.tokens[None], weights)[0][batch.titles["text"]]
        return TaskLosses(self.loss(self(states), batch.titles["tags"])[None])

    @torch.no_grad()
    def decode(self, logits: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The likeliest legal tags ``[N, A, L]`` int64 and each one's probability ``[N, A, L]``.

        ``present`` is bool ``[N, L]``, true at tokens and false at padding, which is outside and
        has no say: a title's tags do not depend on the titles beside it. None = all are tokens.
        """
        n_titles, n_attributes, length, _ = logits.shape
        steps = self.transitions().expand(n_titles, -1, -1, -1).flatten(0, 1)
        lines = logits.flatten(0, 1)
        if present is None:
            present = torch.ones(n_titles, length, dtype=torch.bool, device=logits.device)
        known = present[:, None].expand(-1, n_attributes, -1).flatten(0, 1)
        tags = viterbi(lines, steps, known)
        sure = marginals(lines, steps, known).gather(-1, tags[..., None])[..., 0]
        shape = (n_titles, n_attributes, length)
        return tags.view(shape), sure.view(shape)


def _start(lines: Tensor) -> Tensor:
    """Scores ``[R, 3]`` of the first tags: as if the tag before the title was outside."""
    return lines[:, 0] + torch.tensor([0.0, 0.0, NEVER], device=lines.device, dtype=lines.dtype)


def score(lines: Tensor, steps: Tensor, tags: Tensor, known: Tensor) -> Tensor:
    """Scores ``[R]`` of given tags ``[R, L]`` in lines of logits ``[R, L, 3]``."""
    own = torch.where(known, lines.gather(-1, tags[..., None])[..., 0], 0.0).sum(-1)
    rows = torch.arange(len(lines), device=lines.device)[:, None]
    step = steps[rows, tags[:, :-1], tags[:, 1:]]
    return own + torch.where(known[:, 1:], step, 0.0).sum(-1)


def log_partition(lines: Tensor, steps: Tensor, known: Tensor) -> Tensor:
    """Log of the summed exponentials of all legal tag sequences' scores, ``[R]``."""
    alpha = _start(lines)
    for place in range(1, lines.shape[1]):
        reached = (alpha[:, :, None] + steps).logsumexp(dim=1) + lines[:, place]
        alpha = torch.where(known[:, place, None], reached, alpha)
    return alpha.logsumexp(dim=-1)


def viterbi(lines: Tensor, steps: Tensor, known: Tensor) -> Tensor:
    """The best legal tags ``[R, L]`` of lines ``[R, L, 3]``; outside where not known ``[R, L]``."""
    best = _start(lines)
    origins: list[Tensor] = []
    same = torch.arange(N_TAGS, device=lines.device)
    for place in range(1, lines.shape[1]):
        reached, origin = (best[:, :, None] + steps).max(dim=1)
        here = known[:, place, None]
        best = torch.where(here, reached + lines[:, place], best)
        origins.append(torch.where(here, origin, same))
    tag = best.argmax(dim=-1)
    tags = [tag]
    for origin in reversed(origins):
        tag = origin.gather(-1, tag[:, None])[:, 0]
        tags.append(tag)
    return torch.stack(tags[::-1], dim=-1).masked_fill(~known, OUTSIDE)


def marginals(lines: Tensor, steps: Tensor, known: Tensor) -> Tensor:
    """Probabilities ``[R, L, 3]`` of each tag at each known place, over all legal sequences."""
    forward = [_start(lines)]
    for place in range(1, lines.shape[1]):
        reached = (forward[-1][:, :, None] + steps).logsumexp(dim=1) + lines[:, place]
        forward.append(torch.where(known[:, place, None], reached, forward[-1]))
    backward = [torch.zeros_like(forward[0])]
    for place in range(lines.shape[1] - 1, 0, -1):
        following = backward[-1] + lines[:, place]
        reached = (steps + following[:, None, :]).logsumexp(dim=2)
        backward.append(torch.where(known[:, place, None], reached, backward[-1]))
    both = torch.stack(forward, dim=1) + torch.stack(backward[::-1], dim=1)
    return both.softmax(dim=-1)
