import pytest
import torch
from torch import Tensor

from daogou.learn.aggregate import (
    RULES,
    Adam,
    Update,
    bounded,
    fits,
    geometric_median,
    mean,
    trimmed_mean,
)


def updates(*changes: list[list[float]], rows: tuple[int, ...] = ()) -> list[Update]:
    counts = rows or (1,) * len(changes)
    return [
        Update(f"shop{place}", n, {"w": torch.tensor(change)})
        for place, (change, n) in enumerate(zip(changes, counts, strict=True))
    ]


def test_a_mean_weighs_shops_by_their_rows() -> None:
    found = mean(updates([[1.0, 2.0]], [[5.0, 6.0]], rows=(3, 1)))
    assert found["w"].tolist() == [[2.0, 3.0]]


def test_a_row_s_mean_is_over_the_shops_that_changed_it() -> None:
    one = [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    two = [[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]
    assert mean(updates(one, two))["w"].tolist() == [[2.0, 1.0], [0.0, 4.0], [0.0, 0.0]]


def test_a_trimmed_mean_leaves_out_the_largest_and_the_smallest_of_each_number() -> None:
    five = updates([[1.0, -9.0]], [[2.0, 1.0]], [[3.0, 2.0]], [[4.0, 3.0]], [[99.0, 99.0]])
    assert trimmed_mean(five, 0.2)["w"].tolist() == [[3.0, 2.0]]
    assert trimmed_mean(five, 0.0)["w"].tolist() == [pytest.approx([109.0 / 5, 96.0 / 5])]


def test_a_trimmed_mean_of_a_row_counts_the_shops_that_changed_it() -> None:
    alone = [[0.0], [8.0]]
    three = updates([[1.0], [0.0]], [[3.0], [0.0]], alone)
    assert trimmed_mean(three, 0.4)["w"].tolist() == [[2.0], [8.0]]  # 2 shops of 3: none trimmed


def test_a_geometric_median_has_the_least_sum_of_distances() -> None:
    """Of the corners of a triangle that is the point from which each pair is 120 degrees apart."""
    found = geometric_median(updates([[1.0, 1.0]], [[4.0, 1.0]], [[1.0, 5.0]]))["w"][0].double()
    corners = torch.tensor([[1.0, 1.0], [4.0, 1.0], [1.0, 5.0]], dtype=torch.float64)
    away = torch.nn.functional.normalize(corners - found, dim=1)
    assert (away @ away.T)[[0, 0, 1], [1, 2, 2]].tolist() == pytest.approx([-0.5] * 3, abs=1e-5)


def test_a_geometric_median_on_a_line_is_the_one_in_the_middle_however_far_the_last() -> None:
    for far in (9.0, 9e6):
        found = geometric_median(updates([[1.0]], [[2.0]], [[far]], rows=(1, 1, 1_000_000)))
        assert found["w"].tolist() == [[pytest.approx(2.0, abs=1e-3)]]


def test_a_geometric_median_weighs_by_rows_up_to_the_median_of_them() -> None:
    found = geometric_median(updates([[1.0]], [[2.0]], [[3.0]], [[4.0]], rows=(10, 10, 30, 30)))
    assert found["w"].tolist() == [[pytest.approx(3.0, abs=1e-3)]]  # 10 and 10 before it, 20 behind


def test_distances_of_a_geometric_median_are_over_all_weights() -> None:
    whole = [[1.0, 5.0], [2.0, -1.0], [9.0, 3.0], [4.0, 4.0]]
    cut = [
        Update(str(place), 1, {"a": torch.tensor([a]), "b": torch.tensor([b])})
        for place, (a, b) in enumerate(whole)
    ]
    found = geometric_median(cut)
    one = geometric_median([Update("", 1, {"w": torch.tensor(each)}) for each in whole])["w"]
    assert torch.allclose(torch.cat([found["a"], found["b"]]), one)


def test_a_geometric_median_of_a_row_is_of_the_shops_that_changed_it() -> None:
    found = geometric_median(updates([[3.0], [0.0], [0.0]], [[5.0], [8.0], [0.0]]))
    assert found["w"].tolist() == [[4.0], [8.0], [0.0]]


@pytest.mark.parametrize("rule", list(RULES))
def test_the_order_of_shops_is_nothing_to_a_rule_and_where_none_differs_it_is_their_mean(
    rule: str,
) -> None:
    generator = torch.Generator().manual_seed(0)
    five = [Update(str(n), n + 1, {"w": torch.randn(4, 3, generator=generator)}) for n in range(5)]
    one, other = RULES[rule](five, 0.2)["w"], RULES[rule](five[::-1], 0.2)["w"]
    assert torch.allclose(one, other, atol=1e-6)
    alike = [Update(str(n), n + 1, five[0].change) for n in range(5)]
    assert torch.allclose(RULES[rule](alike, 0.2)["w"], five[0].change["w"], atol=1e-6)
    still = [Update(str(n), 1, {"w": torch.zeros(4, 3)}) for n in range(5)]
    assert not RULES[rule](still, 0.2)["w"].any()


def test_a_scalar_and_a_vector_are_weights_too() -> None:
    pair = [
        Update(str(n), 1, {"a": torch.tensor(float(n)), "b": torch.tensor([float(n), 0.0])})
        for n in (1, 3)
    ]
    for found in (mean(pair), trimmed_mean(pair, 0.2), geometric_median(pair)):
        assert float(found["a"]) == 2.0
        assert found["b"].tolist() == [2.0, 0.0]


def test_no_update_is_longer_than_so_many_medians() -> None:
    three = updates([[3.0, 4.0]], [[0.0, 1.0]], [[30.0, 40.0]])  # lengths 5, 1 and 50
    cut = bounded(three, 2.0)
    assert [update.norm for update in cut] == pytest.approx([5.0, 1.0, 10.0])
    assert cut[2].change["w"].tolist() == [pytest.approx([6.0, 8.0])]
    assert cut[0] is three[0]


def test_one_liar_moves_a_robust_rule_little_and_a_mean_much() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = [
        Update(str(n), 1, {"w": 1.0 + 0.1 * torch.randn(20, 3, generator=generator)})
        for n in range(4)
    ]
    liar = Update("liar", 1, {"w": torch.full((20, 3), -1000.0)})
    told = mean([*honest, liar])["w"]
    trimmed = trimmed_mean([*honest, liar], 0.2)["w"]
    cut = mean(bounded([*honest, liar], 1.0))["w"]
    middle = geometric_median([*honest, liar])["w"]
    assert float(told.mean()) < -100
    assert float(trimmed.mean()) == pytest.approx(1.0, abs=0.15)
    assert float(middle.mean()) == pytest.approx(1.0, abs=0.1)
    assert float(cut.mean()) == pytest.approx(0.6, abs=0.1)  # four at 1, one cut to -1


@pytest.mark.parametrize(("honest", "liars", "size"), [(2, 1, 1e38), (3, 2, 1e30), (9, 8, 1e9)])
def test_however_far_away_liars_say_they_are_the_geometric_median_stays_with_the_most(
    honest: int, liars: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    told = [torch.randn(20, 3, generator=generator) for _ in range(honest)]
    lies = [torch.full((20, 3), size)] * liars
    found = geometric_median(updates(*(each.tolist() for each in [*told, *lies])))["w"]
    farthest = max(float(each.norm()) for each in told)
    share = liars / (honest + liars)
    # The bound of Minsker, "Geometric Median and Robust Estimation in Banach Spaces", 2015.
    assert float(found.norm()) < 2 * (1 - share) / (1 - 2 * share) * farthest


@pytest.mark.parametrize(
    ("change", "rows", "sound"),
    [
        (torch.ones(2, 2), 1, True),
        (torch.tensor([[1.0, float("nan")], [0.0, 0.0]]), 1, False),
        (torch.tensor([[1.0, float("inf")], [0.0, 0.0]]), 1, False),
        (torch.ones(2, 3), 1, False),
        (torch.ones(2, 2), 0, False),
    ],
)
def test_what_is_not_finite_or_of_another_shape_does_not_fit(
    change: Tensor, rows: int, sound: bool
) -> None:
    assert fits(Update("x", rows, {"w": change}), {"w": torch.zeros(2, 2)}) is sound


def test_an_update_without_a_weight_does_not_fit() -> None:
    assert not fits(Update("x", 1, {}), {"w": torch.zeros(2)})


def test_the_server_s_adam_is_torch_s_but_for_where_the_small_constant_stands() -> None:
    ours = torch.zeros(3)
    theirs = torch.nn.Parameter(torch.zeros(3))
    adam = Adam(rate=0.1, tau=1e-9)
    torchs = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-9)
    for step in range(4):
        change = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
        ours = ours + adam({"w": change})["w"]
        theirs.grad = -change
        torchs.step()
    assert torch.allclose(ours, theirs.detach(), atol=1e-6)


def test_the_server_s_adam_leaves_alone_what_no_shop_changed() -> None:
    adam = Adam(rate=0.1)
    adam({"w": torch.tensor([1.0, 1.0])})
    moved = adam({"w": torch.tensor([0.0, 1.0])})
    assert float(moved["w"][0]) == 0.0
    assert float(adam.first["w"][0]) == pytest.approx(0.1)
