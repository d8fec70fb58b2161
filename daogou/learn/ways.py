"""A run and another shop to the fits of each way to begin with what the run has learnt."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from daogou import artifact
from daogou.artifact import Artifact
from daogou.artifact.counts import model_of
from daogou.errors import ArtifactError
from daogou.features.merge import merge, recode_store, shared, with_domain
from daogou.features.store import Store, open_store
from daogou.features.transform import Transform
from daogou.learn import rates
from daogou.learn.answers import answers_of
from daogou.learn.carry import known_to, match_rates, measures, named_in
from daogou.learn.checkpoint import save_tensors
from daogou.learn.compile import compile_tables
from daogou.learn.contenders import Runs, contender, joint_score_of
from daogou.learn.differences import (
    DRAWS,
    MARGIN,
    SINGLE,
    Asked,
    Contender,
    Worth,
    document_of,
    worth_of,
)
from daogou.learn.judge import Answers, questions
from daogou.learn.loop import Progress
from daogou.learn.onto import ADAPTERS, ALL, HEADS, Onto
from daogou.learn.settings import settings_of
from daogou.learn.straight import teach_straight
from daogou.learn.variant import varied
from daogou.metrics.paired import verdicts
from daogou.model.axes import axes_of, carry
from daogou.schema import Shop
from daogou.tables.engine import Engine
from daogou.tables.leave import keep_latest

SCRATCH, FROZEN, ADAPTER, FULL, JOINT = "scratch", "frozen", "adapter", "full", "joint"

WAYS: Final = (SCRATCH, FROZEN, ADAPTER, FULL, JOINT)

AUTO: Final = "auto"

SAME: Final = ("users", "items")

SIZES: Final = (100, 300, 1_000, 3_000, 10_000, 100_000)

PULL: Final = 10.0  # of full fine-tuning: a weight that is always pushed settles a tenth away

_GENTLE: Final = 0.25  # of the learning rates, where weights come from the source (docs/log.md)

_STEPS: Final = 16  # of an epoch, at least, while a step has `LEAST_ROWS`

LEAST_ROWS: Final = 16

BY_DOMAIN: Final = ("pepnet", "star")

_CHOICE: Final = "validation"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a transfer.

    ``how`` is one of `WAYS` or `AUTO`. ``sizes`` are numbers of training exposures, the latest,
    that all ways are tried on beside all there are. ``same`` names the tables whose keys mean the
    same in both shops: an id of another is as unknown as a new one.
    """

    how: str = AUTO
    sizes: tuple[int, ...] = SIZES
    seeds: int = 3
    margin: float = MARGIN
    same: tuple[str, ...] = SAME
    draws: int = DRAWS

    @property
    def ways(self) -> tuple[str, ...]:
        """Those that are tried; scratch always."""
        return WAYS if self.how == AUTO else tuple(dict.fromkeys([SCRATCH, self.how]))


class Trial:
    """The fits of one transfer, on tables of so many training exposures; none is done twice."""

    def __init__(
        self, giver: Artifact, shop: Shop, folder: Path, wanted: Wanted, progress: Progress
    ) -> None:
        self.giver, self.shop, self.folder, self.wanted = giver, shop, folder, wanted
        self.progress = progress
        self.seeds = range(shop.seed, shop.seed + wanted.seeds)
        self.runs = Runs(folder, self.seeds, progress, 0)
        self.known = known_to(giver.transform, wanted.same)
        self.axes = axes_of(giver.model, self.known)
        rates.find_scale(giver.model, giver.store)
        self.n_training = 0
        self.shared: Mapping[str, tuple[int, int]] = {}

    def asked(self) -> dict[str, Any]:
        """What an earlier try in the folder must have been asked too; ArtifactError otherwise."""
        asked = {
            "source": artifact.sha256(self.giver.folder / "manifest.json"),
            "same": list(self.wanted.same),
        }
        kept = artifact.read_document(self.folder / "asked.json")
        if kept not in (None, asked):
            raise ArtifactError(
                f"{self.folder}: was begun from another run, or with other --same; resume with "
                "the same, or give another folder"
            )
        return asked

    def told(self) -> dict[str, Any]:
        """What is to be said of a try that is whole; ArtifactError if another was asked for."""
        found: dict[str, Any] | None = artifact.read_document(self.folder / "transfer.json")
        if found is None or found["how"] != self.wanted.how:
            raise ArtifactError(
                f"{self.folder.parent}: holds a run that was made in another way than --how "
                f"{self.wanted.how}; give another folder"
            )
        self.asked()
        return found

    def begin(self) -> None:
        """Make or check the folder, and see how much there is to learn from."""
        self.folder.mkdir(exist_ok=True)
        artifact.write_document(self.folder / "asked.json", self.asked())
        tables = self.folder / "tables"
        transform, store, _ = compile_tables(self.shop, tables, progress=self.progress)
        first, last = store.ranges["train"]
        self.n_training = last - first
        self.shared = shared(self.known, transform)

    def count(self, n_sizes: int) -> None:
        """How many fits there will be."""
        self.runs.total = n_sizes * len(self.seeds) * len(self.wanted.ways)

    def variant(self, way: str, n: int) -> Shop:
        """The shop as a way learns it: steps small enough for `_STEPS` of an epoch.

        What has learnt already goes on at `_GENTLE` rates.
        """
        settings, shape = settings_of(self.shop)
        training: dict[str, Any] = {
            "rows_per_step": min(settings.rows_per_step, max(n // _STEPS, LEAST_ROWS))
        }
        model: dict[str, Any] = {}
        if way not in (SCRATCH, JOINT):  # joint has a mixer of its own to learn
            training["learning_rate"] = _GENTLE * settings.learning_rate
            training["row_learning_rate"] = _GENTLE * settings.row_learning_rate
        if way == JOINT and shape.mixer not in BY_DOMAIN:
            model = {"mixer": BY_DOMAIN[0], "mixer_options": None}
        return varied(self.shop, model=model, training=training)

    def tables(self, way: str, n: int) -> Path:
        """Transform and store of the latest ``n`` training exposures, as a way reads them."""
        kind = "joint" if way == JOINT else "own" if way == SCRATCH else "merged"
        folder = self.folder / f"{kind}-{n}"

        def blended(engine: Engine, own: Transform) -> Transform:
            if kind == "joint":
                return with_domain(merge(self.known, own))
            named = named_in(engine, self.shop)
            return merge(self.known, own, items=named["item"], users=named["user"])

        compile_tables(
            self.shop,
            folder,
            progress=self.progress,
            cut=None if n >= self.n_training else lambda engine: keep_latest(engine, n),
            blend=None if kind == "own" else blended,
        )
        return folder

    def onto(self, way: str, n: int, seed: int) -> Onto | None:
        """Where a way starts, and what of it learns."""
        if way == SCRATCH:
            return None
        start = self.folder / f"start-{way}-{n}-{seed}"
        if not (start / "model.safetensors").exists():
            start.mkdir(exist_ok=True)
            self._start(way, n, seed, start / "model.safetensors")
        beside = self.beside(n) if way == JOINT else None
        learns = {FROZEN: HEADS, ADAPTER: ADAPTERS}.get(way, ALL)
        return Onto(start, learns=learns, pull=PULL if way == FULL else 0.0, beside=beside)

    def beside(self, n: int) -> Path:
        """The source's exposures as the joint way's transform of so many reads them."""
        tables = self.tables(JOINT, n)
        folder = tables / "source"
        if not (folder / "store.json").exists():
            recode_store(self.giver.store, self.known, _opened(tables)[0], folder)
        return folder

    def _start(self, way: str, n: int, seed: int, path: Path) -> None:
        """The weights that a way begins with: the source's where they stand for the same."""
        transform, store = _opened(self.tables(way, n))
        shop = self.variant(way, n)
        torch.manual_seed(seed)
        model = model_of(transform, store, shop, settings_of(shop)[1])
        weights = self.giver.model.state_dict()
        given = carry(weights, self.axes, model, axes_of(model, transform))
        if "heads.funnel.out.bias" in given:  # one of the shop's own begins at its own rates
            match_rates(self.giver.model, model)
        save_tensors(
            {**dict(model.named_parameters()), **measures(self.giver, model, transform)}, path
        )

    def run(self, way: str, n: int, seed: int) -> Path:
        """The finished run of a way on so many exposures, with its answers beside it."""
        tables = self.tables(way, n)
        return self.runs.judged(
            way, self.variant(way, n), seed, str(n), like=tables, onto=self.onto(way, n, seed)
        )

    def compared(self, n: int) -> dict[str, Any]:
        """Each way's test values on so many exposures, and verdicts against scratch."""
        contenders = []
        for way in self.wanted.ways:
            made = [self.run(way, n, seed) for seed in self.seeds]
            who = (SINGLE, "single") if way == SCRATCH else (way, "multi")
            contenders.append(contender(*who, made))
        base = artifact.load(self.run(SCRATCH, n, self.seeds[0]), verify=False)
        asked = Asked(
            seeds=len(self.seeds), rivals=(), margin=self.wanted.margin, draws=self.wanted.draws
        )
        if len(contenders) == 1:
            return {"values": {SCRATCH: _values_of(base, contenders[0], asked)}, "against": {}}
        document = document_of(self.shop, asked, base, contenders, self.progress)
        names = {SINGLE: SCRATCH}
        return {
            "values": {
                names.get(who, who): each["values"] for who, each in document["contenders"].items()
            },
            "validation": {
                names.get(who, who): each["validation"]
                for who, each in document["contenders"].items()
            },
            "against": {
                who: {
                    name: {key: entry[key] for key in _TOLD}
                    for name, entry in each["tasks"].items()
                }
                for who, each in document["candidates"].items()
            },
        }

    def chosen(self, n: int) -> tuple[str, dict[str, Any]]:
        """The way that is kept, and what the validation split says of each."""
        others = [way for way in self.wanted.ways if way != SCRATCH]
        worth = {way: self._validated(way, n) for way in self.wanted.ways}
        gaps = {
            (way, name): each.less(worth[SCRATCH][name][0], n_groups)
            for way in others
            for name, (each, n_groups) in worth[way].items()
        }
        said = verdicts({f"{way}/{name}": gap for (way, name), gap in gaps.items()},
                        self.wanted.margin)  # fmt: skip
        told: dict[str, Any] = {
            way: {
                "score": float(
                    np.mean([joint_score_of(self.run(way, n, seed)) for seed in self.seeds])
                ),
                "tasks": {
                    name: {
                        "difference": gap.value,
                        "interval": [gap.low, gap.high],
                        "verdict": said[f"{way}/{name}"],
                    }
                    for (who, name), gap in gaps.items()
                    if who == way
                },
            }
            for way in self.wanted.ways
        }
        if self.wanted.how != AUTO:
            return self.wanted.how, told
        helping = [way for way in others if helps(told[way]["tasks"])]
        return min(helping, key=lambda way: told[way]["score"], default=SCRATCH), told

    def _validated(self, way: str, n: int) -> dict[str, tuple[Worth, int]]:
        """What a way's answers to each task are worth on validation, and how many users tell."""
        made = [artifact.load(self.run(way, n, seed), verify=False) for seed in self.seeds]
        for each in made:
            teach_straight(
                each.model, each.store, each.manifest["fit"]["straight"],
                history_length=each.history_length, held_out=True,
            )  # fmt: skip
        said = [_said(each, each.store, each.transform, _CHOICE) for each in made]
        found = {}
        for asked in questions(self.shop, made[0].store, made[0].transform, _CHOICE):
            if asked.name == asked.task and asked.name in said[0]:
                worth = worth_of(asked, said, (self.wanted.draws, self.shop.seed))
                if worth is not None:
                    found[asked.name] = worth, len(np.unique(asked.groups))
        return found

    def retained(self, n: int) -> dict[str, Any]:
        """The source's test values with its own weights, and with what each way made of them."""
        giver = self.giver
        asked = [
            each
            for each in questions(giver.shop, giver.store, giver.transform, "test")
            if each.name == each.task and giver.shop.task(each.task).family == "funnel"
        ]

        def judged(answers: Answers) -> dict[str, float]:
            return {each.name: each.judge(answers[each.name]).value for each in asked}

        before = judged(_said(giver, giver.store, giver.transform, "test", {"funnel"}))
        found: dict[str, Any] = {"before": before, "after": {}}
        kept = {name: weight.clone() for name, weight in giver.model.state_dict().items()}
        for way in self.wanted.ways:
            if way == SCRATCH:
                continue
            made = artifact.load(self.run(way, n, self.seeds[0]), verify=False)
            if way == JOINT:
                said = _said(made, open_store(self.beside(n)), made.transform, "test", {"funnel"})
            else:
                of = axes_of(made.model, made.transform)
                carry(made.model.state_dict(), of, giver.model, self.axes, stand_in=False)
                said = _said(giver, giver.store, giver.transform, "test", {"funnel"})
                giver.model.load_state_dict(kept)
            if all(each.name in said for each in asked):
                found["after"][way] = judged(said)
        return found


_TOLD: Final = (
    "metric", "n", "positives", "single", "multi", "difference", "interval", "verdict",
    "smallest_detectable", "ceiling", "gap_closed",
)  # fmt: skip


def _opened(tables: Path) -> tuple[Transform, Store]:
    document = artifact.read_document(tables / "transform.json")
    return Transform.from_json(document), open_store(tables / "store")


def _said(
    run: Artifact,
    store: Store,
    transform: Transform,
    split: str,
    families: Collection[str] | None = None,
) -> dict[str, Any]:
    return answers_of(
        run.model, store, transform, split, history_length=run.history_length, families=families
    )


def helps(tasks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a way helps some task and hurts none, by what is said of each.

    >>> helps({"click": {"verdict": "HELPS"}, "buy": {"verdict": "UNDECIDED"}})
    True
    >>> helps({"click": {"verdict": "HELPS"}, "buy": {"verdict": "HURTS"}})
    False
    """
    said = {each["verdict"] for each in tasks.values()}
    return "HELPS" in said and "HURTS" not in said


def _values_of(base: Artifact, contender: Contender, asked: Asked) -> dict[str, list[float]]:
    """Scratch's values where nothing is compared."""
    found = {}
    for each in questions(base.shop, base.store, base.transform, "test"):
        if all(each.name in said for said in contender.answers):
            found[each.name] = [each.judge(said[each.name]).value for said in contender.answers]
    return found
