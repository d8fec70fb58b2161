import torch
from torch import Tensor

from daogou.model.experts import GroupedLinear
from daogou.model.mixers import PEPNet, Single


def pepnet() -> PEPNet:
    torch.manual_seed(0)
    return PEPNet(3, 2, widths=[4, 4], dropout=0.0, n_domains=3)


def bias_of(mixer: PEPNet, place: int) -> Tensor:
    """What the gates of a layer add before their sigmoid, ``[T, O]``."""
    wide = mixer.person_out[place]
    assert isinstance(wide, GroupedLinear) and wide.bias is not None
    return wide.bias


def test_at_the_start_it_is_a_network_for_each_task() -> None:
    mixer, single = pepnet(), Single(3, 2, widths=[4, 4], dropout=0.0)
    single.experts.load_state_dict(mixer.networks.state_dict())
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(mixer(inputs, torch.tensor([0, 1, 2, 0, 1])), single(inputs))


def test_a_gate_lies_between_nothing_and_twice_as_much() -> None:
    # W2 relu(W1 prior) of 100 and of -100 for the first and second input: times 2, times 0.
    mixer = pepnet()
    with torch.no_grad():
        mixer.enter_out.bias.copy_(torch.tensor([100.0, -100.0, 0.0]))
    single = Single(3, 2, widths=[4, 4], dropout=0.0)
    single.experts.load_state_dict(mixer.networks.state_dict())
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(mixer(inputs), single(inputs * torch.tensor([2.0, 0.0, 1.0])))


def test_a_tasks_gates_act_on_its_own_layers_alone() -> None:
    # The first task's last layer: its first unit twice, its second not at all.
    mixer = pepnet()
    inputs = torch.randn(5, 3)
    before = mixer(inputs)
    with torch.no_grad():
        bias_of(mixer, 1)[0, :2] = torch.tensor([100.0, -100.0])
    after = mixer(inputs)
    wanted = before[0] * torch.tensor([2.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(after[0], wanted)
    assert torch.equal(after[1], before[1])


def test_a_person_gate_of_the_first_layer_is_read_by_the_second() -> None:
    # Gates of the first layer at 2: what SiLU gave, doubled, is what the second layer reads.
    mixer = pepnet()
    inputs = torch.randn(5, 3)
    with torch.no_grad():
        bias_of(mixer, 0).add_(100.0)
    hidden = mixer.networks.layer(1, 2 * mixer.networks.layer(0, inputs))
    torch.testing.assert_close(mixer(inputs), hidden)


def test_domains_answer_differently_and_an_unsaid_one_is_the_unknown() -> None:
    mixer = pepnet()
    torch.nn.init.normal_(mixer.enter_out.weight)
    row = torch.randn(1, 3).expand(3, 3)
    found = mixer(row, torch.tensor([0, 1, 2]))
    assert not torch.allclose(found[:, 1], found[:, 2])
    torch.testing.assert_close(mixer(row[:1]), found[:, :1])


def test_gates_read_the_input_and_do_not_teach_what_made_it() -> None:
    """The gradient is that of gates which are given as numbers."""
    mixer = pepnet()
    outs = [layer for layer in mixer.person_out if isinstance(layer, GroupedLinear)]
    for weight in (mixer.enter_out.weight, *(layer.weight for layer in outs)):
        torch.nn.init.normal_(weight)
    inputs = torch.randn(5, 3, requires_grad=True)
    found = mixer(inputs)
    where = mixer.domains[:1].expand(5, -1)
    gate = mixer.enter_out(mixer.enter(torch.cat([where, inputs], dim=1)).relu())
    hidden = inputs * (2 * gate.sigmoid()).detach()
    prior = hidden.detach()
    for place, (narrow, wide) in enumerate(zip(mixer.person, outs, strict=True)):
        gate = 2 * wide(narrow(prior).relu()).sigmoid()
        hidden = mixer.networks.layer(place, hidden) * gate.detach()
    torch.testing.assert_close(found, hidden)
    pull = torch.randn(found.shape)
    gradients = [torch.autograd.grad((each * pull).sum(), inputs)[0] for each in (found, hidden)]
    torch.testing.assert_close(gradients[0], gradients[1])
