from pathlib import Path

import pytest

from daogou.guide import Guide


@pytest.fixture(scope="session")
def guide(made_run: Path) -> Guide:
    """The made run, loaded once; a guide never changes."""
    return Guide.load(made_run, new_id=lambda: "a request")


@pytest.fixture(scope="session")
def regular(guide: Guide) -> str:
    """The user with the longest history."""
    store = guide.artifact.store
    lengths = {
        user: store.history_slice(row).stop - store.history_slice(row).start
        for user, row in store.user_rows.items()
    }
    return max(lengths, key=lambda user: lengths[user])
