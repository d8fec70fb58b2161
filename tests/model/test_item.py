"""An item's vector, worked out beside the encoder."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from daogou.model.embed import Fields
from daogou.model.item import ItemEncoder
from tests.laws import check_rows_are_apart

FREQUENCIES = torch.tensor([0, 1, 1000])


def encoder(*, id_dropout: float = 0.0, text_width: int = 2) -> ItemEncoder:
    torch.manual_seed(0)
    return ItemEncoder(FREQUENCIES, Fields(5, 1, 0, 2), text_width, 4, id_dropout=id_dropout)


def inputs(ids: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = len(ids)
    fields = torch.full((n, 1), 3)
    return torch.tensor(ids), fields, torch.zeros(n, 0), torch.ones(n, 2)


def test_the_gate_opens_with_how_often_an_id_was_seen() -> None:
    # log(1 + n) - 2 at n = 0, 1, 1000: -2, -1.3069, 4.9088; sigmoids 0.1192, 0.2130, 0.9927.
    item = encoder()
    assert item.mix is not None
    item.mix.weight.data.zero_()
    item.mix.bias.data.zero_()
    item.ids.weight.data.copy_(torch.tensor([[1.0, 0, 0, 0]] * 3))
    item.norm = torch.nn.Identity()  # type: ignore[assignment]
    found = item(*inputs([0, 1, 2]))[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.1192, 0.2130, 0.9927]), rtol=0, atol=1e-4)


def test_a_vector_is_the_norm_of_content_and_gated_id() -> None:
    item = encoder()
    ids, fields, numbers, text = inputs([1])
    assert item.fields.table is not None
    assert item.mix is not None
    content = torch.cat([item.fields.table.weight[3], text[0]])
    gate = 1 / (1 + math.exp(2 - math.log(2)))
    mixed = item.mix.weight @ content + item.mix.bias + gate * item.ids.weight[1]
    wanted = functional.layer_norm(mixed, (4,))
    torch.testing.assert_close(item(ids, fields, numbers, text)[0], wanted)


def test_items_with_the_same_content_differ_by_their_ids() -> None:
    found = encoder()(*inputs([0, 1, 2]))
    assert not torch.allclose(found[0], found[2])
    assert not torch.allclose(found[1], found[2])


def test_a_forgotten_id_is_the_unknown_one() -> None:
    item = encoder(id_dropout=1.0)
    known, unknown = item.train()(*inputs([2])), item.eval()(*inputs([0]))
    torch.testing.assert_close(known, unknown)


def test_forgetting_ids_trains_the_unknown_row() -> None:
    item = encoder(id_dropout=1.0).train()
    item(*inputs([1, 2])).square().mul(torch.arange(4.0)).sum().backward()
    assert item.ids.weight.grad is not None
    assert item.ids.weight.grad.coalesce().indices().tolist() == [[0]]


def test_an_item_without_text_is_its_columns_and_id() -> None:
    item = encoder(text_width=0)
    ids, fields, numbers, _ = inputs([1, 2])
    assert item(ids, fields, numbers, None).shape == (2, 4)


def test_an_item_of_which_only_the_id_is_known_is_its_id() -> None:
    item = ItemEncoder(FREQUENCIES, Fields(0, 0, 0, 2), 0, 4).eval()
    nothing = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0)
    found = item(torch.tensor([1, 2]), *nothing, None)
    scale = torch.sigmoid(FREQUENCIES[1:].log1p() - 2)[:, None]
    wanted = functional.layer_norm(scale * item.ids.weight[1:], (4,))
    torch.testing.assert_close(found, wanted)


def test_rows_are_apart() -> None:
    item = encoder()
    ids, fields, numbers, _ = inputs([0, 1, 2])
    check_rows_are_apart(
        lambda text: item(ids, fields, numbers, text), torch.randn(3, 2), rows_of=0
    )
