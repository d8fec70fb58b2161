"""One shop's side of a federation: its tables, its users' rows and its optimisers stay with it."""

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou import artifact
from daogou.config import make
from daogou.errors import ConfigError, DaogouError, DataError, unknown
from daogou.features.agree import own, told
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn import rates, secure, tally
from daogou.learn.aggregate import RULES, SEES_EACH, Tensors, Update
from daogou.learn.audit import audit, without
from daogou.learn.canary import Coins, ask, invented, joined
from daogou.learn.finish import finish
from daogou.learn.fit import (
    State,
    Tables,
    claim,
    compile_tables,
    finished,
    fit_tables,
    keep_state,
    restore_state,
    save_run,
    state_of,
    task_document,
)
from daogou.learn.journal import append_record, keep_records
from daogou.learn.loop import Learner, Progress, quiet
from daogou.learn.machine import device_of
from daogou.learn.private import (
    Privacy,
    generator,
    optimiser,
    privacy_of,
    private_step,
    spent,
    steps_left,
    uncounted,
    units_of,
)
from daogou.learn.randomised import hear, lines_of, randomised
from daogou.learn.returning import fit_returning
from daogou.learn.settings import settings_of
from daogou.learn.validate import joint_score, validation_losses
from daogou.learn.variant import varied
from daogou.model.heads.funnel import FunnelHead
from daogou.model.joint import JointModel
from daogou.schema import Shop
from daogou.tables.engine import Engine

ITEMS: Final = ("union", "home")
SPENT: Final = "its privacy budget is spent"
_NOWHERE: Final = -2  # where weights stand that half a round has moved


@dataclass(frozen=True)
class Terms:
    """What ``[federate]`` may say: what shops that learn together agree on."""

    rounds: int = 10
    patience: int = 3  # rounds without a better score before learning stops
    passes: int = 1  # over a shop's rows between two exchanges
    rule: str = "fedavg"  # how updates become one: one of RULES
    prox: float = 0.0  # FedProx: pull of a shop's dense weights back to the shared ones
    trim: float = 0.2  # trimmed_mean: share of the shops that goes at either end
    norm_bound: float = 0.0  # longest update, in medians of the round's; 0 = any length
    server_rate: float = 0.01  # fedadam: learning rate of the server
    items: str = "union"  # rows of products: shared by digests of their ids, or kept at home
    keep: tuple[str, ...] = ()  # beginnings of the names of further weights that stay at home
    least: int = 1  # sound updates without which a round changes nothing
    privacy: Mapping[str, Any] | None = None  # what leaves a shop is private: `Privacy`
    audit: float = 0.0  # share of each shop's users who teach nothing, to ask who was in it
    secure: bool = False  # the server learns the sum of the shops' updates, and none of them
    canaries: int = 0  # invented exposures, of which a half teach, to ask which


def terms_of(table: Any) -> Terms:
    """``[federate]``, checked; every problem at once."""
    terms = make("federate", Terms, table)
    named = (("rule", terms.rule, RULES), ("items", terms.items, ITEMS))
    problems = [f"federate.{key}: {unknown(w, words)}" for key, w, words in named if w not in words]
    for name, value in vars(terms).items():
        if name in ("rounds", "passes", "least") and value < 1:
            problems.append(f"federate.{name}: {value}; give 1 or more")
        elif isinstance(value, int | float) and not 0 <= value < float("inf"):
            problems.append(f"federate.{name}: {value}; give 0 or more")
    if terms.trim >= 0.5:
        problems.append(f"federate.trim: {terms.trim}; less than half can go at either end")
    if terms.audit >= 1:
        problems.append(f"federate.audit: {terms.audit}; somebody has to teach, give less than 1")
    sees = f"the rule {terms.rule!r}" if terms.rule in SEES_EACH else "norm_bound"
    if terms.secure and (terms.rule in SEES_EACH or terms.norm_bound):
        problems.append(
            f"federate.secure: {sees} has to see each shop's update, which it hides; take "
            "rule = 'fedavg' or 'fedadam' and no norm_bound, or leave secure out"
        )
    if terms.privacy is not None:
        try:
            if privacy_of(terms.privacy).of_labels and terms.audit:
                problems.append("federate.audit: finds users, who are public where labels are not")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return terms


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
        self.given, self.folder, self.key, self.progress = shop, folder, key, progress
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
        ledger, before = self._ledger, artifact.read_document(self.folder / "terms.json")
        if ledger.exists() and json.loads(json.dumps(document)) != before:
            raise ConfigError(f"{self.folder}: gave by other terms; take a new folder")
        shop = self._shop_of(document)
        if not finished(self.folder, shop):
            claim(self.folder, shop, resume=True)
        privacy = None if asked is None else privacy_of(asked)
        hides = "" if privacy is None or privacy.reads_past else privacy.unit
        mine = artifact.read_document(self.folder / "mine.json")
        if mine is not None and mine.get("hides", "") != hides:
            raise ConfigError(
                f"{self.folder}: its tables were read for other privacy; take a new folder"
            )
        _write(self.folder / "terms.json", document)  # and not before they are taken
        if mine is None:
            transform, rows = self._fitted(shop)
            fitted = self._without_labels(transform).to_json()
            mine = {"transform": fitted, "rows": rows, "hides": hides}
            _write(self.folder / "mine.json", mine)
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
            return fit_tables(shop, self.folder, cut=self._cut)
        except DataError:
            if self._privacy is None:
                raise
            raise DataError(f"{shop.name}: does not pass `daogou check`, which says why") from None

    def agree(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Compile the tables by the transform that all agreed on."""
        agreed = Transform.from_json(document["transform"])
        used = own(agreed, Transform.from_json(self._mine["transform"]), self.key)
        compile_tables(
            self.shop,
            self.folder,
            cut=self._cut,
            blend=lambda _engine, _fitted: used,
            progress=self.progress,
        )
        if self.terms.canaries:
            self._canaries()  # says what they lack before anybody learns
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
        keys, least = document["keys"], self.terms.least
        return Reply(secure.give_shares(self.folder, number, keys, self.key, least))

    def give_way(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """The shop's parts in taking the masks off the sum of those who sent an update."""
        return Reply(secure.give_way(self.folder, number, document["summed"], document["away"]))

    def train(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Learn from the shop's own rows, beginning with ``sent``; what that changed of it."""
        learner, terms, privacy = self._stand(number), self.terms, self._privacy
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
            answer["privacy"] = self._spent()
        self._keep(number, learner, int(document.get("best", -1)))
        change = {
            name: after - sent[name].to(after.device)
            for name, after in self._shared(learner.model).items()
        }
        update = Update("", self._rows, {name: each.cpu() for name, each in change.items()})
        if masks is not None:
            return Reply(answer, {secure.MASKED: secure.masked(masks, update)})
        return Reply({**answer, "rows": update.rows}, update.change)

    def _train(self, learner: Learner, number: int) -> None:
        terms, seed = self.terms, self.shop.seed
        learner.pull = terms.prox
        learner.starts = self._anchors(learner) if terms.prox else []
        store = self._with_canaries()
        for epoch in range(number * terms.passes, (number + 1) * terms.passes):
            learner.set_rates(epoch)
            plan = without(learner.plan(store, seed, epoch), store, self._held(store))
            losses = learner.epoch(store, plan, (seed, epoch), self.progress)
        self._losses = dict(zip(self._losses, losses.tolist(), strict=True))

    def _train_privately(self, learner: Learner, number: int, privacy: Privacy) -> None:
        """Private steps, counted in the ledger. DataError where the budget is spent.

        What is about to be given is written down first. Asked the same again, the shop draws the
        same noise and gives nothing new away; asked the same round with other weights, or after
        another past, it draws other noise and counts it, since two answers under one noise would
        have it taken off.
        """
        store, ledger = self._with_canaries(), self._ledger
        units = units_of(store, privacy.unit, self._held(store))
        given: dict[str, int] = artifact.read_document(ledger) or {}
        place = f"{number}:{artifact.sha256_of(state_of(learner))}"
        others = sum(steps for at, steps in given.items() if at != place)
        given[place] = given.get(place) or steps_left(privacy, self._n_units(privacy), others)
        if not given[place]:
            raise DataError(SPENT)
        # Were it lost to a power cut, what is given below would be given again as if it were new.
        _write(ledger, given, synced=True)
        names = travelling(learner.model, self.terms)
        for step in range(given[place]):
            random = generator(self._secret, place, step)
            private_step(learner, store, units, privacy, names, random)
            self.progress("steps", step + 1, given[place], f"round {number + 1}")

    def judge(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """How the shared weights, beside the shop's own, do on its validation split."""
        learner = self._stand(number + 1)
        self._take(learner.model, sent)
        store, length = self._taught(), learner.settings.history_length
        losses = validation_losses(learner.model, store, "validation", history_length=length)
        untaught = _untaught(self.terms)
        taught = [task.name for task in learner.model.tasks if task.family not in untaught]
        score = joint_score({name: losses[name] for name in taught})
        validation = {name: task_document(loss) for name, loss in losses.items()}
        record = {"epoch": number + 1, "score": score, "train": self._losses}
        record |= {"validation": validation, "seconds": 0.0, "steps": {}, "gates": {}}
        journal = self.folder / "events.jsonl"
        keep_records(journal, lambda one: bool(one["epoch"] <= number))
        append_record(journal, record)
        return Reply({"score": score, "rows": self._rows, "validation": validation})

    def finish(self, number: int, document: Mapping[str, Any], sent: Tensors) -> Reply:
        """Make a run of the shop's of the weights that were best, in the shop's own folder."""
        if not finished(self.folder, self.shop):
            learner = self._stand(number + 1)
            self._take(learner.model, sent)
            model = self._plain(learner.model.to("cpu"))
            trained = {"epochs": document["rounds"], "best_epoch": number + 1, "seconds": 0.0}
            tables, settings = self._compiled(), learner.settings
            store, length = tables.store, settings.history_length
            found = audit(model, store, self._held(store), history_length=length)
            proved = self._proved(sent)
            done = finish(model, store, settings.calibration, history_length=length)
            returning = fit_returning(store, tables.transform, history_length=length)
            told = {"privacy": self._spent(), "audit": found, "canaries": proved}
            record: dict[str, Any] = {
                "federated": {**document, **told},
                "returning": None if returning is None else asdict(returning),
            }
            save_run(self.folder, self.shop, model, tables, done, trained, record)
            shutil.rmtree(self.folder / "states", ignore_errors=True)
            self._learner, self._stands = None, -1
        manifest = artifact.read_manifest(self.folder)
        said = {name: manifest["federated"].get(name) for name in ("privacy", "audit", "canaries")}
        said["validation"] = manifest["fit"]["validation"]
        if self._label_epsilon:
            said["validation"] = self._judged(number)
        return Reply({"run": str(self.folder), **said})

    def _plain(self, model: JointModel) -> JointModel:
        """The model as a run has it, which takes labels for what they are."""
        transform, store, _ = self._compiled()
        shop = self.shop
        plain = artifact.model_of(transform, store, shop, settings_of(shop)[1])
        plain.load_state_dict(model.state_dict())
        return plain

    def _judged(self, number: int) -> Mapping[str, Any]:
        """What a round's judgement told; its labels were told by chance, the run's are its own."""
        records = artifact.read_records(self.folder / "events.jsonl")
        told = [each["validation"] for each in records if each["epoch"] == number + 1]
        return dict(told[-1]) if told else {}

    # ---- what it stands on ------------------------------------------------------------------

    def _spent(self) -> dict[str, Any] | None:
        """What the shop has given away so far; None without privacy."""
        privacy = self._privacy
        if privacy is None:
            return None
        given = artifact.read_document(self._ledger) or {}
        return spent(privacy, self._n_units(privacy), sum(given.values()))

    def _n_units(self, privacy: Privacy) -> int:
        """How many the promise is about; canaries are not."""
        _, store, _ = self._compiled()
        return len(units_of(store, privacy.unit, self._held(store)))

    @property
    def _privacy(self) -> Privacy | None:
        terms = self.terms
        return None if terms.privacy is None else privacy_of(terms.privacy)

    @property
    def _label_epsilon(self) -> float:
        """By which the shop's labels are told by chance; 0 where they are not."""
        privacy = self._privacy
        return 0.0 if privacy is None else privacy.epsilon  # it is of labels alone

    def _cut(self, engine: Engine) -> None:
        """Leave no history where it would tell of what is to be private."""
        if self._privacy is not None and not self._privacy.reads_past:
            engine.run("DELETE FROM history")

    def _without_labels(self, transform: Transform) -> Transform:
        """The transform without what `_cut` leaves nobody to read, nor what labels fitted.

        A run that knows no kind of event is told of none afterwards, which it never learnt to read.
        """
        privacy = self._privacy
        if privacy is None or privacy.reads_past:
            return transform
        return replace(transform, actions=(), value=None if privacy.of_labels else transform.value)

    def _taught(self) -> Store:
        """What teaches and judges: the shop's store, with labels as they are told if those are.

        That they are is written down first, so that none are told again by other terms.
        """
        transform, store, _ = self._compiled()
        if not self._label_epsilon:
            return store
        if not self._ledger.exists():
            _write(self._ledger, {"labels": 1}, synced=True)
        return self._told_by_chance(store, transform, "labels")

    def _told_by_chance(self, store: Store, transform: Transform, which: str) -> Store:
        epsilon = self._label_epsilon
        random = generator(self._secret, which, epsilon)
        return randomised(store, transform, self.shop.tasks, epsilon, random)

    def _canaries(self) -> tuple[Store, Coins]:
        """The invented exposures, with labels as they are, and which of them teach.

        Where labels are what is private all do, since it is what came of them that is asked.
        """
        transform, store, _ = self._compiled()
        n, random = self.terms.canaries, generator(self._secret, "canaries")
        canaries = invented(store, transform, self.shop.tasks, n, random)
        teach = torch.randint(2, (n,), generator=random).numpy() == 1
        return canaries, teach | (self._label_epsilon > 0)

    def _with_canaries(self) -> Store:
        """What teaches, with those of the invented exposures that do at the end of training."""
        store = self._taught()
        if not self.terms.canaries:
            return store
        canaries, teach = self._canaries()
        if self._label_epsilon:
            transform = self._compiled().transform
            canaries = self._told_by_chance(canaries, transform, "labels of canaries")
        return joined(store, canaries, np.flatnonzero(teach))

    def _proved(self, sent: Tensors) -> dict[str, Any] | None:
        """What chances of the canaries prove, by the shared weights alone; None without any.

        Rows that stay at home have learnt from canaries too, which says nothing of what left.
        """
        if not self.terms.canaries:
            return None
        model = self._plain(self._new().model.to("cpu"))
        self._take(model, sent)
        canaries, teach = self._canaries()
        given = self._spent()
        n_users = len(units_of(self._compiled().store, "user"))
        delta = 1 / max(n_users, 2) if given is None else float(given["delta"])
        return ask(model, canaries, None if self._label_epsilon else teach, delta)

    def _held(self, store: Store) -> NDArray[np.bool_]:
        """Which user rows teach nothing, ``[U + 1]``; drawn by the shop's secret."""
        random = generator(self._secret, "audit")
        held = torch.rand(store.n_users + 1, generator=random) < self.terms.audit
        held[0] = False
        return held.numpy()

    @property
    def _ledger(self) -> Path:
        """Where it is written how many private steps were given, and on what each stood."""
        return self.folder / "privacy.json"

    @property
    def _secret(self) -> str:
        path = self.folder / "secret.txt"
        if not path.exists():
            artifact.write_whole(path, secrets.token_hex(32), secret=True, synced=True)
        return path.read_text("utf-8")

    @property
    def terms(self) -> Terms:
        """What was agreed on when the shop told."""
        return terms_of(self._told["terms"])

    @property
    def shop(self) -> Shop:
        """The shop with the settings that all take."""
        return self._shop_of(self._told)

    @property
    def _told(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] | None = artifact.read_document(self.folder / "terms.json")
        if found is None:
            raise DaogouError(f"{self.folder}: was asked before it was told the terms")
        return found

    def _shop_of(self, document: Mapping[str, Any]) -> Shop:
        terms = terms_of(document["terms"])
        training = {**document.get("fit", {}), "epochs": terms.rounds * terms.passes}
        shop = varied(
            self.given,
            seed=document.get("seed"),
            model=document.get("model"),
            training=training,
        )
        settings, _ = settings_of(shop)
        if settings.pretrain_epochs:
            raise ConfigError(
                f"{shop.name}: fit.pretrain_epochs: every shop would begin with another reading "
                "of titles; leave it out"
            )
        if terms.privacy is not None and privacy_of(terms.privacy).of_labels:
            lines_of(shop.tasks)  # says what cannot be learnt by them
        return shop

    @property
    def _mine(self) -> Mapping[str, Any]:
        """What the shop's own tables fitted, and the rows behind it."""
        mine: Mapping[str, Any] = artifact.read_document(self.folder / "mine.json")
        return mine

    @property
    def _rows(self) -> int:
        return int(self._mine["rows"])

    def _compiled(self) -> Tables:
        return compile_tables(self.shop, self.folder)

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
            self._losses = {task.name: float("nan") for task in self.shop.tasks}
        return self._learner

    def _new(self) -> Learner:
        shop = self.shop
        settings, shape = settings_of(shop)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        transform, store = self._compiled().transform, self._taught()
        torch.manual_seed(shop.seed)
        terms, device, privacy = self.terms, device_of(settings.device), self._privacy
        if privacy is None or privacy.of_labels:
            model = artifact.model_of(transform, store, shop, shape)
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
            name: _from(weights[name].detach(), first).clone()
            for name, first in travelling(model, self.terms).items()
        }

    def _anchors(self, learner: Learner) -> list[tuple[Tensor, Tensor]]:
        """The dense weights that travel, and what they are now: what FedProx draws back to.

        Rows of tables are left out: a batch's few would each step drag all others.
        """
        dense, weights = (
            {id(each) for each in learner.dense},
            dict(learner.model.named_parameters()),
        )
        named = [weights[name] for name in travelling(learner.model, self.terms)]
        return [(each, each.detach().clone()) for each in named if id(each) in dense]

    @torch.no_grad()
    def _take(self, model: JointModel, sent: Tensors) -> None:
        """Put the shared weights in place of the shop's."""
        weights = dict(model.named_parameters())
        for name, first in travelling(model, self.terms).items():
            _from(weights[name], first).copy_(sent[name])


def _from(weight: Tensor, first: int) -> Tensor:
    return weight[first:] if first else weight


_ANSWERS: Final = {
    "tell": Silo.tell, "agree": Silo.agree, "begin": Silo.begin,
    "train": Silo.train, "judge": Silo.judge, "finish": Silo.finish,
    "keys": Silo.give_keys, "shares": Silo.give_shares, "unmask": Silo.give_way,
}  # fmt: skip


def travelling(model: JointModel, terms: Terms) -> dict[str, int]:
    """The weights that leave a shop, each with the first of its rows that does.

    Rows of users never do, and those of products only where all agreed on them.
    """
    at_home = {} if model.user is None else {id(model.user.ids.weight): len(model.user.ids.weight)}
    if model.item is not None and terms.items == "home":
        at_home[id(model.item.ids.weight)] = len(model.item.ids.weight)
    for head in model.heads.values():
        if isinstance(head, FunnelHead) and head.own is not None:
            rows = head.own.n_users + (head.own.n_items if terms.items == "home" else 0)
            at_home[id(head.own.rows.weight)] = rows * head.own.n_tasks
    named = {name: each for name, each in model.named_parameters() if each.requires_grad}
    for start in terms.keep:
        if not any(name.startswith(start) for name in named):
            raise ConfigError(f"federate.keep: no weight begins with {start!r}; e.g. 'heads.match'")
    untaught = (f"heads.{family}." for family in _untaught(terms))
    kept = {name for name in named if name.startswith((*terms.keep, *untaught))}
    return {
        name: at_home.get(id(each), 0)
        for name, each in named.items()
        if name not in kept and (id(each) not in at_home or at_home[id(each)] < len(each))
    }


def _untaught(terms: Terms) -> tuple[str, ...]:
    """The families of tasks that nothing private teaches, which have no say in the score either.

    Titles are in no private step; and profiles are read from histories.
    """
    if terms.privacy is None:
        return ()
    privacy = privacy_of(terms.privacy)
    titles = () if privacy.of_labels else ("extract",)
    return titles if privacy.reads_past else (*titles, "profile")


def _write(path: Path, document: Mapping[str, Any], *, synced: bool = False) -> None:
    artifact.write_whole(path, json.dumps(document, ensure_ascii=False), synced=synced)
