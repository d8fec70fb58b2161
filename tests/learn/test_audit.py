import numpy as np
import pytest
import torch

from daogou.features.epoch import plan_epoch
from daogou.features.queries import user_rows
from daogou.features.store import Store
from daogou.features.transform import Transform
from daogou.learn.audit import audit, without
from daogou.learn.private import uncounted, units_of
from daogou.learn.settings import settings_of
from daogou.learn.variant import varied
from daogou.model.joint import JointModel
from daogou.schema import Shop
from tests.learn.parties import QUICK
from tests.shops import compile_shop, write_shop

Made = tuple[Shop, Transform, Store]
FIRST_HELD = np.array([False, True, False, False])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    shop = varied(write_shop(tmp_path_factory.mktemp("audit")), model=QUICK["model"])
    return shop, *compile_shop(shop)


def model_of(made: Made) -> JointModel:
    shop, transform, store = made
    torch.manual_seed(0)
    return uncounted(transform, store, shop.tasks, settings_of(shop)[1])


def test_rows_are_their_users(made: Made) -> None:
    assert user_rows(made[2], np.arange(5)).tolist() == [1, 1, 2, 2, 1]


def test_who_is_held_is_in_no_step_and_no_step_is_empty(made: Made) -> None:
    store = made[2]
    plan = plan_epoch(
        store, seed=0, epoch=0, rows_per_step=2, titles_per_step=2, title_passes=1.0,
        extra_items=2, profile_passes=1.0,
    )  # fmt: skip
    assert 1 in np.concatenate([queries.user for queries in plan.taught])
    left = without(plan, store, FIRST_HELD)
    assert sorted(np.concatenate(left.exposures).tolist()) == [2, 3]
    assert all(len(rows) for rows in left.exposures)
    parts = (left.exposures, left.titles, left.extra_items, left.taught)
    assert {len(part) for part in parts} == {len(left)}
    both = [np.sort(np.concatenate(each.titles)).tolist() for each in (plan, left)]
    assert both[0] == both[1]
    assert 1 not in np.concatenate([queries.user for queries in left.taught])
    assert without(plan, store, np.zeros(4, dtype=bool)) is plan
    assert units_of(store, "user", FIRST_HELD).rows.tolist() == [2, 3]


def test_losses_are_those_of_unknown_users(made: Made) -> None:
    model, store = model_of(made), made[2]
    found = audit(model, store, FIRST_HELD, history_length=5)
    assert found is not None
    assert found["users"] == [1, 1]
    assert model.user is not None
    with torch.no_grad():
        known = model.user.ids.weight[1:]  # what stays at home
        known.copy_(torch.randn_like(known))
    assert audit(model, store, FIRST_HELD, history_length=5) == found
    assert audit(model, store, np.zeros(4, dtype=bool), history_length=5) is None


def test_a_user_whose_loss_is_low_looks_like_one_who_taught(made: Made) -> None:
    model, store = model_of(made), made[2]
    asked = audit(model, store, FIRST_HELD, history_length=5)
    turned = audit(model, store, np.array([False, False, True, False]), history_length=5)
    assert asked is not None and turned is not None
    assert {asked["auc"], turned["auc"]} == {0.0, 1.0}
