"""A split's rows to those of users and items that are known little or much."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.features.vocab import Vocab
from daogou.learn.judge import Array, Question

COLD: Final = 5  # training events of a cold user, training exposures of a cold item: fewer

HEAD: Final = 0.5  # of the training exposures are of head items

_SHOWN_DOMAINS: Final = 8


@dataclass(frozen=True)
class Slices:
    """Which users and items are known little or much. Made by `fit_slices` from training alone.

    ``cold_user [U + 1]``: few events by the end of training. ``cold_item [I + 1]``: few training
    exposures. ``head [I + 1]``: of the fewest items that together have a given share of the
    training exposures; what is neither head nor cold is the tail.
    """

    cold_user: Array
    cold_item: Array
    head: Array
    domains: tuple[str, ...]  # names of the domains' codes

    def of(self, question: Question) -> dict[str, Array]:
        """Masks ``[R]`` of a question's rows; of slices that hold some of them and not all."""
        found: dict[str, Array] = {}
        if question.user.any():
            found["cold users"] = self.cold_user[question.user]
        if question.item.any():
            cold, head = self.cold_item[question.item], self.head[question.item]
            found |= {"cold items": cold, "head items": head, "tail items": ~cold & ~head}
        codes, counts = np.unique(question.domain, return_counts=True)
        for code in codes[np.argsort(-counts, kind="stable")][:_SHOWN_DOMAINS]:
            if 0 < code < len(self.domains):
                found[f"domain {self.domains[code]}"] = question.domain == code
        return {name: where for name, where in found.items() if where.any() and not where.all()}


def fit_slices(
    store: Store, transform: Transform, *, cold: int = COLD, head: float = HEAD
) -> Slices:
    """The slices of a store's users and items by what training saw of them.

    Who has fewer than ``cold`` events or exposures is cold; ``head`` is the share of the training
    exposures that head items have.
    """
    first, last = store.ranges["train"]
    times = np.asarray(store["history/time"])
    until = int(store["exposures/time"][first:last].max()) if last > first else 0
    early = np.concatenate([[0], np.cumsum(times <= until)])
    start = np.asarray(store["users/start"])
    seen = np.bincount(store["exposures/item"][first:last], minlength=store.n_items + 1)
    order = np.argsort(-seen, kind="stable")
    before = np.cumsum(seen[order]) - seen[order]
    in_head = np.zeros(len(seen), dtype=bool)
    in_head[order] = before < seen.sum() * head
    domains: tuple[str, ...] = ()
    if transform.domain is not None:
        column = transform.context.names.index(transform.domain)
        coder = transform.context.coders[column]
        domains = ("", *coder.words) if isinstance(coder, Vocab) else ()
    return Slices(early[start[1:]] - early[start[:-1]] < cold, seen < cold, in_head, domains)
