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
    # One layer x w, w = (1, 2), of x = (5, 7): what is shared says 5 + 14 = 19.
    # Domain 1, factors 1 + (1, -1), shift 3: 5 * 2 + 14 * 0 + 3 = 13.
    # Domain 2, factors 1 + (0, 1), shift -4: 5 + 14 * 2 - 4 = 29.
    mixer = STAR(2, 1, widths=[1], dropout=0.0, n_domains=3)
    mixer.load_state_dict(
        {
            "shared.layers.0.weight": torch.tensor([[[1.0]], [[2.0]]]),
            "factors.0": torch.tensor([[[1.0], [-1.0]], [[0.0], [1.0]]]),
            "shifts.0": torch.tensor([[3.0], [-4.0]]),
        }
    )
    mixer.shared.activate = lambda place, hidden: hidden  # type: ignore[method-assign]
    x = torch.tensor([[5.0, 7.0]]).expand(4, 2)
    found = mixer(x, torch.tensor([1, 0, 2, 1]))
    assert found.flatten().tolist() == [13.0, 19.0, 29.0, 13.0]


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
    outputs = mixer(torch.randn(5, 2), torch.tensor([1, 1, 0, 1, 0]))
    (outputs * torch.randn(outputs.shape)).sum().backward()
    gradients = {name: weight.grad for name, weight in mixer.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None, name
        taught = gradient.flatten(1) if name.startswith("shared.") else gradient[:1]
        assert taught.any(), name
        if not name.startswith("shared."):
            assert not gradient[1:].any(), name


def test_rows_of_no_known_domain_teach_what_is_shared_alone() -> None:
    mixer = star()
    mixer(torch.randn(5, 2), torch.zeros(5, dtype=torch.int64))[0, :, 0].sum().backward()
    assert all(weight.grad is None for weight in [*mixer.factors, *mixer.shifts])
    assert mixer.shared.layers[0].weight.grad is not None


def test_without_domains_in_the_shop_it_holds_the_shared_weights_alone() -> None:
    assert list(star(n_domains=1).state_dict()) == [
        "shared.layers.0.weight",
        "shared.layers.1.weight",
    ]
