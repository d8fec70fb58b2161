"""A run that goes on: what it keeps, what it learns, and that it is what it would be unkilled."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from daogou import artifact
from daogou.artifact import Artifact
from daogou.cli import app
from daogou.config import read_shop
from daogou.errors import ArtifactError, ConfigError, DataError
from daogou.features.store import Store
from daogou.features.store.compile import compile_store
from daogou.guide import Guide
from daogou.learn import rates, tally
from daogou.learn.fit import fit
from daogou.learn.onward import fit_onward, later
from daogou.schema import Shop
from daogou.tables import Engine, Seam, prepare
from tests.learn.test_transfer import SETS

CUTS = (0.6, 0.8)
OWN = (*SETS, 'events.path="events-0.parquet"')


@pytest.fixture(scope="module")
def log(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made shop whose log came in three files, one after the other."""
    folder = tmp_path_factory.mktemp("onward") / "shop"
    shutil.copytree(shop_folder, folder)
    events = pq.read_table(folder / "events.parquet")
    time = events["ts"].cast(pa.int64()).to_numpy()
    piece = np.searchsorted(np.quantile(time, CUTS), time)
    for place in range(3):
        pq.write_table(events.filter(pa.array(piece == place)), folder / f"events-{place}.parquet")
    return folder


@pytest.fixture(scope="module")
def first(log: Path) -> Path:
    fit(read_shop(log, OWN), log.parent / "first")
    return log.parent / "first"


def going_on(
    source: Path, log: Path, place: int, out: Path, *sets: str, **given: Any
) -> dict[str, Any]:
    """Go on from a run with one more file of the log."""
    events = (str(log / f"events-{place}.parquet"),)
    shop = later(artifact.read_manifest(source), read_shop(log, [*OWN, *sets]), events)
    return fit_onward(source, shop, out, events=events, **given)


@pytest.fixture(scope="module")
def second(log: Path, first: Path) -> Path:
    """Gone on without learning, so that all that differs is what is new."""
    going_on(first, log, 1, log.parent / "second", "fit.onward_pace=0.0")
    return log.parent / "second"


@pytest.fixture(scope="module")
def third(log: Path, second: Path) -> tuple[Path, dict[str, Any]]:
    out = log.parent / "third"
    return out, going_on(second, log, 2, out, "fit.onward_pace=1.0", "fit.epochs=2")


def test_old_ids_keep_their_rows_to_the_bit_and_new_ones_begin_as_the_unknown(
    first: Path, second: Path
) -> None:
    before, now = (artifact.load(run, verify=False) for run in (first, second))
    assert before.model.user is not None
    assert now.model.user is not None
    n = before.transform.user_ids.n_rows
    assert now.transform.user_ids.n_rows > n  # some users came later
    assert now.transform.user_ids.words[: n - 1] == before.transform.user_ids.words
    assert min(now.transform.user_ids.counts) > 0  # also of who has not come since
    old, new = before.model.user.ids.weight, now.model.user.ids.weight
    assert torch.equal(new[:n], old)
    assert torch.equal(new[n:], old[:1].expand(len(new) - n, -1))
    dense = dict(before.model.named_parameters())
    for name in ("user.read.0.weight", "heads.funnel.hidden.weight", "item.mix.weight"):
        assert torch.equal(now.model.get_parameter(name), dense[name]), name


def test_new_ids_are_known_afterwards(second: Path, third: tuple[Path, dict[str, Any]]) -> None:
    before, now = artifact.load(second, verify=False), artifact.load(third[0])
    new = set(now.transform.user_ids.words) - set(before.transform.user_ids.words)
    new &= set(now.store.user_rows)
    assert new
    assert Guide.of(now).recommend(next(iter(new)), k=3)["known"]
    assert all(now.store["users/id"][now.store.user_rows[user]] > 0 for user in new)


def test_going_on_twice_reads_all_files_and_begins_where_it_stood(
    log: Path, first: Path, second: Path, third: tuple[Path, dict[str, Any]]
) -> None:
    manifests = [artifact.read_manifest(run) for run in (first, second, third[0])]
    assert third[1]["onward"]["seam"]["end"] == manifests[1]["prepared"]["funnel"]["end"]
    assert (
        third[1]["onward"]["seam"]["taught_until"]
        == manifests[1]["prepared"]["split"]["validation_from"]
    )
    rows = [each["prepared"]["read"]["rows"]["events"] for each in manifests]
    assert rows == sorted(rows)
    assert rows[2] == len(pq.read_table(log / "events.parquet"))
    more = manifests[2]["shop"]["events"]["more"]
    assert [Path(each).name for each in more] == ["events-1.parquet", "events-2.parquet"]
    moved = artifact.load(third[0], verify=False).model.state_dict()
    still = artifact.load(second, verify=False).model.state_dict()
    assert not torch.equal(moved["heads.funnel.hidden.weight"], still["heads.funnel.hidden.weight"])
    assert not (third[0] / "onward").exists()
    told = [artifact.read_document(run / "drift.json") for run in (second, third[0])]
    assert told[0]["reference"] == told[1]["reference"]  # the fit in full, not the night before
    assert [each["run"] for each in told] == [str(first), str(second)]


def test_histories_run_on_over_the_seam(log: Path, third: tuple[Path, dict[str, Any]]) -> None:
    run = artifact.load(third[0], verify=False)
    whole = read_shop(log, [*SETS])
    with Engine(threads=1) as engine:
        prepare(engine, whole)
        store = compile_store(engine, whole, run.transform, third[0].parent / "whole")
    assert pasts(run.store).items() <= pasts(store).items()
    assert np.array_equal(run.store["history/time"], store["history/time"])


def pasts(store: Store) -> dict[str, int]:
    """How many events lie before each exposure, by its own id."""
    query = store["exposures/query"]
    n = store["queries/end"][query] - store["users/start"][store["queries/user"][query]]
    keys = pq.read_table(store.folder / "keys" / "exposures.parquet")["id"].to_pylist()
    return dict(zip(keys, n.tolist(), strict=True))


def test_a_kill_changes_nothing(
    log: Path, second: Path, third: tuple[Path, dict[str, Any]]
) -> None:
    out = log.parent / "killed"
    sets = ("fit.onward_pace=1.0", "fit.epochs=2")

    def kill(what: str, done: int, total: int, words: str) -> None:
        if (what, done) in deaths:
            deaths.remove((what, done))
            raise KeyboardInterrupt

    deaths = [("prepare", 2), ("steps", 1), ("epoch", 1)]
    for _ in range(len(deaths)):
        with pytest.raises(KeyboardInterrupt):
            going_on(second, log, 2, out, *sets, progress=kill, resume=out.exists())
    with pytest.raises(ArtifactError, match="was begun from another run"):
        fit_onward(log.parent / "first", artifact.load(third[0]).shop, out, resume=True)
    answer = going_on(second, log, 2, out, *sets, resume=True)
    (out / "onward").mkdir()  # killed when all was written
    assert going_on(second, log, 2, out, *sets, resume=True) == artifact.plain(answer)
    assert not (out / "onward").exists()
    with pytest.raises(ArtifactError, match="went on from another run"):
        fit_onward(log.parent / "first", artifact.load(third[0]).shop, out, resume=True)
    one, other = (artifact.load(run, verify=False) for run in (third[0], out))
    assert artifact.sha256_of(one.model.state_dict()) == artifact.sha256_of(
        other.model.state_dict()
    )
    assert one.transform == other.transform


def test_a_run_that_went_on_from_none_is_not_told_of_as_one(log: Path, first: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a finished run; give another folder"):
        fit_onward(first, read_shop(log, OWN), first, resume=True)


def test_what_would_make_it_worse_is_not_kept(log: Path, first: Path, tmp_path: Path) -> None:
    answer = going_on(first, log, 1, tmp_path / "run", "fit.onward_pace=300.0")
    assert answer["best_epoch"] == 0
    old = artifact.load(first, verify=False).model.get_parameter("heads.funnel.hidden.weight")
    new = artifact.load(tmp_path / "run", verify=False).model
    assert torch.equal(new.get_parameter("heads.funnel.hidden.weight"), old)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("users.columns=[]",), "users.columns: 'city': the run reads it; go on with what"),
        (('events.context=["position", "device", "shuffled"]',), "'shuffled': the run does not"),
        (("model.width=12",), "model.width: is 12, and was 8 in the run"),
        (("tasks.cart.enabled=false",), "tasks.cart: the run has it, and the shop has not"),
        (('tasks.cart.loss="marginal"',), "tasks.cart.given: is None, and was 'click'"),
    ],
)
def test_another_shop_is_refused_by_name(
    log: Path, first: Path, tmp_path: Path, sets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        going_on(first, log, 1, tmp_path / "run", *sets)


def test_what_has_taught_the_run_does_not_judge_it(log: Path, first: Path, tmp_path: Path) -> None:
    cuts = artifact.read_manifest(first)["prepared"]["split"]
    early = datetime.fromisoformat(cuts["validation_from"]) - timedelta(hours=1)
    with pytest.raises(ConfigError, match="let it begin later"):
        going_on(
            first, log, 1, tmp_path / "run", f'split.validation_from="{early.isoformat()}"',
            'fit.waive=["one_class_label", "all_labels_missing"]',
        )  # fmt: skip


def test_events_that_may_be_in_the_log_already_are_refused(
    log: Path, first: Path, tmp_path: Path
) -> None:
    events = (str(log / "events-[01].parquet"),)
    shop = later(artifact.read_manifest(first), read_shop(log, OWN), events)
    with pytest.raises(DataError, match=r"check late_events: \d+ events of the later files"):
        fit_onward(first, shop, tmp_path / "run", events=events)


def test_a_run_says_where_its_own_files_are(log: Path, first: Path, tmp_path: Path) -> None:
    """A shop.toml that names nothing but the new file finds the old ones all the same."""
    manifest = artifact.read_manifest(first)
    elsewhere = read_shop(log, [*OWN, 'events.path="events-1.parquet"'])
    named = later(manifest, elsewhere).events
    assert named is not None
    assert [Path(each).name for each in named.more] == ["events-0.parquet"]
    assert later(manifest, None, ("/x/y.parquet",)).document["events"]["more"] == ["/x/y.parquet"]
    held = {**manifest, "shop": {**manifest["shop"], "split": {"test_from": "2024-01-05"}}}
    assert later(held, None).split.test_from is None


@pytest.mark.slow
def test_the_commands_need_the_run_and_the_later_events_alone(
    log: Path, first: Path, tmp_path: Path
) -> None:
    events = ["--events", str(log / "events-1.parquet"), "--lang", "zh"]
    given = ["--set", "fit.onward_pace=0.5", "--seed", "3", "--waive", "few_users"]
    called = CliRunner().invoke(
        app, ["fit", "--from", str(first), "--out", str(tmp_path / "run"), *events, *given]
    )
    assert called.exit_code == 0, called.output
    document = json.loads(called.stdout)
    assert document["onward"]["source"] == str(first)
    said = artifact.read_manifest(tmp_path / "run")["shop"]
    assert (said["seed"], said["fit"]["onward_pace"], said["fit"]["waive"]) == (
        3, 0.5, ["few_users"],
    )  # fmt: skip
    assert "自上次运行以来" in (tmp_path / "run" / "drift.html").read_text("utf-8")
    called = CliRunner().invoke(
        app, ["drift", str(first), "--out", str(tmp_path / "page.html"), *events]
    )
    assert called.exit_code == 0, called.output
    told = json.loads(called.stdout)
    assert told["lines"] == document["drift"]["lines"]
    assert (tmp_path / "page.html").exists()


# ---- what is counted ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves(log: Path, first: Path) -> Callable[[float], tuple[Store, Store, Shop, Artifact]]:
    """A store of the whole log, and one that goes on in it; both train until the same moment."""
    run = artifact.load(first, verify=False)
    shop = read_shop(log, [*SETS, 'split.validation_from="2024-03-01T00:00:00"'])

    def made(half_life_days: float) -> tuple[Store, Store, Shop, Artifact]:
        seam = Seam("2024-02-01 00:00:00", "2024-02-10 00:00:00", half_life_days=half_life_days)
        stores = []
        for name, each in (("all", None), ("rest", seam)):
            with Engine(threads=1) as engine:
                prepare(engine, shop, seam=each)
                folder = log.parent / f"{name}-{half_life_days}"
                stores.append(compile_store(engine, shop, run.transform, folder))
        return stores[0], stores[1], shop, run

    return made


def test_what_taught_before_counts_as_if_it_were_taught_now(
    halves: Callable[[float], tuple[Store, Store, Shop, Artifact]],
) -> None:
    whole, rest, _, run = halves(0.0)
    assert rest.ranges["train"][1] < whole.ranges["train"][1]
    n = run.transform.item_ids.n_rows
    one, other = (rates.counted(store, n, range(2)) for store in (whole, rest))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        tally.counts_of(whole, run.transform), tally.counts_of(rest, run.transform), atol=1e-5
    )


def test_what_taught_before_fades(
    halves: Callable[[float], tuple[Store, Store, Shop, Artifact]],
) -> None:
    _, rest, _, run = halves(0.0)
    _, faded, _, _ = halves(0.01)  # after days nothing is left
    n = run.transform.item_ids.n_rows
    with_all, with_none = (
        np.expm1(rates.counted(store, n, range(2))[0, 1:, 0]) for store in (rest, faded)
    )
    first, last = faded.ranges["train"]
    items = faded["items/id"][faded["exposures/item"][first:last]]
    own = np.bincount(items, minlength=n)[1:]
    np.testing.assert_allclose(with_none, own, atol=1e-3)
    assert with_all.sum() > 1.5 * own.sum()
