import torch

from daogou.model.mixers import MMoE
from daogou.model.mixers.unshared import Unshared


def made() -> Unshared:
    """Four tasks: the second has an expert of its own, the fourth rows too."""
    torch.manual_seed(0)
    inner = MMoE(3, 4, widths=[5], dropout=0.0, gate_dropout=0.0)
    return Unshared(inner, 3, [1, 3], [3], widths=[5], dropout=0.0, n_own_inputs=2)


def test_tasks_that_share_are_as_if_the_mixer_stood_alone() -> None:
    mixer = made()
    inputs = torch.randn(6, 3)
    alone, found = mixer.mixer(inputs), mixer(inputs, torch.randn(1, 6, 2))
    assert torch.equal(found[[0, 2]], alone[[0, 2]])
    assert not torch.equal(found[1], alone[1]) and not torch.equal(found[3], alone[3])


def test_an_expert_of_its_own_teaches_what_is_below_and_one_with_rows_does_not() -> None:
    mixer = made()
    for place, teaches in ((0, True), (1, True), (3, False)):
        inputs = torch.randn(6, 3, requires_grad=True)
        own = torch.randn(1, 6, 2, requires_grad=True)
        mixer(inputs, own)[place].square().sum().backward()
        assert (inputs.grad is not None and bool(inputs.grad.any())) == teaches
        assert (own.grad is not None and bool(own.grad.any())) == (place == 3)


def test_its_own_parts_are_what_changes_its_answer_and_no_other() -> None:
    inputs, own = torch.randn(6, 3), torch.randn(1, 6, 2)
    for place in range(4):
        mixer = made()
        before = mixer(inputs, own)
        masks = mixer.own_parts(place)
        assert bool(masks) == (place in (1, 3))
        with torch.no_grad():
            for name, mask in masks.items():
                weight = mixer.get_parameter(name)
                weight.copy_(torch.where(mask.expand_as(weight), -weight, weight))
        changed = [not torch.equal(a, b) for a, b in zip(before, mixer(inputs, own), strict=True)]
        assert changed == [bool(masks) and each == place for each in range(4)]
