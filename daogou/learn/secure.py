"""Updates to their sum, of which nobody sees a single one: keys, shares and masks of a round.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017:
a shop adds to its vector a mask of its own and one with every other shop, which cancel in the sum.
What takes a mask off is shared out among all, so that enough shops together can: the own mask of a
shop that is in the sum, those with others of one that went away. Key agreement, ciphers and shares
are Flower's (its extra has to be installed); masks are 64 bits wide and drawn by SHAKE-256.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daogou import artifact
from daogou.errors import DataError
from daogou.learn.aggregate import Tensors, Update, over, weighed

Vector = NDArray[np.uint64]  # numbers of fixed point, modulo 2^64
Keys = Mapping[str, Mapping[str, str]]  # shop -> its public keys and their seal

MASKED: Final = "masked"  # the one tensor of a shop's answer
_STEP: Final = 2.0**-20  # of fixed point, for one row's change
_MOST: Final = 64.0  # no weight changes by more
_ROWS: Final = 2.0**37  # and no more are behind a sum, so that it fits in 64 bits
_PLACE: Final = "secure.json"


def enough(n: int, least: int) -> int:
    """How many of ``n`` shops a sum needs, and how many shares a secret; at least two.

    More than half: two groups that are told different things cannot both give all that is needed.
    """
    return max(least, n // 2 + 1, 2)


# ---- updates and vectors --------------------------------------------------------------------


def encode(update: Update) -> Vector:
    """Changes times rows, and after them the rows, as numbers of fixed point.

    Changes beyond 64 are cut. DataError where one is not finite.
    """
    if not update.is_finite:
        raise DataError("what was learnt is not finite, so it is not sent")
    cut = {name: each.clamp(-_MOST, _MOST) for name, each in update.change.items()}
    changes, rows = weighed(cut, update.rows)
    flat = [changes[name].flatten() / _STEP for name in sorted(changes)]
    flat += [rows[name].flatten() for name in sorted(rows)]
    return torch.cat(flat).round().to(torch.int64).numpy().view(np.uint64)


def decode(total: Vector, weights: Tensors) -> dict[str, Tensor]:
    """The mean changes of shared weights that a sum of vectors stands for, as `mean` has them.

    DataError where it cannot be the sum of honest ones.
    """
    shapes = [
        {name: part[name].shape for name in sorted(part)} for part in weighed(dict(weights), 1)
    ]
    lengths = [shape.numel() for part in shapes for shape in part.values()]
    pieces = iter(torch.from_numpy(total.view(np.int64)).double().split(lengths))
    changes, rows = ({name: next(pieces).view(s) for name, s in part.items()} for part in shapes)
    moved = {name: over(each * _STEP, rows[name]) for name, each in changes.items()}
    sound = [(each >= 0) & (each < _ROWS) for each in rows.values()]
    sound += [each.abs() <= _MOST for each in moved.values()]
    if not all(bool(each.all()) for each in sound):
        raise DataError("the sum cannot be one of updates: a shop lied, or masks did not cancel")
    return moved


def _mask(secret: bytes, length: int) -> Vector:
    drawn = hashlib.shake_256(b"daogou mask" + secret).digest(8 * length)
    return np.frombuffer(drawn, dtype="<u8").astype(np.uint64)


# ---- a shop's side --------------------------------------------------------------------------


@dataclass
class Round:
    """What a shop remembers of a round's sum: a file in its folder, from question to question."""

    number: int
    own: dict[str, list[str]]  # for masks and for shares: the private key and the public one
    keys: dict[str, dict[str, str]] = field(default_factory=dict)  # of all who take part
    needed: int = 0
    name: str = ""  # by which the others know the shop
    seed: str = ""  # of its own mask
    held: dict[str, list[str]] = field(default_factory=dict)  # shop -> shares of seed and key
    asked: str = ""  # what was sent under these masks was the answer to this
    given: list[list[str]] = field(default_factory=list)  # whose shares of seeds and of keys
    summed: list[str] = field(default_factory=list)  # of whom a sum was found, under any masks

    def keep(self, folder: Path) -> None:
        """Write it where nobody else reads it."""
        artifact.write_whole(folder / _PLACE, json.dumps(asdict(self)), secret=True)


def _round(folder: Path, number: int) -> Round:
    found = artifact.read_document(folder / _PLACE)
    if found is None or found["number"] != number:
        raise DataError(f"gave no keys for the sum of round {number + 1}")
    return Round(**found)


def give_keys(folder: Path, number: int, secret: str) -> dict[str, str]:
    """New public keys: one to agree on masks, one under which to send shares; and a seal.

    ``secret`` is the shops' and not the server's, so that the seal tells who made the keys. Of whom
    the shop helped to find a sum of the same round is remembered: another's would tell the rest.
    """
    keys = _flower().asymmetric
    own = {}
    for what in ("mask", "share"):
        private, public = keys.generate_key_pairs()
        kept = keys.private_key_to_bytes(private), keys.public_key_to_bytes(public)
        own[what] = [each.decode() for each in kept]
    before = artifact.read_document(folder / _PLACE) or {}
    summed = before.get("summed", []) if before.get("number") == number else []
    Round(number, own, summed=summed).keep(folder)
    return _sealed(number, own["mask"][1], own["share"][1], secret)


def _sealed(number: int, mask: str, share: str, secret: str) -> dict[str, str]:
    text = json.dumps([number, mask, share])
    seal = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {"mask": mask, "share": share, "seal": seal}


def give_shares(folder: Path, number: int, keys: Keys, secret: str, least: int) -> dict[str, str]:
    """For each other shop, so that it alone can read it, its part in taking off the masks.

    DataError where the keys are not all of shops, too few, without the shop's own, or others than
    when it was asked before.
    """
    here = _round(folder, number)
    needed = enough(len(keys), least)
    for name, each in keys.items():
        if each != _sealed(number, each.get("mask", ""), each.get("share", ""), secret):
            raise DataError(f"the keys of {name} have not the seal of the shops' secret")
    if len({each["mask"] for each in keys.values()}) < len(keys) or len(keys) < needed:
        raise DataError(f"{len(keys)} shops for a sum of {needed} or more, each by its keys")
    names = [name for name, each in keys.items() if each["mask"] == here.own["mask"][1]]
    if not names or (here.seed and here.keys != keys):
        raise DataError("its keys are not among those of the sum, or serve for another")
    here.name, here.keys, here.needed = names[0], {n: dict(k) for n, k in keys.items()}, needed
    here.seed = here.seed or _text(secrets.token_bytes(32))
    shamir = _flower().shamir
    seeds = shamir.create_shares(_bytes(here.seed), here.needed, len(keys))
    privates = shamir.create_shares(here.own["mask"][0].encode(), here.needed, len(keys))
    pairs = {n: [_text(s), _text(p)] for n, s, p in zip(sorted(keys), seeds, privates, strict=True)}
    here.held = {here.name: pairs.pop(here.name)}
    here.keep(folder)
    cipher = _flower().symmetric_encryption
    return {
        name: cipher.encrypt(
            _between(here.own["share"][0], keys[name]["share"]),
            json.dumps([here.name, name, _digest(keys), pair]).encode(),
        ).decode()
        for name, pair in pairs.items()
    }


def join(folder: Path, number: int, shares: Keys, asked: str) -> Round:
    """Take the shares that others sent this shop: the sum is of those who sent any.

    ``asked`` tells one question from another. DataError where something cannot be read, too few
    sent shares, or another question was answered under the same masks: the difference of two
    answers would have no mask.
    """
    here = _round(folder, number)
    asked = _digest({"asked": asked, "of": sorted(shares)})
    if here.name not in shares or len(shares) < here.needed:
        raise DataError(f"shares of {', '.join(sorted(shares)) or 'nobody'} arrived; not enough")
    if here.asked not in ("", asked):
        raise DataError("answered another question under the same masks")
    here.asked = asked
    here.held = {here.name: here.held[here.name]}
    for name in sorted(set(shares) - {here.name}):
        here.held[name] = _opened(here, name, shares[name].get(here.name, ""))
    here.keep(folder)
    return here


def _opened(here: Round, name: str, cipher: str) -> list[str]:
    try:
        key = _between(here.own["share"][0], here.keys[name]["share"])
        plain = _flower().symmetric_encryption.decrypt(key, cipher.encode())
    except Exception:  # a library's own, that is not installed everywhere
        raise DataError(f"the shares of {name} cannot be read") from None
    sender, reader, digest, pair = json.loads(plain)
    if [sender, reader, digest] != [name, here.name, _digest(here.keys)]:
        raise DataError(f"{name} was told of other shops in this sum")
    return [str(each) for each in pair]


def masked(here: Round, update: Update) -> Tensor:
    """The update's vector under all its masks, int64 ``[M]``."""
    total = encode(update)
    total += _mask(_bytes(here.seed), len(total))
    for name in here.held:
        if name != here.name:
            secret = _between(here.own["mask"][0], here.keys[name]["mask"])
            total += _shared_mask(secret, here.name, name, len(total))
    return torch.from_numpy(total.view(np.int64))


def _shared_mask(secret: bytes, mine: str, other: str, length: int) -> Vector:
    mask = _mask(secret, length)
    return mask if mine < other else -mask


def give_way(
    folder: Path, number: int, summed: Collection[str], away: Collection[str]
) -> dict[str, dict[str, str]]:
    """The shares of the seeds of those in the sum, and of the mask keys of those who went away.

    DataError where that would say more than the sum: of one shop both, of too few, or something
    else than what was given before, also under other masks: the difference of two sums of a round
    is what the shops learnt that only one of them is of.
    """
    here = _round(folder, number)
    given = [sorted(summed), sorted(away)]
    if sorted([*summed, *away]) != sorted(here.held) or len(summed) < here.needed:
        raise DataError(f"a sum of {', '.join(given[0])} would say too much")
    if here.given not in ([], given) or here.summed not in ([], given[0]):
        raise DataError("gave its shares for another sum of this round")
    here.given, here.summed = given, given[0]
    here.keep(folder)
    return {
        "seeds": {name: here.held[name][0] for name in given[0]},
        "keys": {name: here.held[name][1] for name in given[1]},
    }


# ---- the server's side ----------------------------------------------------------------------


def unmasked(
    vectors: Mapping[str, Tensor], keys: Keys, told: Iterable[Mapping[str, Mapping[str, str]]]
) -> Vector:
    """The sum of the masked vectors without its masks.

    ``keys`` are of those who sent shares, ``told`` what `give_way` said. DataError where that does
    not make the secrets.
    """
    told = list(told)
    total = np.sum([each.numpy().view(np.uint64) for each in vectors.values()], axis=0)
    combine = _flower().shamir.combine_shares
    try:
        for name in vectors:
            seed = combine([_bytes(each["seeds"][name]) for each in told])
            total -= _mask(seed, len(total))
        for gone in set(keys) - set(vectors):
            private = combine([_bytes(each["keys"][gone]) for each in told]).decode()
            for name in vectors:
                secret = _between(private, keys[name]["mask"])
                total -= _shared_mask(secret, name, gone, len(total))
    except (LookupError, TypeError, ValueError):
        raise DataError("the shares do not make the secrets: a shop lied") from None
    found: Vector = total
    return found


# ---- small things ---------------------------------------------------------------------------


def _between(private: str, public: str) -> bytes:
    """The secret of two shops, by the private key of one and the public one of the other."""
    flower = _flower()
    pair = (
        flower.asymmetric.bytes_to_private_key(private.encode()),
        flower.asymmetric.bytes_to_public_key(public.encode()),
    )
    secret: bytes = flower.symmetric_encryption.generate_shared_key(*pair)
    return secret


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


@dataclass(frozen=True)
class _Parts:
    asymmetric: Any
    symmetric_encryption: Any
    shamir: Any


def _flower() -> _Parts:
    """What Flower brings of cryptography."""
    from flwr.common.secure_aggregation.crypto import shamir, symmetric_encryption
    from flwr.supercore.primitives import asymmetric

    return _Parts(asymmetric, symmetric_encryption, shamir)
