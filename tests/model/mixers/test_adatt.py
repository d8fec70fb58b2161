import torch

from daogou.model.mixers import AdaTT
from tests.model.hand import Times


def test_a_mixture_of_all_is_added_to_ones_own_by_hand() -> None:
    # Experts multiply by 1 (task 0), 2 (task 1) and 6 (shared); gates are uniform: a mean of 3.
    # Own shares start at 1: task 0 has 3 + 1, task 1 has 3 + 2, times the input.
    mixer = AdaTT(1, 2, widths=[1], gate_dropout=0.0).eval()
    mixer.experts[0] = Times(1.0, 2.0, 6.0)
    found = mixer(torch.tensor([[1.0], [10.0]]))
    torch.testing.assert_close(found[..., 0], torch.tensor([[4.0, 40.0], [5.0, 50.0]]))


def test_several_own_experts_start_as_their_mean() -> None:
    # Own of task 0: 1 and 3, mean 2. All five, with 5, 7 and the shared 4: mean 4. Sum 6.
    mixer = AdaTT(1, 2, widths=[1], n_own=2, gate_dropout=0.0).eval()
    mixer.experts[0] = Times(1.0, 3.0, 5.0, 7.0, 4.0)
    torch.testing.assert_close(mixer(torch.ones(1, 1))[:, 0, 0], torch.tensor([6.0, 10.0]))


def test_between_levels_there_is_a_shared_unit() -> None:
    mixer = AdaTT(3, 2, widths=[4], n_levels=2, n_shared=2)
    assert [len(weights) for weights in mixer.native] == [4, 2]
    assert mixer(torch.randn(5, 3)).shape == (2, 5, 4)


def test_a_second_level_reads_what_its_own_unit_made_by_hand() -> None:
    # First level: 1 (task 0), 2 (task 1), 6 (shared), mean 3: units make 4, 5 and 9.
    # Second, all experts multiply by 1: they say 4, 5 and 9, mean 6, so 6 + 4 and 6 + 5.
    mixer = AdaTT(1, 2, widths=[1], n_levels=2, gate_dropout=0.0).eval()
    mixer.experts[0], mixer.experts[1] = Times(1.0, 2.0, 6.0), Times(1.0, 1.0, 1.0)
    torch.testing.assert_close(mixer(torch.ones(1, 1))[:, 0, 0], torch.tensor([10.0, 11.0]))


def test_a_gate_that_turns_from_a_task_s_own_expert_does_not_stop_it_learning() -> None:
    mixer = AdaTT(3, 2, widths=[4], gate_dropout=0.0, dropout=0.0)
    with torch.no_grad():
        dict(mixer.named_parameters())["gates.0.linear.bias"][0, 0] = -1e4
    (mixer(torch.randn(9, 3)) * torch.randn(2, 9, 4))[0].sum().backward()
    gradient = dict(mixer.named_parameters())["experts.0.layers.0.weight"].grad
    assert gradient is not None
    assert gradient[:, 0].any()


def test_it_can_share_no_expert() -> None:
    assert AdaTT(3, 2, widths=[4], n_shared=0)(torch.randn(5, 3)).shape == (2, 5, 4)
