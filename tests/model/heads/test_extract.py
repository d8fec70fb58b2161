"""Tags of title tokens against all legal tag sequences, written out."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from daogou.features.text import BEGIN, INSIDE, MASKED, OUTSIDE
from daogou.model.encoded import Encoded
from daogou.model.heads.extract import NEVER, ExtractHead
from tests.laws import check_rows_are_apart
from tests.model.hand import batch

WIDTH, N_ATTRIBUTES, LENGTH = 4, 2, 4
LEGAL = [
    tags
    for tags in itertools.product((OUTSIDE, BEGIN, INSIDE), repeat=LENGTH)
    if not any(
        after == INSIDE and before == OUTSIDE
        for before, after in itertools.pairwise((OUTSIDE, *tags))
    )
]


@pytest.fixture
def head() -> ExtractHead:
    torch.manual_seed(0)
    made = ExtractHead(WIDTH, N_ATTRIBUTES).eval()
    for weight in (made.steps, made.out.weight, made.out.bias):
        torch.nn.init.normal_(weight, std=2.0)
    return made


def brute(head: ExtractHead, logits: Tensor, attribute: int) -> dict[tuple[int, ...], float]:
    """Score of every legal sequence of one title ``[L, 3]``."""
    steps = head.transitions()[attribute].detach()
    found = {}
    for tags in LEGAL:
        own = sum(logits[place, tag] for place, tag in enumerate(tags))
        found[tags] = float(own + sum(steps[a, b] for a, b in itertools.pairwise(tags)))
    return found


def test_with_equal_scores_every_legal_sequence_is_as_likely() -> None:
    # Of two tokens OO OB BO BB BI are legal, five in all; OI IO IB II are not.
    equal = ExtractHead(WIDTH, 1)
    loss = equal.loss(torch.zeros(1, 1, 2, 3), torch.tensor([[[BEGIN, INSIDE]]]))
    assert loss.item() == pytest.approx(math.log(5) / 2)  # per tag, and there are two
    tags, sure = equal.decode(torch.tensor([[[[0.0, 0.01, 0.0], [0.0, 0.01, 0.0]]]]))
    assert tags.tolist() == [[[BEGIN, BEGIN]]]
    # Three of the five begin with B, and two of the five end with it.
    assert sure[0, 0].tolist() == pytest.approx([3 / 5, 2 / 5], abs=0.01)


def test_the_loss_is_the_nats_of_the_gold_among_all_legal_sequences(head: ExtractHead) -> None:
    logits = head(torch.randn(1, LENGTH, WIDTH)).detach()
    gold = torch.tensor([[[BEGIN, INSIDE, OUTSIDE, BEGIN], [OUTSIDE] * LENGTH]])
    nats = 0.0
    for attribute in range(N_ATTRIBUTES):
        scores = brute(head, logits[0, attribute], attribute)
        every = torch.tensor(list(scores.values())).logsumexp(0)
        nats += float(every) - scores[tuple(gold[0, attribute].tolist())]
    assert head.loss(logits, gold).item() == pytest.approx(nats / (2 * LENGTH), rel=1e-4)


def test_decoding_finds_the_best_legal_sequence_and_each_tags_probability(
    head: ExtractHead,
) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        logits = head(torch.randn(1, LENGTH, WIDTH)).detach()
        tags, sure = head.decode(logits)
        for attribute in range(N_ATTRIBUTES):
            scores = brute(head, logits[0, attribute], attribute)
            best = max(scores, key=lambda each: scores[each])
            assert tuple(tags[0, attribute].tolist()) == best
            shares = torch.tensor(list(scores.values())).softmax(0)
            for place, tag in enumerate(best):
                has = torch.tensor([each[place] == tag for each in scores])
                wanted = float(shares[has].sum())
                assert sure[0, attribute, place].item() == pytest.approx(wanted, abs=1e-4)


def test_an_inside_never_follows_an_outside(head: ExtractHead) -> None:
    head.out.bias.data.view(N_ATTRIBUTES, 3)[:, INSIDE] = 50.0
    tags, _ = head.decode(head(torch.randn(20, LENGTH, WIDTH)))
    before = torch.cat([torch.full((20, N_ATTRIBUTES, 1), OUTSIDE), tags[..., :-1]], dim=-1)
    assert not ((tags == INSIDE) & (before == OUTSIDE)).any()
    assert (tags == INSIDE).any(), "or this test would show nothing"
    assert head.transitions()[0, OUTSIDE, INSIDE] < NEVER / 2


def test_padding_changes_no_tag_and_no_probability(head: ExtractHead) -> None:
    """Without the mask a padded title is tagged as if more words, all alike, followed."""
    states = torch.randn(200, LENGTH, WIDTH)
    padded = torch.cat([states, torch.zeros(200, 6, WIDTH)], dim=1)
    present = (torch.arange(LENGTH + 6) < LENGTH).expand(200, -1)
    tags, sure = head.decode(head(states))
    padded_tags, padded_sure = head.decode(head(padded), present)
    assert torch.equal(padded_tags[..., :LENGTH], tags)
    assert (padded_tags[..., LENGTH:] == OUTSIDE).all()
    torch.testing.assert_close(padded_sure[..., :LENGTH], sure, rtol=0, atol=1e-5)
    assert not torch.equal(head.decode(head(padded))[0][..., :LENGTH], tags), "or it shows nothing"


def test_padding_changes_no_loss(head: ExtractHead) -> None:
    states, gold = torch.randn(3, LENGTH, WIDTH), torch.randint(0, 2, (3, N_ATTRIBUTES, LENGTH))
    padded = torch.cat([states, torch.zeros(3, 6, WIDTH)], dim=1)
    masked = torch.cat([gold, torch.full((3, N_ATTRIBUTES, 6), MASKED)], dim=-1)
    torch.testing.assert_close(head.loss(head(padded), masked), head.loss(head(states), gold))


def test_nothing_annotated_is_a_loss_of_zero_with_zero_gradient(head: ExtractHead) -> None:
    loss = head.loss(
        head(torch.randn(2, LENGTH, WIDTH)), torch.full((2, N_ATTRIBUTES, LENGTH), MASKED)
    )
    loss.backward()
    assert loss.item() == 0.0
    gradients = [weight.grad for weight in head.parameters() if weight.grad is not None]
    assert all((gradient == 0).all() for gradient in gradients)


def test_an_attribute_that_is_not_annotated_learns_nothing(head: ExtractHead) -> None:
    gold = torch.randint(0, 2, (2, N_ATTRIBUTES, LENGTH))
    gold[:, 1] = MASKED
    head.loss(head(torch.randn(2, LENGTH, WIDTH)), gold).backward()
    assert head.out.weight.grad is not None
    own, other = head.out.weight.grad.view(N_ATTRIBUTES, 3, -1)
    assert (own != 0).any()
    assert (other == 0).all()


def test_a_batch_without_titles_has_no_loss_and_no_gradient(head: ExtractHead) -> None:
    tokens = torch.randn(2, LENGTH, WIDTH, requires_grad=True)
    found = head.losses(Encoded(tokens=tokens), batch(), torch.ones(1)).values
    found.sum().backward()
    assert found.tolist() == [0.0]
    assert tokens.grad is not None
    assert (tokens.grad == 0).all()


def test_titles_are_apart(head: ExtractHead) -> None:
    check_rows_are_apart(head, torch.randn(5, LENGTH, WIDTH), rows_of=0)


def test_a_head_learns_to_tag_what_it_is_shown() -> None:
    torch.manual_seed(0)
    head = ExtractHead(WIDTH, 2, dropout=0.0)
    states = torch.randn(6, 5, WIDTH)
    begins = torch.where(states[..., 0] > 0, BEGIN, OUTSIDE)
    # The second attribute's value starts with the first's and goes on over one more token.
    goes_on = torch.where((begins[:, 1:] == OUTSIDE) & (begins[:, :-1] == BEGIN), INSIDE, OUTSIDE)
    longer = begins.clone()
    longer[:, 1:] += goes_on
    gold = torch.stack([begins, longer], dim=1)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        head.loss(head(states), gold).backward()
        optimiser.step()
    tags, _ = head.eval().decode(head(states))
    assert (tags == gold).float().mean().item() > 0.9


def test_no_titles_have_no_tags(head: ExtractHead) -> None:
    tags, sure = head.decode(head(torch.zeros(0, LENGTH, WIDTH)))
    assert tags.shape == sure.shape == (0, N_ATTRIBUTES, LENGTH)
