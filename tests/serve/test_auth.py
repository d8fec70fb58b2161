"""Keys open what they should and nothing else; buckets fill; only this machine needs no key."""

import subprocess
import sys
from pathlib import Path

import pytest

from daogou.errors import ConfigError
from daogou.schema import HOUR_US
from daogou.serve.auth import (
    FRESH_US,
    SCOPES,
    STALE_US,
    Buckets,
    KeyRing,
    is_at_home,
    may,
    new_key,
)
from daogou.serve.database import StoreError
from daogou.serve.keys import Keys
from daogou.serve.shared import SharedBuckets
from daogou.serve.store import Store
from tests.serve.conftest import NOW_US, ROOT, Clock


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 's.db'}", clock=clock)


def test_a_key_opens_and_what_is_like_it_does_not(kept: Store) -> None:
    text, key = new_key("shop", "server", NOW_US)
    other, _ = new_key("shop", "server", NOW_US)
    kept.keys.add(key)
    ring = KeyRing(kept)
    assert ring.key_of(text) == key
    wrong = [
        "", "dg", "dg__", f"dg_{key.key_id}_", text[:-1], text + "x", text.upper(), other,
        f"dg_{key.key_id}_{other.split('_', 2)[2]}", key.digest, "dg_\ud800_x", "dg_'; --_x",
    ]  # fmt: skip
    assert [ring.key_of(each) for each in wrong] == [None] * len(wrong)
    kept.close()


def test_no_file_of_the_store_holds_a_secret(kept: Store, tmp_path: Path) -> None:
    text, key = new_key("shop", "admin", NOW_US)
    kept.keys.add(key)
    assert len(text.split("_", 2)[2]) >= 43  # 256 bits
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    kept.close()
    assert key.key_id.encode() in held
    assert text.split("_", 2)[2].encode() not in held


@pytest.mark.parametrize("moved_us", [FRESH_US, -HOUR_US], ids=["on", "back"])
def test_a_key_that_was_taken_away_opens_no_longer_than_said_wherever_the_clock_goes(
    kept: Store, clock: Clock, moved_us: int
) -> None:
    text, key = new_key("shop", "public", NOW_US)
    kept.keys.add(key)
    ring = KeyRing(kept)
    assert ring.key_of(text) == key
    kept.keys.remove(key.key_id)
    clock.us += moved_us
    assert ring.key_of(text) is None
    kept.close()


def test_a_known_key_opens_while_the_store_is_away(
    kept: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, key = new_key("shop", "public", NOW_US)
    kept.keys.add(key)
    ring = KeyRing(kept)
    assert ring.key_of(text) == key

    def away(self: Store, name: str) -> None:
        raise StoreError("away")

    monkeypatch.setattr(Keys, "get", away)
    clock.us += STALE_US - 1
    assert ring.key_of(text) == key
    clock.us += 1
    with pytest.raises(StoreError, match="away"):
        ring.key_of(text)
    kept.close()


def test_each_scope_may_what_those_before_it_may() -> None:
    table = [[may(scope, needed) for needed in SCOPES] for scope in SCOPES]
    assert table == [[True, False, False], [True, True, False], [True, True, True]]


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scope: no 'amin' here \(did you mean 'admin'\?\)"):
        new_key("x", "amin", NOW_US)


@pytest.mark.parametrize(
    ("client", "headers", "wanted"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, True),
        ("::1", {"host": "[::1]:8000"}, True),
        ("127.0.0.1", {"host": "localhost"}, True),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://localhost:8000"}, True),
        ("10.0.0.7", {"host": "localhost"}, False),
        ("127.0.0.1", {"host": "shop.test"}, False),  # a name that was made to mean us
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://evil.test"}, False),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "null"}, False),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://localhost:9000"}, False),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": "127.0.0.1"}, False),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}, False),
        ("127.0.0.1", {}, False),
        ("testclient", {"host": "localhost"}, False),
    ],
)
def test_only_a_program_of_this_machine_needs_no_key(
    client: str, headers: dict[str, str], wanted: bool
) -> None:
    assert is_at_home(client, headers) is wanted


def test_a_bucket_lets_its_depth_through_and_then_its_rate(clock: Clock) -> None:
    buckets = Buckets(2.0, 3.0, clock)
    assert [buckets.wait_s("ann") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait_s("bob") == 0
    clock.us += 500_000
    assert [buckets.wait_s("ann") for _ in range(2)] == [0, 0.5]
    clock.us += 1_000_000_000
    assert [buckets.wait_s("ann") for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_are_kept_for_so_many_and_no_more(clock: Clock) -> None:
    buckets = Buckets(1.0, 1.0, clock, most=2)
    assert [buckets.wait_s(who) for who in "abab"] == [0, 0, 1, 1]
    assert buckets.wait_s("c") == 0  # a is forgotten, who came longest ago
    assert [buckets.wait_s("b"), buckets.wait_s("a")] == [1, 0]


def test_a_clock_that_goes_back_fills_no_bucket(clock: Clock, tmp_path: Path) -> None:
    for buckets in (
        Buckets(1.0, 1.0, clock), SharedBuckets(1.0, 1.0, clock, tmp_path / "came")
    ):  # fmt: skip
        assert buckets.wait_s("a") == 0
        clock.us -= 3_600_000_000
        assert buckets.wait_s("a") == 1
        clock.us += 1_000_000
        assert buckets.wait_s("a") == 0, "nobody waits until the clock is where it was"


def test_processes_that_share_a_file_count_together(clock: Clock, tmp_path: Path) -> None:
    one, other = (SharedBuckets(2.0, 3.0, clock, tmp_path / "came") for _ in "ab")
    assert [each.wait_s("ann") for each in (one, other, one, other)] == [0, 0, 0, 0.5]
    assert other.wait_s("bob") == 0
    clock.us += 500_000
    assert [other.wait_s("ann"), one.wait_s("ann")] == [0, 0.5]
    full = SharedBuckets(1.0, 1.0, clock, tmp_path / "full", slots=1)
    assert [full.wait_s(who) for who in "aab"] == [0, 1, 0], "who has no slot has a full bucket"


_COMING = """
import sys, time
from pathlib import Path
from daogou.serve.shared import SharedBuckets
buckets = SharedBuckets(1e-6, 1000.0, lambda: 1, Path(sys.argv[1]))
print(sum(not buckets.wait_s("ann") for _ in range(800)))
"""


def test_no_more_come_in_at_once_than_a_bucket_holds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _COMING, str(tmp_path / "came")]
    coming = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in "ab"]
    let_in = [int(each.communicate(timeout=60)[0]) for each in coming]
    assert sum(let_in) == 1000
