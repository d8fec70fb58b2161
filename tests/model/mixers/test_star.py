import torch

from daogou.model.mixers import STAR, SharedBottom


def star(n_domains: int = 3) -> STAR:
    torch.manual_seed(0)
    return STAR(2, 2, widths=[4, 4], dropout=0.0, n_domains=n_domains)


def test_at_the_start_every_domain_is_the_shared_network() -> None:
    mixer, plain = star(), SharedBottom(2, 2, widths=[4, 4], dropout=0.0)
    plain.experts.load_state_dict(mixer.shared.state_dict())
    inputs = torch.randn(6, 2)
    found = mixer(inputs, torch.tensor([0, 1, 2, 2, 1, 0]))
    torch.testing.assert_close(found, plain(inputs))
    torch.testing.assert_close(mixer(inputs), plain(inputs))


def test_a_domain_scales_and_shifts_the_shared_weights_by_hand() -> None:
    # One layer x w, w = (1, 2): domain 1 has factors 1 + (1, -1) and a shift of 3. Of x = (5, 7)
    # the shared part says 5 + 14 = 19; the domain's says 5 * 2 + 7 * 0 + 3 = 13.
    mixer = STAR(2, 1, widths=[1], n_domains=2)
    with torch.no_grad():
        mixer.shared.layers[0].weight.copy_(torch.tensor([[[1.0]], [[2.0]]]))
        mixer.factors[0].copy_(torch.tensor([[[1.0], [-1.0]]]))
        mixer.shifts[0].fill_(3.0)
    shared = mixer.shared.layers[0].weight[:, 0]
    x = torch.tensor([[5.0, 7.0]])
    assert (x @ shared + mixer._own(0, shared, x, torch.tensor([1]))).item() == 13.0
    assert (x @ shared + mixer._own(0, shared, x, torch.tensor([0]))).item() == 19.0


def test_rows_come_back_in_their_order_whatever_their_domains() -> None:
    mixer = star().eval()
    for weight in mixer.parameters():
        torch.nn.init.normal_(weight)
    inputs, domain = torch.randn(7, 2), torch.tensor([2, 0, 1, 2, 1, 0, 2])
    whole = mixer(inputs, domain)
    for i in range(len(inputs)):
        torch.testing.assert_close(mixer(inputs[i : i + 1], domain[i : i + 1])[:, 0], whole[:, i])
    assert mixer(inputs[:0], domain[:0]).shape == (2, 0, 4)


def test_a_row_teaches_its_own_domain_and_what_is_shared() -> None:
    mixer = star()
    mixer(torch.randn(5, 2), torch.tensor([1, 1, 0, 1, 0])).sum().backward()
    for weights in (mixer.factors, mixer.shifts):
        for weight in weights:
            assert weight.grad is not None
            assert (weight.grad[1] == 0).all()
    assert mixer.factors[0].grad[0].any()
    assert mixer.shared.layers[0].weight.grad.any()
