"""Several processes with a part of a step each, against one with all of it."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from daogou.artifact.counts import model_of
from daogou.balance import Balancer
from daogou.features.batch import NO_ROWS, Epoch, Queries, make_batch
from daogou.features.store import Store, open_store
from daogou.features.transform import Transform
from daogou.learn.optimise import dense_of, distinct_rows, tables_of
from daogou.learn.peers import ALONE, Group, Peers
from daogou.learn.step import backward
from daogou.model.build import Shape
from daogou.schema import Shop
from tests.shops import compile_shop, write_shop

SHAPE = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4)
ROWS = np.array([0, 1, 2, 3])
NOBODY = Queries(NO_ROWS, NO_ROWS, NO_ROWS)
PLAN = Epoch([ROWS], [NO_ROWS], [NO_ROWS], [NOBODY])


FEW = Epoch([ROWS[:1]], [ROWS[:1]], [NO_ROWS], [NOBODY])


class Heard(Balancer):
    """Keeps what it is told, and weighs all alike."""

    needs_gram = True

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        assert gram is not None
        self.losses, self.gram = losses.clone(), gram.clone()
        return torch.ones_like(losses)


def stepped(shop: Shop, transform: Transform, store: Store, peers: Peers) -> dict[str, Tensor]:
    """What a step of ``PLAN`` leaves in one of the peers."""
    torch.manual_seed(0)
    model = model_of(transform, store, shop, SHAPE).eval()
    batch = make_batch(store, peers.part(PLAN).exposures[0], history_length=4)
    heard = Heard(2)
    found = backward(model, batch, torch.ones(len(model.tasks)), heard,
                     families=["funnel"], peers=peers)  # fmt: skip
    tables, dense = tables_of(model), dense_of(model)
    losses = peers.agree(dense, tables, found.losses)
    left = {"losses": losses, "heard": heard.losses, "gram": heard.gram}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            left[name] = weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
    left["rows"] = torch.cat([distinct_rows(w.grad)[0] for w in tables if w.grad is not None])
    return left


def process(rank: int, folder: Path, shop: Shop, transform: Transform) -> None:
    """One of two."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    group = Group()
    found = stepped(shop, transform, open_store(folder / "store"), group)
    mark = folder / "made"  # by the leader, which the other waits for
    group.in_turn(mark.touch if rank == 0 else mark.unlink)
    found["told"] = torch.tensor(group.told(rank))
    found["part"] = torch.tensor(
        [each[0].tolist() for each in (group.part(FEW).exposures, group.part(FEW).titles)]
    )
    found["led"] = group.led(torch.full((2,), float(rank)))
    found["mean"] = group.agree([], [], torch.full((2,), float(rank)))
    lonely = torch.nn.Linear(2, 1, bias=False)
    lonely.weight.data.fill_(float(rank + 1))
    group.match(lonely)
    torch.save(found | {"matched": lonely.weight.detach()}, folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What a step of four rows leaves in one process, and with two rows each in either of two."""
    folder = tmp_path_factory.mktemp("peers")
    shop = write_shop(folder)
    transform, store = compile_shop(shop)
    context = multiprocessing.get_context("spawn")
    pair = [
        context.Process(target=process, args=(rank, folder, shop, transform)) for rank in (0, 1)
    ]
    for each in pair:
        each.start()
    for each in pair:
        each.join(timeout=120)
    assert [each.exitcode for each in pair] == [0, 0]
    return [
        stepped(shop, transform, store, ALONE),
        *(torch.load(folder / f"rank-{rank}.pt") for rank in (0, 1)),
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_have_the_gradients_of_one(steps: list[dict[str, Tensor]], rank: int) -> None:
    alone, found = steps[0], steps[1 + rank]
    assert set(found) - {"told", "matched", "part", "led", "mean"} == set(alone)
    assert float(torch.cat([each.flatten() for each in alone.values()]).abs().max()) > 0.1
    for name, value in alone.items():
        if name != "rows":
            assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def test_a_table_hears_of_the_rows_that_either_touched(steps: list[dict[str, Tensor]]) -> None:
    alone, one, other = (set(each["rows"].tolist()) for each in steps)
    assert one == other == alone


def test_both_take_the_same_step_to_the_bit(steps: list[dict[str, Tensor]]) -> None:
    _, one, other = steps
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_the_leader_is_heard(steps: list[dict[str, Tensor]]) -> None:
    for found in steps[1:]:
        assert int(found["told"]) == 0
        assert found["matched"].tolist() == [[1.0, 1.0]]
        assert found["led"].tolist() == [0.0, 0.0]


def test_losses_that_no_balancer_hears_are_averaged_with_the_gradients(
    steps: list[dict[str, Tensor]],
) -> None:
    for found in steps[1:]:
        assert found["mean"].tolist() == [0.5, 0.5]


def test_nobody_is_left_without_rows_where_a_step_has_fewer_than_there_are_processes(
    steps: list[dict[str, Tensor]],
) -> None:
    for found in steps[1:]:
        assert found["part"].tolist() == [[0], [0]]


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.part(PLAN) is PLAN and ALONE.leads and ALONE.told(3) == 3
    values = torch.tensor([1.0, 2.0])
    assert ALONE.mean(values) is values
