"""A made shop whose stages are learnt in other ways, from its files to its report."""

import math
from pathlib import Path

import pytest

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from tests.learn.conftest import QUICK


@pytest.mark.parametrize(("cart", "purchase"), [("esmm", "dfm"), ("escm2_dr", "escm2_ips")])
def test_a_shop_is_fitted_and_judged_with_other_losses(
    shop_folder: Path, tmp_path: Path, cart: str, purchase: str
) -> None:
    sets = [
        f'tasks.cart.loss="{cart}"', f'tasks.purchase.loss="{purchase}"',
        "tasks.match.enabled=false", "tasks.extract.enabled=false",
        *(f'tasks."profile.{name}".enabled=false' for name in ("gender", "age_band", "tier")),
    ]  # fmt: skip
    answer = fit(read_shop(shop_folder, [*QUICK, *sets]), tmp_path / "run")
    assert all(math.isfinite(each["loss"]) for each in answer["validation"].values())
    run = artifact.load(tmp_path / "run")
    asked = purchase == "dfm"
    assert ("exposures/delay_h" in run.store.arrays) is asked
    weights = run.model.state_dict()
    shapes = [value.item() for name, value in weights.items() if "log_shape" in name]
    assert (shapes != [] and shapes[0] != 0.0) is asked, "the shape is learnt and kept"
    report = evaluate(run)["tasks"]
    judged = [report[name]["log_loss"] for name in ("click", "cart", "purchase")]
    assert all(math.isfinite(nats) for nats in judged)
