"""The real public files, where this machine has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The folder of a real data set, or a skip that says which is absent."""

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"the real files are not here: no ../shared/data/{name}")
        return SHARED / name

    return folder
