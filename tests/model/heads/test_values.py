"""Values that are read as classes, said in the title or not."""

import math

import pytest
import torch
from torch import Tensor

from daogou.learn.optimise import dense_of
from daogou.model.heads.values import ValueReader
from tests.laws import check_rows_are_apart

WIDTH, LENGTH, N_ROWS = 4, 3, 9


@pytest.fixture
def reader() -> ValueReader:
    torch.manual_seed(0)
    return ValueReader(WIDTH, {"colour": 3, "kind": 2}, N_ROWS).eval()


def all_present(states: Tensor) -> Tensor:
    """Rows of tokens that are all one word."""
    return torch.ones(*states.shape[:2], 2, dtype=torch.int64)


def test_the_loss_is_the_mean_nats_of_the_known_values(reader: ValueReader) -> None:
    logits = [torch.zeros(2, 3), torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])]
    values = torch.tensor([[2, -1], [-1, 0]])
    # One of three as likely, and one with chance 3/4; two values are unknown.
    assert reader.loss(logits, values).item() == pytest.approx(-math.log(1 / 3 * 3 / 4) / 2)


def test_nothing_known_is_a_loss_of_zero_with_zero_gradient(reader: ValueReader) -> None:
    states = torch.randn(2, LENGTH, WIDTH)
    loss = reader.loss(reader(states, all_present(states)), torch.full((2, 2), -1))
    loss.backward()
    assert loss.item() == 0.0
    gradients = [weight.grad for weight in reader.parameters() if weight.grad is not None]
    assert all((gradient.to_dense() == 0).all() for gradient in gradients)


def test_padding_and_other_titles_change_nothing(reader: ValueReader) -> None:
    states = torch.randn(5, LENGTH, WIDTH)
    padded = torch.cat([states, torch.randn(5, 4, WIDTH)], dim=1)
    present = (torch.arange(LENGTH + 4) < LENGTH).long()[None, :, None].expand(5, -1, 2)
    for one, other in zip(
        reader(padded, present), reader(states, all_present(states)), strict=True
    ):
        torch.testing.assert_close(one, other)
    check_rows_are_apart(
        lambda rows: torch.cat(reader(rows, all_present(rows)), dim=1), states, rows_of=0
    )


def test_a_title_without_a_token_has_an_answer(reader: ValueReader) -> None:
    nothing = torch.zeros(1, LENGTH, WIDTH)
    chances = reader.chances(reader(nothing, torch.zeros(1, LENGTH, 2, dtype=torch.int64)))
    assert all(each.isfinite().all() for each in chances)
    assert [each.sum().item() for each in chances] == pytest.approx([1.0, 1.0])


def test_a_sharpness_is_of_its_attribute_and_of_chances_alone(reader: ValueReader) -> None:
    logits = [torch.tensor([[math.log(4), 0.0, 0.0]]), torch.tensor([[math.log(9), 0.0]])]
    reader.sharpness[1] = 0.5
    colour, kind = reader.chances(logits)
    assert colour[0].tolist() == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert kind[0].tolist() == pytest.approx([3 / 4, 1 / 4])  # sqrt(9) to 1


def test_a_bag_in_training_is_on_average_the_whole_bag() -> None:
    torch.manual_seed(0)
    reader = ValueReader(WIDTH, {"colour": 3}, N_ROWS, bag_dropout=0.75)
    rows, n_tokens = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]]), torch.tensor([[4], [0]])
    whole = reader.bag.weight[[1, 2, 3]].sum(0) / 2  # a title of four tokens has a root of two
    drawn = torch.stack([reader._bag(rows, n_tokens) for _ in range(4000)])
    torch.testing.assert_close(drawn.mean(0)[0], whole, rtol=0, atol=0.01)
    assert (drawn[:, 1] == 0).all(1).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(reader.eval()._bag(rows, n_tokens)[0], whole)


def test_each_attribute_finds_its_own_word() -> None:
    """A class is told by one token wherever it stands, another by the other token."""
    torch.manual_seed(0)
    reader = ValueReader(WIDTH, {"colour": 2, "kind": 2}, N_ROWS, dropout=0.0)
    optimiser = torch.optim.Adam(dense_of(reader), lr=0.02)

    def drawn(n: int) -> tuple[Tensor, Tensor]:
        values = torch.randint(0, 2, (n, 2))
        states = torch.randn(n, 6, WIDTH) * 0.1
        places = torch.stack([torch.randperm(6)[:2] for _ in range(n)])
        rows = torch.arange(n)
        states[rows, places[:, 0], 0] += 4.0 * values[:, 0] - 2.0
        states[rows, places[:, 1], 1] += 4.0 * values[:, 1] - 2.0
        return states, values

    for _ in range(80):
        states, values = drawn(64)
        optimiser.zero_grad()
        reader.loss(reader(states, all_present(states)), values).backward()
        optimiser.step()
    states, values = drawn(200)
    said = torch.stack([each.argmax(1) for each in reader(states, all_present(states))], dim=1)
    assert (said == values).float().mean() > 0.95


def test_a_bag_of_words_alone_tells_classes() -> None:
    """States say nothing; the class is whether word 3 is in the title."""
    torch.manual_seed(0)
    reader = ValueReader(WIDTH, {"kind": 2}, N_ROWS, dropout=0.0, bag_dropout=0.0)
    optimiser = torch.optim.Adam(dense_of(reader), lr=0.02)
    rows = torch.randint(1, N_ROWS, (200, LENGTH, 2))
    values = (rows == 3).any(-1).any(-1).long()[:, None]
    for _ in range(100):
        optimiser.zero_grad()
        reader.bag.weight.grad = None
        reader.loss(reader(torch.zeros(200, LENGTH, WIDTH), rows), values).backward()
        optimiser.step()
        assert reader.bag.weight.grad is not None
        reader.bag.weight.data -= 0.5 * reader.bag.weight.grad.to_dense()
    said = reader(torch.zeros(200, LENGTH, WIDTH), rows)[0].argmax(1)
    assert (said == values[:, 0]).float().mean() > 0.95
