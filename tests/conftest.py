"""A made shop and a run of it, made once for all tests that only read them."""

from pathlib import Path

import pytest

from daogou.config import read_shop
from daogou.learn.fit import fit
from daogou.tables.simulate import simulate


@pytest.fixture(scope="session")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small made shop: 150 users, 80 products, about 5,000 exposures."""
    folder = tmp_path_factory.mktemp("made") / "shop"
    simulate(folder, "easy", users=150, items=80, exposures=6000)
    return folder


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made shop of 60 users and 40 products. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("small") / "shop"
    simulate(folder, "easy", users=60, items=40, exposures=3000)
    return folder


@pytest.fixture(scope="session")
def made_run(made_shop: Path) -> Path:
    """A run of the made shop after one epoch: whole, and good for nothing but reading."""
    run = made_shop.parent / "run"
    fit(read_shop(made_shop, ["fit.epochs=1"]), run)
    return run
