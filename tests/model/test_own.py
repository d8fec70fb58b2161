"""Rows that belong to one task: which are read, who learns them, and where there are none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daogou.artifact.counts import model_of
from daogou.features.batch import Batch, make_batch
from daogou.features.columns import Columns
from daogou.model.build import Shape
from daogou.model.encoded import Encoded
from daogou.model.own import OwnRows
from tests.model.hand import batch
from tests.shops import TOML, compile_shop, write_shop

SIZES = (3, 4, 5)  # user ids, product ids and the rows of two columns


def shown(fields: list[list[int]], *, item: list[int], user: list[int]) -> Batch:
    made = batch([[0]] * len(fields), item=item, user=user)
    columns = {**made.exposures.tensors, "fields": torch.tensor(fields, dtype=torch.int64)}
    return replace(made, exposures=Columns(columns))


def encoded(*, user_ids: list[int] | None = None, item_ids: list[int] | None = None) -> Encoded:
    ids = [torch.tensor(each) if each is not None else None for each in (user_ids, item_ids)]
    return Encoded(user_ids=ids[0], item_ids=ids[1])


def numbered(rows: OwnRows) -> OwnRows:
    """Every element of a row is the row's number."""
    n_rows, width = rows.rows.weight.shape
    rows.rows.weight.data.copy_(torch.arange(float(n_rows))[:, None].expand(-1, width))
    return rows.eval()


def test_a_tasks_rows_lie_side_by_side_by_hand() -> None:
    # Two tasks. The exposure is of the batch's second user, whose id row is 2, and its first
    # product, row 3; its columns say rows 0 and 4. Products begin after 3 users, columns after 7:
    # 2, 3 + 3, 7 + 0, 7 + 4, each times 2 tasks, plus the task. The product of user and product
    # stands first: 4 * 12 for task a, 5 * 13 for b.
    own = numbered(OwnRows(2, SIZES, 2, 1))
    read = encoded(user_ids=[1, 2], item_ids=[3])
    found = own(read, shown([[0, 4]], item=[0], user=[1]))
    assert own.n_outputs == 5
    assert found[:, 0].tolist() == [[48.0, 4, 12, 14, 22], [65.0, 5, 13, 15, 23]]


@pytest.mark.parametrize(
    ("sizes", "read", "wanted"),
    [
        ((0, 4, 5), encoded(item_ids=[3]), [[6.0, 8, 16], [7.0, 9, 17]]),
        ((3, 0, 5), encoded(user_ids=[2]), [[4.0, 6, 14], [5.0, 7, 15]]),
        ((0, 0, 5), encoded(), [[0.0, 8], [1.0, 9]]),
    ],
)
def test_what_a_shop_has_not_takes_no_room(
    sizes: tuple[int, int, int], read: Encoded, wanted: list[list[float]]
) -> None:
    own = numbered(OwnRows(2, sizes, 2, 1))
    found = own(read, shown([[0, 4]], item=[0], user=[0]))
    assert found[:, 0].tolist() == wanted
    assert found.shape == (2, 1, own.n_outputs)


def test_the_column_that_stands_apart_is_not_read() -> None:
    own = numbered(OwnRows(2, SIZES, 2, 3, apart=0))
    read = encoded(user_ids=[1], item_ids=[3])
    here, there = (own(read, shown([[place, 4]], item=[0], user=[0])) for place in (0, 2))
    assert torch.equal(here, there)
    assert here.shape == (2, 1, own.n_outputs)
    assert own.n_outputs == 3 * 4


def test_a_tasks_loss_touches_its_own_rows_alone() -> None:
    own = OwnRows(3, SIZES, 2, 4).eval()
    read = encoded(user_ids=[1, 2], item_ids=[3, 0])
    exposures = shown([[0, 4], [1, 2], [0, 3]], item=[0, 1, 1], user=[1, 0, 0])
    own(read, exposures)[1].square().sum().backward()
    assert own.rows.weight.grad is not None
    touched = own.rows.weight.grad.coalesce().indices()[0]
    moved = own.rows.weight.grad.to_dense().any(1)
    assert (touched.unique().numel(), int(moved.sum())) == (27, 9)
    assert all(row % 3 == 1 for row in moved.nonzero()[:, 0].tolist())


def test_an_id_is_forgotten_by_all_tasks_at_once_and_in_training_alone() -> None:
    torch.manual_seed(0)
    own = numbered(OwnRows(2, (3, 0, 1), 0, 1, id_dropout=0.5))
    read, exposures = encoded(user_ids=[2]), shown([[]] * 200, item=[0] * 200, user=[0] * 200)
    assert own(read, exposures)[..., 0].unique(dim=1).tolist() == [[4.0], [5.0]]
    first, second = own.train()(read, exposures)[..., 0]
    assert set(first.tolist()) == {0.0, 4.0}, "row 0 is the unknown user's"
    assert torch.equal(second, first + 1)


def test_normalised_rows_have_mean_0_and_variance_1_and_so_their_products_are_of_one_scale() -> (
    None
):
    # The user's row (0, 2) becomes (-1, 1), the product's (9, 1) becomes (1, -1): product (-1, -1).
    own = OwnRows(1, (1, 1, 0), 0, 2, norm=True).eval()
    own.rows.weight.data.copy_(torch.tensor([[0.0, 2.0], [9.0, 1.0]]))
    found = own(encoded(user_ids=[0], item_ids=[0]), shown([[]], item=[0], user=[0]))
    torch.testing.assert_close(
        found[0, 0], torch.tensor([-1.0, -1, -1, 1, 1, -1]), rtol=0, atol=1e-4
    )


def test_the_model_of_a_shop_reads_no_place_but_in_its_position(tmp_path: Path) -> None:
    """What a place adds is the same for every row: no row of its own stands between them."""
    toml = TOML.replace('context = ["device"', 'position = "position"\ncontext = ["device"')
    shop = write_shop(tmp_path / "shop", toml=toml)
    transform, store = compile_shop(shop)
    torch.manual_seed(0)
    model = model_of(transform, store, shop, Shape(mixer="stem"))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    head: Any = model.eval().heads["funnel"]
    assert head.own.n_outputs == 8 * 4, "user, product, their product and the device"
    made = make_batch(store, np.arange(5))
    there = made.exposures["fields"].clone()
    there[:, head.position.column] = head.position.start + 1
    moved = Columns({**made.exposures.tensors, "fields": there})
    encoded = model.encode(made)
    before = head.towers(encoded, made)
    after = head.towers(encoded, replace(made, exposures=moved))
    added = head.position(there) - head.position(made.exposures["fields"])
    assert added.any(), "or this test would show nothing"
    torch.testing.assert_close(after.logits - before.logits, added, rtol=0, atol=1e-5)
