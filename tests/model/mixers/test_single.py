import torch

from daogou.model.experts import Experts
from daogou.model.mixers import Single


def test_each_task_has_a_network_of_its_own() -> None:
    mixer = Single(3, 2, widths=[4, 4]).eval()
    inputs = torch.randn(5, 3)
    before = mixer(inputs)
    for weight in mixer.parameters():
        weight.data[:, 1] += torch.randn(weight.shape[::2])
    after = mixer(inputs)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_a_task_among_others_equals_the_task_alone() -> None:
    mixer, alone = Single(3, 4, widths=[4, 4]).eval(), Experts(1, 3, [4, 4]).eval()
    own = {name: weight[:, 2:3] for name, weight in mixer.experts.state_dict().items()}
    alone.load_state_dict(own)
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(mixer(inputs)[2], alone(inputs)[0])
