"""Batches to a trained model: the one loop of steps, which every way of training runs."""

import itertools
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from daogou.features.batch import Batch, make_batch
from daogou.features.epoch import Epoch, plan_epoch
from daogou.features.store import Store, open_store
from daogou.learn.culprit import NotFiniteError
from daogou.learn.onto import Onto, hold
from daogou.learn.optimise import (
    RowAdagrad,
    dense_groups,
    dense_of,
    omega,
    row_groups,
    weights_of,
)
from daogou.learn.peers import ALONE, Peers
from daogou.learn.sampling import Sampling
from daogou.learn.settings import Settings, balancer_of
from daogou.learn.step import backward, heard_of
from daogou.model.joint import JointModel

Progress = Callable[[str, int, int, str], None]  # what, done, of how many, a few words
_BESIDE: Final = frozenset(["funnel"])
_BESIDE_ROWS: Final = 2048


@dataclass(frozen=True)
class Place:
    """A step of a run: its epoch, its number there, and how many steps that epoch has."""

    epoch: int
    step: int
    n_steps: int


@dataclass(frozen=True)
class Midway:
    """Where an epoch stands that is not over, beside the weights, optimisers and balancer.

    ``step`` steps are done, ``total [T]`` is the sum of their losses, ``gram`` the kept one.
    """

    step: int
    total: Tensor
    gram: Tensor | None


# Sees each step before it is taken: the learner, the store, the batch and the place. It leaves
# weights, gradients and optimisers as it found them; randomness is the step's own in any case.
Observer = Callable[["Learner", Store, Batch, Place], None]


def quiet(what: str, done: int, total: int, words: str) -> None:
    """Progress that nobody watches."""


class Learner:
    """A model with its optimisers and balancer: all that a step reads and changes.

    ``dense`` are the weights of AdamW, ``rows`` the optimiser of the tables. Batches are made one
    step ahead in a thread of their own and moved to the model's device. With ``onto`` a finished
    run's weights are the start, and one stage may learn alone, or other exposures beside. Of
    several ``peers`` each does its part of every step, and they change their weights alike.
    """

    def __init__(
        self,
        model: JointModel,
        settings: Settings,
        observe: Observer | None = None,
        onto: Onto | None = None,
        peers: Peers = ALONE,
    ) -> None:
        self.model, self.settings, self.observe = model, settings, observe
        self.peers = peers
        self.device = model.device
        self.held = [] if onto is None else hold(model, onto)
        self.may_stay = onto is not None and onto.may_stay
        pace = onto.pace if onto is not None else 1.0
        self.dense = dense_of(model)
        self.rows = RowAdagrad(
            row_groups(model, l2=settings.row_l2), learning_rate=pace * settings.row_learning_rate
        )
        dense_rates = (pace * settings.learning_rate, pace * settings.encoder_learning_rate)
        self.adam = torch.optim.AdamW(
            dense_groups(model, *dense_rates),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        optimisers = (self.adam, self.rows)
        self.rates = [(group, group["lr"]) for each in optimisers for group in each.param_groups]
        n_funnel = sum(task.family == "funnel" for task in model.tasks)
        self.balancer = balancer_of(settings, n_funnel)
        self.static = torch.tensor([task.weight for task in model.tasks], device=self.device)
        self.learns: Tensor | None = None
        if onto is not None and onto.task is not None:
            own = [float(task.name == onto.task) for task in model.tasks]
            self.learns = torch.tensor(own, device=self.device)
        self.pull = onto.pull if onto is not None else 0.0
        moving = [weight for weight in self.dense if weight.requires_grad]
        self.starts = [(w, w.detach().clone()) for w in moving] if self.pull else []
        self.beside = None if onto is None or onto.beside is None else open_store(onto.beside)

    def plan(self, store: Store, seed: int, epoch: int, *, stopped: Collection[str] = ()) -> Epoch:
        """What the steps of an epoch will read; ``stopped`` families are taught less often."""
        settings = self.settings
        joint = plan_epoch(
            store,
            seed=seed,
            epoch=epoch,
            rows_per_step=settings.rows_per_step,
            titles_per_step=settings.titles_per_step,
            title_passes=settings.title_passes,
            profile_passes=settings.profile_passes,
            extra_items=settings.extra_items,
        )
        sampling = Sampling(settings.sampling, settings.sampling_power)
        planned = sampling.plan(joint, self.model.heads, seed=(seed, epoch), stopped=stopped)
        if self.learns is None:
            return planned
        return replace(planned, families=[frozenset(["funnel"])] * len(planned))

    def set_rates(self, epoch: int) -> None:
        """Learning rates of an epoch: from full to a fiftieth along a half cosine over all."""
        share = 0.51 + 0.49 * np.cos(np.pi * epoch / max(self.settings.epochs, 1))
        for group, rate in self.rates:
            group["lr"] = rate * float(share)

    def epoch(
        self,
        store: Store,
        plan: Epoch,
        seed: tuple[int, int],
        progress: Progress = quiet,
        *,
        begun: Midway | None = None,
        keep: Callable[[Midway], None] | None = None,
    ) -> Tensor:
        """One pass over a plan; returns the mean loss of each task over the steps, ``[T]``.

        ``seed`` is the run's and the epoch's number. The steps are those that teach the task; NaN
        where none does. ``keep`` hears where the epoch stands, ``begun`` goes on from there.
        """
        at = begun or Midway(0, torch.zeros_like(self.static), None)
        total, gram = at.total.to(self.device), None if at.gram is None else at.gram.to(self.device)
        n_funnel = sum(_teaches_funnel(plan, step) for step in range(at.step))
        others, part = self._others(seed, at.step), self.peers.part(plan)
        for step, batch in enumerate(self.batches(store, part, at.step), at.step):
            if self.observe is not None:
                self.observe(self, store, batch, Place(seed[1], step, len(plan)))
            # A step's randomness follows from its place alone, so that resuming is exact.
            place = [*seed, step, *self.peers.place]
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
            families = plan.families[step] if plan.families is not None else None
            take_gram = n_funnel % self.settings.gram_every == 0
            try:
                losses, gram = self.step(batch, gram, take_gram=take_gram, families=families)
            except NotFiniteError as error:
                error.epoch, error.step, error.rows = seed[1], step, part.exposures[step]
                raise
            n_funnel += _teaches_funnel(plan, step)
            total = total + losses
            for other in itertools.islice(others, 1):
                self.step(other, families=_BESIDE)
            if step % 10 == 0 or step + 1 == len(plan):
                words = f"epoch {seed[1] + 1}, loss {float(losses.sum()):.4f}"
                progress("steps", step + 1, len(plan), words)
            # What a balancer keeps between Grams is in no `state`, so the next one must be new.
            new_gram = not self.balancer.needs_gram or n_funnel % self.settings.gram_every == 0
            if keep is not None and new_gram:
                keep(Midway(step + 1, total, gram))
        self.balancer.end_epoch()
        for each in self.held:
            each.restore()
        n_steps = [plan.n_steps(task.family) for task in self.model.tasks]
        return total.cpu() / torch.tensor(n_steps)

    def _others(self, seed: tuple[int, int], first: int) -> Iterator[Batch]:
        """Batches of the exposures beside, over and over; none where there are none.

        They teach the stages alone: what is counted for matching is the shop's own. The ``first``
        ones are left out.
        """
        if self.beside is None:
            return
        for again in itertools.count():
            plan = plan_epoch(
                self.beside,
                seed=seed[0],
                epoch=seed[1] + self.settings.epochs * again,
                rows_per_step=_BESIDE_ROWS,
                titles_per_step=1,
                title_passes=0.0,
                profile_passes=0.0,
                extra_items=0,
            )
            if not len(plan):
                return
            part = self.peers.part(plan)
            for step in range(first, len(part)):
                yield self.batch(self.beside, part, step).to(self.device)
            first = max(first - len(part), 0)

    def step(
        self,
        batch: Batch,
        gram: Tensor | None = None,
        *,
        take_gram: bool = True,
        families: Collection[str] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One update of every weight; returns the losses ``[T]`` and the Gram to keep.

        ``families`` are those to teach, None = all; what is in the heads of others stays as it is.
        """
        if not self.model.training:  # to say so again to every layer is a pass over all of them
            self.model.train()
        self.adam.zero_grad(set_to_none=True)
        self.rows.zero_grad(set_to_none=True)
        balances = families is None or "funnel" in families
        drawn = self._random_states() if self.balancer.looks_back and balances else None
        stepped = backward(
            self.model, batch, self.static, self.balancer, gram,
            take_gram=take_gram, families=families, learns=self.learns, peers=self.peers,
        )  # fmt: skip
        penalty = omega(self._dense_of(families), l1=self.settings.l1, l2=self.settings.l2)
        if isinstance(penalty, Tensor):
            penalty.backward()
        losses = self.peers.agree(self.dense, weights_of(self.rows), stepped.losses)
        if not losses.isfinite().all():
            raise NotFiniteError(losses, batch, "loss")
        length = torch.nn.utils.clip_grad_norm_(self.dense, self.settings.clip)
        if not length.isfinite():  # clipped by it, every weight would be NaN
            raise NotFiniteError(losses, batch, "gradient")
        self.adam.step()
        self.rows.step()
        self._draw_back()
        if drawn is not None:
            self.balancer.after(self._again(batch, drawn, families))
        return losses, stepped.gram

    @torch.no_grad()
    def _draw_back(self) -> None:
        """Dense weights some of the way to where they began.

        The penalty of Xuhong et al., "Explicit Inductive Bias for Transfer Learning with
        Convolutional Networks" (L2-SP), ICML 2018, decoupled from the gradient as AdamW's decay is.
        """
        if self.starts:
            share = min(float(self.adam.param_groups[0]["lr"]) * self.pull, 1.0)
            for weight, start in self.starts:
                weight.lerp_(start, share)

    def _dense_of(self, families: Collection[str] | None) -> list[Tensor]:
        """The dense weights that a step of these families may move: no other family's head."""
        if families is None:
            return self.dense
        left_alone = {
            id(weight)
            for family, head in self.model.heads.items()
            if family not in families
            for weight in head.parameters()
        }
        return [weight for weight in self.dense if id(weight) not in left_alone]

    def _random_states(self) -> list[Tensor]:
        """Where the processor's random numbers stand, and the GPU's if it draws some."""
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _again(
        self, batch: Batch, drawn: list[Tensor], families: Collection[str] | None = None
    ) -> Tensor:
        """The funnel's losses of a batch after its step, with what was dropped before dropped."""
        with torch.random.fork_rng([self.device] if drawn[1:] else []), torch.no_grad():
            torch.set_rng_state(drawn[0])
            for state in drawn[1:]:
                torch.cuda.set_rng_state(state, self.device)
            encoded = self.model.encode(batch)
            read = dict.fromkeys(self.model.heads if families is None else families, encoded)
            found = self.model.losses(read, batch, torch.ones_like(self.static))
        funnel = self.model.places.get("funnel", slice(0, 0))
        return self.peers.mean(found.values[funnel]) * heard_of(self.static[funnel])

    def batches(self, store: Store, plan: Epoch, first: int = 0) -> Iterator[Batch]:
        """The plan's batches from the ``first`` on, each made while the step before it runs."""
        with ThreadPoolExecutor(1) as prefetch:
            coming = prefetch.submit(self.batch, store, plan, first) if first < len(plan) else None
            for step in range(first, len(plan)):
                assert coming is not None
                batch = coming.result()
                if step + 1 < len(plan):
                    coming = prefetch.submit(self.batch, store, plan, step + 1)
                yield batch.to(self.device)

    def batch(self, store: Store, plan: Epoch, step: int) -> Batch:
        """The batch of one step of a plan, in memory that the device copies from."""
        batch = make_batch(
            store,
            plan.exposures[step],
            history_length=self.settings.history_length,
            extra_items=plan.extra_items[step],
            titles=plan.titles[step],
            taught=plan.taught[step],
        )
        return batch.pinned() if self.device.type == "cuda" else batch


def _teaches_funnel(plan: Epoch, step: int) -> bool:
    return plan.families is None or "funnel" in plan.families[step]
