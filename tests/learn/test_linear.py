"""Linear models are solved to the end, and to the same end as others solve them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from daogou.learn.linear import basis_of, fit_linear, nats_of


def rows(n: int, width: int, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns of quite different size, and classes that follow from some of them."""
    made = torch.Generator().manual_seed(n)
    x = torch.randn(n, width, generator=made, dtype=torch.float64)
    x *= torch.logspace(-2, 1, width, dtype=torch.float64)
    scores = x @ torch.randn(width, n_classes, generator=made, dtype=torch.float64)
    noise = torch.randn(n, n_classes, generator=made, dtype=torch.float64)
    return x, (scores + 10 * noise).argmax(1)


@pytest.mark.parametrize(("n", "width"), [(80, 6), (30, 50)])  # tall, and wide
@pytest.mark.parametrize("precision", [0.3, 30.0])
def test_the_solution_is_that_of_scikit_learn(n: int, width: int, precision: float) -> None:
    x, target = rows(n, width, 3)
    ours = fit_linear(basis_of(x), target, 3, precision)
    theirs = LogisticRegression(C=1 / precision, max_iter=10_000, tol=1e-10).fit(x, target)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-4)
    chances = ours.logits(x).softmax(1)
    np.testing.assert_allclose(chances, theirs.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("kind", ["categorical", "ordinal", "multilabel"])
def test_no_small_change_of_a_solution_is_better(kind: str) -> None:
    x, target = rows(60, 8, 4)
    labels = (torch.stack([target == 0, target > 1], 1)).long() if kind == "multilabel" else target
    n_classes = 2 if kind == "multilabel" else 4
    made = fit_linear(basis_of(x), labels, n_classes, 3.0, kind=kind)

    def loss() -> float:
        nats = nats_of(made.logits(x), labels, torch.ones(60, dtype=torch.float64), kind)
        return float(60 * nats + 3.0 / 2 * made.weight.square().sum())

    least = loss()
    for weight in (made.weight, made.shift):
        for place in range(weight.numel()):
            for change in (1e-3, -1e-3):
                weight.view(-1)[place] += change
                assert loss() > least
                weight.view(-1)[place] -= change


def test_a_strong_prior_leaves_the_base_rates() -> None:
    x, _ = rows(40, 5, 2)
    target = torch.tensor([1] * 10 + [0] * 30)
    made = fit_linear(basis_of(x), target, 2, 1e9)
    torch.testing.assert_close(
        made.logits(x).softmax(1)[:, 1], torch.full((40,), 0.25, dtype=torch.float64),
        atol=1e-4, rtol=0,
    )  # fmt: skip


def test_rows_all_alike_teach_the_base_rates_alone() -> None:
    made = fit_linear(basis_of(torch.zeros(4, 3)), torch.tensor([0, 1, 1, 1]), 2, 1.0)
    assert made.weight.tolist() == [[0.0] * 3] * 2
    assert made.logits(torch.ones(1, 3)).softmax(1)[0, 1].item() == pytest.approx(0.75, abs=1e-4)
