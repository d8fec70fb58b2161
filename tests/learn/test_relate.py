"""Which tasks help which: signs worked by hand, and a training that is none the wiser."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from daogou import artifact
from daogou.config import read_shop, shop_of
from daogou.errors import ArtifactError, ConfigError
from daogou.features.batch import Batch
from daogou.features.store import SPLITS, Store
from daogou.learn import relate as relate_module
from daogou.learn.fit import fit
from daogou.learn.groups import best_groups
from daogou.learn.loop import Learner, Place
from daogou.learn.optimise import tables_of
from daogou.learn.probe import (
    MIXER_INPUT,
    Move,
    Probe,
    Probed,
    gram_of,
    held_out,
    held_out_losses,
    look_ahead,
    moved,
    moves_of,
    probe,
    probed_steps,
    read_probes,
    shared_weights,
    task_gradients,
)
from daogou.learn.relate import alike, document_of, losses_of, relate, run_name
from daogou.learn.variant import without
from tests.learn.conftest import QUICK

NAN = math.nan


def test_a_step_for_the_same_thing_helps_and_for_the_opposite_hurts() -> None:
    # Two tasks that want w at 2, one that wants it at -2, all from w = 0 and a loss of 4. A step
    # of -0.25 times the gradient takes w to 1, 1 and -1, where the losses are 1, 1 and 9; or
    # 9, 9 and 1.
    w = torch.zeros(1)

    def losses() -> Tensor:
        return torch.cat([(w - 2) ** 2, (w - 2) ** 2, (w + 2) ** 2])

    gradients = [2 * (0 - 2), 2 * (0 - 2), 2 * (0 + 2)]
    moves = [[Move(w, torch.tensor([-0.25 * gradient]))] for gradient in gradients]
    assert look_ahead(moves, losses).tolist() == [
        [0.75, 0.75, -1.25],
        [0.75, 0.75, -1.25],
        [-1.25, -1.25, 0.75],
    ]
    assert w.item() == 0


def test_a_fall_is_a_share_of_the_scale_where_one_is_given() -> None:
    w = torch.zeros(1)
    found = look_ahead([[Move(w, torch.ones(1))]], lambda: w - 1, torch.tensor([4.0]))
    assert found.tolist() == [[-0.25]]  # from -1 to 0, a rise of 1 in 4


def test_a_task_without_a_loss_or_without_a_move_has_no_number() -> None:
    w = torch.zeros(1)
    moves = [[Move(w, torch.zeros(1))], [Move(w, torch.ones(1))]]
    found = look_ahead(moves, lambda: torch.cat([w + 1, w * 0]))
    np.testing.assert_equal(found.numpy(), [[NAN, NAN], [-1.0, NAN]])


def test_weights_are_put_back_bit_by_bit_also_after_an_error() -> None:
    dense, rows = torch.randn(3, 2), torch.randn(5, 2)
    before = dense.clone(), rows.clone()
    moves = [
        Move(dense, torch.full((3, 2), 1e-3)),
        Move(rows, torch.ones(2, 2) / 3, torch.tensor([1, 4])),
    ]
    with pytest.raises(KeyboardInterrupt), moved(moves):
        assert torch.equal(rows[1], before[1][1] + torch.ones(2) / 3)
        assert torch.equal(rows[0], before[1][0])
        raise KeyboardInterrupt
    assert torch.equal(dense, before[0]) and torch.equal(rows, before[1])


def test_the_inner_products_of_rows_are_those_of_the_whole_table() -> None:
    def sparse(rows: list[int], values: list[list[float]]) -> Tensor:
        return torch.sparse_coo_tensor(
            torch.tensor([rows]), torch.tensor(values), (5, 2), check_invariants=True
        )

    # Row 3 is touched by both: 1 * 5 + 2 * 6 = 17; lengths 1 + 4 + 9 and 25 + 36 + 1.
    one, other = sparse([1, 3], [[3.0, 0.0], [1.0, 2.0]]), sparse([3, 4], [[5.0, 6.0], [0.0, 1.0]])
    assert gram_of([one, None, other]).tolist() == [[14, 0, 17], [0, 0, 0], [17, 0, 62]]
    dense = [one.to_dense(), None, other.to_dense()]
    assert torch.equal(gram_of(dense), gram_of([one, None, other]))


def test_cosine_and_likeness_of_length_by_hand() -> None:
    # Lengths 1 and 2, inner product 1.2.
    cosine, size = alike(np.array([[1.0, 1.2], [1.2, 4.0]]))
    np.testing.assert_allclose(cosine, [[1, 0.6], [0.6, 1]])
    np.testing.assert_allclose(size, [[1, 0.8], [0.8, 1]])


@given(n_steps=st.integers(1, 500), per_epoch=st.integers(1, 20))
def test_probed_steps_are_steps_and_as_many_as_fit(n_steps: int, per_epoch: int) -> None:
    steps = probed_steps(n_steps, per_epoch)
    assert steps <= set(range(n_steps))
    assert len(steps) == min(n_steps, per_epoch)


# ---- a probe of a model -------------------------------------------------------------------


@pytest.fixture(scope="session")
def seen(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs with and without probes, and the learner, batch and store of one step in the middle."""
    folder = tmp_path_factory.mktemp("probed")
    kept: dict[str, Any] = {"folder": folder}
    measure = Probe(folder / "probes.jsonl", 0, per_epoch=1)

    def watch(learner: Learner, store: Store, batch: Batch, place: Place) -> None:
        measure(learner, store, batch, place)
        kept.update(learner=learner, store=store, batch=batch)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kept["shop"] = read_shop(shop_folder, QUICK)
    fit(kept["shop"], folder / "probed", observe=watch)
    fit(kept["shop"], folder / "plain", like=folder / "probed")
    torch.set_num_threads(threads)
    return kept


def test_a_probed_run_has_the_weights_of_one_that_was_not(seen: dict[str, Any]) -> None:
    one, other = (
        load_file(seen["folder"] / run / "model.safetensors") for run in ("probed", "plain")
    )
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_a_run_with_the_tables_of_another_is_whole_by_itself(seen: dict[str, Any]) -> None:
    assert artifact.load(seen["folder"] / "plain").store.n_items == seen["store"].n_items


def test_probes_are_read_as_they_were_written(seen: dict[str, Any]) -> None:
    names = [task.name for task in seen["shop"].tasks]
    found = read_probes(seen["folder"] / "probes.jsonl", names)
    assert [one.epoch for one in found] == [0, 1]
    assert all(one.affinity.shape == (len(names), len(names)) for one in found)
    assert {"text", "text.rows", "item", "user", "meet", "mixer", MIXER_INPUT} <= set(
        found[0].grams
    )


def test_the_parts_hold_what_is_shared_and_no_task_s_own_layers(seen: dict[str, Any]) -> None:
    model = seen["learner"].model
    shared = {id(weight) for group in shared_weights(model).values() for weight in group}
    names = {name for name, weight in model.named_parameters() if id(weight) in shared}
    assert {name.split(".")[0] for name in names} == {"text", "item", "user", "heads"}
    assert {".".join(name.split(".")[:3]) for name in names if name.startswith("heads")} == {
        "heads.funnel.meet", "heads.funnel.mixer",
    }  # fmt: skip


def test_tasks_gradients_add_up_to_the_gradient_of_training(seen: dict[str, Any]) -> None:
    learner, batch = seen["learner"], seen["batch"]
    weights = [weight for group in shared_weights(learner.model).values() for weight in group]
    torch.manual_seed(5)
    rows, at_input = task_gradients(learner, batch, weights)
    torch.manual_seed(5)
    learner.model.train()
    encoded = learner.model.encode(batch)
    found = learner.model.losses(
        dict.fromkeys(learner.model.heads, encoded), batch, learner.static.clone()
    )
    whole = torch.autograd.grad(found.values.sum(), weights, allow_unused=True)
    for place, expected in enumerate(whole):
        parts = [part for row in rows if (part := row[place]) is not None]
        if expected is None:
            assert not parts
            continue
        total = sum((part.to_dense() for part in parts), start=torch.zeros(expected.shape))
        torch.testing.assert_close(total, expected.to_dense(), rtol=1e-3, atol=1e-6)
    assert at_input is not None
    reached = at_input.flatten(1).abs().sum(1) > 0
    funnel = [task.family == "funnel" for task in learner.model.tasks]
    assert reached.tolist() == funnel  # no other family reads the mixer's input


def test_a_move_is_a_tenth_of_the_first_step_of_adam(seen: dict[str, Any]) -> None:
    # Without a past AdamW moves each weight by its rate, whatever the gradient's size.
    learner = Learner(seen["learner"].model, seen["learner"].settings)
    weight = learner.dense[0]
    (move,) = moves_of(learner, [weight], [torch.full_like(weight, 1e-3)], set())
    rate = learner.settings.learning_rate
    torch.testing.assert_close(move.change, torch.full_like(weight, -0.1 * rate), rtol=1e-3, atol=0)


def test_a_move_of_a_table_is_a_tenth_of_adagrad_s_on_touched_rows(seen: dict[str, Any]) -> None:
    learner = Learner(seen["learner"].model, seen["learner"].settings)
    table = tables_of(learner.model)[0]
    values = torch.full((1, table.shape[1]), 0.5)
    row = torch.tensor([[2]])
    gradient = torch.sparse_coo_tensor(row, values, table.shape, check_invariants=True)
    (move,) = moves_of(learner, [table], [gradient], {id(table)})
    assert move.rows is not None and move.rows.tolist() == [2]
    expected = torch.full_like(move.change, -0.1 * learner.settings.row_learning_rate)
    torch.testing.assert_close(move.change, expected)  # 0.5 over the root of 0.5^2


def test_a_task_of_weight_0_sends_nothing_and_still_receives(seen: dict[str, Any]) -> None:
    learner = Learner(seen["learner"].model, seen["learner"].settings)
    learner.static = learner.static.clone()
    learner.static[1] = 0.0
    held = held_out(seen["store"], learner, np.random.default_rng(0))
    affinity, grams = probe(learner, seen["batch"], held)
    assert affinity[1].isnan().all()
    assert affinity[0, 1].isfinite() and affinity[0, 1] != 0
    assert grams[MIXER_INPUT][1].isnan().all() and grams[MIXER_INPUT][0, 0] > 0


def test_what_is_held_out_is_of_the_validation_split_and_has_every_loss(
    seen: dict[str, Any],
) -> None:
    learner, store = seen["learner"], seen["store"]
    held = held_out(store, learner, np.random.default_rng(3))
    first, last = store.ranges["validation"]
    assert 0 < len(held.exposures) <= min(learner.settings.rows_per_step, last - first)
    judged = held.users["split"] == SPLITS.index("train")
    split = torch.from_numpy(np.array(store["users/split"]))[held.users["row"][judged]]
    assert judged.any() and (split == SPLITS.index("validation")).all()
    losses = held_out_losses(learner.model, held)
    assert (losses > 0).all() and losses.isfinite().all()


# ---- probes on disk -----------------------------------------------------------------------


def line(epoch: int, value: float | None, tasks: tuple[str, ...] = ("a",)) -> str:
    record = {"epoch": epoch, "step": 0, "tasks": tasks, "affinity": [[value]], "grams": {}}
    return json.dumps(record)


def test_a_step_probed_twice_counts_once_and_a_cut_line_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text("\n".join([line(0, 1.0), line(1, 2.0), line(0, 3.0), '{"epoch": 2, "af']))
    found = read_probes(path, ["a"])
    assert [(one.epoch, one.affinity.item()) for one in found] == [(0, 3.0), (1, 2.0)]


def test_probes_of_other_tasks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text(line(0, 1.0))
    with pytest.raises(ArtifactError, match=r"was measured for a, the shop has a, b; give another"):
        read_probes(path, ["a", "b"])
    with pytest.raises(ArtifactError, match=r"gone.jsonl: missing, and the joint run is finished"):
        read_probes(tmp_path / "gone.jsonl", ["a"])


# ---- groups -------------------------------------------------------------------------------


def test_tasks_that_help_each_other_stand_together() -> None:
    # 0 and 1 give each other .3 in all, 2 costs the two more than it gets from them.
    affinity = np.array([[0.0, 0.2, -0.3], [0.1, 0.0, 0.1], [-0.1, 0.1, 0.0]])
    assert best_groups(affinity) == [[0, 1], [2]]


def test_where_nothing_is_known_all_stand_together() -> None:
    assert best_groups(np.full((4, 4), NAN)) == [[0, 1, 2, 3]]
    assert best_groups(np.zeros((12, 12))) == [list(range(12))]


def test_one_sided_harm_parts_two_tasks_when_it_outweighs_the_help() -> None:
    assert best_groups(np.array([[0.0, 0.2], [-0.3, 0.0]])) == [[0], [1]]
    assert best_groups(np.array([[0.0, 0.3], [-0.2, 0.0]])) == [[0, 1]]


@given(st.integers(0, 10_000))
def test_no_partition_beats_the_best_and_names_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affinity = rng.normal(size=(4, 4))

    def worth(groups: list[list[int]], matrix: Any) -> float:
        pairs = [(i, j) for group in groups for i in group for j in group if i != j]
        return float(sum(matrix[i, j] for i, j in pairs))

    best = best_groups(affinity)
    assert sorted(task for group in best for task in group) == [0, 1, 2, 3]
    for other in ([[0, 1, 2, 3]], [[0], [1], [2], [3]], [[0, 1], [2, 3]], [[0, 3], [1], [2]]):
        assert worth(best, affinity) >= worth(other, affinity) - 1e-9
    order = rng.permutation(4)
    renamed = best_groups(affinity[np.ix_(order, order)])
    again = sorted(sorted(order[task] for task in group) for group in renamed)
    assert again == sorted(map(sorted, best))


def test_many_tasks_in_blocks_are_found_by_joining() -> None:
    block = np.arange(12) % 3
    affinity = np.where(block[:, None] == block, 1.0, -1.0)
    found = best_groups(affinity)
    assert sorted(found) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


# ---- the document -------------------------------------------------------------------------


def test_transfer_and_its_margin_by_hand(shop_folder: Path) -> None:
    shop = shop_of(
        {
            "name": "two",
            "events": {
                "path": "e.parquet", "labels": ["a", "b"], "context": ["x"],
            },
        },
        shop_folder,
    )  # fmt: skip
    # The joint runs keep their second epoch (mean .55, .65, .60); joint losses .5 and .7 on
    # average, with a spread of .1 each for a and none for b.
    curves = {
        "all": np.array([[0.9, 0.9], [0.4, 0.7]]),
        "seed-1": np.array([[0.9, 0.9], [0.6, 0.7]]),
        "seed-2": np.array([[0.9, 0.9], [0.5, 0.7]]),
        # Judged by b alone this keeps its first epoch, by both the second.
        "without-a": np.array([[1.0, 0.75], [0.1, 0.8]]),
        "without-b": np.array([[0.45, 1.0], [0.5, 0.2]]),
    }
    one = torch.tensor([[0.2, -0.4], [0.1, 0.3]])
    probes = [
        Probed(0, 0, one, {"item": torch.tensor([[1.0, 1.2], [1.2, 4.0]])}),
        Probed(1, 0, one + 0.02, {"item": torch.tensor([[1.0, NAN], [NAN, NAN]])}),
        Probed(1, 5, one + 0.01, {"item": torch.tensor([[1.0, NAN], [NAN, NAN]])}),
        Probed(2, 0, one + 100, {}),  # after the kept epoch
    ]
    document = document_of(shop, curves, probes, leave_out=True)
    left = document["leave_out"]
    assert document["kept_epoch"] == 2
    assert left["transfer"]["a"]["b"] == pytest.approx(0.05)
    assert left["transfer"]["b"]["a"] == pytest.approx(-0.05)
    assert math.isnan(left["transfer"]["a"]["a"])
    assert left["noise"] == pytest.approx({"a": 0.1, "b": 0.0})
    # A run and the mean of three others differ by .1 * sqrt(1 + 1/3) on average.
    assert left["margin"]["a"] == pytest.approx(2.92 * 0.1 * (4 / 3) ** 0.5)
    assert left["beyond_noise"]["a"]["b"] and not left["beyond_noise"]["b"]["a"]
    ahead = document["affinity"]
    assert ahead["n_probes"] == 3
    assert ahead["mean"]["a"]["b"] == pytest.approx(-0.39)
    # Three values .01 apart have a spread of .01, their mean an error of .00577; 4.3 of those
    # (Student, 2 degrees) are .025.
    assert ahead["se"]["a"]["b"] == pytest.approx(0.01 / 3**0.5)
    assert ahead["clear"]["a"]["b"]
    assert document["gradients"]["item"]["cosine"]["a"]["b"] == pytest.approx(0.6)
    assert [group["tasks"] for group in document["groups"]] == [["a"], ["b"]]
    assert document["groups"][0]["members"]["a"]["affinity_from_others"] == pytest.approx(0.11)
    assert [group["tasks"] for group in document["groups_by_leave_out"]] == [["a", "b"]]


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_probes_are_clear_of_nothing(n: int, shop_folder: Path) -> None:
    shop = shop_of(
        {"events": {"path": "e.parquet", "labels": ["a", "b"], "context": ["x"]}}, shop_folder
    )
    probes = [Probed(0, step, torch.ones(2, 2), {}) for step in range(n)]
    document = document_of(shop, {"all": np.ones((1, 2))}, probes, leave_out=False)
    assert not any(any(row.values()) for row in document["affinity"]["clear"].values())
    assert document["leave_out"] is None and document["groups_by_leave_out"] is None


def test_the_epoch_that_was_kept_is_the_watched_task_s(shop_folder: Path) -> None:
    shop = shop_of(
        {
            "events": {"path": "e.parquet", "labels": ["a", "b"], "context": ["x"]},
            "fit": {"watch": "b"},
        },
        shop_folder,
    )
    joint = np.array([[0.9, 0.5], [0.1, 0.6]])  # b is best after one epoch, the mean after two
    curves = {
        **{run: joint for run in ("all", "seed-1", "seed-2")},
        "without-a": np.array([[0.9, 0.45], [0.1, 0.4]]),
        "without-b": np.array([[0.8, 0.1], [0.2, 0.9]]),  # what is left chooses: a
    }
    probes = [Probed(epoch, 0, torch.ones(2, 2), {"item": torch.ones(2, 2)}) for epoch in range(2)]
    document = document_of(shop, curves, probes, leave_out=True)
    assert document["kept_epoch"] == 1 and document["affinity"]["n_probes"] == 1
    losses = document["leave_out"]["relative_loss"]
    assert losses["all"] == {"a": 0.9, "b": 0.5}
    assert losses["without-a"] == {"a": 0.1, "b": 0.4}
    assert losses["without-b"] == {"a": 0.2, "b": 0.9}


def test_a_task_left_out_has_weight_0_however_it_was_written(shop_folder: Path) -> None:
    shop = read_shop(shop_folder, ["tasks.purchase.weight=2.0"])
    document = dict(shop.document)
    document["tasks"] = {**document["tasks"], "profile": {"gender": {"weight": 0.5}}}
    nested = shop_of(document, shop.root)
    cases = (shop, "purchase"), (shop, "profile.gender"), (nested, "profile.gender")
    for given_shop, name in (*cases, (nested, "click")):
        changed = without(given_shop, name)
        again = shop_of(changed.document, shop.root)
        assert again.tasks == changed.tasks
        assert again.task(name).weight == 0
        others = [task for task in again.tasks if task.name != name]
        assert others == [task for task in given_shop.tasks if task.name != name]
    assert shop.document["tasks"] == {"purchase": {"weight": 2.0}}


def test_names_that_a_disk_would_refuse_become_folders() -> None:
    assert run_name("profile.gender") == "without-profile.gender"
    assert run_name("加购") == "without-加购"
    assert run_name("a/b") != run_name("a%2fb")
    assert "/" not in run_name("../up")


def test_losses_are_read_from_the_log_over_those_of_the_constant(tmp_path: Path) -> None:
    def record(epoch: int, loss: float | None, n: int) -> str:
        one = {"loss": loss, "constant": 0.5, "n": n}
        return json.dumps({"epoch": epoch, "validation": {"a": one}})

    (tmp_path / "events.jsonl").write_text(
        "\n".join([record(1, 0.4, 9), record(3, 0.2, 9), record(4, None, 0)])
    )
    np.testing.assert_equal(losses_of(tmp_path, ["a"]), [[0.8], [NAN], [0.4], [NAN]])


# ---- from end to end ----------------------------------------------------------------------

FEW = (*QUICK, "fit.epochs=1", *(f"tasks.{name}.enabled=false" for name in ("extract", "match")),
       'users.profile=["gender"]')  # fmt: skip


@pytest.fixture(scope="session")
def related(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("related") / "out"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relate_module, "PROBES", 4)
        relate(read_shop(shop_folder, FEW), folder)
    torch.set_num_threads(threads)
    return folder


def test_every_task_is_left_out_once_and_the_noise_is_of_two_more_seeds(related: Path) -> None:
    document = json.loads((related / "relate.json").read_text("utf-8"))
    names = [task["name"] for task in document["tasks"]]
    assert names == ["click", "cart", "purchase", "profile.gender"]
    assert sorted(path.name for path in related.iterdir() if path.is_dir()) == sorted(
        ["all", "seed-1", "seed-2", *(f"without-{name}" for name in names)]
    )
    left = document["leave_out"]
    assert all((left["transfer"][i][j] is None) == (i == j) for i in names for j in names)
    assert document["affinity"]["n_probes"] >= 2
    run = artifact.load(related / "without-cart")
    assert run.shop.task("cart").weight == 0
    assert run.shop.task("purchase").given == "cart"  # conditional on what it was


def test_what_is_finished_is_not_done_again(
    related: Path, shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(related, folder)
    shutil.rmtree(folder / "without-click")
    done: list[str] = []

    def counted(shop: Any, run: Path, **options: Any) -> dict[str, Any]:
        done.append(run.name)
        return fit(shop, run, **options)

    monkeypatch.setattr(relate_module, "fit", counted)
    relate(read_shop(shop_folder, FEW), folder, resume=True)
    assert done == ["without-click"]
    assert (folder / "relate.json").read_bytes() == (related / "relate.json").read_bytes()


def test_without_leaving_out_there_is_one_run(related: Path, shop_folder: Path) -> None:
    document = relate(read_shop(shop_folder, FEW), related, leave_out=False, resume=True)
    assert document["leave_out"] is None
    relate(read_shop(shop_folder, FEW), related, resume=True)  # as the others find it


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ((), {}, "not empty; add --resume"),
        (("fit.epochs=2",), {"resume": True}, "all: was fitted with other settings"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    related: Path, shop_folder: Path, change: tuple[str, ...], options: Any, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        relate(read_shop(shop_folder, [*FEW, *change]), related, **options)


def test_one_task_has_nothing_to_be_related_to(tmp_path: Path, shop_folder: Path) -> None:
    shop = shop_of(
        {"name": "one", "events": {"path": "e", "labels": ["a"], "context": ["x"]}}, shop_folder
    )
    with pytest.raises(ConfigError, match=r"one: a; two tasks at least can be related"):
        relate(shop, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sampling_under_which_the_numbers_would_lie_is_refused(
    shop_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r'fit\.sampling: .*take "joint"'):
        relate_module.relate(
            read_shop(shop_folder, [*QUICK, "fit.sampling=proportional"]), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
