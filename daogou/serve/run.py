"""A run, a database and an address to a server that listens until it is told to stop."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import uvicorn

from daogou.errors import ConfigError
from daogou.serve.app import make_app
from daogou.serve.auth import is_loopback
from daogou.serve.lineup import described
from daogou.serve.meters import Meters
from daogou.serve.service import Limits, Service
from daogou.serve.store import Document, Store

STOP_S = 20  # what is being answered may take so long when the server is told to stop


@dataclass(frozen=True)
class Runs:
    """The runs to answer from: a main one, shares of users of others, one in the shadow.

    See `Lineup`.
    """

    main: Path
    variants: Sequence[tuple[Path, float]] = ()
    shadow: Path | None = None


def serve(
    runs: Runs,
    *,
    store: str,
    host: str,
    port: int,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    listening: Callable[[Document], None],
) -> None:
    """Answer HTTP until SIGINT or SIGTERM; what is being answered then is finished.

    ``listening`` is called once connections are taken; port 0 takes any that is free. One thread
    of torch: a server scales by its processes, which share the store. Raises ConfigError where
    others could come in and there is no key, ArtifactError for a run that is not whole, what
    `Store.open` raises, and OSError for an address that cannot be had.
    """
    torch.set_num_threads(1)
    at_home = is_loopback(host)
    opened = Store.open(store)
    try:
        if not at_home and not opened.list_keys():
            raise ConfigError(
                f"--host {host}: others can come in and the store has no key; "
                f"make one first: daogou keys --store '{opened.place}' --create admin"
            )
        service = Service(runs.main, opened, limits or Limits(), Meters())
        if runs.variants or runs.shadow is not None:
            service.line_up(runs.variants, runs.shadow)
        app = make_app(service, at_home=at_home, origins=origins)
        with _bound(host, port) as taken:
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{taken.getsockname()[1]}"
            config = uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False,
                timeout_graceful_shutdown=STOP_S, limit_concurrency=1000,
            )  # fmt: skip
            listening({"url": url, "store": opened.place, **described(service.loaded)})
            uvicorn.Server(config).run(sockets=[taken])
    finally:
        opened.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
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
