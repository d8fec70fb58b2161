"""Tags of title tokens against all legal tag sequences, written out."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from daogou.features.gazetteer import N_CODES
from daogou.features.tags import BEGIN, INSIDE, MASKED, OUTSIDE
from daogou.features.text import CHANNELS, LISTED
from daogou.model.encoded import Encoded
from daogou.model.heads.extract import LIST_PACE, NEVER, ExtractHead
from tests.laws import check_rows_are_apart
from tests.model.hand import batch

NAMES = ("colour", "brand")
WIDTH, N_ATTRIBUTES, LENGTH = 4, len(NAMES), 4
N_CHANNELS, FIRST_MATCH = len(CHANNELS), 100
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
    made = ExtractHead(WIDTH, NAMES, first_match=FIRST_MATCH).eval()
    torch.nn.init.normal_(made.out.weight, std=0.3)
    for weight in (made.steps, made.bias, made.listed):
        torch.nn.init.normal_(weight, std=2.0)
    return made


def read(head: ExtractHead, states: Tensor) -> Tensor:
    """Logits of tokens that match no list."""
    rows = torch.zeros(*states.shape[:2], N_CHANNELS, dtype=torch.int64)
    logits: Tensor = head(states, rows)
    return logits


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
    equal = ExtractHead(WIDTH, ["kind"], first_match=1)
    loss = equal.loss(torch.zeros(1, 1, 2, 3), torch.tensor([[[BEGIN, INSIDE]]]))
    assert loss.item() == pytest.approx(math.log(5) / 2)  # per tag, and there are two
    tags, sure = equal.decode(torch.tensor([[[[0.0, 0.01, 0.0], [0.0, 0.01, 0.0]]]]))
    assert tags.tolist() == [[[BEGIN, BEGIN]]]
    # Three of the five begin with B, and two of the five end with it.
    assert sure[0, 0].tolist() == pytest.approx([3 / 5, 2 / 5], abs=0.01)


def test_the_loss_is_the_nats_of_the_gold_among_all_legal_sequences(head: ExtractHead) -> None:
    logits = read(head, torch.randn(1, LENGTH, WIDTH)).detach()
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
        logits = read(head, torch.randn(1, LENGTH, WIDTH)).detach()
        tags, sure = head.decode(logits)
        for attribute in range(N_ATTRIBUTES):
            scores = brute(head, logits[0, attribute], attribute)
            best = max(scores, key=lambda each: scores[each])
            assert tuple(tags[0, attribute].tolist()) == best
            if not any(best):  # nobody asks how sure that is
                assert not sure[0, attribute].any()
                continue
            shares = torch.tensor(list(scores.values())).softmax(0)
            for place, tag in enumerate(best):
                has = torch.tensor([each[place] == tag for each in scores])
                wanted = float(shares[has].sum())
                assert sure[0, attribute, place].item() == pytest.approx(wanted, abs=1e-4)


def test_an_inside_never_follows_an_outside(head: ExtractHead) -> None:
    head.bias.data[:, INSIDE] = 50.0
    tags, _ = head.decode(read(head, torch.randn(20, LENGTH, WIDTH)))
    before = torch.cat([torch.full((20, N_ATTRIBUTES, 1), OUTSIDE), tags[..., :-1]], dim=-1)
    assert not ((tags == INSIDE) & (before == OUTSIDE)).any()
    assert (tags == INSIDE).any(), "or this test would show nothing"
    assert head.transitions()[0, OUTSIDE, INSIDE] < NEVER / 2


def test_padding_changes_no_tag_and_no_probability(head: ExtractHead) -> None:
    """Without the mask a padded title is tagged as if more words, all alike, followed."""
    states = torch.randn(200, LENGTH, WIDTH)
    padded = torch.cat([states, torch.zeros(200, 6, WIDTH)], dim=1)
    present = (torch.arange(LENGTH + 6) < LENGTH).expand(200, -1)
    tags, sure = head.decode(read(head, states))
    padded_tags, padded_sure = head.decode(read(head, padded), present)
    assert torch.equal(padded_tags[..., :LENGTH], tags)
    assert (padded_tags[..., LENGTH:] == OUTSIDE).all()
    torch.testing.assert_close(padded_sure[..., :LENGTH], sure, rtol=0, atol=1e-5)
    assert not torch.equal(head.decode(read(head, padded))[0][..., :LENGTH], tags), (
        "or it shows nothing"
    )


def test_padding_changes_no_loss(head: ExtractHead) -> None:
    states, gold = torch.randn(3, LENGTH, WIDTH), torch.randint(0, 2, (3, N_ATTRIBUTES, LENGTH))
    padded = torch.cat([states, torch.zeros(3, 6, WIDTH)], dim=1)
    masked = torch.cat([gold, torch.full((3, N_ATTRIBUTES, 6), MASKED)], dim=-1)
    torch.testing.assert_close(
        head.loss(read(head, padded), masked), head.loss(read(head, states), gold)
    )


def test_nothing_annotated_is_a_loss_of_zero_with_zero_gradient(head: ExtractHead) -> None:
    loss = head.loss(
        read(head, torch.randn(2, LENGTH, WIDTH)), torch.full((2, N_ATTRIBUTES, LENGTH), MASKED)
    )
    loss.backward()
    assert loss.item() == 0.0
    gradients = [weight.grad for weight in head.parameters() if weight.grad is not None]
    assert all((gradient == 0).all() for gradient in gradients)


def test_an_attribute_that_is_not_annotated_learns_nothing(head: ExtractHead) -> None:
    gold = torch.randint(0, 2, (2, N_ATTRIBUTES, LENGTH))
    gold[:, 1] = MASKED
    head.loss(read(head, torch.randn(2, LENGTH, WIDTH)), gold).backward()
    for weight in (head.query, head.bias, head.steps):
        assert weight.grad is not None
        own, other = weight.grad
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
    check_rows_are_apart(partial(read, head), torch.randn(5, LENGTH, WIDTH), rows_of=0)


def test_a_head_learns_to_tag_what_it_is_shown() -> None:
    torch.manual_seed(0)
    head = ExtractHead(WIDTH, NAMES, first_match=1, dropout=0.0)
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
        head.loss(read(head, states), gold).backward()
        optimiser.step()
    tags, _ = head.eval().decode(read(head, states))
    assert (tags == gold).float().mean().item() > 0.9


def test_no_titles_have_no_tags(head: ExtractHead) -> None:
    tags, sure = head.decode(read(head, torch.zeros(0, LENGTH, WIDTH)))
    assert tags.shape == sure.shape == (0, N_ATTRIBUTES, LENGTH)


def test_the_order_of_the_attributes_is_the_order_of_their_logits_and_no_more(
    head: ExtractHead,
) -> None:
    other = ExtractHead(WIDTH, NAMES[::-1], first_match=FIRST_MATCH).eval()
    state = head.state_dict()
    for name in ("query", "bias", "steps"):
        state[name] = state[name].flip(0)
    other.load_state_dict(state)
    states = torch.randn(3, LENGTH, WIDTH)
    torch.testing.assert_close(read(other, states), read(head, states).flip(1))


def test_an_attribute_that_is_new_reads_as_one_of_a_like_name() -> None:
    """With no row of its own yet, a name's letters alone ask the question."""
    torch.manual_seed(0)
    names = ["flavor", "flavors", "net weight"]
    head = ExtractHead(WIDTH, names, first_match=1).eval()
    head.query.data.zero_()
    flavor, flavors, weight = read(head, torch.randn(1, 50, WIDTH))[0].flatten(1)
    assert torch.corrcoef(torch.stack([flavor, flavors]))[0, 1] > 0.8
    assert torch.corrcoef(torch.stack([flavor, weight]))[0, 1] < 0.5


def test_a_match_moves_the_attribute_that_it_is_of_by_what_its_code_says(
    head: ExtractHead,
) -> None:
    states = torch.randn(1, LENGTH, WIDTH)
    rows = torch.zeros(1, LENGTH, N_CHANNELS, dtype=torch.int64)
    rows[0, 2, LISTED] = FIRST_MATCH + N_CODES + 5  # the second attribute's, code 5
    rows[0, 2, LISTED + 1] = FIRST_MATCH + N_CODES + 7  # and 7, of another list of its values
    rows[0, 3, LISTED] = FIRST_MATCH + N_ATTRIBUTES * N_CODES  # a list that is no attribute's
    rows[0, 1, 0] = FIRST_MATCH  # not in a channel of lists
    moved = (head(states, rows) - read(head, states))[0]  # [A, L, 3]
    expected = torch.zeros(N_ATTRIBUTES, LENGTH, 3)
    expected[1, 2] = LIST_PACE * (head.listed[5] + head.listed[7])
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_in_training_a_list_is_sometimes_silent(head: ExtractHead) -> None:
    rows = torch.full((1, 2000, N_CHANNELS), FIRST_MATCH)
    rows[..., LISTED + 1 :] = 0
    said = head.train().matched(rows[..., LISTED:])[0, :, 0]
    silent = (said == 0).all(-1).float().mean().item()
    assert silent == pytest.approx(head.list_dropout, abs=0.05)


def test_what_is_learnt_of_a_list_holds_for_all_attributes() -> None:
    """One attribute's titles teach that the list is right; the other's are never seen."""
    torch.manual_seed(0)
    head = ExtractHead(WIDTH, NAMES, first_match=1, list_dropout=0.0)
    rows = torch.zeros(8, 3, N_CHANNELS, dtype=torch.int64)
    rows[:, 1, LISTED] = 1 + 3  # first list, code 3
    gold = torch.full((8, N_ATTRIBUTES, 3), MASKED)
    gold[:, 0] = torch.tensor([OUTSIDE, BEGIN, OUTSIDE])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        head.loss(head(torch.randn(8, 3, WIDTH), rows), gold).backward()
        optimiser.step()
    rows[:, 1, LISTED] += N_CODES  # the same match of the second list
    both = head.eval()(torch.randn(8, 3, WIDTH), rows)[:, 1]
    assert (both[:, 1, BEGIN] - both[:, 0, BEGIN]).mean() > 1
