"""One shop's side of a federation: its tables, its users' rows and its optimisers stay with it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from daogou import artifact
from daogou.artifact.counts import model_of
from daogou.errors import ConfigError, DataError
from daogou.features.agree import own, told
from daogou.features.transform import Transform
from daogou.learn import rates, secure, tally
from daogou.learn.aggregate import Tensors, Update
from daogou.learn.audit import audit, without
from daogou.learn.canary import ask
from daogou.learn.checkpoint import State, keep_state, restore_state, state_of
from daogou.learn.claim import claim, finished
from daogou.learn.compile import compile_tables, fit_tables
from daogou.learn.finish import finish
from daogou.learn.fit import save_run
from daogou.learn.home import Home, write_plain
from daogou.learn.journal import append_record, keep_records
from daogou.learn.loop import Learner, Progress, quiet
from daogou.learn.machine import device_of
from daogou.learn.private import (
    Privacy,
    generator,
    optimiser,
    privacy_of,
    private_step,
    steps_left,
    uncounted,
    units_of,
)
from daogou.learn.randomised import hear
from daogou.learn.returning import fit_returning
from daogou.learn.settings import settings_of
from daogou.learn.terms import from_row, terms_of, travelling, untaught_by
from daogou.learn.validate import joint_score, validation_losses
from daogou.model.joint import JointModel
from daogou.schema import Shop

SPENT: Final = "its privacy budget is spent"

_NOWHERE: Final = -2  # where weights stand that half a round has moved


@dataclass(frozen=True)
class Reply:
    """What a shop says when it is asked."""

    document: Mapping[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)


class Silo:
    """A shop that is asked, in turn, to tell, agree, begin, train, judge and finish.

    All it knows between two questions is in its folder, so that it may be another process each
    time. ``key`` is the secret that the shops share and the server has not.
    """

    def __init__(
        self, shop: Shop, folder: Path, *, key: str = "", progress: Progress = quiet
    ) -> None:
        self.home, self.folder, self.key, self.progress = Home(shop, folder), folder, key, progress
        self._learner: Learner | None = None
        self._stands = -1  # the round after which the weights in memory are
        self._losses: dict[str, float] = {}  # of that round's training

    def answer(self, what: str, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """What the shop says to a question; ``number`` is the round, ``sent`` shared weights."""
        return _ANSWERS[what](self, number, document, sent)

    # ---- what is asked before the first round ---------------------------------------------

    def tell(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """What others may know of the tables: `told`, the rows behind it, tasks and shape."""
        asked = terms_of(document["terms"]).privacy
        ledger, before = self.home.ledger, artifact.read_document(self.folder / "terms.json")
        if ledger.exists() and json.loads(json.dumps(document)) != before:
            raise ConfigError(f"{self.folder}: gave by other terms; take a new folder")
        shop = self.home.shop_of(document)
        if not finished(self.folder, shop):
            claim(self.folder, shop, resume=True)
        privacy = None if asked is None else privacy_of(asked)
        hides = "" if privacy is None or privacy.reads_past else privacy.unit
        mine = artifact.read_document(self.folder / "mine.json")
        if mine is not None and mine.get("hides", "") != hides:
            raise ConfigError(
                f"{self.folder}: its tables were read for other privacy; take a new folder"
            )
        write_plain(self.folder / "terms.json", document)  # and not before they are taken
        if mine is None:
            transform, rows = self._fitted(shop)
            fitted = self.home.without_labels(transform).to_json()
            mine = {"transform": fitted, "rows": rows, "hides": hides}
            write_plain(self.folder / "mine.json", mine)
        transform = told(Transform.from_json(mine["transform"]), self.key)
        return Reply(
            {
                "transform": transform.to_json(),
                "rows": mine["rows"],
                "tasks": [task.name for task in shop.tasks],
                "shape": asdict(settings_of(shop)[1]),
            }
        )

    def _fitted(self, shop: Shop) -> tuple[Transform, int]:
        """What the tables fit; where they are refused, a private shop does not say for what."""
        try:
            return fit_tables(shop, self.folder, cut=self.home.cut)
        except DataError:
            if self.home.privacy is None:
                raise
            raise DataError(f"{shop.name}: does not pass `daogou check`, which says why") from None

    def agree(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Compile the tables by the transform that all agreed on."""
        agreed = Transform.from_json(document["transform"])
        used = own(agreed, Transform.from_json(self.home.fitted_here["transform"]), self.key)
        compile_tables(
            self.home.shop,
            self.folder,
            cut=self.home.cut,
            blend=lambda _engine, _fitted: used,
            progress=self.progress,
        )
        if self.home.terms.canaries:
            self.home.canaries()  # says what they lack before anybody learns
        return Reply()

    def begin(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """The shared weights as this shop would begin with them."""
        return Reply(tensors=self._shared(self._stand(0).model))

    # ---- what is asked in a round -----------------------------------------------------------

    def give_keys(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """New public keys for the round's sum."""
        return Reply(secure.give_keys(self.folder, number, self.key))

    def give_shares(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """For each of the other shops, enciphered, its part in taking the masks off the sum."""
        keys, least = document["keys"], self.home.terms.least
        return Reply(secure.give_shares(self.folder, number, keys, self.key, least))

    def give_way(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """The shop's parts in taking the masks off the sum of those who sent an update."""
        return Reply(secure.give_way(self.folder, number, document["summed"], document["away"]))

    def train(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Learn from the shop's own rows, beginning with ``sent``; what that changed of it."""
        learner, terms, privacy = self._stand(number), self.home.terms, self.home.privacy
        masks = None
        if terms.secure:
            asked = artifact.sha256_of(sent)
            masks = secure.join(self.folder, number, document.get("shares", {}), asked)
        self._stands = _NOWHERE  # until what is learnt is kept
        self._take(learner.model, sent)
        answer: dict[str, Any] = {}
        if privacy is not None and not privacy.of_labels:
            self._train_privately(learner, number, privacy)
        else:
            self._train(learner, number)
        if privacy is not None:
            answer["privacy"] = self.home.spent()
        self._keep(number, learner, int(document.get("best", -1)))
        change = {
            name: after - sent[name].to(after.device)
            for name, after in self._shared(learner.model).items()
        }
        update = Update("", self.home.n_rows, {name: each.cpu() for name, each in change.items()})
        if masks is not None:
            return Reply(answer, {secure.MASKED: secure.masked(masks, update)})
        return Reply({**answer, "rows": update.rows}, update.change)

    def _train(self, learner: Learner, number: int) -> None:
        terms, seed = self.home.terms, self.home.shop.seed
        learner.pull = terms.prox
        learner.starts = self._anchors(learner) if terms.prox else []
        store = self.home.teaching()
        for epoch in range(number * terms.passes, (number + 1) * terms.passes):
            learner.set_rates(epoch)
            plan = without(learner.plan(store, seed, epoch), store, self.home.held(store))
            losses = learner.epoch(store, plan, (seed, epoch), self.progress)
        self._losses = dict(zip(self._losses, losses.tolist(), strict=True))

    def _train_privately(self, learner: Learner, number: int, privacy: Privacy) -> None:
        """Private steps, counted in the ledger. DataError where the budget is spent.

        What is about to be given is written down first. Asked the same again, the shop draws the
        same noise and gives nothing new away; asked the same round with other weights, or after
        another past, it draws other noise and counts it, since two answers under one noise would
        have it taken off.
        """
        store, ledger = self.home.teaching(), self.home.ledger
        units = units_of(store, privacy.unit, self.home.held(store))
        given: dict[str, int] = artifact.read_document(ledger) or {}
        place = f"{number}:{artifact.sha256_of(state_of(learner))}"
        others = sum(steps for at, steps in given.items() if at != place)
        given[place] = given.get(place) or steps_left(privacy, self.home.n_units(privacy), others)
        if not given[place]:
            raise DataError(SPENT)
        # Were it lost to a power cut, what is given below would be given again as if it were new.
        write_plain(ledger, given, synced=True)
        names = travelling(learner.model, self.home.terms)
        for step in range(given[place]):
            random = generator(self.home.secret, place, step)
            private_step(learner, store, units, privacy, names, random)
            self.progress("steps", step + 1, given[place], f"round {number + 1}")

    def judge(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """How the shared weights, beside the shop's own, do on its validation split."""
        learner = self._stand(number + 1)
        self._take(learner.model, sent)
        store, length = self.home.taught(), learner.settings.history_length
        losses = validation_losses(learner.model, store, "validation", history_length=length)
        untaught = untaught_by(self.home.terms)
        taught = [task.name for task in learner.model.tasks if task.family not in untaught]
        score = joint_score({name: losses[name] for name in taught})
        validation = {name: loss.document() for name, loss in losses.items()}
        record = {"epoch": number + 1, "score": score, "train": self._losses}
        record |= {"validation": validation, "seconds": 0.0, "steps": {}, "gates": {}}
        journal = self.folder / "events.jsonl"
        keep_records(journal, lambda one: bool(one["epoch"] <= number))
        append_record(journal, record)
        return Reply({"score": score, "rows": self.home.n_rows, "validation": validation})

    def finish(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Make a run of the shop's of the weights that were best, in the shop's own folder."""
        if not finished(self.folder, self.home.shop):
            learner = self._stand(number + 1)
            self._take(learner.model, sent)
            model = self._plain(learner.model.to("cpu"))
            trained = {"epochs": document["rounds"], "best_epoch": number + 1, "seconds": 0.0}
            tables, settings = self.home.compiled(), learner.settings
            store, length = tables.store, settings.history_length
            found = audit(model, store, self.home.held(store), history_length=length)
            proved = self._proved(sent)
            done = finish(model, store, settings.calibration, history_length=length)
            returning = fit_returning(store, tables.transform, history_length=length)
            told = {"privacy": self.home.spent(), "audit": found, "canaries": proved}
            record: dict[str, Any] = {
                "federated": {**document, **told},
                "returning": None if returning is None else asdict(returning),
            }
            save_run(self.folder, self.home.shop, model, tables, done, trained, record)
            self._learner, self._stands = None, -1
        shutil.rmtree(self.folder / "states", ignore_errors=True)
        manifest = artifact.read_manifest(self.folder)
        said = {name: manifest["federated"].get(name) for name in ("privacy", "audit", "canaries")}
        said["validation"] = manifest["fit"]["validation"]
        if self.home.label_epsilon:
            said["validation"] = self._judged(number)
        return Reply({"run": str(self.folder), **said})

    def _plain(self, model: JointModel) -> JointModel:
        """The model as a run has it, which takes labels for what they are."""
        transform, store, _ = self.home.compiled()
        shop = self.home.shop
        plain = model_of(transform, store, shop, settings_of(shop)[1])
        plain.load_state_dict(model.state_dict())
        return plain

    def _judged(self, number: int) -> Mapping[str, Any]:
        """What a round's judgement told; its labels were told by chance, the run's are its own."""
        records = artifact.read_records(self.folder / "events.jsonl")
        told = [each["validation"] for each in records if each["epoch"] == number + 1]
        return dict(told[-1]) if told else {}

    # ---- what it stands on ------------------------------------------------------------------

    def _proved(self, sent: Tensors) -> dict[str, Any] | None:
        """What chances of the canaries prove, by the shared weights alone; None without any.

        Rows that stay at home have learnt from canaries too, which says nothing of what left.
        """
        if not self.home.terms.canaries:
            return None
        model = self._plain(self._new().model.to("cpu"))
        self._take(model, sent)
        canaries, teach = self.home.canaries()
        given = self.home.spent()
        n_users = len(units_of(self.home.compiled().store, "user"))
        delta = 1 / max(n_users, 2) if given is None else float(given["delta"])
        return ask(model, canaries, None if self.home.label_epsilon else teach, delta)

    def _stand(self, before: int) -> Learner:
        """The learner as the shop's last round before this one left it; new if there was none.

        Shops that miss rounds go on from the last that they took part in, and one that is asked
        for a round again, by a server that died in it, does it again the same.
        """
        newest = max(self._done(before), default=-1)
        if self._learner is None or newest != self._stands:
            self._learner = self._new()
            if newest >= 0:
                restore_state(self._state(newest), self._learner)
            self._stands = newest
            self._losses = {task.name: float("nan") for task in self.home.shop.tasks}
        return self._learner

    def _new(self) -> Learner:
        shop = self.home.shop
        settings, shape = settings_of(shop)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        transform, store = self.home.compiled().transform, self.home.taught()
        torch.manual_seed(shop.seed)
        terms, device, privacy = self.home.terms, device_of(settings.device), self.home.privacy
        if privacy is None or privacy.of_labels:
            model = model_of(transform, store, shop, shape)
            tally.count(model, transform, store)
            rates.count(model, store)
            if privacy is not None:
                hear(model, transform, store, privacy.epsilon)
            return Learner(model.to(device), settings)
        if settings.balancer != "fixed":
            raise ConfigError(
                f"fit.balancer: {settings.balancer!r} remembers losses; with privacy take 'fixed'"
            )
        learner = Learner(uncounted(transform, store, shop.tasks, shape).to(device), settings)
        named = dict(learner.model.named_parameters())
        moves = [named[name] for name in travelling(learner.model, terms)]
        learner.adam = optimiser(moves, privacy)
        return learner

    @property
    def _states(self) -> Path:
        return self.folder / "states"

    def _state(self, number: int) -> Path:
        return self._states / f"{number:06d}.safetensors"

    def _keep(self, number: int, learner: Learner, best: int) -> None:
        """Write how the round left the shop; what no round can ask for any more goes."""
        self._states.mkdir(exist_ok=True)
        kept = {max(self._done(number), default=-1), max(self._done(best + 1), default=-1)}
        keep_state(self._state(number), learner, State(epoch=number + 1))
        self._stands = number
        for done in self._done(number):
            if done not in kept:
                self._state(done).unlink()

    def _done(self, before: int) -> list[int]:
        numbers = (int(path.stem) for path in self._states.glob("*.safetensors"))
        return [number for number in numbers if number < before]

    def _shared(self, model: JointModel) -> dict[str, Tensor]:
        weights = dict(model.named_parameters())
        return {
            name: from_row(weights[name].detach(), first).clone()
            for name, first in travelling(model, self.home.terms).items()
        }

    def _anchors(self, learner: Learner) -> list[tuple[Tensor, Tensor]]:
        """The dense weights that travel, and what they are now: what FedProx draws back to.

        Rows of tables are left out: a batch's few would each step drag all others.
        """
        dense, weights = (
            {id(each) for each in learner.dense},
            dict(learner.model.named_parameters()),
        )
        named = [weights[name] for name in travelling(learner.model, self.home.terms)]
        return [(each, each.detach().clone()) for each in named if id(each) in dense]

    @torch.no_grad()
    def _take(self, model: JointModel, sent: Tensors) -> None:
        """Put the shared weights in place of the shop's."""
        weights = dict(model.named_parameters())
        for name, first in travelling(model, self.home.terms).items():
            from_row(weights[name], first).copy_(sent[name])


_ANSWERS: Final = {
    "tell": Silo.tell, "agree": Silo.agree, "begin": Silo.begin,
    "train": Silo.train, "judge": Silo.judge, "finish": Silo.finish,
    "keys": Silo.give_keys, "shares": Silo.give_shares, "unmask": Silo.give_way,
}  # fmt: skip
