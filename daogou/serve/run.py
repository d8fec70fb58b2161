"""A run, a database and an address to a server that listens until it is told to stop."""

import socket
import uuid
from collections.abc import Callable, Sequence

from daogou.errors import ConfigError
from daogou.serve.auth import is_loopback
from daogou.serve.limits import Limits
from daogou.serve.store import Store
from daogou.serve.tables import Document
from daogou.serve.workers import Plan, Runs, answer_by


def serve(
    runs: Runs,
    *,
    store: str,
    host: str,
    port: int,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    workers: int = 1,
    listening: Callable[[Document], None],
) -> None:
    """Answer HTTP until SIGINT or SIGTERM; what is being answered then is finished.

    ``listening`` is called once connections are taken; port 0 takes any that is free. Each of the
    ``workers`` is a process with one thread of torch and the runs in its memory; they share the
    store and the socket. Raises ConfigError where
    others could come in and there is no key, ArtifactError for a run that is not whole, what
    `Store.open` raises, and OSError for an address that cannot be had.
    """
    at_home = is_loopback(host)
    group = uuid.uuid4().hex if workers > 1 else None
    plan = Plan(runs, store, at_home, origins, limits or Limits(), group)
    opened = Store.open(store)
    try:
        if not at_home and not opened.keys.all():
            raise ConfigError(
                f"--host {host}: others can come in and the store has no key; "
                f"make one first: daogou keys --store '{opened.database.place}' --create admin"
            )
        with bound(host, port) as taken:
            shown = f"[{host}]" if ":" in host else host
            at = {
                "url": f"http://{shown}:{taken.getsockname()[1]}",
                "store": opened.database.place,
                "workers": workers,
            }
            if group is None:
                plan.answer(taken, lambda told: listening({**at, **told}))
                return
            opened.groups.forget()
            try:
                answer_by(plan, workers, taken, lambda told: listening({**at, **told}))
            finally:
                opened.groups.want(group, None)
    finally:
        opened.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError for an address that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only of a socket that says so does asyncio know that it is TCP, whose small packets are not to
    # wait for each other: the body of an answer would wait for the acknowledgement of its head.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        taken.listen(2048)
    except OSError as error:
        taken.close()
        raise OSError(
            error.errno, f"{host}:{port}: {error.strerror}; take another --port"
        ) from None
    return taken
