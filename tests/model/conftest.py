from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from daogou.artifact.counts import model_of
from daogou.config import read_shop
from daogou.features.store import Store
from daogou.features.store.compile import compile_store
from daogou.features.transform import Transform
from daogou.features.transform.fit import fit_transform
from daogou.model.build import Shape
from daogou.model.joint import JointModel
from daogou.schema import Shop
from daogou.tables import Engine, prepare
from daogou.tables.simulate import simulate


@dataclass(frozen=True)
class Compiled:
    """A made shop as far as training would need it, and a model at its start."""

    shop: Shop
    transform: Transform
    store: Store
    model: JointModel


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiled]:
    """A made shop of 60 users and 40 products, and its untrained model."""
    folder: Path = tmp_path_factory.mktemp("made")
    simulate(folder / "shop", "easy", users=60, items=40, exposures=3000)
    shop = read_shop(folder / "shop")
    with Engine(threads=1) as engine:
        prepare(engine, shop)
        transform = fit_transform(engine, shop, text_length=16)
        store = compile_store(engine, shop, transform, folder / "store")
    torch.manual_seed(0)
    yield Compiled(shop, transform, store, model_of(transform, store, shop, Shape()))
