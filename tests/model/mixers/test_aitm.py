import math

import torch

from daogou.model.mixers import AITM


def test_the_first_task_is_its_own_network() -> None:
    mixer = AITM(2, 2, widths=[4], dropout=0.0)
    inputs = torch.randn(5, 2)
    torch.testing.assert_close(mixer(inputs)[0], mixer.networks(inputs)[0])


def test_attention_weighs_what_is_handed_on_against_ones_own_by_hand() -> None:
    """Width 1: key and query are the vectors themselves, value too."""
    mixer = AITM(1, 2, widths=[1], dropout=0.0)
    with torch.no_grad():
        for name, weight in mixer.named_parameters():
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
    mixer.networks = torch.nn.Identity()  # type: ignore[assignment]
    first, own = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    handed = 2.0 / (1.0 + math.exp(-2.0))  # SiLU(2)
    a, b = math.exp(handed * handed), math.exp(1.0)  # softmax of u * u over both, sqrt(1) = 1
    wanted = (a * handed + b * 1.0) / (a + b)
    found = mixer(torch.stack([first, own]))
    torch.testing.assert_close(found[1].item(), wanted)


def test_scores_are_divided_by_the_root_of_the_width() -> None:
    """Width 4, keys and queries of (u, u, u, u) are it itself: 4 u u / sqrt(4) = 2 u u."""
    mixer = AITM(4, 2, widths=[4], dropout=0.0)
    with torch.no_grad():
        for name, weight in mixer.named_parameters():
            weight.fill_(0.0 if name.endswith("bias") else 0.25)
    mixer.networks = torch.nn.Identity()  # type: ignore[assignment]
    handed = 1.0 / (1.0 + math.exp(-1.0))  # SiLU(1)
    a, b = math.exp(2 * handed * handed), math.exp(2 * 0.5 * 0.5)
    wanted = (a * handed + b * 0.5) / (a + b)
    found = mixer(torch.tensor([1.0, 0.5])[:, None, None].expand(2, 1, 4))
    torch.testing.assert_close(found[1, 0], torch.full((4,), wanted))


def test_a_later_task_teaches_the_network_of_an_earlier_one() -> None:
    mixer = AITM(2, 3, widths=[4], dropout=0.0)
    mixer(torch.randn(5, 2))[2].sum().backward()
    gradient = dict(mixer.named_parameters())["networks.layers.0.weight"].grad
    assert gradient is not None
    assert all(gradient[:, task].any() for task in range(3))
