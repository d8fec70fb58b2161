"""How much a server takes of those who ask."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much a server takes."""

    body_bytes: int = 2_000_000
    import_bytes: int = 4_000_000_000
    batch: int = 1000  # rows of a request
    k: int = 100  # products of an answer
    timeout_s: float = 10.0  # for a body to arrive, and for an answer
    rate_per_s: float = 100.0  # requests of a key, or of an address without one
    burst: float = 500.0
    threads: int = 2  # answers at once; more wait for each other's turn at Python
