"""Gates that settle on one expert, and experts that nobody asks, are seen and change nothing."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from daogou.config import read_shop
from daogou.learn import course as course_module
from daogou.learn.fit import fit
from daogou.learn.gates import GateUse, watching
from daogou.model.experts import Gates
from daogou.model.mixers import MIXERS, MMoE
from tests.shops import write_shop

GATED = {"mmoe", "ple", "adatt", "stem", "home"}


def planted(shares: list[list[float]]) -> Gates:
    """Gates that take these shares of every row; 0 is an expert that a task may not use."""
    wanted = torch.tensor(shares)
    gates = Gates(1, wanted > 0).eval()
    assert gates.linear.bias is not None
    gates.linear.bias.data.copy_(wanted.clamp(min=1e-30).log())
    return gates


def use_of(gates: nn.Module, inputs: Tensor | None = None) -> GateUse:
    inputs = torch.zeros(40, 1) if inputs is None else inputs
    with watching(gates) as found:
        assert isinstance(gates, Gates)
        gates.weights(inputs)
        assert not found, "filled when the context ends"
    (use,) = found.values()
    return use


def test_a_gate_that_settled_on_one_expert_is_reported_by_hand() -> None:
    # Task a gives 0.998 to its first of three experts and 0.001 to the others; an even share is a
    # third, and a hundredth of that 0.0033. Task b gives the third a half, so it lives; the second
    # has 0.001 of each, so it is dead.
    # Entropy of a: -(0.998 ln 0.998 + 2 * 0.001 ln 0.001) = 0.001998 + 0.013816 = 0.015814 nats.
    # Of b: -(0.499 ln 0.499 + 0.5 ln 0.5 + 0.001 ln 0.001) = 0.346879 + 0.346574 + 0.006908.
    use = use_of(planted([[0.998, 0.001, 0.001], [0.499, 0.001, 0.5]]))
    assert use.usage.flatten().tolist() == pytest.approx([0.998, 0.001, 0.001, 0.499, 0.001, 0.5])
    nats = [0.015814, 0.700361]
    assert use.entropy.tolist() == pytest.approx([each / math.log(3) for each in nats], abs=1e-5)
    assert use.dead == (1,)


def test_even_gates_have_entropy_one_and_no_expert_is_dead() -> None:
    use = use_of(Gates(3, torch.ones(2, 5, dtype=torch.bool)).eval(), torch.randn(7, 3))
    assert use.document() == {"usage": [[0.2] * 5] * 2, "entropy": [1.0, 1.0], "dead": []}


def test_a_closed_expert_is_not_dead_for_those_who_may_not_use_it() -> None:
    # Expert 1 is open to task b alone, and task b takes it; expert 2 is open to nobody.
    use = use_of(planted([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert use.usage.tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    assert use.dead == ()
    # Entropy is over the two that task b may use; task a has no choice.
    assert math.isnan(use.entropy[0])
    assert use.entropy[1] == pytest.approx(1.0)


def test_an_even_share_is_of_the_experts_that_a_task_may_use() -> None:
    # A hundredth of a half is 0.005: 0.004 is dead. A hundredth of a quarter is 0.0025: it is not.
    assert use_of(planted([[0.996, 0.004, 0.0, 0.0]])).dead == (1,)
    assert use_of(planted([[0.4, 0.004, 0.3, 0.296]])).dead == ()


def test_usage_may_be_even_where_each_row_takes_one_expert() -> None:
    # Rows of +1 and -1, odd and even by turns: the odd stride sees as many of both.
    gates = Gates(1, torch.ones(1, 2, dtype=torch.bool)).eval()
    gates.linear.weight.data.copy_(torch.tensor([[[100.0, -100.0]]]))
    use = use_of(gates, torch.tensor([1.0, -1.0]).repeat(17)[:, None])
    assert use.usage.tolist() == [[0.5, 0.5]]
    assert use.entropy.item() == pytest.approx(0.0, abs=1e-6)


def test_batches_are_counted_row_by_row_and_in_training_nothing_is() -> None:
    gates = Gates(1, torch.ones(1, 2, dtype=torch.bool), dropout=0.0)
    gates.linear.weight.data.copy_(torch.tensor([[[math.log(3), 0.0]]]))
    with watching(gates, stride=1) as found:
        gates.train().weights(torch.full((50, 1), 9.0))
        gates.eval().weights(torch.ones(3, 1))  # three rows of 3/4
        gates.weights(torch.zeros(1, 1))  # one of 1/2
        gates.weights(torch.zeros(0, 1))
    assert found[""].usage.tolist() == [pytest.approx([11 / 16, 5 / 16])]


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_with_gates_is_seen_and_answers_as_unwatched(name: str) -> None:
    torch.manual_seed(0)
    mixer: Any = MIXERS[name](4, 3, widths=[5]).eval()  # type: ignore[attr-defined]
    for weight in mixer.parameters():
        nn.init.normal_(weight)
    inputs = torch.randn(100, 4)
    before, drawn = mixer(inputs), torch.get_rng_state()
    with watching(mixer) as found:
        watched = mixer(inputs)
    assert torch.equal(watched, before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert bool(found) == (name in GATED)
    for use in found.values():
        torch.testing.assert_close(use.usage.sum(1), torch.ones(len(use.usage)).double())
        assert len(use.entropy) == len(use.usage)


def test_what_is_counted_is_what_the_gates_give() -> None:
    torch.manual_seed(0)
    mixer = MMoE(3, 2, widths=[4]).eval()
    nn.init.normal_(mixer.gates.linear.weight)
    inputs = torch.randn(30, 3)
    with watching(mixer, stride=1) as found:
        mixer(inputs)
    weights = mixer.gates.weights(inputs).double()
    torch.testing.assert_close(found["gates"].usage, weights.mean(1))
    entropy = -(weights * weights.log()).sum(2).mean(1) / math.log(4)
    torch.testing.assert_close(found["gates"].entropy, entropy)


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    gates = Gates(1, torch.ones(1, 2, dtype=torch.bool)).eval()
    with pytest.raises(ZeroDivisionError), watching(gates) as found:
        raise ZeroDivisionError
    gates.weights(torch.zeros(1, 1))
    assert not found
    assert not gates.linear._forward_hooks


def fitted(shop: Path, run: Path, mixer: str) -> list[dict[str, Any]]:
    sets = ("fit.epochs=2", "fit.history_length=4", "fit.extra_items=4", "model.width=8")
    fit(read_shop(shop, [*sets, f"model.mixer={mixer}"]), run)
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


def test_each_epoch_tells_of_its_gates(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop")
    for record in fitted(tmp_path / "shop", tmp_path / "run", "ple"):
        (use,) = record["gates"].values()
        assert list(record["gates"]) == ["heads.funnel.mixer.gates.0"]
        # Two tasks with an expert each and two shared: a task may use three.
        assert [len(row) for row in use["usage"]] == [4, 4]
        assert all(0.9 < each <= 1.0 for each in use["entropy"])
        assert use["dead"] == []
    assert fitted(tmp_path / "shop", tmp_path / "plain", "single")[0]["gates"] == {}


def test_watching_leaves_the_training_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def blind(model: nn.Module) -> Iterator[dict[str, GateUse]]:
        yield {}

    write_shop(tmp_path / "shop")
    seen = fitted(tmp_path / "shop", tmp_path / "watched", "home")
    monkeypatch.setattr(course_module, "watching", blind)
    unseen = fitted(tmp_path / "shop", tmp_path / "blind", "home")
    assert seen[0]["gates"] and not unseen[0]["gates"]
    one, other = (load_file(tmp_path / run / "model.safetensors") for run in ("watched", "blind"))
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
