"""Rows of titles to states and pooled vectors: padding is nothing, titles do not meet."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daogou.model.text import GatedConvolution, Packed, TextEncoder


def encoder(**options: float) -> TextEncoder:
    """An encoder whose biases are not 0: at 0 a norm would not show what it does to padding."""
    torch.manual_seed(0)
    made = TextEncoder(50, 3, 8, **options).eval()  # type: ignore[arg-type]
    for name, weights in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weights)
    return made


def titles(lengths: list[int], length: int, seed: int = 0) -> Tensor:
    """Random rows ``[N, L, 3]``, 0 beyond each title's length; other channels may be 0 within."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (len(lengths), length, 3), generator=generator)
    ids[..., 0].clamp_(min=1)
    for title, n in enumerate(lengths):
        ids[title, n:] = 0
    return ids


def test_a_gated_convolution_worked_by_hand() -> None:
    block = GatedConvolution(2, reach=1, dropout=0.0).eval()
    with torch.no_grad():
        # [left, centre, right] -> the left neighbour's first number, through a gate of 1/2.
        block.mix.weight.zero_()
        block.mix.bias.zero_()
        block.mix.weight[0, 0] = 1.0
        block.whole.weight.zero_()
        block.whole.weight[1, 1] = 2.0  # and twice the mean of the second numbers
    two = Packed(torch.ones(1, 2, 1, dtype=torch.int64), gap=1)
    out = two.padded(block(two.packed(torch.tensor([[[3.0, 1.0], [0.0, 2.0]]])), two))
    # (3, 1) and (0, 2) normalise to (1, -1) and (-1, 1), whose mean is 0: the second token gains
    # the first's 1 through the gate, the first has nobody to its left.
    assert torch.allclose(out, torch.tensor([[[3.0, 1.0], [0.5, 2.0]]]), atol=1e-4)
    one = Packed(torch.tensor([[[1], [0]]]), gap=1)
    out = one.padded(block(one.packed(torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])), one))
    # One token, (-1, 1): its mean is itself, so its second number gains 2 * 1/2; padding stays 0.
    assert torch.allclose(out, torch.tensor([[[0.0, 3.0], [0.0, 0.0]]]), atol=1e-4)


def test_titles_lie_end_to_end_with_gaps() -> None:
    ids = torch.tensor([[[7], [8], [0]], [[0], [0], [0]], [[9], [0], [0]]])
    titles = Packed(ids, gap=2)
    assert titles.ids[:, 0].tolist() == [7, 8, 0, 0, 0, 0, 9, 0, 0]
    assert titles.owner.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert titles.present[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 1, 0, 0]
    assert torch.equal(titles.padded(titles.ids.float()), ids.float())
    assert titles.sums(titles.ids.float())[:, 0].tolist() == [15, 0, 9]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 99))
def test_padding_changes_nothing_and_titles_do_not_meet(
    lengths: list[int], padding: int, seed: int
) -> None:
    model = encoder(layers=3)
    ids = titles(lengths, 6, seed)
    wider = torch.cat([ids, ids.new_zeros(len(ids), padding, 3)], dim=1)
    with torch.no_grad():
        states, pooled = model(ids)
        padded_states, padded_pooled = model(wider)
        alone = [model(each[None]) for each in ids]
    assert torch.allclose(padded_states[:, :6], states, atol=1e-6)
    assert torch.allclose(padded_pooled, pooled, atol=1e-6)
    assert torch.allclose(torch.cat([each[0] for each in alone]), states, atol=1e-6)
    assert torch.allclose(torch.cat([each[1] for each in alone]), pooled, atol=1e-6)
    assert not padded_states[wider[..., 0] == 0].any()


@pytest.mark.parametrize("lengths", [[5, 0, 1, 7], [1], [0, 0]])
def test_without_a_gradient_states_are_those_of_training(lengths: list[int]) -> None:
    """Products over shifted rows in place of shifted copies; blocks that reach past the end too."""
    made, ids = encoder(layers=4), titles(lengths, 7)
    taught = made(ids)
    assert taught[0].requires_grad
    with torch.no_grad():
        asked = made(ids)
        assert torch.equal(made.tokens(ids), asked[0])
    for one, two in zip(asked, taught, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_an_empty_title_is_zero_and_has_a_gradient_of_zero() -> None:
    model = encoder()
    model.train()
    states, pooled = model(titles([0, 2], 4))
    assert not states[0].any() and not pooled[0].any()
    pooled.sum().backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        grad = weights.grad.to_dense() if weights.grad.is_sparse else weights.grad
        assert grad.isfinite().all(), name


def test_a_token_reads_its_neighbours_closest_and_the_title_as_a_whole() -> None:
    model = encoder(layers=2)  # neighbours within 1 + 2 tokens
    ids = titles([9], 9)
    changed = ids.clone()
    changed[0, 0, 0] = ids[0, 0, 0] % 49 + 1
    with torch.no_grad():
        states, pooled = model(ids)
        other_states, other_pooled = model(changed)
        for name, weights in model.named_parameters():
            if "whole" in name:
                weights.zero_()
        near, other_near = model(ids)[0], model(changed)[0]
    assert (states != other_states).any(dim=-1).all()
    assert (near != other_near).any(dim=-1)[0].tolist() == [True] * 4 + [False] * 5
    assert not torch.allclose(pooled, other_pooled)


def test_only_the_rows_of_the_batch_get_a_gradient_and_padding_gets_none() -> None:
    model = encoder()
    ids = titles([3], 5)
    model(ids)[1].sum().backward()
    grad = model.table.weight.grad
    assert grad is not None and grad.is_sparse
    touched = grad.coalesce().indices()[0]
    assert set(touched.tolist()) == set(ids[ids > 0].tolist())


def test_channels_are_dropped_in_training_only() -> None:
    model = encoder(dropout=0.0, channel_dropout=0.5)
    ids = titles([6], 6)
    assert torch.equal(model(ids)[0], model(ids)[0])
    model.train()
    states = model(ids)[0]
    assert not torch.equal(states, model(ids)[0])
    assert (states != 0).any(dim=-1).all()  # a token whose channels all fell is still a token


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
def test_no_titles_and_no_columns_are_ordinary(shape: tuple[int, int, int]) -> None:
    states, pooled = encoder()(torch.zeros(shape, dtype=torch.int64))
    assert states.shape == (*shape[:2], 8)
    assert pooled.tolist() == [[0.0] * 8] * shape[0]
