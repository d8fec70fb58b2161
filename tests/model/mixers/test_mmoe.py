import math

import torch

from daogou.model.mixers import MMoE
from tests.model.hand import Times


def test_matches_equations_6_to_8_by_hand() -> None:
    # f^k(x) = sum over experts of g^k_i(x) f_i(x), with f_1(x) = 8x, f_2(x) = 4x.
    # Task a: g = softmax(x ln 3, 0) = (3/4, 1/4) at x = 1, so 7; at x = -1, (1/4, 3/4), so -5.
    # Task b: g = (1/2, 1/2) everywhere, so 6 and -6.
    mixer = MMoE(1, 2, widths=[1], n_experts=2).eval()
    mixer.experts = Times(8.0, 4.0)  # type: ignore[assignment]
    mixer.gates.linear.weight.data.copy_(torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]]))
    found = mixer(torch.tensor([[1.0], [-1.0]]))
    torch.testing.assert_close(found[..., 0], torch.tensor([[7.0, -5.0], [6.0, -6.0]]))


def test_every_task_shares_every_expert() -> None:
    mixer = MMoE(3, 2, widths=[4], n_experts=5).eval()
    weights = mixer.gates.weights(torch.randn(7, 3))
    torch.testing.assert_close(weights, torch.full((2, 7, 5), 0.2))
    assert mixer.experts.n_experts == 5


def test_tasks_agree_until_their_gates_part() -> None:
    mixer = MMoE(3, 2, widths=[4]).eval()
    inputs = torch.randn(5, 3)
    same = mixer(inputs)
    torch.testing.assert_close(same[0], same[1])
    mixer.gates.linear.bias.data[0, 0] = 3.0
    parted = mixer(inputs)
    torch.testing.assert_close(parted[1], same[1])
    assert not torch.allclose(parted[0], same[0])
