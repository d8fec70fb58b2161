import torch

from daogou.model.mixers import CrossStitch, Single


def test_a_task_starts_with_most_of_its_own_and_an_even_share_of_the_others() -> None:
    mixer = CrossStitch(2, 3, widths=[4], kept=0.8)
    torch.testing.assert_close(
        mixer.stitch[0].detach(),
        torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]),
    )


def test_with_all_kept_it_is_networks_that_share_nothing() -> None:
    mixer = CrossStitch(3, 2, widths=[4, 4], dropout=0.0, kept=1.0)
    single = Single(3, 2, widths=[4, 4], dropout=0.0)
    single.experts.load_state_dict(mixer.networks.state_dict())
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(mixer(inputs), single(inputs))


def test_hidden_layers_are_mixed_as_the_shares_say() -> None:
    # After the last layer alone: half and half of both tasks is the mean of what they had.
    mixer = CrossStitch(3, 2, widths=[4], dropout=0.0, kept=1.0)
    inputs = torch.randn(5, 3)
    apart = mixer(inputs)
    with torch.no_grad():
        mixer.stitch.fill_(0.5)
    torch.testing.assert_close(mixer(inputs), apart.mean(0).expand(2, 5, 4))


def test_a_row_of_shares_is_what_one_task_takes_of_each_by_hand() -> None:
    # Networks say 1 and 10; task 0 takes 0.5 and 2 of them, task 1 nothing of 0 and 3 of its own.
    mixer = CrossStitch(1, 2, widths=[1], dropout=0.0)
    mixer.networks.layer = lambda place, hidden: torch.tensor([[[1.0]], [[10.0]]])  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        mixer.stitch.copy_(torch.tensor([[[0.5, 2.0], [0.0, 3.0]]]))
    assert mixer(torch.ones(1, 1)).flatten().tolist() == [20.5, 30.0]


def test_one_task_alone_keeps_all() -> None:
    assert CrossStitch(2, 1, widths=[4, 4]).stitch.flatten().tolist() == [1.0, 1.0]
