"""Databases to test on: a file of SQLite, and PostgreSQL where its programs are installed."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from daogou.guide import Guide
from daogou.serve.app import make_app
from daogou.serve.limits import Limits
from daogou.serve.meters import Meters
from daogou.serve.service import Service
from daogou.serve.store import Store
from daogou.serve.tables import METADATA

ROOT = Path(__file__).parent.parent.parent
NOW_US = 1_796_000_000_000_000  # a day of November 2026


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL to test on; the test is skipped where there is none."""
    given = os.environ.get("DAOGOU_TEST_POSTGRES")
    if given:
        yield given
        return
    script = [str(ROOT / "scripts" / "postgres")]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            pytest.skip(f"no PostgreSQL: {process.stderr.read().strip()}")
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    found: str = request.getfixturevalue("postgres")
    yield found
    engine = sa.create_engine(found)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW IF EXISTS shown")
        METADATA.drop_all(connection)
    engine.dispose()


@pytest.fixture
def opened(url: str, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens the database, as often as asked."""
    stores: list[Store] = []

    def open_one() -> Store:
        stores.append(Store.open(url, clock=clock))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    return opened()


@pytest.fixture
def files_store(tmp_path: Path, clock: Clock) -> Store:
    """A store in a file, closed by the service that has it."""
    return Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)


@pytest.fixture(scope="session")
def guide(made_run: Path) -> Guide:
    """The made run, loaded once; a guide never changes."""
    return Guide.load(made_run)


@pytest.fixture
def service(
    guide: Guide, made_run: Path, files_store: Store, monkeypatch: pytest.MonkeyPatch
) -> Service:
    """The made run and an empty store."""
    with monkeypatch.context() as patched:
        patched.setattr(Guide, "load", lambda _run: guide)
        return Service(made_run, files_store, Limits(), Meters())


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """A program of this machine that calls the app."""
    with calling(service) as found:
        yield found


def calling(
    service: Service, *, at_home: bool = True, address: str = "127.0.0.1", **options: Any
) -> TestClient:
    """A client of the service at an address, which shows faults as their answers."""
    app = make_app(service, at_home=at_home, **options)
    return TestClient(
        app, base_url="http://127.0.0.1", client=(address, 50_000), raise_server_exceptions=False
    )


def good(answer: Any, status: int = 200) -> Any:
    """The document of an answer."""
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(answer: Any, status: int) -> str:
    """The reasons of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["detail"] and problem["title"]
    return str(problem["detail"])


def skip_without(path: Path, remedy: str) -> None:
    """Skip the rest of a test where a file that it needs is not there."""
    if not path.exists():
        pytest.skip(f"{path} is not there: {remedy}")
