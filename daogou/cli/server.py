"""A server over a run, and the keys of whoever may ask it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from daogou.cli.flags import Port, Run, StoreUrl
from daogou.cli.say import answer, note
from daogou.errors import ConfigError, MissingExtra, unknown

SERVES: Final = ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client")


def serve(  # noqa: PLR0913 - one parameter per flag
    run: Run,
    port: Port = 8000,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    store: StoreUrl = "sqlite:///daogou.db",
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="Whose pages may call; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 10.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second of one key.")] = 100.0,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", metavar="RUN=SHARE", help="A run for a share of users; may be repeated."
        ),
    ] = None,
    shadow: Annotated[
        Path | None, typer.Option(help="A run that is asked the same, and shown to nobody.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that answer; each holds the runs.")
    ] = 1,
) -> None:
    """Answer over HTTP, and keep the events that are sent.

    Example: daogou serve runs/easy --port 8000 --store sqlite:///daogou.db
    """
    import logging

    needs_extra("serve", *SERVES)
    from daogou.serve.limits import Limits
    from daogou.serve.run import serve as listen
    from daogou.serve.workers import Runs

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")

    def listening(document: Mapping[str, Any]) -> None:
        answer(document)
        sys.stdout.flush()
        note(f"the page is at {document['url']}/ and the API at {document['url']}/openapi.json")

    listen(
        Runs(run, [_variant(each) for each in variant or ()], shadow),
        store=store, host=host, port=port, origins=origin or (),
        limits=Limits(timeout_s=timeout, rate_per_s=rate, burst=5 * rate),
        workers=workers, listening=listening,
    )  # fmt: skip


def _variant(text: str) -> tuple[Path, float]:
    """The run and the share that ``RUN=SHARE`` names."""
    run, _, share = text.rpartition("=")
    try:
        return Path(run), float(share)
    except ValueError:
        raise ConfigError(f"--variant {text}: RUN=SHARE is wanted, such as runs/b=0.1") from None


def keys(
    store: StoreUrl = "sqlite:///daogou.db",
    create: Annotated[
        str | None, typer.Option(metavar="SCOPE", help="Make a key: public, server or admin.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the new key is for.")] = "",
    remove: Annotated[
        str | None, typer.Option(metavar="ID", help="Take the key of this id away.")
    ] = None,
) -> None:
    """The keys of a server: make one, take one away, list them.

    Example: daogou keys --store sqlite:///daogou.db --create server --name shop
    """
    needs_extra("serve", *SERVES)
    from daogou.serve.auth import new_key
    from daogou.serve.store import Store
    from daogou.serve.values import iso

    opened = Store.open(store)
    try:
        place = opened.database.place
        document: dict[str, Any] = {"store": place, "created": None, "removed": None}
        if create is not None:
            text, key = new_key(name, create, opened.now_us())
            opened.keys.add(key)
            document["created"] = {"id": key.key_id, "key": text}
            note("this is the only time that the key is told; keep it")
        if remove is not None:
            if not opened.keys.remove(remove):
                known = [key.key_id for key in opened.keys.all()]
                raise ConfigError(f"--remove: {unknown(remove, known)}")
            document["removed"] = remove
        document["keys"] = [
            {"id": key.key_id, "name": key.name, "scope": key.scope, "created": iso(key.created_us)}
            for key in opened.keys.all()
        ]
    finally:
        opened.close()
    answer(document)


def needs_extra(extra: str, *modules: str) -> None:
    """Raise MissingExtra with what to install, unless an extra's modules are there."""
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"{', '.join(missing)}: not installed; pip install 'daogou[{extra}]'")
