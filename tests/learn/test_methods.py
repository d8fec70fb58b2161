"""Every mixer, balancer, stage loss and sampling trains all four families on awkward data."""

from pathlib import Path

import numpy as np
import pytest

from daogou import artifact
from daogou.balance import BALANCERS
from daogou.config import read_shop
from daogou.learn.compile import compile_tables
from daogou.learn.fit import fit
from daogou.learn.sampling import SAMPLINGS
from daogou.model.mixers import MIXERS
from daogou.schema import LOSSES
from tests.shops import write_shop

# Steps of two exposures: most have one class, some no purchase that is known, some no title.
SMALL = (
    "fit.epochs=2", "fit.rows_per_step=2", "fit.gram_every=1", "fit.history_length=4",
    "fit.extra_items=2", "model.width=8", "model.expert_widths=[8]", "fit.title_passes=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop of `tests.shops`: missing labels, a user and a product that training never sees."""
    folder = tmp_path_factory.mktemp("awkward") / "shop"
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def tables(awkward: Path) -> Path:
    """Its tables, compiled; no mixer, balancer or sampling has a say in them."""
    compile_tables(read_shop(awkward, SMALL), awkward.parent / "tables")
    return awkward.parent / "tables"


PLACED = (
    'events.context=["device", "position"]', "events.domain=device", "events.position=position",
)  # fmt: skip


@pytest.fixture(scope="module")
def placed(awkward: Path) -> Path:
    """The same with a domain and a place."""
    compile_tables(read_shop(awkward, [*SMALL, *PLACED]), awkward.parent / "placed")
    return awkward.parent / "placed"


def check_trains(shop: Path, run: Path, *sets: str, like: Path | None = None) -> None:
    """All four families; finite weights, and finite losses where the split can judge."""
    answer = fit(read_shop(shop, [*SMALL, *sets]), run, like=like)
    assert {"click", "buy", "match", "extract"} <= set(answer["tasks"])
    assert any(task.startswith("profile.") for task in answer["tasks"])
    weights = artifact.load(run).model.state_dict()  # made again from the manifest
    assert all(weight.isfinite().all() for weight in weights.values())
    judged = [each["loss"] for each in answer["validation"].values() if each["n"]]
    assert judged
    assert np.isfinite(judged).all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_trains_all_families(
    awkward: Path, tables: Path, tmp_path: Path, mixer: str
) -> None:
    check_trains(awkward, tmp_path / "run", f"model.mixer={mixer}", like=tables)


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_trains_with_domains_places_and_bfloat16(
    awkward: Path, placed: Path, tmp_path: Path, mixer: str
) -> None:
    sets = (f"model.mixer={mixer}", "model.precision=bfloat16", *PLACED)
    check_trains(awkward, tmp_path / "run", *sets, like=placed)


@pytest.mark.parametrize("balancer", BALANCERS)
def test_every_balancer_trains_all_families(
    awkward: Path, tables: Path, tmp_path: Path, balancer: str
) -> None:
    check_trains(awkward, tmp_path / "run", f"fit.balancer={balancer}", like=tables)


@pytest.mark.parametrize("loss", LOSSES["funnel"])
def test_every_loss_of_a_stage_trains_beside_all_families(
    awkward: Path, tmp_path: Path, loss: str
) -> None:
    check_trains(awkward, tmp_path / "run", f"tasks.buy.loss={loss}")


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_trains_all_families(
    awkward: Path, tables: Path, tmp_path: Path, sampling: str
) -> None:
    check_trains(awkward, tmp_path / "run", f"fit.sampling={sampling}", like=tables)
