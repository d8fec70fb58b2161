"""How often somebody may come to several processes together: their buckets in one file."""

import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from daogou.serve.auth import Bucket

_SLOT: Final = struct.Struct("<qdq")  # whose it is, what is left in it, and since when


class SharedBuckets:
    """Like `daogou.serve.auth.Buckets`, of all processes that map the same file.

    Of two who fall into one slot each takes it from the other, so that one of them has a full
    bucket; a lock of the slot lives as long as the process that holds it.
    """

    def __init__(
        self,
        rate_per_s: float,
        depth: float,
        clock_us: Callable[[], int],
        file: Path,
        *,
        slots: int = 1 << 16,
    ) -> None:
        self._rate_per_s, self._depth, self._clock_us = rate_per_s, depth, clock_us
        self._slots = slots
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, slots * _SLOT.size)  # which leaves what is there
        self._held = mmap.mmap(self._file, slots * _SLOT.size)

    def wait_s(self, who: str) -> float:
        """0 if they may come, which takes one from their bucket; else seconds until they may."""
        digest = hashlib.blake2b(who.encode("utf-8", "replace"), digest_size=8).digest()
        mark = int.from_bytes(digest, "little", signed=True)
        at = mark % self._slots * _SLOT.size
        fcntl.lockf(self._file, fcntl.LOCK_EX, _SLOT.size, at)
        try:
            now_us = self._clock_us()
            whose, left, since_us = _SLOT.unpack_from(self._held, at)
            is_theirs = whose == mark and since_us
            bucket = Bucket(left, since_us) if is_theirs else Bucket(self._depth, now_us)
            bucket, wait_s = bucket.asked(now_us, self._rate_per_s, self._depth)
            _SLOT.pack_into(self._held, at, mark, bucket.left, bucket.since_us)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _SLOT.size, at)
        return wait_s
