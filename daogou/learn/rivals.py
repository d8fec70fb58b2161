"""A shop's store to what single-task methods say of it: popularity, LightGBM, linear models.

Each learns one task at a time from the rows, splits, labels and weights that the joint model
reads. What it says has a form for each family, by the name of the task:

=======  ====================================  =================================================
family   key                                   scores
=======  ====================================  =================================================
funnel   ``"click"``                           ``[n]`` chances over all exposures, in store order
funnel   ``"purchase|cart"``                   ``[n]`` chances where the stage before happened
match    ``"match"``                           blocks ``[q, I]`` over the catalogue, row 1 first,
                                               for the users of `predict.first_queries`
profile  ``"profile.gender"``                  ``[U, V]`` chances of the split's users
extract  ``"extract"``                         the spans of each of the split's titles
=======  ====================================  =================================================

The test's answers neither teach nor choose: of settings the one is kept that is best on
validation, or over folds of the users who teach.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daogou.errors import ConfigError, DataError, unknown
from daogou.features.store import SPLITS, Store
from daogou.features.tokens import Span
from daogou.features.transform import Transform
from daogou.learn.flat import Inputs, habits_of, inputs_of_shop, smoothed
from daogou.learn.learners import Lesson, linear, linear_of_users, trees
from daogou.learn.listed import fit_lookup, look_up
from daogou.metrics import log_loss
from daogou.model import predict
from daogou.schema import Shop, Task

Array = NDArray[Any]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Learner = Callable[[Inputs, Lesson, Rows], Floats]

_BLOCK: Final = 256  # users in a block of match scores


@dataclass(frozen=True)
class Profile:
    """A profile column: ``held [U + 1, V]`` is 1 or 0 for each value, -1 where it is not known.

    ``one_of`` where a user has exactly one of the values.
    """

    held: Array
    one_of: bool


@dataclass(frozen=True)
class Asked:
    """A compiled shop, the split to answer, and what a rival may draw and use."""

    shop: Shop
    store: Store
    transform: Transform
    split: str
    seed: int
    threads: int

    def tasks(self, family: str) -> tuple[Task, ...]:
        """The tasks of a family that are chances: an amount has no rival yet."""
        return tuple(task for task in self.shop.of_family(family) if not task.is_value)

    def labels(self, stage: str) -> Array:
        """Every exposure's label of a stage: 1, 0, or -1 where it is not known."""
        column = self.transform.stages.index(stage)
        return np.asarray(self.store["exposures/labels"][:, column]).astype(np.int64)

    def labels_given(self, task: Task) -> Array:
        """The same where the stage before happened, -1 elsewhere."""
        labels = self.labels(task.name)
        if task.given is None:
            return labels
        return np.where(self.labels(task.given) == 1, labels, -1)

    def users(self, *splits: str) -> Rows:
        """The user rows whose profile belongs to these splits."""
        codes = [SPLITS.index(split) for split in splits]
        return np.flatnonzero(np.isin(np.asarray(self.store["users/split"]), codes))

    def profile(self, task: Task) -> Profile:
        """What a profile task asks."""
        column = task.name.removeprefix("profile.")
        n_values = len(self.transform.classes(column))
        if column in self.transform.many.names:
            start = self.transform.first_values[self.transform.many.names.index(column)]
            many = self.store["users/many"][:, start : start + n_values]
            return Profile(np.asarray(many).astype(np.int64), one_of=False)
        place = self.transform.profile.names.index(column)
        classes = np.asarray(self.store["users/profile"][:, place])[:, None].astype(np.int64)
        return Profile(np.where(classes < 0, -1, classes == np.arange(n_values)), one_of=True)

    @property
    def before(self) -> tuple[str, ...]:
        """The splits whose answers may be known when this one is asked."""
        return SPLITS[: SPLITS.index(self.split)]

    @cached_property
    def inputs(self) -> Inputs:
        """Of all exposures; read once for all tasks."""
        return inputs_of_shop(self.shop, self.transform, self.store)

    @cached_property
    def habits(self) -> Inputs:
        """Of all users."""
        counts = habits_of(self.store, self.transform).astype(np.float32)
        return Inputs(counts, tuple(f"habit {j}" for j in range(counts.shape[1])), ())


@dataclass(frozen=True)
class Rival:
    """A method: how each of the families is answered that it has an answer to."""

    answers: Mapping[str, Callable[[Asked], Mapping[str, Any]]]


def rival_scores(
    name: str,
    shop: Shop,
    store: Store,
    transform: Transform,
    split: str,
    seed: int,
    *,
    threads: int = 1,
) -> Mapping[str, Any]:
    """What a rival says of a split, by task, in the forms that the module lists.

    ======================  =====================================================================
    ``"popularity"``        funnel: the product's smoothed training rate of the stage; match: how
                            often it was taken, the same list for all; profile: how many have
                            the class; extract: words that mostly were a value in other titles
    ``"lightgbm"``          funnel, and profile one class against the rest
    ``"logistic"``          funnel, and profile on counts of what each user did
    ======================  =====================================================================

    A task it does not cover is not among the keys, and an amount never is. A stage over all
    exposures is answered by a model of its own, or by the model of the stage before times one of
    the stage where that happened: the better on validation. ``seed`` draws little: the rows that
    place LightGBM's bins where more than 200,000 teach, and a linear model's teaching rows where
    more than 50,000 have one answer; below that every seed says the same. What is said of
    validation was chosen there as well.

    Raises ConfigError on a name that is none of `RIVALS`, DataError on a split that is neither
    validation nor test and if the shop's tables no longer yield the store's exposures,
    MissingExtra if the rival's library is not installed.
    """
    if name not in RIVALS:
        raise ConfigError(f"rival: {unknown(name, RIVALS)}")
    if split not in SPLITS[1:]:
        raise DataError(f"split: {unknown(split, SPLITS[1:])}; rivals learn from the others")
    asked = Asked(shop, store, transform, split, seed, threads)
    found: dict[str, Any] = {}
    for family, answer in RIVALS[name].answers.items():
        if asked.tasks(family):
            found |= answer(asked)
    return found


# ---- popularity -----------------------------------------------------------------------


def popularity(store: Store, split: str) -> Floats:
    """Each exposure's product's smoothed training rate of each stage, ``[n, S]``."""
    labels = store["exposures/labels"]
    rates = [_rate(store, np.asarray(labels[:, j]), split) for j in range(labels.shape[1])]
    return np.stack(rates, axis=1)


def _rate(store: Store, labels: Array, split: str) -> Floats:
    first, last = store.ranges["train"]
    item = store["exposures/item"]
    weight = store["exposures/weight"][first:last]
    rates = smoothed(item[first:last], labels[first:last], weight, store.n_items + 1)
    found: Floats = rates[item[slice(*store.ranges[split])]]
    return found


def most_taken(store: Store) -> Floats:
    """Training positives of the first stage by product, ``[I]`` (row 1 first): one list for all."""
    first, last = store.ranges["train"]
    taken = store["exposures/labels"][first:last, 0] == 1
    counts = np.bincount(store["exposures/item"][first:last][taken], minlength=store.n_items + 1)
    return counts[1:].astype(np.float64)


def _popular_stages(asked: Asked) -> dict[str, Floats]:
    found = {}
    for task in asked.tasks("funnel"):
        found[task.name] = _rate(asked.store, asked.labels(task.name), asked.split)
        if task.given is not None:
            found[f"{task.name}|{task.given}"] = _rate(
                asked.store, asked.labels_given(task), asked.split
            )
    return found


def _popular_products(asked: Asked) -> dict[str, list[Array]]:
    """Blocks that are views of one list, however many the users are."""
    n = len(predict.first_queries(asked.store, asked.split)[0].user)
    liked = most_taken(asked.store)
    sizes = [min(_BLOCK, n - start) for start in range(0, n, _BLOCK)]
    return {asked.tasks("match")[0].name: [np.broadcast_to(liked, (q, len(liked))) for q in sizes]}


def _popular_classes(asked: Asked) -> dict[str, Floats]:
    n = len(asked.users(asked.split))
    found = {}
    for task in asked.tasks("profile"):
        held = asked.profile(task).held
        known = held[_known(held, asked.users(*asked.before))]
        liked = known.mean(0) if len(known) else np.full(held.shape[1], 1 / max(held.shape[1], 1))
        found[task.name] = np.tile(liked, (n, 1))
    return found


def _known(held: Array, rows: Rows) -> Rows:
    found: Rows = rows[(held[rows] >= 0).all(1)]
    return found


def _listed_values(asked: Asked) -> dict[str, list[list[Span]]]:
    store = asked.store
    split = np.asarray(store["titles/split"])
    code = SPLITS.index(asked.split)
    table = store.titles
    teaches = table.take(np.flatnonzero(split < code))
    values = fit_lookup(
        teaches["text"].to_pylist(),
        [
            [(span["start"], span["end"], span["attribute"]) for span in spans]
            for spans in teaches["spans"].to_pylist()
        ],
        teaches["annotated"].to_pylist(),
    )
    texts = table["text"].take(np.flatnonzero(split == code)).to_pylist()
    return {asked.tasks("extract")[0].name: [look_up(text, values) for text in texts]}


# ---- what learns ----------------------------------------------------------------------


def _stages(learner_of: Callable[[Asked], Learner], asked: Asked) -> dict[str, Floats]:
    """The answer to a funnel of a method that learns one label at a time."""
    learn = partial(single, asked.store, asked.inputs, learner_of(asked))
    over_all: dict[str, dict[str, Floats]] = {}
    found: dict[str, Floats] = {}
    for task in asked.tasks("funnel"):
        target = asked.labels(task.name)
        one = learn(target)
        if task.given is not None:
            given = learn(asked.labels_given(task))
            before = over_all[task.given]
            chain = {split: chances * before[split] for split, chances in given.items()}
            one = better(asked.store, target, one, chain)
            found[f"{task.name}|{task.given}"] = given[asked.split]
        over_all[task.name] = one
        found[task.name] = one[asked.split]
    return found


def _tree_profiles(asked: Asked) -> dict[str, Floats]:
    """Each class against the rest; users of training teach, those of validation choose."""
    learn = _tree_learner(asked)
    wanted, train, validation = (
        asked.users(split) for split in (asked.split, "train", "validation")
    )
    found = {}
    for task in asked.tasks("profile"):
        profile = asked.profile(task)
        weight = np.ones(len(profile.held), dtype=np.float32)
        chances = np.zeros((len(wanted), profile.held.shape[1]))
        for value, has in enumerate(profile.held.T):
            lesson = Lesson(has, weight, train, validation)
            chances[:, value] = learn(asked.habits, lesson, wanted)
        if profile.one_of:
            chances /= np.maximum(chances.sum(1, keepdims=True), 1e-12)
        found[task.name] = chances
    return found


def _linear_profiles(asked: Asked) -> dict[str, Floats]:
    """All classes at once; a list's values one by one. Folds of the users who teach choose."""
    counts = asked.habits.values.astype(np.float64)
    wanted = asked.users(asked.split)
    found = {}
    for task in asked.tasks("profile"):
        profile = asked.profile(task)
        held = profile.held
        teaches = _known(held, asked.users(*asked.before))
        if profile.one_of:
            classes = held @ np.arange(held.shape[1])
            found[task.name] = linear_of_users(counts, classes, held.shape[1], teaches, wanted)
            continue
        found[task.name] = np.zeros((len(wanted), held.shape[1]))
        for value, has in enumerate(held.T):
            found[task.name][:, value] = linear_of_users(counts, has, 2, teaches, wanted)[:, 1]
    return found


def single(store: Store, inputs: Inputs, learner: Learner, target: Array) -> dict[str, Floats]:
    """Chances of one label on validation and on test, from what learnt that label alone.

    ``target [n]`` is 1, 0 or -1 where undefined; training teaches and validation chooses.
    """
    train, validation, test = (np.arange(*store.ranges[split]) for split in SPLITS)
    lesson = Lesson(target, np.asarray(store["exposures/weight"]), train, validation)
    chances = learner(inputs, lesson, np.concatenate([validation, test]))
    pieces = np.split(chances, [len(validation)])
    return dict(zip(SPLITS[1:], pieces, strict=True))


def better(
    store: Store, target: Array, one: dict[str, Floats], other: dict[str, Floats]
) -> dict[str, Floats]:
    """Of two answers to the same question the one with the lower validation loss."""
    at = slice(*store.ranges["validation"])
    known = target[at] >= 0
    y, weight = target[at][known] == 1, store["exposures/weight"][at][known]
    losses = [log_loss(each["validation"][known], y, weight) for each in (one, other)]
    return other if losses[1] < losses[0] else one


def _tree_learner(asked: Asked) -> Learner:
    return partial(trees, seed=asked.seed, threads=asked.threads)


def _linear_learner(asked: Asked) -> Learner:
    return partial(linear, seed=asked.seed)


RIVALS: Final[Mapping[str, Rival]] = {
    "popularity": Rival(
        {
            "funnel": _popular_stages,
            "match": _popular_products,
            "profile": _popular_classes,
            "extract": _listed_values,
        }
    ),
    "lightgbm": Rival({"funnel": partial(_stages, _tree_learner), "profile": _tree_profiles}),
    "logistic": Rival({"funnel": partial(_stages, _linear_learner), "profile": _linear_profiles}),
}
