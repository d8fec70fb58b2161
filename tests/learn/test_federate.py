import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from daogou import artifact
from daogou.errors import ArtifactError, ConfigError, DaogouError, DataError
from daogou.learn.aggregate import Tensors
from daogou.learn.carriers import Here
from daogou.learn.federate import federate, lead, read_federation
from daogou.learn.flower import error_of
from daogou.learn.silo import Reply, Silo
from daogou.learn.terms import Terms, terms_of, travelling
from daogou.metrics import epsilon
from daogou.schema import Shop
from tests.learn.parties import QUICK, write_parties
from tests.shops import write_shop

Asked = Mapping[str, Any]
Meddle = Callable[[str, str, int, Reply], Reply | DaogouError | None]
ASKED: Asked = {**QUICK, "federate": {"rounds": 2, "patience": 9}}


class Told(Here):
    """Shops in this process whose answers somebody reads, changes or loses on the way."""

    def __init__(self, silos: Mapping[str, Silo], meddle: Meddle | None = None) -> None:
        super().__init__(silos)
        self.meddle, self.said = meddle, ""

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        heard = dict(super().ask(what, number, document, sent))
        for name, reply in list(heard.items()):
            if isinstance(reply, DaogouError):
                continue
            self.said += json.dumps([what, document, reply.document])
            changed = reply if self.meddle is None else self.meddle(what, name, number, reply)
            if changed is None:
                del heard[name]
            else:
                heard[name] = changed
        return heard


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shop]:
    return write_parties(tmp_path_factory.mktemp("parties"))


@pytest.fixture(scope="module")
def whole(parties: dict[str, Shop], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation of two rounds, and the shops' folders before the first of them."""
    out = tmp_path_factory.mktemp("federation") / "whole"

    def agreed(what: str, done: int, total: int, words: str) -> None:
        if what == "agree" and done == total:
            shutil.copytree(out, out.with_name("agreed"))

    federate(parties, out, ASKED, progress=agreed)
    return out


def again(
    whole: Path, out: Path, parties: dict[str, Shop], meddle: Meddle | None = None, **terms: Any
) -> Told:
    """The same federation from where all had agreed, with other terms or answers."""
    shutil.copytree(whole.with_name("agreed"), out)
    (out / "started.json").unlink()
    key = (out / "key.txt").read_text()
    silos = {name: Silo(shop, out / "shops" / name, key=key) for name, shop in parties.items()}
    told = Told(silos, meddle)
    lead(told, out, {**ASKED, "federate": {**ASKED["federate"], **terms}})
    return told


def rounds_of(out: Path) -> list[dict[str, Any]]:
    return artifact.read_records(out / "rounds.jsonl")


def shared_of(out: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    found = load_file(out / "last.safetensors")
    return {key: each for key, each in found.items() if key.startswith(f"{name}.")}


def model_of(out: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(out / "shops" / name / "model.safetensors")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_each_shop_ends_with_a_run_that_shares_all_but_its_users(whole: Path) -> None:
    east, west = (artifact.load(whole / "shops" / name) for name in ("east", "west"))
    shared = travelling(east.model, Terms())
    weights = dict(east.model.named_parameters()), dict(west.model.named_parameters())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in shared)
    assert set(weights[0]) - set(shared) == {"user.ids.weight"}
    assert not torch.equal(weights[0]["user.ids.weight"], weights[1]["user.ids.weight"])


def test_a_product_that_both_sell_has_one_row_and_every_other_its_own(whole: Path) -> None:
    east, west = (artifact.load(whole / "shops" / name) for name in ("east", "west"))
    rows = [
        {key: int(run.store["items/id"][row]) for key, row in run.store.item_rows.items()}
        for run in (east, west)
    ]
    assert rows[0]["10"] == rows[1]["10"] > 0
    known = [rows[0]["11"], rows[0]["12"], rows[1]["111"], rows[1]["112"], rows[0]["10"]]
    assert sorted(known) == [1, 2, 3, 4, 5]
    assert east.transform.item_ids.counts[rows[0]["10"] - 1] == 2 * 4  # seen as often by each


def test_what_nobody_else_may_know_nobody_else_may_read(whole: Path) -> None:
    for path in (whole / "key.txt", *(whole / "shops").glob("*/secret.txt")):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert len([*(whole / "shops").glob("*/secret.txt")]) == 2


def test_a_killed_server_goes_on_to_the_same_weights(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    out = tmp_path / "killed"
    shutil.copytree(whole.with_name("agreed"), out)

    steps: list[str] = []

    def kill(what: str, done: int, total: int, words: str) -> None:
        steps.extend([words] if what == "steps" and "epoch 2" in words else [])
        if len(steps) == 3:  # two are the first shop's: it has learnt, and the server not heard it
            raise Killed

    with pytest.raises(Killed):
        federate(parties, out, ASKED, resume=True, progress=kill)
    federate(parties, out, ASKED, resume=True)
    assert same(load_file(whole / "last.safetensors"), load_file(out / "last.safetensors"))
    assert all(same(model_of(whole, name), model_of(out, name)) for name in parties)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (lambda reply: None, "no answer"),
        (lambda reply: DataError("the loss became nan"), "the loss became nan"),
        (lambda reply: told_nan(reply), "not finite, or not of the shared weights"),
        (lambda reply: Reply(reply.document, {}), "not finite, or not of the shared weights"),
        (lambda reply: Reply({"rows": 0}, reply.tensors), "not finite, or not of the shared we"),
    ],
)
def test_a_shop_that_is_away_or_talks_nonsense_is_left_out_of_the_round(
    whole: Path, parties: dict[str, Shop], tmp_path: Path, lie: Any, why: str
) -> None:
    def meddle(what: str, name: str, number: int, reply: Reply) -> Any:
        return lie(reply) if (what, name, number) == ("train", "west", 0) else reply

    again(whole, tmp_path / "run", parties, meddle, rounds=2)
    first, second = rounds_of(tmp_path / "run")
    assert first["left_out"]["west"].startswith(why)
    assert list(first["rows"]) == ["east"]
    assert not second["left_out"]
    assert all(bool(each.isfinite().all()) for each in shared_of(tmp_path / "run").values())


def told_nan(reply: Reply) -> Reply:
    tensors = dict(reply.tensors)
    name = next(iter(tensors))
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    return replace(reply, tensors=tensors)


def test_a_round_in_which_too_few_answer_changes_nothing(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    kept: list[Tensors] = []

    def meddle(what: str, name: str, number: int, reply: Reply) -> Reply | None:
        if what == "begin" and name == "east":
            kept.append(reply.tensors)
        return None if (what, name) == ("train", "west") else reply

    again(whole, tmp_path / "run", parties, meddle, least=2)
    assert [record["used"] for record in rounds_of(tmp_path / "run")] == [False, False]
    weights = shared_of(tmp_path / "run")
    assert all(torch.equal(weights[f"weights.{name}"], each) for name, each in kept[0].items())


def test_no_user_and_no_product_s_id_leaves_a_shop(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    sent: set[str] = set()

    def read(what: str, name: str, number: int, reply: Reply) -> Reply:
        sent.update(reply.tensors)
        return reply

    told = again(whole, tmp_path / "run", parties, read)
    words = set(json.dumps(json.loads(f"[{told.said.replace('][', '],[')}]")).split('"'))
    for ids in (("1", "2", "3", "101", "102", "103"), ("10", "11", "12", "111", "112")):
        assert not words & set(ids)
    assert "item.ids.weight" in sent
    assert "user.ids.weight" not in sent


def test_rows_of_products_stay_at_home_if_all_agree(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    again(whole, tmp_path / "run", parties, items="home", keep=["heads.match"])
    names = {name.removeprefix("weights.") for name in shared_of(tmp_path / "run")}
    assert "item.ids.weight" not in names
    assert not [name for name in names if name.startswith("heads.match")]
    assert "item.fields.table.weight" in names


def test_a_strong_pull_keeps_dense_weights_where_they_are_shared(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    moved = {}
    for prox in (0.0, 1e6):

        def meddle(what: str, name: str, number: int, reply: Reply, prox: float = prox) -> Reply:
            if (what, name, number) == ("train", "east", 1):
                moved[prox] = float(reply.tensors["user.mix.weight"].norm())
            return reply

        again(whole, tmp_path / str(prox), parties, meddle, prox=prox)
    assert moved[1e6] < moved[0.0]


def test_a_folder_of_other_terms_or_a_finished_one_is_refused(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="not empty; add --resume"):
        federate(parties, whole, ASKED)
    with pytest.raises(ArtifactError, match="other settings or other shops"):
        copied = shutil.copytree(whole.with_name("agreed"), tmp_path / "other")
        federate(parties, copied, {**ASKED, "federate": {"rounds": 3}}, resume=True)
    with pytest.raises(ArtifactError, match="holds a finished federation"):
        lead(Here({}), whole, ASKED)


def test_a_finished_one_that_is_resumed_is_told_of_once_more(
    whole: Path, parties: dict[str, Shop]
) -> None:
    told = artifact.read_document(whole / "federate.json")
    assert federate(parties, whole, ASKED, resume=True) == told


def test_shops_that_do_not_have_the_same_tasks_are_named(
    parties: dict[str, Shop], tmp_path: Path
) -> None:
    other = write_shop(tmp_path / "odd", toml=ODD)
    with pytest.raises(ConfigError, match=r"odd: its tasks are \[.*\], those of east are"):
        federate({"east": parties["east"], "odd": other}, tmp_path / "run", ASKED)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("DataError", DataError), ("unknown", DaogouError), ("__doc__", DaogouError),
     ("nonsense", DaogouError), ("SystemExit", DaogouError)],
)  # fmt: skip
def test_what_a_node_calls_its_error_stops_no_server(name: str, kind: type[DaogouError]) -> None:
    found = error_of(name, "no rows")
    assert type(found) is kind and str(found) == "no rows"


ODD = (Path(__file__).parent.parent / "shops.py").read_text().split('"""\\\n')[1].split('"""')[0]
ODD = ODD.replace('funnel = ["shown", "click", "buy"]', 'funnel = ["shown", "click"]').replace(
    "window_h = { click = 4, buy = 24 }", "window_h = { click = 4 }"
)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rule": "fedav"}, "federate.rule: no 'fedav' here .did you mean 'fedavg'"),
        ({"items": "all"}, "federate.items: no 'all' here"),
        ({"trim": 0.5}, "federate.trim: 0.5; less than half"),
        ({"secure": True, "rule": "trimmed_mean"}, "secure: the rule 'trimmed_mean' has to see"),
        ({"secure": True, "norm_bound": 2.0}, "federate.secure: norm_bound has to see each shop's"),
        ({"rounds": 0}, "federate.rounds: 0; give 1 or more"),
        ({"prox": -1.0}, "federate.prox: -1.0; give 0 or more"),
        ({"round": 3}, "federate.round: no 'round' here .did you mean 'rounds'"),
    ],
)
def test_a_wrong_term_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        terms_of(table)


def test_in_one_process_nothing_is_hidden(parties: dict[str, Shop], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in one process nothing is hidden"):
        federate(parties, tmp_path / "run", {"federate": {"secure": True}})
    assert not (tmp_path / "run").exists()


def test_a_weight_that_is_to_stay_and_is_not_there_is_named(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="keep: no weight begins with 'haeds'"):
        again(whole, tmp_path / "run", parties, keep=["haeds"])


def test_a_folder_of_shops_says_what_all_take(parties: dict[str, Shop], tmp_path: Path) -> None:
    folder = parties["east"].root.parent
    (folder / "federate.toml").write_text("[federate]\nrounds = 4\n[fit]\nrow_l2 = 0.5\n")
    shops, asked = read_federation(folder, ["federate.rule=fedadam"], seed=5)
    assert list(shops) == ["east", "west"]
    assert asked == {
        "federate": {"rounds": 4, "rule": "fedadam"}, "fit": {"row_l2": 0.5}, "seed": 5,
    }  # fmt: skip
    (folder / "federate.toml").write_text("[fedrate]\n")
    with pytest.raises(ConfigError, match=r"no 'fedrate' here .did you mean 'federate'"):
        read_federation(folder)
    (folder / "federate.toml").unlink()
    with pytest.raises(ConfigError, match=r"0 folders with a shop.toml in it; two are needed"):
        read_federation(tmp_path)


def test_private_shops_count_what_they_give_and_stop_at_their_budget(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    privacy = {"noise": 1.0, "share": 0.5, "steps": 3, "delta": 0.1}
    free = again(whole, tmp_path / "free", parties, privacy=privacy)
    assert free.names
    document = json.loads((tmp_path / "free" / "federate.json").read_text())
    told = document["privacy"]["east"]
    assert (told["units"], told["steps"]) == (2, 6)
    assert told["epsilon"] == pytest.approx(epsilon(1.0, 0.5, 6, 0.1))
    first, second = rounds_of(tmp_path / "free")
    assert 0 < first["epsilon"]["east"] < second["epsilon"]["east"] == told["epsilon"]
    run = artifact.load(tmp_path / "free" / "shops" / "east")
    assert run.manifest["federated"]["privacy"] == told
    # Titles are all that so small a validation split can judge, and here they taught nothing.
    assert rounds_of(whole)[0]["score"] > 0 and first["score"] is None

    budget = epsilon(1.0, 0.5, 4, 0.1)
    again(whole, tmp_path / "bound", parties, privacy={**privacy, "budget": budget}, rounds=2)
    (spent,) = artifact.read_records(tmp_path / "bound" / "rounds.jsonl")[1:]
    assert spent["epsilon"]["east"] == pytest.approx(budget)  # one step of the second round's three


def test_a_round_that_is_asked_again_with_other_weights_is_counted_again(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    shutil.copytree(whole.with_name("agreed"), tmp_path / "run")
    folder = tmp_path / "run" / "shops" / "east"
    silo = Silo(parties["east"], folder, key=(tmp_path / "run" / "key.txt").read_text())
    terms = {**ASKED["federate"], "privacy": {"steps": 2, "share": 0.5}}
    said = json.loads((folder / "terms.json").read_text())
    silo.answer("tell", 0, {**said, "terms": {**said["terms"], **terms}}, {})
    begun = silo.answer("begin", 0, {}, {}).tensors
    one, same_again = (silo.answer("train", 0, {}, begun) for _ in range(2))
    assert same(one.tensors, same_again.tensors)
    assert one.document["privacy"]["steps"] == same_again.document["privacy"]["steps"] == 2
    shifted = {name: each + 1e-3 for name, each in begun.items()}
    other = silo.answer("train", 0, {}, shifted)
    assert other.document["privacy"]["steps"] == 4
    name = "heads.match.user.weight"
    assert float((other.tensors[name] - one.tensors[name]).abs().max()) > 1e-4  # other noise
    # So is a round that is asked again after another past: what stays at home is other by now.
    for number, steps in ((1, 6), (0, 6), (1, 8)):
        assert silo.answer("train", number, {}, begun).document["privacy"]["steps"] == steps
    silo.answer("tell", 0, {**said, "terms": {**said["terms"], **terms, "keep": ()}}, {})
    with pytest.raises(ConfigError, match=r"gave by other terms; take a new folder"):
        silo.answer("tell", 0, {**said, "terms": {**said["terms"], **terms, "rounds": 9}}, {})


def test_what_is_given_is_on_the_disk_before_it_is_made(
    whole: Path, parties: dict[str, Shop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.with_name("agreed"), tmp_path / "run")
    folder = tmp_path / "run" / "shops" / "east"
    silo = Silo(parties["east"], folder, key=(tmp_path / "run" / "key.txt").read_text())
    said = json.loads((folder / "terms.json").read_text())
    silo.answer("tell", 0, {**said, "terms": {**said["terms"], "privacy": {"steps": 2}}}, {})
    begun = silo.answer("begin", 0, {}, {}).tensors
    synced: set[int] = set()
    seen: list[list[bool]] = []
    fsync = os.fsync

    def sync(opened: int) -> None:
        synced.add(os.fstat(opened).st_ino)
        fsync(opened)

    def step(*_: Any) -> int:
        places = (folder / "privacy.json", folder / "secret.txt", folder)
        seen.append([place.stat().st_ino in synced for place in places])
        return 0

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("daogou.learn.silo.private_step", step)
    silo.answer("train", 0, {}, begun)
    assert seen == [[True, True, True]] * 2


def test_a_round_that_broke_off_is_learnt_from_where_it_began(
    whole: Path, parties: dict[str, Shop], tmp_path: Path
) -> None:
    shutil.copytree(whole.with_name("agreed"), tmp_path / "run")
    key, folder = (tmp_path / "run" / "key.txt").read_text(), tmp_path / "run" / "shops" / "east"
    heard: list[str] = []

    def stop(what: str, *_: object) -> None:
        heard.append(what)
        if heard.count("steps") == 1:
            raise KeyboardInterrupt

    whole_one, broken = (Silo(parties["east"], folder, key=key) for _ in range(2))
    begun = whole_one.answer("begin", 0, {}, {}).tensors
    wanted = whole_one.answer("train", 0, {}, begun).tensors
    broken.progress = stop
    with pytest.raises(KeyboardInterrupt):
        broken.answer("train", 0, {}, begun)
    assert same(broken.answer("train", 0, {}, begun).tensors, wanted)


@pytest.mark.parametrize("privacy", [None, {"steps": 1, "share": 1.0}])
def test_users_who_are_held_out_teach_nothing_and_are_asked_about(
    whole: Path, parties: dict[str, Shop], tmp_path: Path, privacy: dict[str, Any] | None
) -> None:
    def hold(what: str, name: str, number: int, reply: Reply) -> Reply:
        if what == "tell":  # by this secret one user of each shop is held out, and one is not
            (tmp_path / "run" / "shops" / name / "secret.txt").write_text(SECRET)
        return reply

    again(whole, tmp_path / "run", parties, hold, audit=0.5, privacy=privacy)
    document = json.loads((tmp_path / "run" / "federate.json").read_text())
    for name in parties:
        assert document["audit"][name]["users"] == [1, 1]
        assert 0.0 <= document["audit"][name]["auc"] <= 1.0
        if privacy is not None:
            assert document["privacy"][name]["units"] == 1


SECRET = "c"
