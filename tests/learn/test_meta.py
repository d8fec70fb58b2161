"""Heads of few rows: by hand, by laws, and where the shop was made so that they must help."""

import math

import pytest
import torch
from torch import Tensor

from daogou.learn.meta import (
    Groups,
    adapt,
    anil,
    fit_variance,
    generator,
    laplace,
    nats,
    reptile,
)

ONE = torch.ones(1)


def groups(features: Tensor, labels: Tensor, offsets: Tensor | None = None) -> Groups:
    nothing = torch.zeros_like(labels)
    return Groups(features, nothing if offsets is None else offsets, labels, nothing + 1)


def planted(n: int, rows: int, heads: Tensor, seed: int) -> Groups:
    """Groups whose labels follow heads of their own, ``[G, F]``."""
    drawn = torch.Generator().manual_seed(seed)
    features = torch.randn(n, rows, heads.shape[1], generator=drawn)
    chances = torch.einsum("gsf,gf->gs", features, heads).sigmoid()
    labels = (torch.rand(n, rows, generator=drawn) < chances).float()
    return groups(features, labels)


def test_a_posterior_of_one_number_by_hand() -> None:
    # One row with feature 1 and a yes, under N(0, 1): w + sigmoid(w) - 1 = 0 at w = 0.401058, and
    # the curvature there is 1 + p (1 - p).
    found = laplace(groups(torch.ones(1, 1, 1), torch.ones(1, 1)), ONE)
    assert float(found.mean) == pytest.approx(0.401058, abs=1e-5)
    p = 1 / (1 + math.exp(-0.401058))
    assert float(found.covariance) == pytest.approx(1 / (1 + p * (1 - p)), abs=1e-5)
    asked = groups(torch.full((1, 1, 1), 2.0), torch.zeros(1, 1))
    variance = 4 / (1 + p * (1 - p))
    logit = 2 * 0.401058 / math.sqrt(1 + math.pi * variance / 8)
    assert float(found.chances(asked)) == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)


def test_without_a_row_it_is_the_prior_and_padding_is_none() -> None:
    prior, spread = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 3.0])
    for rows, weight in ((0, 1.0), (4, 0.0)):
        empty = Groups(torch.ones(2, rows, 2), torch.zeros(2, rows), torch.ones(2, rows),
                       torch.full((2, rows), weight))  # fmt: skip
        found = laplace(empty, spread, prior)
        torch.testing.assert_close(found.mean, prior.expand(2, 2))
        torch.testing.assert_close(found.covariance, torch.diag(spread).expand(2, 2, 2))
        torch.testing.assert_close(adapt(prior, empty, rate=1.0), prior.expand(2, 2))


def test_the_mode_is_found_though_the_rows_can_be_told_apart_for_certain() -> None:
    features = 50.0 * torch.tensor([[[1.0], [-1.0], [1.0]]])
    found = laplace(groups(features, torch.tensor([[1.0, 0.0, 1.0]])), 100 * ONE)
    p = (features[0, :, 0] * found.mean[0]).sigmoid()
    slope = ((p - torch.tensor([1.0, 0.0, 1.0])) * features[0, :, 0]).sum() + found.mean[0] / 100
    assert abs(float(slope)) < 1e-4
    assert found.mean.isfinite().all()


def test_what_the_model_says_already_is_not_learnt_again() -> None:
    """Rows whose offsets foretell their labels leave a head where it is; others move it."""
    features, labels = torch.ones(1, 8, 1), torch.tensor([[1.0, 0.0] * 4])
    sure = torch.where(labels > 0, 8.0, -8.0)
    assert abs(float(laplace(groups(features, labels, sure), ONE).mean)) < 1e-3
    assert float(laplace(groups(features, torch.ones(1, 8)), ONE).mean) > 1


def test_steps_lower_the_loss_and_none_leaves_the_start() -> None:
    made = planted(20, 30, 2 * torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), 2)
    zero = torch.zeros(3)
    assert torch.equal(adapt(zero, made, rate=1.0, steps=0), zero.expand(20, 3))
    losses = [
        float(nats(made, made.logits(adapt(zero, made, rate=1.0, steps=n)))) for n in (0, 1, 5)
    ]
    assert losses[0] > losses[1] > losses[2]


@pytest.fixture(scope="module")
def alike() -> tuple[Groups, Groups]:
    """Groups whose heads all lie near (1, -1, 0.5): few rows, then many of the same."""
    drawn = torch.Generator().manual_seed(3)
    heads = torch.tensor([1.0, -1.0, 0.5]) + 0.3 * torch.randn(200, 3, generator=drawn)
    return planted(200, 6, heads, 4), planted(200, 40, heads, 5)


def test_a_start_that_suits_all_is_found_by_either(alike: tuple[Groups, Groups]) -> None:
    support, query = alike
    zero = torch.zeros(3)
    none = float(nats(query, query.logits(adapt(zero, support, rate=0.3))))
    for start in (reptile(query, rate=0.3), anil(support, query, rate=0.3)):
        assert torch.nn.functional.cosine_similarity(start, torch.tensor([1.0, -1.0, 0.5]), 0) > 0.9
        assert float(nats(query, query.logits(adapt(start, support, rate=0.3)))) < none


def test_a_generated_start_says_what_content_tells_of_a_group() -> None:
    drawn = torch.Generator().manual_seed(6)
    content = torch.randn(300, 2, generator=drawn)
    heads = content @ torch.tensor([[1.5, 0.0, 0.0], [0.0, -1.5, 0.0]])
    support, query = planted(300, 8, heads, 7), planted(300, 40, heads, 8)
    made = generator(content[:200], support[:200], query[:200], rate=0.3, rounds=200)
    others = slice(200, None)
    starts, asked = made(content[others]), query[others]
    assert nats(asked, asked.logits(starts)) < nats(asked, asked.logits(torch.zeros(3))) - 0.1


def test_the_variance_is_that_of_the_groups() -> None:
    drawn = torch.Generator().manual_seed(9)
    for spread in (0.1, 2.0):
        heads = spread * torch.randn(200, 3, generator=drawn)
        made = planted(200, 10, heads, 10), planted(200, 40, heads, 11)
        scale, variance = fit_variance(*made, (0.01, 4.0), torch.ones(3))
        assert scale == (0.01 if spread < 1 else 4.0)
        assert variance.tolist() == pytest.approx([scale] * 3)
