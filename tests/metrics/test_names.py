"""The package's list of names is sorted, complete, and needs only numpy."""

import subprocess
import sys

from daogou import metrics


def test_every_listed_name_is_there_and_every_imported_one_is_listed() -> None:
    modules = {"anytime", "binary", "calibration", "ceiling", "interval", "paired", "ranking"}
    modules |= {"privacy", "tagging", "value"}
    found = {name for name in vars(metrics) if not name.startswith("_")} - modules
    assert found == set(metrics.__all__)
    assert list(metrics.__all__) == sorted(metrics.__all__)


def test_metrics_need_numpy_alone() -> None:
    code = (
        "import sys, daogou.metrics; "
        "print(sorted({'torch', 'scipy', 'sklearn', 'duckdb', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
