"""Several processes with a part of a step each, against one with all of it."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from daogou.artifact.counts import model_of
from daogou.balance import Balancer
from daogou.features.batch import make_batch
from daogou.features.epoch import Epoch
from daogou.features.queries import NO_ROWS, Queries
from daogou.features.store import Store, open_store
from daogou.features.transform import Transform
from daogou.learn.optimise import dense_of, distinct_rows, tables_of
from daogou.learn.peers import ALONE, Group, Peers
from daogou.learn.step import backward
from daogou.learn.validate import validation_losses
from daogou.model import predict
from daogou.model.build import Shape
from daogou.schema import Shop
from tests.shops import compile_shop, write_shop

SHAPE = Shape(width=8, expert_widths=(8, 8), text_width=8, tower=4)
ROWS = np.array([0, 1, 2, 3])
NOBODY = Queries(NO_ROWS, NO_ROWS, NO_ROWS)
PLAN = Epoch([ROWS], [NO_ROWS], [NO_ROWS], [NOBODY])


LEADS = {"dealt", "first", "judged"}  # what only the leader is told
FEW = Epoch([ROWS[:1]], [ROWS[:1]], [NO_ROWS], [NOBODY])


class Heard(Balancer):
    """Keeps what it is told, and weighs all alike."""

    needs_gram = True

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        assert gram is not None
        self.losses, self.gram = losses.clone(), gram.clone()
        return torch.ones_like(losses)


def stepped(shop: Shop, transform: Transform, store: Store, peers: Peers) -> dict[str, Any]:
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


def judged(shop: Shop, transform: Transform, store: Store, peers: Peers) -> dict[str, list[float]]:
    """Losses on what teaches, whose rows are more than one, by each task."""
    torch.manual_seed(0)
    model = model_of(transform, store, shop, SHAPE)
    losses = validation_losses(model, store, "train", history_length=4, peers=peers)
    return {name: [each.loss, each.constant, each.n] for name, each in losses.items()}


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
    made = group.dealt(5, 2, lambda rows: (10 * rows, rows[:, None] + rank * np.ones(3)))
    found["dealt"] = torch.zeros(0) if made is None else torch.tensor(np.c_[made[0], made[1]])
    predict.ROWS, predict.QUERIES = 2, 1  # type: ignore[misc]
    found["judged"] = judged(shop, transform, open_store(folder / "store"), group)
    alone = group.dealt(1, 2, lambda rows: (np.ones((len(rows), len(rows))),))
    found["first"] = torch.zeros(0) if alone is None else torch.tensor(alone[0])
    found["mean"] = group.agree([], [], torch.full((2,), float(rank)))
    lonely = torch.nn.Linear(2, 1, bias=False)
    lonely.weight.data.fill_(float(rank + 1))
    group.match(lonely)
    torch.save(found | {"matched": lonely.weight.detach()}, folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop, Transform, Store]:
    """A compiled shop, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("peers")
    shop = write_shop(folder)
    return folder, shop, *compile_shop(shop)


@pytest.fixture(scope="module")
def steps(made: tuple[Path, Shop, Transform, Store]) -> list[dict[str, Any]]:
    """What a step of four rows leaves in one process, and with two rows each in either of two."""
    folder, shop, transform, store = made
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
def test_two_processes_have_the_gradients_of_one(steps: list[dict[str, Any]], rank: int) -> None:
    alone, found = steps[0], steps[1 + rank]
    assert set(found) - {"told", "matched", "part", "led", "mean", *LEADS} == set(alone)
    assert float(torch.cat([each.flatten() for each in alone.values()]).abs().max()) > 0.1
    for name, value in alone.items():
        if name != "rows":
            assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-6), name


def test_a_table_hears_of_the_rows_that_either_touched(steps: list[dict[str, Any]]) -> None:
    alone, one, other = (set(each["rows"].tolist()) for each in steps)
    assert one == other == alone


def test_both_take_the_same_step_to_the_bit(steps: list[dict[str, Any]]) -> None:
    _, one, other = steps
    for name in one.keys() - LEADS:
        assert torch.equal(one[name], other[name]), name


def test_the_leader_is_heard(steps: list[dict[str, Any]]) -> None:
    for found in steps[1:]:
        assert int(found["told"]) == 0
        assert found["matched"].tolist() == [[1.0, 1.0]]
        assert found["led"].tolist() == [0.0, 0.0]


def test_losses_that_no_balancer_hears_are_averaged_with_the_gradients(
    steps: list[dict[str, Any]],
) -> None:
    for found in steps[1:]:
        assert found["mean"].tolist() == [0.5, 0.5]


def test_nobody_is_left_without_rows_where_a_step_has_fewer_than_there_are_processes(
    steps: list[dict[str, Any]],
) -> None:
    for found in steps[1:]:
        assert found["part"].tolist() == [[0], [0]]


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.part(PLAN) is PLAN and ALONE.leads and ALONE.told(3) == 3
    values = torch.tensor([1.0, 2.0])
    assert ALONE.mean(values) is values


def test_rows_are_dealt_in_whole_pieces_and_the_leader_has_them_in_order(
    steps: list[dict[str, Any]],
) -> None:
    _, leader, other = steps
    by_whom = torch.tensor([0.0, 0, 1, 1, 0])  # pieces of two: 0 1, 2 3, 4
    rows = torch.arange(5)
    assert torch.equal(leader["dealt"][:, 0], 10.0 * rows)
    assert torch.equal(leader["dealt"][:, 1:], (rows + by_whom)[:, None].expand(5, 3).double())
    assert len(other["dealt"]) == 0


def test_a_process_that_is_dealt_nothing_says_nothing_of_widths(
    steps: list[dict[str, Any]],
) -> None:
    assert torch.equal(steps[1]["first"], torch.ones(1, 1).double())


def test_all_ask_the_model_and_the_leader_finds_the_losses_of_one(
    made: tuple[Path, Shop, Transform, Store], steps: list[dict[str, Any]]
) -> None:
    alone = judged(*made[1:], ALONE)
    leader, other = (each["judged"] for each in steps[1:])
    assert list(leader) == list(alone) and not other
    assert max(n for _, _, n in alone.values()) > 2
    for name, found in alone.items():
        assert leader[name] == pytest.approx(found, rel=1e-6, nan_ok=True), name
