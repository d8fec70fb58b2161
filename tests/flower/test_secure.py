"""Sums of which nobody sees a part: with Flower's keys, ciphers and shares."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from daogou.artifact import read_records
from daogou.errors import DaogouError, DataError
from daogou.learn import secure
from daogou.learn.aggregate import Tensors, Update, mean
from daogou.learn.carriers import Here
from daogou.learn.federate import lead
from daogou.learn.silo import Reply, Silo
from tests.learn.parties import QUICK, write_parties

pytest.importorskip("flwr")
pytestmark = pytest.mark.filterwarnings("ignore")  # Flower's own

SECRET = "a secret of the shops"
NAMES = ("east", "north", "south", "west")
WEIGHTS = {"table": torch.zeros(6, 3), "bias": torch.zeros(4), "scale": torch.tensor(0.0)}


@pytest.fixture
def updates() -> dict[str, Update]:
    """Of four shops; the second row of the table no shop changed, the third one shop alone."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for place, name in enumerate(NAMES):
        change = {k: torch.randn(each.shape, generator=generator) for k, each in WEIGHTS.items()}
        change["table"][1] = 0.0
        change["table"][2] *= place == 0
        found[name] = Update(name, 100 * (place + 1), change)
    return found


class Sum:
    """The questions of one round's sum, asked of shops that are folders."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES, least: int = 1) -> None:
        self.folders = {name: folder / name for name in names}
        for each in self.folders.values():
            each.mkdir(exist_ok=True)
        self.keys = {n: secure.give_keys(f, 0, SECRET) for n, f in self.folders.items()}
        self.shares = {
            n: secure.give_shares(f, 0, self.keys, SECRET, least) for n, f in self.folders.items()
        }

    def masked(self, update: Update, asked: str = "") -> Tensor:
        here = secure.join(self.folders[update.shop], 0, self.shares, asked)
        return secure.masked(here, update)

    def unmasked(self, vectors: Mapping[str, Tensor], helping: Sequence[str]) -> dict[str, Tensor]:
        away = sorted(set(self.keys) - set(vectors))
        told = [secure.give_way(self.folders[n], 0, sorted(vectors), away) for n in helping]
        return secure.decode(secure.unmasked(vectors, self.keys, told), WEIGHTS)


def close(found: Tensors, wanted: Tensors) -> bool:
    return all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)


def test_the_sum_of_masked_updates_is_their_mean_by_rows(
    tmp_path: Path, updates: dict[str, Update]
) -> None:
    the = Sum(tmp_path)
    vectors = {name: the.masked(update) for name, update in updates.items()}
    found = the.unmasked(vectors, NAMES)
    assert close(found, mean(list(updates.values())))
    assert torch.allclose(found["table"][2], updates["east"].change["table"][2], atol=1e-6)
    assert found["table"][1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("gone", ["east", "south", "west"])
def test_the_sum_of_the_rest_is_found_when_a_shop_goes_away_on_the_way(
    tmp_path: Path, updates: dict[str, Update], gone: str
) -> None:
    the = Sum(tmp_path)
    rest = [update for name, update in updates.items() if name != gone]
    vectors = {update.shop: the.masked(update) for update in rest}
    assert close(the.unmasked(vectors, [update.shop for update in rest]), mean(rest))


def test_questions_that_are_asked_again_get_answers_that_fit(
    tmp_path: Path, updates: dict[str, Update]
) -> None:
    the = Sum(tmp_path)
    the.shares["east"] = secure.give_shares(the.folders["east"], 0, the.keys, SECRET, 1)
    first = {name: the.masked(update) for name, update in updates.items()}
    vectors = {name: the.masked(update) for name, update in updates.items()}
    assert all(torch.equal(first[name], vectors[name]) for name in NAMES)
    the.unmasked(vectors, NAMES)
    assert close(the.unmasked(vectors, NAMES), mean(list(updates.values())))


def test_a_masked_update_tells_nothing_of_it(tmp_path: Path, updates: dict[str, Update]) -> None:
    """Masked, one vector of zeros and one of an update have the same even spread of bits."""
    nothing = {name: torch.zeros_like(each) for name, each in WEIGHTS.items()}
    wide = {"table": torch.zeros(4000, 3)}
    for change in (wide, {"table": torch.ones(4000, 3)}):
        the = Sum(tmp_path)
        vector = the.masked(Update("east", 10, change)).numpy().view(np.uint64)
        bits = np.unpackbits(vector.view(np.uint8)).mean()
        assert bits == pytest.approx(0.5, abs=0.005)  # 1,000,000 bits: ten standard deviations
        assert len(np.unique(vector)) == len(vector)
    first = Sum(tmp_path).masked(Update("east", 10, nothing))
    again = Sum(tmp_path).masked(Update("east", 10, nothing))
    assert not (first == again).any()  # of the next round


def test_without_one_of_the_masks_a_sum_says_nothing(
    tmp_path: Path, updates: dict[str, Update]
) -> None:
    the = Sum(tmp_path)
    vectors = {name: the.masked(update) for name, update in updates.items()}
    told = [secure.give_way(the.folders[name], 0, NAMES, []) for name in NAMES]
    three = {name: vectors[name] for name in NAMES[:3]}
    total = secure.unmasked(three, {name: the.keys[name] for name in three}, told)
    with pytest.raises(DataError, match="cannot be one of updates"):
        secure.decode(total, WEIGHTS)


def test_a_change_that_is_not_finite_is_not_sent_and_a_large_one_is_cut(tmp_path: Path) -> None:
    def of(value: float) -> dict[str, Tensor]:
        return {name: torch.full_like(each, value) for name, each in WEIGHTS.items()}

    the = Sum(tmp_path)
    with pytest.raises(DataError, match="what was learnt is not finite"):
        the.masked(Update("east", 1, of(float("nan"))))
    vectors = {name: the.masked(Update(name, 3, of(1000.0))) for name in NAMES}
    assert close(the.unmasked(vectors, NAMES), of(64.0))


# ---- what a shop refuses ----------------------------------------------------------------


def refusals() -> dict[str, tuple[Callable[[Sum], object], str]]:
    def forged(the: Sum) -> object:
        other = secure.give_keys(the.folders["west"], 0, "another secret")
        return secure.give_shares(the.folders["east"], 0, {**the.keys, "west": other}, SECRET, 1)

    def old(the: Sum) -> object:
        other = secure.give_keys(the.folders["west"], 7, SECRET)
        return secure.give_shares(the.folders["east"], 0, {**the.keys, "west": other}, SECRET, 1)

    def both(the: Sum) -> object:
        secure.join(the.folders["east"], 0, the.shares, "")
        return secure.give_way(the.folders["east"], 0, NAMES, ["west"])

    def few(the: Sum) -> object:
        secure.join(the.folders["east"], 0, the.shares, "")
        return secure.give_way(the.folders["east"], 0, ["west"], ["east", "north", "south"])

    def twice(the: Sum) -> object:
        secure.join(the.folders["east"], 0, the.shares, "")
        secure.give_way(the.folders["east"], 0, NAMES, [])
        return secure.give_way(the.folders["east"], 0, NAMES[:3], ["west"])

    def reused(the: Sum) -> object:
        zeros = Update("east", 1, WEIGHTS)
        return the.masked(zeros, "one"), the.masked(zeros, "other")

    def outside(the: Sum) -> object:
        keys = {name: the.keys[name] for name in NAMES[:3]}
        return secure.give_shares(the.folders["west"], 0, keys, SECRET, 1)

    def parted(the: Sum) -> object:
        again = Sum.__new__(Sum)
        again.folders = the.folders
        again.keys = {n: secure.give_keys(f, 0, SECRET) for n, f in the.folders.items()}
        less = {name: again.keys[name] for name in NAMES[:3]}
        again.shares = {
            name: secure.give_shares(
                again.folders[name], 0, less if name == "north" else again.keys, SECRET, 1
            )
            for name in NAMES
        }
        return again.masked(Update("east", 1, WEIGHTS))

    def other(the: Sum) -> object:
        keys = {name: the.keys[name] for name in NAMES[:3]}
        return secure.give_shares(the.folders["east"], 0, keys, SECRET, 1)

    return {
        "keys without the seal of the shops": (forged, "the keys of west have not the seal"),
        "keys of another round": (old, "the keys of west have not the seal"),
        "to give both secrets of one shop": (both, "would say too much"),
        "a sum of one shop": (few, "would say too much"),
        "to help with two sums": (twice, "gave its shares for another sum"),
        "to use masks twice": (reused, "another question under the same masks"),
        "a sum that it is not in": (outside, "its keys are not among those of the sum"),
        "to be in another sum under the same keys": (other, "or serve for another"),
        "shares of one who was told of others": (parted, "north was told of other shops"),
    }


@pytest.mark.parametrize("what", list(refusals()))
def test_a_shop_refuses(tmp_path: Path, what: str) -> None:
    ask, why = refusals()[what]
    the = Sum(tmp_path)
    with pytest.raises(DataError, match=why):
        ask(the)


def test_no_two_sums_of_a_round_differ_by_a_shop_whatever_the_masks(
    tmp_path: Path, updates: dict[str, Update]
) -> None:
    def found(names: Sequence[str]) -> dict[str, Tensor]:
        the = Sum(tmp_path, names)
        return the.unmasked({name: the.masked(updates[name]) for name in names}, names)

    first = found(NAMES)
    assert close(found(NAMES), first)  # a server that died in the round asks it again
    with pytest.raises(DataError, match="gave its shares for another sum"):
        found(NAMES[:3])  # what west learnt would be the difference


def test_rows_that_no_shop_can_have_are_no_sum() -> None:
    for value in (2**62, 2**64 - 1):
        total = secure.encode(Update("", 1, WEIGHTS))
        total[-1] = value  # the rows behind the last weight; no weight changed
        with pytest.raises(DataError, match="cannot be one of updates"):
            secure.decode(total, WEIGHTS)


def test_a_shop_that_is_said_to_be_away_still_has_a_mask_of_its_own(tmp_path: Path) -> None:
    """A server that says so of one that answered can take off the masks with others alone."""
    left = []
    for _ in range(2):
        the = Sum(tmp_path)
        vector = the.masked(Update("east", 1, WEIGHTS)).numpy().view(np.uint64).copy()
        for name in NAMES[1:]:
            the.masked(Update(name, 1, WEIGHTS))
        told = [secure.give_way(the.folders[name], 0, NAMES[1:], ["east"]) for name in NAMES[1:]]
        shares = [base64.b64decode(each["keys"]["east"]) for each in told]
        private = secure._flower().shamir.combine_shares(shares).decode()
        for name in NAMES[1:]:
            secret = secure._between(private, the.keys[name]["mask"])
            vector -= secure._shared_mask(secret, "east", name, len(vector))
        left.append(vector)
    assert all(len(set(vector.tolist())) == len(vector) for vector in left)
    assert not (left[0] == left[1]).any()


def test_one_shop_is_no_sum(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 shops for a sum of 2 or more"):
        Sum(tmp_path, ["east"])
    with pytest.raises(DataError, match="3 shops for a sum of 4 or more"):
        Sum(tmp_path, NAMES[:3], least=4)
    assert [secure.enough(n, 1) for n in (1, 2, 3, 4, 5)] == [2, 2, 2, 3, 3]


# ---- rounds -----------------------------------------------------------------------------


class Heard(Here):
    """Shops in this process; what they send is kept, and some of it is lost or changed."""

    def __init__(
        self, folder: Path, names: Sequence[str], change: Callable[[str, str, int, Reply], Any]
    ) -> None:
        shops = write_parties(folder / "shops", names)
        super().__init__(
            {name: Silo(shop, folder / "runs" / name, key=SECRET) for name, shop in shops.items()}
        )
        for name in shops:
            (folder / "runs" / name).mkdir(parents=True)
        self.change, self.sent = change, dict[str, Tensors]()

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        found: dict[str, Reply | DaogouError] = {}
        for name, reply in super().ask(what, number, document, sent).items():
            if isinstance(reply, Reply):
                self.sent[f"{what}/{name}/{number}"] = reply.tensors
                reply = self.change(what, name, number, reply)
            if reply is not None:
                found[name] = reply
        return found


def learnt(
    folder: Path, change: Callable[[str, str, int, Reply], Any] = lambda *said: said[-1],
    rounds: int = 1, shops: Sequence[str] = ("east", "west"), **terms: Any,
) -> tuple[dict[str, Tensor], list[dict[str, Any]], Heard]:  # fmt: skip
    """The server's last weights, the records of rounds, and who was asked."""
    folder.mkdir()
    (folder / "server").mkdir()
    heard = Heard(folder, shops, change)
    federate = {"rounds": rounds, "patience": 9, **terms}
    lead(heard, folder / "server", {**QUICK, "federate": federate})
    found = load_file(folder / "server" / "last.safetensors")
    weights = {name: each for name, each in found.items() if name.startswith("weights.")}
    return weights, read_records(folder / "server" / "rounds.jsonl"), heard


def test_rounds_of_sums_are_rounds_of_updates_that_nobody_saw(tmp_path: Path) -> None:
    plain, _, _ = learnt(tmp_path / "plain", rounds=2)
    summed, records, heard = learnt(tmp_path / "summed", rounds=2, secure=True)
    assert all(torch.allclose(summed[name], plain[name], atol=1e-4) for name in plain)
    assert [record["used"] for record in records] == [True, True]
    assert records[0]["summed"] == ["east", "west"]
    assert "rows" not in records[0] and "length" not in records[0]
    for name in ("east", "west"):
        (vector,) = heard.sent[f"train/{name}/0"].values()
        assert abs(float(vector.double().mean())) < 2.0**63 / 50  # as likely below 0 as above
        state = tmp_path / "summed" / "runs" / name / "secure.json"
        assert state.stat().st_mode & 0o777 == 0o600


def lost(*at: str) -> Callable[[str, str, int, Reply], Reply | None]:
    """West has no answer to one question of each round."""
    return lambda what, name, number, reply: (
        None if name == "west" and at[number : number + 1] == (what,) else reply
    )


def test_rounds_go_on_with_the_sum_of_the_shops_that_are_there(tmp_path: Path) -> None:
    three = ("east", "north", "west")
    plain, _, _ = learnt(tmp_path / "plain", lost("train"), shops=three)
    summed, (record,), _ = learnt(tmp_path / "summed", lost("train"), shops=three, secure=True)
    assert all(torch.allclose(summed[name], plain[name], atol=1e-5) for name in plain)
    assert (record["summed"], record["void"]) == (["east", "north"], None)
    assert record["left_out"] == {"west": "no answer"}


def test_a_round_without_enough_shops_is_void_and_the_next_is_not(tmp_path: Path) -> None:
    at = ("keys", "shares", "train", "unmask")
    _, records, _ = learnt(tmp_path / "run", lost(*at), rounds=5, secure=True)
    assert [record["used"] for record in records] == [False, False, False, False, True]
    voids = [record["void"] for record in records]
    assert voids[2] == "1 shops are in the sum, 2 are needed"
    assert not records[3]["left_out"]  # both are in the sum that nobody knows
    assert voids[3:] == ["1 shops help to take masks off, 2 are needed", None]
    assert records[0]["left_out"] == {
        "east": "1 shops for a sum of 2 or more, each by its keys", "west": "no answer",
    }  # fmt: skip


def test_a_liar_voids_the_round_where_it_can_be_told_at_all(tmp_path: Path) -> None:
    def lie(what: str, name: str, number: int, reply: Reply) -> Reply:
        if (what, name) != ("train", "west"):
            return reply
        vector = next(iter(reply.tensors.values()))
        return Reply(reply.document, {secure.MASKED: vector + 2**62} if number else {})

    before, records, heard = learnt(tmp_path / "run", lie, rounds=2, secure=True)
    assert records[0]["left_out"] == {"west": "not of the shared weights"}
    assert records[1]["void"].startswith("the sum cannot be one of updates")
    begun = heard.sent["begin/east/0"]
    assert all(torch.equal(before[f"weights.{name}"], each) for name, each in begun.items())


def test_private_steps_go_into_the_sum_and_epsilon_is_told(tmp_path: Path) -> None:
    privacy = {"steps": 2, "share": 0.5}
    _, (record,), _ = learnt(tmp_path / "run", secure=True, privacy=privacy)
    assert (record["used"], record["void"]) == (True, None)
    assert sorted(record["epsilon"]) == ["east", "west"]
