"""The training benchmark races the same network on the same rows, and its bars can be missed."""

from typing import Any

import contenders
import numpy as np
import pytest
import train

from daogou.metrics import binary

SIZES = (30, 20, 5)


def test_the_planted_table_can_be_learnt_and_its_labels_are_not_balanced() -> None:
    values, labels = contenders.draw(3000, SIZES)
    assert (values.max(0) < SIZES).all() and values.min() == 0
    assert 0.05 < labels.mean() < 0.45
    again, _ = contenders.draw(3000, SIZES)
    assert np.array_equal(values, again)


@pytest.mark.parametrize("kind", ["mmoe", "ple"])
@pytest.mark.parametrize("name", ["daogou", "daogou bfloat16", "plain PyTorch"])
def test_a_contender_learns_and_answers_for_both_tasks(name: str, kind: str) -> None:
    values, labels = contenders.draw(6 * 2048 + 1000, SIZES)
    maker, own = contenders.CONTENDERS[name]
    made = maker(kind, values, labels, SIZES, **own)
    for _ in range(4):
        made.train(0, 6 * 2048)
    chances = made.predict(6 * 2048, len(values))
    assert chances.shape == (1000, 2)
    found = contenders.judged(labels[6 * 2048 :], chances)
    assert found["auc"][0] == binary.auc(chances[:, 0].astype(np.float64), labels[6 * 2048 :, 0])
    if name != "plain PyTorch":  # 24 steps of its small rate are few
        assert found["auc"][0] > 0.6


def test_the_same_network_has_as_many_weights_in_ours_and_in_the_plain_loop() -> None:
    values, labels = contenders.draw(100, SIZES)
    for kind in ("mmoe", "ple"):
        ours = contenders.Daogou(kind, values, labels, SIZES)
        plain = contenders.Plain(kind, values, labels, SIZES)
        matrices = [
            sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)
            for model in (ours.model, plain.net)
        ]
        table = sum(SIZES) * contenders.WIDTH
        wide = 2 * len(SIZES) * contenders.WIDTH  # ours has a linear path beside the experts
        gates = gates_of(ours.model)
        biases = 2 * 32 + 2 * 1 + sum(gate.linear.bias.numel() for gate in gates)
        # A gate of ours has entries for experts that are closed to its task; they never act.
        closed = sum(int(gate.closed.sum()) * len(gate.linear.weight) for gate in gates)
        assert matrices[0] - table - wide - biases - closed == matrices[1]


def gates_of(model: Any) -> list[Any]:
    from daogou.model.experts import Gates

    return [module for module in model.modules() if isinstance(module, Gates)]


def test_a_contender_that_learns_less_does_not_win() -> None:
    fast = {"log_loss": [0.5, 0.4], "daogou_is_faster": 1.0, "daogou bfloat16_is_faster": 1.0}
    peer = {"log_loss": [0.4, 0.4], "daogou_is_faster": 9.0, "daogou bfloat16_is_faster": 9.0}
    entry: dict[str, Any] = {name: dict(peer) for name in train.PEERS}
    entry |= {name: {**fast, "share_of_limit": 0.9} for name in ("daogou", "daogou bfloat16")}
    verdicts = {what: holds for what, _, _, holds in train.bars({"models": {"mmoe": entry}})}
    assert verdicts["mmoe: daogou over the faster peer"] is False
    assert verdicts["mmoe: share of the float32 limit"] is True
    for name in train.PEERS:
        entry[name]["log_loss"] = [0.6, 0.4]
    verdicts = {what: holds for what, _, _, holds in train.bars({"models": {"mmoe": entry}})}
    assert verdicts["mmoe: daogou over the faster peer"] is True
