"""Shops that learn one model together without moving a row: rounds of local fits and their mean.

What travels are questions and answers (`Silo.answer`): the fitted transforms without users and
with products under digests, then weights that all share. Who carries them is a `Shops`.
"""

import json
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from daogou import artifact
from daogou.config import apply, read_shop, read_toml
from daogou.errors import ConfigError, DaogouError, DataError, unknown
from daogou.features.agree import agree
from daogou.features.transform import Transform
from daogou.learn import secure
from daogou.learn.aggregate import RULES, Adam, Tensors, Update, bounded, fits
from daogou.learn.carriers import Here, Shops
from daogou.learn.checkpoint import metadata_of
from daogou.learn.claim import opened_folder
from daogou.learn.journal import append_record, keep_records
from daogou.learn.loop import Progress, quiet
from daogou.learn.silo import SPENT, Reply, Silo
from daogou.learn.standing import PARTS, Lead, Standing, claim_for, keep
from daogou.learn.stop import unbroken
from daogou.learn.terms import Terms, terms_of
from daogou.schema import Shop

_TRIES: Final = 3  # of a question that all must answer
_COMMON: Final = ("model", "fit", "seed")  # what all shops take, beside [federate]


def federate(
    shops: Mapping[str, Shop],
    out: Path | str,
    asked: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Train shops together in this process; each gets a run of its own under ``out/shops``.

    ``asked`` is what `read_federation` reads: ``federate`` and what all shops take of ``model``,
    ``fit`` and ``seed``. Started again with ``resume`` after a kill it gives the same weights.
    Raises ConfigError where shops cannot learn together, and DataError where none answers.
    """
    if terms_of((asked or {}).get("federate", {})).secure:
        raise ConfigError(
            "federate.secure: in one process nothing is hidden from anybody; it is for shops on "
            "nodes of Flower's (docs/adapt.md), here leave it out"
        )
    out = Path(out)
    with opened_folder(out, resume=resume):
        key = out / "key.txt"  # in one process nobody is kept from it
        if not key.exists():
            artifact.write_whole(key, secrets.token_hex(32), secret=True)
        secret = key.read_text("utf-8")
        (out / "shops").mkdir(exist_ok=True)
        silos = {
            name: Silo(shop, out / "shops" / name, key=secret, progress=progress)
            for name, shop in shops.items()
        }
        return lead(Here(silos), out, asked or {}, resume=resume, progress=progress)


def lead(
    shops: Shops,
    out: Path,
    asked: Mapping[str, Any],
    *,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """The server's side: agree on a transform, go through the rounds, have each shop finish.

    What is in the folder ``out`` of an earlier try of the same is gone on with. One that is
    finished is refused, or with ``resume`` told of once more.
    A shop that does not answer, or whose update is not finite or of other shapes, is left out of
    the round, and the record says why. Before the first round all must answer.
    """
    terms = terms_of(asked.get("federate", {}))
    told = {"terms": asdict(terms), **{k: asked[k] for k in _COMMON if k in asked}}
    claim_for(out, {"told": told, "shops": sorted(shops.names)}, resume=resume)
    before: dict[str, Any] | None = artifact.read_document(out / "federate.json")
    if before is not None:
        return before
    rows = _agree(shops, out, told, progress)
    journal = out / "rounds.jsonl"
    led = _stand(shops, out, terms)
    keep_records(journal, lambda record: bool(record["round"] <= led.standing.round))
    while led.standing.round < terms.rounds and led.standing.since_best < max(terms.patience, 1):
        record = _round(shops, led, terms)
        with unbroken():
            append_record(journal, record)
            keep(out, led)
        progress("round", led.standing.round, terms.rounds, _words(record))
        if all(record["left_out"].get(name) == SPENT for name in shops.names):
            break
    return _finish(shops, out, led, terms, rows)


def _words(record: Mapping[str, Any]) -> str:
    words = f"score {record['score']:.4f}"
    if record.get("void"):
        words += f", no sum: {record['void']}"
    most = max(record["epsilon"].values(), default=None)
    return words if most is None else f"{words}, epsilon {most:.2f}"


def _agree(
    shops: Shops, out: Path, told: Mapping[str, Any], progress: Progress
) -> Mapping[str, int]:
    """One transform for all; the rows that each shop trains on."""
    path = out / "agreed.json"
    progress("agree", 0, 2, f"{len(shops.names)} shops tell")
    heard = _all(shops, "tell", told)
    documents = {name: reply.document for name, reply in heard.items()}
    rows = {name: int(document["rows"]) for name, document in documents.items()}
    for what in ("tasks", "shape"):
        _same(what, {name: document[what] for name, document in documents.items()})
    if not path.exists():
        transforms = {n: Transform.from_json(d["transform"]) for n, d in documents.items()}
        agreed = agree(transforms, rows)
        artifact.write_whole(path, json.dumps(agreed.to_json(), ensure_ascii=False))
    progress("agree", 1, 2, "compiling by the agreed transform")
    _all(shops, "agree", {"transform": json.loads(path.read_text("utf-8"))})
    progress("agree", 2, 2, "ready")
    return rows


def _all(shops: Shops, what: str, document: Mapping[str, Any]) -> dict[str, Reply]:
    """The answers of all shops, who are asked up to three times; an error where one has none."""
    found: dict[str, Reply] = {}
    for _ in range(_TRIES):
        for name, reply in shops.ask(what, 0, document, {}).items():
            if isinstance(reply, DaogouError):
                raise type(reply)(f"{name}: {reply}")
            found[name] = reply
        missing = sorted(set(shops.names) - set(found))
        if not missing:
            return {name: found[name] for name in shops.names}
    raise DataError(f"{', '.join(missing)}: did not answer before the first round; begin without")


def _same(what: str, told: Mapping[str, Any]) -> None:
    (first, wanted), *others = told.items()
    for name, found in others:
        if found != wanted:
            raise ConfigError(
                f"{name}: its {what} are {found}, those of {first} are {wanted}; shops that learn "
                "together need the same: say it in federate.toml, or in each shop.toml"
            )


def _round(shops: Shops, led: Lead, terms: Terms) -> dict[str, Any]:
    """One exchange: shops learn, what they learnt becomes the shared weights, shops judge them."""
    standing = led.standing
    learnt = (_summed if terms.secure else _combined)(shops, led, terms)
    if learnt.moved is not None:
        led.weights = {name: each + learnt.moved[name] for name, each in led.weights.items()}
    judged = {
        name: reply.document
        for name, reply in shops.ask("judge", standing.round, {}, led.weights).items()
        if isinstance(reply, Reply)
    }
    score = _score(judged.values())
    standing.round += 1
    # With nothing to judge by, the last round counts as the best.
    if score < standing.best_score or standing.best_score == math.inf:
        standing.best_score, standing.best_round = score, standing.round - 1
        led.best = led.weights
    return {
        "round": standing.round,
        "score": score,
        "used": learnt.moved is not None,
        **learnt.told,
        "left_out": learnt.left_out,
        "epsilon": {
            name: document["privacy"]["epsilon"]
            for name, document in learnt.documents.items()
            if "privacy" in document
        },
        "validation": {name: document["validation"] for name, document in judged.items()},
    }


@dataclass
class Learnt:
    """What came of a round's training."""

    moved: Tensors | None = None  # what to add to the shared weights
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # shop -> its answer
    left_out: dict[str, str] = field(default_factory=dict)  # shop -> why
    told: dict[str, Any] = field(default_factory=dict)  # what a record has of it


def _asked(
    shops: Shops, led: Lead, left_out: dict[str, str], what: str, document: Mapping[str, Any],
    sent: Tensors,
) -> dict[str, Reply]:  # fmt: skip
    """The answers of the shops not ``left_out`` yet; those without one are, with the reason."""
    heard = shops.ask(what, led.standing.round, document, sent)
    found: dict[str, Reply] = {}
    for name in shops.names:
        reply = heard.get(name)
        if isinstance(reply, Reply):
            found[name] = reply
        else:
            left_out.setdefault(name, "no answer" if reply is None else str(reply))
    return {name: reply for name, reply in found.items() if name not in left_out}


def _combined(shops: Shops, led: Lead, terms: Terms) -> Learnt:
    """What the sound updates of the shops come to."""
    left_out: dict[str, str] = {}
    said = {"best": led.standing.best_round}
    heard = _asked(shops, led, left_out, "train", said, led.weights)
    updates = []
    for name, reply in heard.items():
        update = Update(name, int(reply.document.get("rows", 0)), reply.tensors)
        if fits(update, led.weights):
            updates.append(update)
        else:
            left_out[name] = "not finite, or not of the shared weights"
    return Learnt(
        combine(updates, terms, led.adam) if len(updates) >= terms.least else None,
        {name: reply.document for name, reply in heard.items()},
        left_out,
        {
            "rows": {update.shop: update.rows for update in updates},
            "length": {update.shop: update.norm for update in updates},
        },
    )


def _summed(shops: Shops, led: Lead, terms: Terms) -> Learnt:
    """What the sum of the shops' masked updates says, or why it says nothing."""
    left_out: dict[str, str] = {}

    def asked(what: str, document: Mapping[str, Any], sent: Tensors) -> dict[str, Reply]:
        return _asked(shops, led, left_out, what, document, sent)

    keys = {name: reply.document for name, reply in asked("keys", {}, {}).items()}
    shares = {name: r.document for name, r in asked("shares", {"keys": keys}, {}).items()}
    said = {"best": led.standing.best_round, "shares": shares}
    heard = asked("train", said, led.weights)
    vectors = _vectors(heard, led.weights, left_out)
    whose = {"summed": sorted(vectors), "away": sorted(set(shares) - set(vectors))}
    needed = secure.enough(len(keys), terms.least)
    moved = void = None
    try:
        if len(vectors) < needed:
            raise DataError(f"{len(vectors)} shops are in the sum, {needed} are needed")
        helped = _asked(shops, led, dict(left_out), "unmask", whose, {})
        if len(helped) < needed:
            raise DataError(f"{len(helped)} shops help to take masks off, {needed} are needed")
        told = [reply.document for reply in helped.values()]
        total = secure.unmasked(vectors, {name: keys[name] for name in shares}, told)
        moved = secure.decode(total, led.weights)
    except DataError as error:
        void = str(error)
    if moved is not None and terms.rule == "fedadam":
        moved = led.adam(moved)
    documents = {name: reply.document for name, reply in heard.items()}
    return Learnt(moved, documents, left_out, {"summed": whose["summed"], "void": void})


def _vectors(
    heard: Mapping[str, Reply], weights: Tensors, left_out: dict[str, str]
) -> dict[str, Tensor]:
    """The masked updates of those who sent one of these weights."""
    length = len(secure.encode(Update("", 1, weights)))
    found = {}
    for name, reply in heard.items():
        vector = reply.tensors.get(secure.MASKED)
        if vector is None or vector.dtype != torch.int64 or vector.shape != (length,):
            left_out[name] = "not of the shared weights"
        else:
            found[name] = vector
    return found


def combine(updates: list[Update], terms: Terms, adam: Adam) -> dict[str, Tensor]:
    """What to add to the shared weights for these updates."""
    if terms.norm_bound:
        updates = bounded(updates, terms.norm_bound)
    moved = RULES[terms.rule](updates, terms.trim)
    return adam(moved) if terms.rule == "fedadam" else moved


def _score(judged: Iterable[Mapping[str, Any]]) -> float:
    """The mean of the shops' scores by their rows; infinite where there is none."""
    known = [(one["score"], one["rows"]) for one in judged if one["score"] is not None]
    finite = [(score, rows) for score, rows in known if math.isfinite(score)]
    total = sum(rows for _, rows in finite)
    return sum(score * rows for score, rows in finite) / total if total else math.inf


def _finish(
    shops: Shops, out: Path, led: Lead, terms: Terms, rows: Mapping[str, int]
) -> dict[str, Any]:
    """Have each shop make its run of the best weights; what became of it all."""
    standing = led.standing
    document = {
        "terms": asdict(terms),
        "shops": len(shops.names),
        "rounds": standing.round,
        "best_round": standing.best_round + 1,
    }
    heard = shops.ask("finish", standing.best_round, document, led.best)
    done = {name: reply.document for name, reply in heard.items() if isinstance(reply, Reply)}
    answer = {
        "out": str(out),
        **document,
        "score": standing.best_score,
        "rows": dict(rows),
        "runs": {name: one["run"] for name, one in done.items()},
        "validation": {name: one["validation"] for name, one in done.items()},
        "privacy": {name: one["privacy"] for name, one in done.items()},
        "audit": {name: one["audit"] for name, one in done.items()},
        "canaries": {name: one["canaries"] for name, one in done.items()},
        "unfinished": sorted(set(shops.names) - set(done)),
        "shared": sum(each.numel() for each in led.weights.values()),
    }
    artifact.write_document(out / "federate.json", answer)
    return answer


# ---- the server's memory ----------------------------------------------------------------


def _stand(shops: Shops, out: Path, terms: Terms) -> Lead:
    """Where the last whole round left the server; the first shop's beginning before it."""
    path = out / "last.safetensors"
    adam = Adam(rate=terms.server_rate)
    if not path.exists():
        replies = _all(shops, "begin", {})
        weights = dict(replies[next(iter(shops.names))].tensors)
        return Lead(weights, weights, adam)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in load_file(path).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    standing = Standing(**json.loads(metadata_of(path)["standing"]))
    adam.step, adam.first, adam.second = standing.steps, parts["first"], parts["second"]
    return Lead(parts["weights"], parts["best"], adam, standing)


# ---- what a folder of shops says ----------------------------------------------------------


def read_federation(
    folder: Path, overrides: Iterable[str] = (), seed: int | None = None
) -> tuple[dict[str, Shop], dict[str, Any]]:
    """The shops in a folder's folders, by name, and what its ``federate.toml`` asks of them.

    ``overrides`` are ``key.sub=value``, for all shops. A federation needs two shops.
    """
    path = folder / "federate.toml"
    asked = read_toml(path) if path.exists() else {}
    for override in overrides:
        apply(asked, override)
    if seed is not None:
        asked["seed"] = seed
    legal = ("federate", *_COMMON)
    problems = [f"{path}: {key}: {unknown(key, legal)}" for key in asked if key not in legal]
    if problems:
        raise ConfigError("\n".join(problems))
    terms_of(asked.get("federate", {}))
    places = sorted(each.parent for each in folder.glob("*/shop.toml"))
    if len(places) < 2:
        raise ConfigError(f"{folder}: {len(places)} folders with a shop.toml in it; two are needed")
    return {place.name: read_shop(place) for place in places}, asked
