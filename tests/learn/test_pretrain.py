"""Words guessed from the others of a title."""

import numpy as np
import pytest
import torch

from daogou.errors import DataError
from daogou.features.store import Store
from daogou.features.text import PADDING, UNKNOWN, fit_text
from daogou.learn.pretrain import MASKED_SHARE, hide, pretrain, texts_of
from daogou.learn.settings import Settings
from daogou.model.text import TextEncoder

TITLES = [f"{colour} {kind}" for colour, kind in
          [("red", "rose"), ("blue", "sky"), ("green", "leaf"), ("white", "snow")]] * 8  # fmt: skip
VOCAB = fit_text(TITLES, length=2, min_count=1, pair_count=1)


def shop(split: list[int] | None = None) -> Store:
    """Texts of all titles after the unknown one; titles of the first texts with these splits."""
    tokens = np.concatenate([np.zeros((1, 2, VOCAB.n_channels)), VOCAB.encode(TITLES)])
    splits = np.array(split or [], dtype=np.int8)
    arrays = {
        "texts/tokens": tokens.astype(np.int32),
        "titles/split": splits,
        "titles/text": np.arange(1, len(splits) + 1),
    }
    return Store(None, arrays, {})  # type: ignore[arg-type]  # no folder is read


def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(VOCAB.n_rows, VOCAB.n_channels, 16, dropout=0.0, channel_dropout=0.0)


def test_a_hidden_word_is_in_no_channel_of_its_title() -> None:
    torch.manual_seed(0)
    rows = torch.from_numpy(VOCAB.encode(["red rose"] * 4000).astype(np.int64))
    hidden, words = hide(rows)
    share = (words >= 0).float().mean().item()
    assert share == pytest.approx(MASKED_SHARE, abs=0.02)
    one = (words[:, 0] >= 0) & (words[:, 1] < 0)
    assert (hidden[one, 0, 1:] == PADDING).all() and (hidden[one, 0, 0] == UNKNOWN).all()
    # "rose" is as it was but for the pair that it makes with what is hidden before it.
    seen = rows[one, 1].clone()
    seen[:, 1] = PADDING
    assert torch.equal(hidden[one, 1], seen)
    assert (rows[one, 1, 1] != PADDING).all(), "or this test would show nothing"
    assert torch.equal(words[one, 0], rows[one, 0, 0] - 2)
    both = (words < 0).all(1)
    assert torch.equal(hidden[both], rows[both])


def test_padding_and_unknown_words_are_never_asked_for() -> None:
    rows = torch.from_numpy(VOCAB.encode(["mauve", ""] * 200).astype(np.int64))
    hidden, words = hide(rows)
    assert (words == -1).all()
    assert torch.equal(hidden[..., 0] == PADDING, rows[..., 0] == PADDING)


def test_titles_that_choose_or_test_are_not_read() -> None:
    assert texts_of(shop([0, 1, 2])).tolist() == [1, *range(4, len(TITLES) + 1)]
    assert texts_of(shop()).tolist() == list(range(1, len(TITLES) + 1))


def test_what_goes_together_is_learnt_and_the_same_seed_learns_the_same() -> None:
    settings = Settings(pretrain_epochs=25, titles_per_step=8, learning_rate=0.01)
    one, two = encoder(), encoder()
    nats = pretrain(one, shop(), settings, n_words=len(VOCAB.words), seed=1)
    assert len(nats) == 25
    # The other word tells the hidden one, unless both are hidden: then it is one of four or eight.
    assert nats[-1] < 0.8 < 1.5 < nats[0]
    assert pretrain(two, shop(), settings, n_words=len(VOCAB.words), seed=1) == nats
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])


def test_nothing_to_read_is_no_error() -> None:
    settings = Settings(pretrain_epochs=1)
    store = shop([1] * len(TITLES))
    (nats,) = pretrain(encoder(), store, settings, n_words=len(VOCAB.words), seed=0)
    assert np.isnan(nats)
    assert pretrain(encoder(), store, settings, n_words=0, seed=0) == [], "no word to guess"


def test_a_loss_that_is_no_number_is_refused() -> None:
    text = encoder()
    text.last.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"pre-training: the loss became nan; lower fit\.learning"):
        pretrain(text, shop(), Settings(pretrain_epochs=1), n_words=len(VOCAB.words), seed=0)
