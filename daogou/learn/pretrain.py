"""A shop's titles to a text encoder that can guess a word from the others, before any task."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from daogou.errors import DataError
from daogou.features.store import SPLITS, Store
from daogou.features.text import CHANNELS, PADDING, UNKNOWN
from daogou.learn.loop import Progress, quiet
from daogou.learn.optimise import RowAdagrad, dense_of, tables_of
from daogou.learn.settings import Settings
from daogou.model.text import TextEncoder

MASKED_SHARE = 0.2  # of the tokens of a title
_LEFT, _RIGHT = CHANNELS.index("left"), CHANNELS.index("right")
Rows = NDArray[np.int64]


def pretrain(
    text: TextEncoder,
    store: Store,
    settings: Settings,
    *,
    n_words: int,
    seed: int,
    progress: Progress = quiet,
) -> list[float]:
    """Teach an encoder to guess hidden words, and return each epoch's nats per hidden word.

    Devlin et al., "BERT", NAACL 2019; unlike there a hidden token is always hidden, all its
    channels with it and the pairs that its neighbours make with it, and only words that have a
    row (``n_words`` of them, from 2 on) are asked for. The layer that guesses is thrown away.
    Texts of titles whose gold chooses or tests are not read. The same seed gives the same weights.
    Raises DataError where the loss is no longer finite.
    """
    if not n_words:
        return []  # no word stands in titles enough to be asked for
    device = next(text.parameters()).device
    torch.manual_seed(int(np.random.SeedSequence([seed, len(SPLITS)]).generate_state(1)[0]))
    guess = nn.Linear(text.table.embedding_dim, n_words).to(device)
    dense = [*dense_of(text), *guess.parameters()]
    adam = torch.optim.AdamW(dense, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rows = RowAdagrad(tables_of(text), learning_rate=settings.row_learning_rate)
    readable, size = texts_of(store), settings.titles_per_step
    found: list[float] = []
    text.train()
    for epoch in range(settings.pretrain_epochs):
        order = np.random.default_rng([seed, epoch]).permutation(readable)
        total, n = 0.0, 0
        for start in range(0, len(order), size):
            tokens = store["texts/tokens"][np.sort(order[start : start + size])].astype(np.int64)
            longest = max(int((tokens[..., 0] != PADDING).any(0).sum()), 1)
            hidden, words = hide(torch.from_numpy(tokens[:, :longest]).to(device))
            asked = words >= 0
            if not asked.any():
                continue
            states, _ = text(hidden)
            loss = functional.cross_entropy(guess(states[asked]), words[asked])
            adam.zero_grad(set_to_none=True)
            rows.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(dense, settings.clip)
            adam.step()
            rows.step()
            total, n = total + float(loss.detach()) * int(asked.sum()), n + int(asked.sum())
        found.append(_sound(total / n) if n else float("nan"))
        progress("pretrain", epoch + 1, settings.pretrain_epochs, f"{found[-1]:.3f} nats a word")
    return found


def _sound(nats: float) -> float:
    if not np.isfinite(nats):
        raise DataError(
            f"pre-training: the loss became {nats}; lower fit.learning_rate and "
            "fit.row_learning_rate"
        )
    return nats


def texts_of(store: Store) -> Rows:
    """The texts that pre-training may read: all but those of titles that choose or test."""
    kept = np.ones(len(store["texts/tokens"]), dtype=bool)
    kept[0] = False  # the unknown one
    kept[store["titles/text"][np.asarray(store["titles/split"]) != SPLITS.index("train")]] = False
    return np.flatnonzero(kept)


def hide(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``[N, L, F]`` with some tokens hidden, and the words ``[N, L]`` to guess, else -1."""
    word = rows[..., 0]
    drawn = torch.rand(word.shape, device=rows.device) < MASKED_SHARE
    hidden = drawn & (word != PADDING)
    found = torch.where(hidden[..., None], PADDING, rows)
    found[..., 0] = torch.where(hidden, UNKNOWN, word)
    after = functional.pad(hidden, (1, 0))[:, :-1]  # the token before is hidden
    before = functional.pad(hidden, (0, 1))[:, 1:]
    found[..., _LEFT] = torch.where(after, PADDING, found[..., _LEFT])
    found[..., _RIGHT] = torch.where(before, PADDING, found[..., _RIGHT])
    return found, torch.where(hidden & (word > UNKNOWN), word - UNKNOWN - 1, -1)
