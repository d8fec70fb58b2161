"""Weights from the Gram of the tasks' gradients, by TorchJD: who pulls where, and how hard."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from daogou.balance.base import Balancer, legal, of_mean_one
from daogou.balance.torchjd import torchjd


class OfGram(Balancer):
    """What TorchJD's weighting named ``method`` says of the Gram, on a scale of 1.

    That is, gradients at right angles and of one length weigh 1 each; what the weights sum to
    elsewhere is the method's own, and each says it. The Gram is divided by its mean diagonal:
    solvers are for numbers of ordinary size, and weights do not depend on the units of the losses
    as a whole. Tasks without a gradient in the batch are left out, and one alone weighs 1. A Gram
    that is kept for several steps is solved once. Where a solver fails or answers with no number,
    all weigh 1: ``failures`` counts how often, and the first one warns.
    """

    needs_gram = True
    method: ClassVar[str]
    sums: ClassVar[bool] = False  # whether gradients at right angles weigh 1 each, or their mean

    def __init__(self, n_tasks: int, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(n_tasks)
        self.weighting = torchjd("aggregation", self.method, **(options or {}))
        self.last = torch.ones(n_tasks)
        self.failures = 0

    def __call__(self, losses: Tensor, gram: Tensor | None) -> Tensor:
        """Weights ``[T]`` of the gradients whose products are ``gram [T, T]``."""
        assert gram is not None
        if not self.is_new(gram):
            return self.last.to(losses)
        known = (gram.diagonal() > 0).cpu()
        small = gram.detach().double().cpu()[known][:, known]
        weights = torch.ones(len(losses), dtype=torch.float64)
        if len(small) > 1:
            try:
                found = self.solve(small / small.diagonal().mean(), known)
            except Exception as error:  # each solver has errors of its own; CVXPY answers with None
                self._failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
            else:
                if found.isfinite().all():
                    weights[known] = found
                else:
                    self._failed(f"its weights are {found.tolist()}")
        self.last = weights.float()
        return weights.to(losses)

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.failures == 1:
            warnings.warn(
                f"fit.balancer: the solver of {type(self).__name__} failed ({why}); all tasks "
                "weigh 1 in such steps (said once; the balancer's failures counts them)",
                stacklevel=3,
            )

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """Weights of the ``known`` tasks from their Gram, in doubles on the CPU."""
        with torch.no_grad():
            found: Tensor = self.weighting(gram)
        return found if self.sums else found * len(gram)


class UPGrad(OfGram):
    """Each gradient is moved the least that makes it hurt no other, and these are added.

    Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024: there they are
    averaged. Each weighs 1 or more; without conflict it is the plain sum.
    """

    method = "UPGradWeighting"


class DualProj(OfGram):
    """The plain sum is moved the least that makes it hurt no task.

    Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017. Each
    weighs 1 or more; where the sum hurts nobody it stays.
    """

    method = "DualProjWeighting"


class MGDA(OfGram):
    """The shortest mixture of the gradients: it helps all alike, and leans to small gradients.

    Desideri, "Multiple-gradient descent algorithm (MGDA)", 2012; Sener and Koltun, NeurIPS 2018.
    Weights are 0 or more and sum to T.
    """

    method = "MGDAWeighting"


class PCGrad(OfGram):
    """From each gradient what opposes another is taken off, in a random order, and all are added.

    Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020. Each weighs 1 or more;
    without conflict it is the plain sum.
    """

    method = "PCGradWeighting"
    sums = True


class GradVac(OfGram):
    """As PCGrad, but gradients are brought to the angle that they usually have.

    Wang et al., "Gradient Vaccine", ICLR 2021. Each weighs 1 or more, and more than that wherever
    an angle is wider than usual. A batch without some task leaves its memory alone.
    """

    method = "GradVacWeighting"
    sums = True

    def __init__(self, n_tasks: int, *, beta: float = 0.5) -> None:
        super().__init__(n_tasks, {"beta": legal("beta", beta, 0 <= beta <= 1, "0 to 1")})
        self.restore({"cosines": torch.zeros(n_tasks, n_tasks, dtype=torch.float64)})

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """TorchJD's memory has as many places as there are tasks: all must be there."""
        if len(gram) < self.n_tasks:
            return torch.ones(len(gram), dtype=torch.float64)
        return super().solve(gram, known)

    def state(self) -> dict[str, Tensor]:
        """The usual cosines ``[T, T]``."""
        return {"cosines": self.weighting._phi_t.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.weighting._phi_t = state["cosines"].clone()
        self.weighting._state_key = (self.n_tasks, torch.float64)


class CAGrad(OfGram):
    """The step within ``c`` of the mean gradient that helps the worst task most.

    Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021. The step
    is over ``1 + c``, so that it is the plain sum where all gradients of the batch have one
    length and one angle between any two, and never longer than the sum; for c below 1 it is never
    shorter than ``(1 - c) / (1 + c)`` of it. Each weighs ``1 / (1 + c)`` or more, and no sum is
    fixed.
    """

    method = "CAGradWeighting"

    def __init__(self, n_tasks: int, *, c: float = 0.4) -> None:
        legal("c", c, 0 <= c < torch.inf, "0 or more")
        super().__init__(n_tasks, {"c": c})
        self.c = c

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """Between equals TorchJD's step is ``1 + c`` times the mean gradient."""
        return super().solve(gram, known) / (1.0 + self.c)


class IMTLG(OfGram):
    """The step whose projections on all unit gradients are equal.

    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021. Weights sum to T; they
    are large and of both signs where gradients nearly depend on each other.
    """

    method = "IMTLGWeighting"


class AlignedMTL(OfGram):
    """Gradients are made orthogonal and of one length, by the smallest principal direction.

    Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023. The
    paper's scale, the largest under which it converges: weights sum to T or less, and some may be
    below 0. The more alike or unequal gradients are, the smaller: of two of one length and a cosine
    of 0.5, each weighs 0.58, and at a cosine of 0.999, 0.02.
    """

    method = "AlignedMTLWeighting"


class FairGrad(OfGram):
    """The step of ``alpha``-fair gains: 1 is proportional fairness, more cares for the worst off.

    Near 0 it is near the plain sum.

    Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024. The paper leaves the
    step's length free (its equation for the weights holds up to a factor); here weights, none
    below 0, sum to T.
    """

    method = "FairGradWeighting"
    sums = True

    def __init__(self, n_tasks: int, *, alpha: float = 1.0) -> None:
        legal("alpha", alpha, 0 < alpha < torch.inf, "more than 0")
        super().__init__(n_tasks, {"alpha": alpha})

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """TorchJD's own grow without bound as tasks come to oppose each other."""
        return of_mean_one(super().solve(gram, known))


class NashMTL(OfGram):
    """The bargain that no task would leave: the product of gains is largest.

    Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022. The bargain says where to
    go and not how far: here weights, none below 0, sum to T, where the paper's code cuts the step
    to a length. A batch without some task keeps the proportions of the last bargain of all.
    """

    method = "NashMTL"

    def __init__(self, n_tasks: int) -> None:
        super().__init__(n_tasks, {"n_tasks": n_tasks, "max_norm": 0.0})  # 0: no cut
        self.agreed = torch.ones(n_tasks)  # the weights of the last bargain of all tasks

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """TorchJD reads gradients: any with this Gram will do."""
        if len(gram) < self.n_tasks:
            return of_mean_one(self.agreed[known].double())
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # CVXPY's, that this problem is slow
                found: Tensor = self.weighting.weighting(root_of(gram))
        except Exception:
            self.weighting.reset()  # weights that CVXPY refuses would be refused in each step
            raise
        weights = of_mean_one(found.double())
        if weights.isfinite().all():
            self.agreed = weights.float()
        return weights

    def state(self) -> dict[str, Tensor]:
        """The last bargain's weights ``[T]``, and those from which the next are sought."""
        sought = torch.from_numpy(self.weighting.weighting.prvs_alpha)
        return {"last": self.agreed.clone(), "sought": sought.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a `state`."""
        self.agreed = state["last"].clone()
        self.weighting.reset()
        self.weighting.weighting.prvs_alpha = state["sought"].numpy().copy()


class ConFIG(OfGram):
    """The direction at equal angles to all gradients, as long as their projections on it.

    Liu et al., "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR
    2025, equation 2. That length is the paper's and makes the step never longer than the plain
    sum; no sum of weights is fixed. They are large and of both signs where gradients nearly depend
    on each other.
    """

    method = "ConFIG"

    def solve(self, gram: Tensor, known: Tensor) -> Tensor:
        """TorchJD reads gradients and gives a step: the weights are those that make it."""
        gradients = root_of(gram)
        with torch.no_grad():
            step: Tensor = self.weighting(gradients)
        weights: Tensor = torch.linalg.pinv(gradients.T) @ step
        return weights


def root_of(gram: Tensor) -> Tensor:
    """Some gradients ``[T, T]`` whose products are ``gram``: a turn of the true ones."""
    values, vectors = torch.linalg.eigh(gram)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root
