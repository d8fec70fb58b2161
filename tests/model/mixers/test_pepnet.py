import torch

from daogou.model.mixers import PEPNet, Single


def pepnet() -> PEPNet:
    torch.manual_seed(0)
    return PEPNet(3, 2, widths=[4, 4], dropout=0.0, n_domains=3)


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


def test_domains_answer_differently_and_an_unsaid_one_is_the_unknown() -> None:
    mixer = pepnet()
    torch.nn.init.normal_(mixer.enter_out.weight)
    row = torch.randn(1, 3).expand(3, 3)
    found = mixer(row, torch.tensor([0, 1, 2]))
    assert not torch.allclose(found[:, 1], found[:, 2])
    torch.testing.assert_close(mixer(row[:1]), found[:, :1])


def test_gates_read_the_input_and_do_not_teach_what_made_it() -> None:
    """With the networks' path cut off, nothing reaches the input."""
    mixer = pepnet()
    for last in (mixer.enter_out, *mixer.person_out):
        torch.nn.init.normal_(last.weight)  # type: ignore[arg-type]
    inputs = torch.randn(5, 3, requires_grad=True)
    for layer in mixer.networks.layers:
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
    mixer(inputs).sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad.any()
