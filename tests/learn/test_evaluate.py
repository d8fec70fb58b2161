"""The points of calibration curves: of what is answered, and of what was said before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daogou import artifact
from daogou.config import read_shop
from daogou.learn.entries.asked import BINS
from daogou.learn.entries.funnel import PER_BIN
from daogou.learn.evaluate import evaluate
from daogou.learn.fit import fit
from daogou.model.calibrated import Curve
from tests.learn.conftest import QUICK


@pytest.fixture(scope="module")
def run(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> artifact.Artifact:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    fit(read_shop(shop_folder, [*QUICK, 'fit.calibration="none"']), folder)
    return artifact.load(folder)


def test_points_are_equal_parts_and_say_what_came(run: artifact.Artifact) -> None:
    tasks = evaluate(run)["tasks"]
    for name in ("click", "cart", "cart|click"):
        entry = tasks[name]
        points = np.array(entry["reliability"])
        rarer = min(entry["positives"], entry["n"] - entry["positives"])
        assert len(points) <= max(min(BINS, rarer // PER_BIN), 1)
        said, came, n = points.T
        assert (np.diff(said) > 0).all() and n.sum() == entry["n"]
        assert came @ n == pytest.approx(entry["positives"])
        assert said @ n == pytest.approx(entry["predicted_over_observed"] * entry["positives"])
        assert "reliability_before" not in entry  # nothing was calibrated
    assert "reliability" not in tasks["match"] and "reliability" not in tasks["extract"]


def test_before_calibration_is_what_an_uncalibrated_run_says(run: artifact.Artifact) -> None:
    plain = evaluate(run)["tasks"]
    head: Any = run.model.heads["funnel"]
    head.calibrated.set(0, Curve((-1.0, 1.0), (-2.5, -0.5), 0.5))
    try:
        mended = evaluate(run)["tasks"]
    finally:
        head.calibrated.used.fill_(False)
    # A curve for clicks moves later stages' chances over all exposures too, and none of their own.
    for name in ("click", "cart", "purchase"):
        np.testing.assert_allclose(
            mended[name]["reliability_before"], plain[name]["reliability"], rtol=1e-4
        )
    assert "reliability_before" not in mended["cart|click"]
