"""A request's key and address to what it may do, and how often.

A key is ``dg_<id>_<secret>``; the store keeps its id and the SHA-256 of the whole. A slow hash
would buy nothing: the secret is 256 random bits, which no dictionary holds, and it is checked
with every request.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from daogou.errors import ConfigError, unknown
from daogou.schema import HOUR_US
from daogou.serve.database import StoreError
from daogou.serve.keys import Key
from daogou.serve.store import Store

# Each may do what those before it may. public: send events, get lists of products; it may be
# seen by anybody. server: the catalogue, users and what is known of them. admin: all.
SCOPES: Final = ("public", "server", "admin")
FRESH_US: Final = 30_000_000  # how long a key that was looked up is taken as it was
STALE_US: Final = HOUR_US  # and how long while the store cannot be reached
_MOST_KNOWN: Final = 1000
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def new_key(name: str, scope: str, now_us: int) -> tuple[str, Key]:
    """A new key's text, which is told once, and what of it is kept.

    Raises ConfigError for an unknown scope.
    """
    if scope not in SCOPES:
        raise ConfigError(f"scope: {unknown(scope, SCOPES)}")
    key_id = secrets.token_hex(6)
    text = f"dg_{key_id}_{secrets.token_urlsafe(32)}"
    return text, Key(key_id, name, scope, digest(text), now_us)


def digest(text: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def may(scope: str, needed: str) -> bool:
    """Whether a key of ``scope`` is enough where ``needed`` is wanted."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


class KeyRing:
    """The store's keys, each looked up at most once in `FRESH_US`.

    A key that was taken away may open for so much longer; one that was good opens for `STALE_US`
    more while the store cannot be reached.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[Key, int]] = OrderedDict()

    def key_of(self, text: str) -> Key | None:
        """The key of a text; None if there is none, or the secret is wrong.

        Raises StoreError if the store cannot be reached and the key is not known.
        """
        mark, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        if mark != "dg" or not key_id.isalnum() or not key_id.isascii() or not secret:
            return None
        key = self._look_up(key_id)
        if key is None or not hmac.compare_digest(key.digest, digest(text)):
            return None
        return key

    def _look_up(self, key_id: str) -> Key | None:
        now_us = self._store.now_us()
        known, since_us = self._known.get(key_id, (None, 0))
        if known is not None and abs(now_us - since_us) < FRESH_US:
            return known
        try:
            key = self._store.keys.get(key_id)
        except StoreError:
            if known is not None and abs(now_us - since_us) < STALE_US:
                return known
            raise
        self._known.pop(key_id, None)
        if key is not None:
            self._known[key_id] = key, now_us
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return key


def is_at_home(client: str, headers: Mapping[str, str]) -> bool:
    """Whether a request without a key comes from a program of this machine, for this machine.

    Not enough is a loopback address: a proxy here passes on what others sent, and a page in a
    browser here may send what it likes, under a name that it made to mean this machine.
    ``headers`` have lower-case names.
    """
    if not is_loopback(client) or any(name in headers for name in _FORWARDED):
        return False
    host = urlsplit(f"//{headers.get('host', '')}")
    origin = headers.get("origin")
    same = origin is None or urlsplit(origin).netloc == host.netloc
    return same and is_loopback(host.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own for itself.

    >>> [is_loopback(name) for name in ("127.0.0.9", "::1", "localhost", "0.0.0.0", "shop.test")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Bucket:
    """What somebody has left, and since when it fills."""

    left: float
    since_us: int

    def asked(self, now_us: int, rate_per_s: float, depth: float) -> tuple["Bucket", float]:
        """The bucket once its holder came, and the seconds until they may; 0 if they might."""
        passed_s = max(now_us - self.since_us, 0) / 1e6
        left = min(self.left + passed_s * rate_per_s, depth)
        comes = left >= 1.0
        return Bucket(left - comes, now_us), 0.0 if comes else (1.0 - left) / rate_per_s


class Buckets:
    """How often somebody may come: a bucket each, which fills at a rate up to a depth.

    Kept in this process, for the last ``most`` who came; somebody forgotten has a full one.
    """

    def __init__(
        self, rate_per_s: float, depth: float, clock_us: Callable[[], int], *, most: int = 10_000
    ) -> None:
        self._rate_per_s, self._depth, self._most = rate_per_s, depth, most
        self._clock_us = clock_us
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, who: str) -> float:
        """0 if they may come, which takes one from their bucket; else seconds until they may."""
        now_us = self._clock_us()
        bucket = self._buckets.pop(who, Bucket(self._depth, now_us))
        self._buckets[who], wait_s = bucket.asked(now_us, self._rate_per_s, self._depth)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait_s
