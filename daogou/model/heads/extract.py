"""Token states to tags: which tokens of a title name which attribute's value."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from daogou.features.batch import Batch
from daogou.features.gazetteer import N_CODES
from daogou.features.tags import INSIDE, MASKED, OUTSIDE
from daogou.features.text import CHANNELS, LISTED
from daogou.features.tokens import hash_of, normalised
from daogou.model.calibrated import Calibrated
from daogou.model.encoded import Encoded, TaskLosses, weigh
from daogou.model.heads.values import ValueReader

N_TAGS: Final = 3
VALUE_SHARE: Final = 0.1  # of the gradient of values below the fork, for that of spans
LIST_PACE: Final = 8.0  # how much faster than other dense weights the few of lists learn
NEVER: Final = -1e4  # the score of a forbidden step: finite, so that 0 * NEVER is no NaN


class ExtractHead(nn.Module):
    """Tags begin / inside / outside for every attribute, each asking one shared layer its question.

    An attribute is a query: a learnt row, and an encoding of its name's letters, so that attributes
    of like names start alike. The layer that reads tokens for an attribute is its query times one
    shared map (Yan et al., "AdaTag: Multi-Attribute Value Extraction from Product Profiles with
    Adaptive Decoding", ACL 2021; unlike there the map is one product of low rank and no mixture).
    What the gazetteer says of a token adds to the logits of the attribute that it says it of, by a
    table that all attributes share: how far a list is to be trusted is learnt once.

    Tags are a chain per attribute (Lafferty et al., "Conditional Random Fields", ICML 2001) with a
    transition matrix each; the step outside -> inside is forbidden. Attributes are tagged apart,
    so that their spans may overlap.

    Shapes: ``[N, L, D]`` and ``[N, L, F]`` -> ``[N, A, L, 3]``, with N titles, L tokens, D width,
    F channels, A attributes.
    """

    forbidden: Tensor
    names: Tensor

    def __init__(
        self,
        width: int,
        names: Sequence[str],
        *,
        first_match: int,
        hidden: int = 128,
        query: int = 64,
        dropout: float = 0.3,
        list_dropout: float = 0.3,
        values: ValueReader | None = None,
    ) -> None:
        super().__init__()
        self.n_attributes, self.first_match = len(names), first_match
        self.list_dropout = list_dropout
        self.own = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("names", name_features(names), persistent=False)
        self.query = nn.Parameter(torch.randn(len(names), query))
        self.named = nn.Linear(self.names.shape[1], query, bias=False)
        self.out = nn.Linear(query, N_TAGS * hidden, bias=False)
        nn.init.normal_(self.out.weight, std=(query * hidden) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(len(names), N_TAGS))
        self.listed = nn.Parameter(torch.zeros(N_CODES, N_TAGS))
        self.steps = nn.Parameter(torch.zeros(len(names), N_TAGS, N_TAGS))
        self.calibrated = Calibrated(1)  # of the chance that a span is right
        self.values = values
        forbidden = torch.zeros(N_TAGS, N_TAGS)
        forbidden[OUTSIDE, INSIDE] = NEVER
        self.register_buffer("forbidden", forbidden, persistent=False)

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """Logits ``[N, A, L, 3]`` of token states ``[N, L, D]`` and rows ``[N, L, F]``."""
        n_titles, length, _ = states.shape
        hidden = self.dropout(functional.silu(self.own(states)))
        weights = self.out(self.query + self.named(self.names)).view(-1, hidden.shape[-1])
        logits = functional.linear(hidden, weights, self.bias.flatten())
        logits = logits.view(n_titles, length, self.n_attributes, N_TAGS)
        return (logits + self.matched(rows[..., LISTED : len(CHANNELS)])).transpose(1, 2)

    def matched(self, matches: Tensor) -> Tensor:
        """What the gazetteer's matches ``[N, L, M]`` add to the logits, ``[N, L, A, 3]``.

        Lists of columns that are no attribute add nothing here. In training some matches are
        dropped, so that the title has a say where a list knows the answer.
        """
        number = matches - self.first_match
        known = (number >= 0) & (number < self.n_attributes * N_CODES)
        if self.training and self.list_dropout > 0:
            known &= torch.rand(number.shape, device=number.device) >= self.list_dropout
        title, token, column = known.nonzero(as_tuple=True)
        code = number[title, token, column]
        said = self.listed.new_zeros(*number.shape[:2], self.n_attributes, N_TAGS)
        added = LIST_PACE * self.listed[code % N_CODES]
        return said.index_put((title, token, code // N_CODES), added, accumulate=True)

    def transitions(self) -> Tensor:
        """Scores ``[A, 3, 3]`` of stepping from a tag (rows) to the next (columns)."""
        return self.steps + self.forbidden

    def loss(self, logits: Tensor, tags: Tensor, *, sharpness: float = 1.0) -> Tensor:
        """Negative log-likelihood per annotated tag; 0 where nothing is annotated.

        ``tags`` is integer ``[N, A, L]``; -1 is not annotated and adds nothing. The sum over
        annotated tags is divided by their number, so attributes annotated more often count more.
        All scores are multiplied by ``sharpness``, the inverse of a temperature.
        """
        known = tags != MASKED
        n_known = known.sum().clamp(min=1)
        rows = known.any(dim=-1)  # [N, A]
        attribute = rows.nonzero()[:, 1]
        gold, known = tags[rows].long().clamp(min=0), known[rows]
        lines = logits[rows] * sharpness
        steps = self.transitions()[attribute] * sharpness  # [R, 3, 3]
        total = (log_partition(lines, steps, known) - score(lines, steps, gold, known)).sum()
        return total / n_known

    def losses(self, encoded: Encoded, batch: Batch, weights: Tensor) -> TaskLosses:
        """The loss over the batch's titles with gold, ``[1]``; 0 where there is none.

        That of the spans and that of the values that are read as classes, where the latter sends
        a share of `VALUE_SHARE` of its gradient below the fork.
        """
        assert encoded.tokens is not None
        if not len(batch.titles):
            return TaskLosses((encoded.tokens.sum() * 0)[None])
        text = batch.titles["text"]
        states = weigh(encoded.tokens[None], weights)[0][text]
        rows = batch.texts["tokens"][text]
        loss = self.loss(self(states, rows), batch.titles["tags"])
        if self.values is not None:
            faint = VALUE_SHARE * states + (1 - VALUE_SHARE) * states.detach()
            read = self.values(faint, rows)
            loss = loss + self.values.loss(read, batch.titles["values"])
        return TaskLosses(loss[None])

    def sure(self, chances: Sequence[float]) -> list[float]:
        """Confidences of spans, from the products of their tokens' probabilities."""
        found: list[float] = self.calibrated(torch.tensor([chances], dtype=torch.float64))[
            0
        ].tolist()
        return found

    @torch.no_grad()
    def decode(self, logits: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The likeliest legal tags ``[N, A, L]`` int64 and each one's probability ``[N, A, L]``.

        ``present`` is bool ``[N, L]``, true at tokens and false at padding, which is outside and
        has no say: a title's tags do not depend on the titles beside it. None = all are tokens.
        Where a title has no value of an attribute nobody asks how sure each tag is: 0 in that row.
        """
        n_titles, n_attributes, length, _ = logits.shape
        steps = self.transitions().expand(n_titles, -1, -1, -1).flatten(0, 1)
        lines = logits.flatten(0, 1)
        if present is None:
            present = torch.ones(n_titles, length, dtype=torch.bool, device=logits.device)
        known = present[:, None].expand(-1, n_attributes, -1).flatten(0, 1)
        tags = viterbi(lines, steps, known)
        rows = (tags != OUTSIDE).any(1).nonzero()[:, 0]
        sure = lines.new_zeros(tags.shape)
        said = marginals(lines[rows], steps[rows], known[rows])
        sure[rows] = said.gather(-1, tags[rows][..., None])[..., 0]
        shape = (n_titles, n_attributes, length)
        return tags.view(shape), sure.view(shape)


def name_features(names: Sequence[str]) -> Tensor:
    """Names as the letters they are made of, ``[A, F]``: hashed runs of one to three, length 1."""
    found = torch.zeros(len(names), 256)
    for row, name in enumerate(names):
        word = f"^{normalised(name)}$"
        for n in (1, 2, 3, 4):
            for at in range(len(word) - n + 1):
                found[row, hash_of(word[at : at + n]) % 256] += 1
    return functional.normalize(found, dim=1)


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


# Both walk along titles with the rows last, so that each step is a few passes over long lines.


def viterbi(lines: Tensor, steps: Tensor, known: Tensor) -> Tensor:
    """The best legal tags ``[R, L]`` of lines ``[R, L, 3]``; outside where not known ``[R, L]``."""
    best, line = _start(lines).T, lines.permute(1, 2, 0).contiguous()  # [3, R], [L, 3, R]
    step, here = steps.permute(1, 2, 0).contiguous(), known.T.contiguous()
    origins: list[Tensor] = []
    same = torch.arange(N_TAGS, device=lines.device)[:, None]
    for place in range(1, len(line)):
        reached, origin = (best[:, None] + step).max(dim=0)
        best = torch.where(here[place], reached + line[place], best)
        origins.append(torch.where(here[place], origin, same))
    tag = best.argmax(dim=0)
    tags = [tag]
    for origin in reversed(origins):
        tag = origin.gather(0, tag[None])[0]
        tags.append(tag)
    return torch.stack(tags[::-1], dim=-1).masked_fill(~known, OUTSIDE)


def marginals(lines: Tensor, steps: Tensor, known: Tensor) -> Tensor:
    """Probabilities ``[R, L, 3]`` of each tag at each known place, over all legal sequences."""
    line, here = lines.permute(1, 2, 0).contiguous(), known.T.contiguous()
    step = steps.permute(1, 2, 0).contiguous()
    forward = [_start(lines).T]
    for place in range(1, len(line)):
        reached = (forward[-1][:, None] + step).logsumexp(dim=0) + line[place]
        forward.append(torch.where(here[place], reached, forward[-1]))
    backward = [torch.zeros_like(forward[0])]
    for place in range(len(line) - 1, 0, -1):
        reached = (step + (backward[-1] + line[place])[None]).logsumexp(dim=1)
        backward.append(torch.where(here[place], reached, backward[-1]))
    both = torch.stack(forward) + torch.stack(backward[::-1])  # [L, 3, R]
    return both.softmax(dim=1).permute(2, 0, 1)
