"""A funnel of click, cart and buy: what each stage learns from, and what follows for its chance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daogou.features.batch import Batch
from daogou.features.columns import Columns
from daogou.features.transform import LogScale
from daogou.model.encoded import Encoded
from daogou.model.heads.funnel import FunnelHead, Stage
from daogou.model.meet import Meet
from daogou.model.mixers import MMoE
from tests.model.hand import Copies, batch

GIVEN = (-1, 0, 1)
CHANCES = st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3)


def stages(given: tuple[int, ...] = GIVEN, columns: tuple[int, ...] = (0, 1, 2)) -> list[Stage]:
    return [Stage(before, column) for before, column in zip(given, columns, strict=False)]


def head(given: tuple[int, ...] = GIVEN, *, columns: tuple[int, ...] = (0, 1, 2)) -> FunnelHead:
    """A head that sees two numbers of an item and says a logit of 0 until trained."""
    torch.manual_seed(0)
    meet = Meet(2, has_items=True, has_users=False, context=None)
    made = FunnelHead(meet, Copies(len(given), 2), stages(given, columns), tower=4)
    torch.nn.init.zeros_(made.out.weight)
    return made


def items(n: int = 4) -> Encoded:
    generator = torch.Generator().manual_seed(1)
    return Encoded(items=torch.randn(n, 2, generator=generator).requires_grad_())


def say(made: FunnelHead, *chances: float) -> None:
    """Make the towers answer these conditional chances whatever they see."""
    made.out.bias.data.copy_(torch.tensor(chances).logit()[:, None])


def losses(made: FunnelHead, labels: list[list[int]], weight: list[float] | None = None) -> Tensor:
    given = batch(labels, item=[1] * len(labels), weight=weight or ())
    return made.losses(items(), given, torch.ones(len(made.given))).values


def test_each_stage_is_learnt_where_the_one_before_it_happened() -> None:
    # Per exposure, of which there are 4. click: -ln 1/2 each. cart: the 2 clicked rows, one
    # happened: (-ln 1/4 - ln 3/4) / 4. buy: the one row with a cart, not bought: -ln (1 - 1/8) / 4.
    made = head()
    say(made, 0.5, 0.25, 0.125)
    found = losses(made, [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    wanted = [math.log(2), (math.log(4) - math.log(0.75)) / 4, -math.log(7 / 8) / 4]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_missing_label_is_left_out_and_is_no_negative() -> None:
    # buy of row 0 is not known yet; click of row 1 is not known, so neither is whether cart counts.
    made = head()
    say(made, 0.25, 0.25, 0.25)
    found = losses(made, [[1, 1, -1], [-1, 1, 1], [1, 1, 1]])
    torch.testing.assert_close(found, torch.full((3,), math.log(4) * 2 / 3))


@pytest.mark.parametrize("label", [-1, 0])
def test_a_batch_without_a_label_has_no_loss_and_no_gradient(label: int) -> None:
    """All labels missing, or no click: then cart and buy are defined nowhere."""
    made, seen = head(), items()
    torch.nn.init.normal_(made.out.weight)
    exposures = batch([[label, -1, -1]] * 3, item=[1, 2, 3])
    found = made.losses(seen, exposures, torch.ones(3))
    assert found.values[1:].tolist() == [0.0, 0.0]
    if label == -1:
        assert found.values[0].item() == 0.0
    found.values[1:].sum().backward()
    assert seen.items is not None
    assert seen.items.grad is not None
    for gradient in (seen.items.grad, *(weight.grad for weight in made.parameters())):
        assert gradient is not None
        assert (gradient == 0).all()


def test_no_exposure_at_all_has_no_loss() -> None:
    made = head()
    exposures = batch()
    exposures = type(exposures)(
        type(exposures.exposures)(
            {**exposures.exposures.tensors, "labels": torch.zeros(0, 3, dtype=torch.int8)}
        ),
        exposures.users, exposures.items, exposures.texts, exposures.titles, exposures.extra,
    )  # fmt: skip
    assert made.losses(items(), exposures, torch.ones(3)).values.tolist() == [0.0, 0.0, 0.0]


def test_a_batch_of_one_class_is_ordinary() -> None:
    made = head()
    say(made, 0.5, 0.5, 0.5)
    torch.testing.assert_close(losses(made, [[1, 1, 1]] * 3), torch.full((3,), math.log(2)))


def test_rows_count_by_their_weight() -> None:
    # (3 * -ln 1/4 + 1 * -ln 3/4) / 4.
    made = head((-1,), columns=(0,))
    say(made, 0.25)
    found = losses(made, [[1], [0]], [3.0, 1.0])
    torch.testing.assert_close(found, torch.tensor([(3 * math.log(4) - math.log(0.75)) / 4]))


def test_a_marginal_stage_is_learnt_everywhere() -> None:
    made = head((-1, -1), columns=(0, 1))
    say(made, 0.5, 0.25)
    found = losses(made, [[0, 0], [1, 1]])
    torch.testing.assert_close(found[1].item(), (math.log(4) - math.log(0.75)) / 2)
    assert made.chained(torch.tensor([[0.5], [0.25]])).tolist() == [[0.5], [0.25]]


def test_a_head_finds_its_labels_by_column() -> None:
    # The head knows the first and third of four labels; the others must not matter.
    made = head((-1, 0), columns=(0, 2))
    say(made, 0.5, 0.25)
    found = losses(made, [[1, 0, 1, 0], [0, 1, 1, 1]])
    torch.testing.assert_close(found, torch.tensor([math.log(2), math.log(4) / 2]))


def test_conditional_chances_multiply_by_hand() -> None:
    made = head()
    say(made, 0.5, 0.25, 0.125)
    over_all, conditional = made.chances(items(), batch([[0, 0, 0]], item=[1]))
    torch.testing.assert_close(conditional[:, 0], torch.tensor([0.5, 0.25, 0.125]))
    torch.testing.assert_close(over_all[:, 0], torch.tensor([1 / 2, 1 / 8, 1 / 64]))


@given(CHANCES)
def test_a_later_stage_is_never_likelier_than_an_earlier_one(chances: list[float]) -> None:
    click, cart, buy = head().chained(torch.tensor(chances)[:, None])[:, 0].tolist()
    assert 0 <= buy <= cart <= click <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_that_holds_for_any_weights(seed: int) -> None:
    torch.manual_seed(seed)
    meet = Meet(2, has_items=True, has_users=False, context=None)
    made = FunnelHead(meet, MMoE(2, 3, widths=[4]), stages()).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=3.0)
    over_all, _ = made.chances(items(), batch([[0, 0, 0]] * 3, item=[1, 2, 3]))
    click, cart, buy = over_all
    assert (buy <= cart).all()
    assert (cart <= click).all()


def test_a_stage_that_depends_on_a_later_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given \[1, -1\]: a stage can only depend on an earlier"):
        head((1, -1), columns=(0, 1))


def test_the_shared_activation_is_what_the_mixer_reads() -> None:
    made, seen = head(), items()
    found = made.losses(seen, batch([[1, 1, 1]], item=[2]), torch.ones(3))
    assert seen.items is not None
    assert found.shared is not None
    assert torch.equal(found.shared, seen.items[2:3])


def test_bfloat16_is_close_in_training_and_absent_outside_it() -> None:
    made, short = (
        FunnelHead(
            Meet(2, has_items=True, has_users=False, context=None),
            MMoE(2, 3, widths=[8, 8], dropout=0.0, gate_dropout=0.0), stages(),
            bfloat16=bfloat16,
        )
        for bfloat16 in (False, True)
    )  # fmt: skip
    short.load_state_dict(made.state_dict())
    given = batch([[1, 1, 0], [1, 0, 0], [0, 0, 0]], item=[1, 2, 3])
    exact, rough = (
        each.train().losses(items(), given, torch.ones(3)).values for each in (made, short)
    )
    assert exact.dtype == rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.01)
    chances = [each.eval().chances(items(), given)[0] for each in (made, short)]
    assert torch.equal(*chances)


SCALE = LogScale(mean=2.0, spread=1.0, least=0.0, most=9.0)


def worth(given: int, loss: str = "lognormal") -> FunnelHead:
    """Click and buy, and what a purchase (or an exposure, for -1) is worth."""
    torch.manual_seed(0)
    meet = Meet(2, has_items=True, has_users=False, context=None)
    last = Stage(given, -1, loss, scale=SCALE)
    made = FunnelHead(meet, Copies(3, 2), [*stages((-1, 0), (0, 1)), last], tower=4)
    assert made.out.bias is not None
    torch.nn.init.zeros_(made.out.weight)
    torch.nn.init.zeros_(made.out.bias)
    return made


def worth_batch(labels: list[list[int]], values: list[float]) -> Batch:
    given = batch(labels, item=[1] * len(labels))
    tensors = {**given.exposures.tensors, "value": torch.tensor(values)}
    return Batch(Columns(tensors), given.users, given.items, given.texts, given.titles, given.extra)


def test_what_a_stage_is_worth_is_learnt_where_it_happened() -> None:
    # Of four exposures one has a purchase of known value, e^3: 1 spread from what is said.
    labels = [[1, 1], [1, 1], [1, 0], [0, 0]]
    values = [math.exp(3.0), math.nan, 5.0, 5.0]
    made = worth(1)
    found = made.losses(items(), worth_batch(labels, values), torch.ones(3)).values
    assert found[2].item() == pytest.approx((0.5 * math.log(2 * math.pi) + 0.5) / 4)
    assert made.columns == [0, 1]


def test_its_answer_is_an_expected_value_given_the_stage_and_times_its_chance() -> None:
    over_all, given = worth(1).chances(items(), worth_batch([[0, 0]], [math.nan]))
    torch.testing.assert_close(given[:, 0], torch.tensor([0.5, 0.5, math.exp(2.5)]))
    torch.testing.assert_close(over_all[:, 0], torch.tensor([0.5, 0.25, math.exp(2.5) / 4]))
    alone, _ = worth(-1).chances(items(), worth_batch([[0, 0]], [math.nan]))
    assert alone[2].item() == pytest.approx(math.exp(2.5))


@pytest.mark.parametrize("loss", ["lognormal", "zero_inflated"])
@pytest.mark.parametrize(
    ("labels", "value"), [([-1, -1], math.nan), ([0, 0], 7.0), ([1, 1], math.nan)]
)
def test_a_batch_without_a_value_has_no_loss_and_no_gradient(
    labels: list[int], value: float, loss: str
) -> None:
    made, seen = worth(1, loss), items()
    torch.nn.init.normal_(made.out.weight)
    found = made.losses(seen, worth_batch([labels] * 2, [value] * 2), torch.ones(3)).values
    assert found[2].item() == 0.0
    assert found.isfinite().all()
    found[2].backward()
    assert seen.items is not None
    assert seen.items.grad is not None
    assert (seen.items.grad == 0).all()


def test_an_amount_that_is_not_last_is_refused() -> None:
    meet = Meet(2, has_items=True, has_users=False, context=None)
    amount = Stage(-1, -1, "lognormal", scale=SCALE)
    with pytest.raises(ValueError, match="only the last one may be an amount"):
        FunnelHead(meet, Copies(2, 2), [amount, Stage(-1, 0)])


def test_a_stage_after_a_delayed_one_is_given_the_chance_within_that_one_s_window() -> None:
    """Ever by 1/2, at a rate of one a window: 1/2 (1 - 1/e) by its end."""
    meet = Meet(2, has_items=True, has_users=False, context=None)
    made = FunnelHead(meet, Copies(2, 2), [Stage(-1, 0, "dfm"), Stage(0, 1, "esmm")], tower=4)
    assert made.out.bias is not None
    torch.nn.init.zeros_(made.out.weight)
    torch.nn.init.zeros_(made.out.bias)
    made.out.bias.data[0, 1] = -math.log(10)  # of the ten a window from which it starts
    given = batch([[1, 0], [0, 0]], item=[1, 1])
    towers = made.towers(items(), given)
    within = 0.5 * (1 - math.exp(-1))
    before = made.seen(towers, given.exposures)[1].log_before
    torch.testing.assert_close(before.exp(), torch.full((2,), within))
    over_all, _ = made.said(towers)
    torch.testing.assert_close(over_all[:, 0], torch.tensor([within, within / 2]))
    # Without delays the labels teach: one yes and one no; cart: two noes of within / 2.
    found = made.losses(items(), given, torch.ones(2)).values
    wanted = [-(math.log(within) + math.log(1 - within)) / 2, -math.log(1 - within / 2)]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_delayed_stage_reads_its_own_column_of_the_delays() -> None:
    # Of the label's three columns the head knows the first and the last. Not known yet: one came
    # after 2.4 of 24 hours, at ten a window 10/e of density; of the other nothing was watched.
    meet = Meet(2, has_items=True, has_users=False, context=None)
    made = FunnelHead(meet, Copies(2, 2), [Stage(-1, 0), Stage(0, 2, "dfm")], tower=4)
    assert made.out.bias is not None
    torch.nn.init.zeros_(made.out.weight)
    torch.nn.init.zeros_(made.out.bias)
    given = batch([[1, 0, -1], [1, 0, -1]], item=[1, 1])
    nan = math.nan
    hours = {
        "delay_h": torch.tensor([[nan, 9.0, 2.4], [nan, 9.0, nan]]),
        "watched_h": torch.tensor([[nan, 9.0, 5.0], [nan, 9.0, 0.0]]),
    }
    exposures = Columns({**given.exposures.tensors, **hours})
    waiting = Batch(exposures, given.users, given.items, given.texts, given.titles, given.extra)
    found = made.losses(items(), waiting, torch.ones(2)).values
    assert found[1].item() == pytest.approx((math.log(2) - math.log(10) + 1) / 2)


def test_a_stage_begins_at_the_rate_that_it_is_given() -> None:
    meet = Meet(2, has_items=True, has_users=False, context=None)
    kinds = [
        Stage(-1, 0, rate=0.001),
        Stage(0, 1, rate=0.25),
        Stage(1, -1, "lognormal", scale=SCALE),
    ]
    made = FunnelHead(meet, Copies(3, 2), kinds, tower=4)
    torch.nn.init.zeros_(made.out.weight)
    over_all, where_defined = made.chances(items(2), batch([[0, 0]], item=[1]))
    assert where_defined[:2, 0].tolist() == pytest.approx([0.001, 0.25])
    assert over_all[:2, 0].tolist() == pytest.approx([0.001, 0.00025])
    assert made.out.bias is not None
    assert made.out.bias[2].tolist() == [0.0] * made.out.bias.shape[1]  # an amount has no rate
