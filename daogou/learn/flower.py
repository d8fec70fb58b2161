"""A federation as Flower apps: the same questions and answers, over TLS, to shops elsewhere.

Flower (`pip install 'daogou[federated]'`) carries messages between a server and the shops' nodes,
with TLS and through firewalls that let shops call out; who is asked what, and what becomes of the
answers, is `daogou.learn.federate.lead`. ``examples/flower`` is an app that uses both functions.
"""

import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from daogou import errors
from daogou.artifact import plain
from daogou.config import read_shop, read_toml
from daogou.errors import ConfigError, DaogouError, MissingExtra, unknown
from daogou.learn.aggregate import Tensors
from daogou.learn.claim import opened_folder
from daogou.learn.federate import lead
from daogou.learn.loop import Progress, quiet
from daogou.learn.silo import Reply, Silo
from daogou.learn.terms import terms_of

_ASKED: Final = "asked"  # the record of a message that says what is asked and answered
_SENT: Final = "sent"  # and the one that holds weights
_NAME: Final = "name"  # asked of a node before anything else
_PAUSE: Final = 1.0  # seconds between looks for shops that are not there yet


def server_app() -> Any:
    """The server's app. Its run config names ``out``, ``shops``, ``terms`` and ``timeout``.

    ``out`` is the server's folder, ``shops`` the names that it waits for with commas between,
    ``terms`` a file as `federate.toml` (or ""), ``timeout`` the seconds that shops have to answer.
    """
    app = _flower().serverapp.ServerApp()

    def main(grid: Any, context: Any) -> None:
        said = context.run_config
        terms = Path(str(said["terms"])) if said["terms"] else None
        asked = read_toml(terms) if terms else {}
        names = [name.strip() for name in str(said["shops"]).split(",") if name.strip()]
        out = Path(str(said["out"]))
        with opened_folder(out, resume=True):
            nodes = Nodes(grid, names, float(said["timeout"]), _printed)
            lead(nodes, out, asked, progress=_printed)

    app.main()(main)
    return app


def client_app() -> Any:
    """A shop's app. Its node config names ``name``, ``shop``, ``out``, ``key`` and ``secure``.

    ``shop`` is the shop's folder, ``out`` where its run is to be, ``key`` a file with the secret
    that the shops share; it stays with them. With ``secure`` (which may be missing) it takes no
    terms that would let the server see its updates.
    """
    app = _flower().clientapp.ClientApp()
    app.query()(_answered)
    return app


class Nodes:
    """Shops on Flower's nodes, known by the names that they give themselves.

    A question waits ``timeout`` seconds for its answers; a shop whose node is not connected has
    none. The first one waits so long for all of them to connect. Two nodes of one name are asked
    nothing, and the answer is a ConfigError; a node of another name is told to ``progress``.
    """

    def __init__(
        self, grid: Any, names: Collection[str], timeout: float, progress: Progress = quiet
    ) -> None:
        self.grid, self._names, self.timeout = grid, tuple(names), timeout
        self.progress = progress
        self._known: dict[int, str] = {}  # node -> name
        self._waited = False

    @property
    def names(self) -> Collection[str]:
        """The shops that are to take part."""
        return self._names

    def ask(
        self, what: str, number: int, document: Mapping[str, Any], sent: Tensors
    ) -> Mapping[str, Reply | DaogouError]:
        """The answers of the shops that answered in time."""
        shops = self._connected()
        until = time.monotonic() + self.timeout
        while not self._waited and len(shops) < len(self._names) and time.monotonic() < until:
            time.sleep(_PAUSE)
            shops = self._connected()
        self._waited = True
        names = {nodes[0]: name for name, nodes in shops.items() if len(nodes) == 1}
        replies = self._send(names, what, number, document, sent)
        answers = {names[node]: reply for node, reply in replies.items()}
        return answers | {name: _doubled(name) for name in shops if name not in names.values()}

    def _connected(self) -> dict[str, list[int]]:
        """The nodes of each shop that is there; new ones are asked their names."""
        there = list(self.grid.get_node_ids())
        new = [node for node in there if node not in self._known]
        for node, reply in (self._send(new, _NAME, 0, {}, {}) if new else {}).items():
            if isinstance(reply, Reply):
                self._known[node] = name = str(reply.document[_NAME])
                if name not in self._names:
                    words = f"a node calls itself {name!r}: {unknown(name, self._names)}"
                    self.progress("nodes", len(self._known), len(self._names), words)
        found: dict[str, list[int]] = {}
        for node in there:
            if self._known.get(node) in self._names:
                found.setdefault(self._known[node], []).append(node)
        return found

    def _send(
        self,
        nodes: Collection[int],
        what: str,
        number: int,
        document: Mapping[str, Any],
        sent: Tensors,
    ) -> dict[int, Reply | DaogouError]:
        message = _flower().app.Message
        content = _record(json.dumps([what, number, document]), sent)
        messages = [message(content, dst_node_id=node, message_type="query") for node in nodes]
        found: dict[int, Reply | DaogouError] = {}
        for reply in self.grid.send_and_receive(messages, timeout=self.timeout):
            if reply.has_error():
                continue  # the node is gone, or its process died: no answer
            told, tensors = _read(reply.content)
            node = reply.metadata.src_node_id
            if "error" in told:
                found[node] = error_of(str(told["error"]), str(told.get("words", "")))
            else:
                found[node] = Reply(told, tensors)
        return found


def _doubled(name: str) -> ConfigError:
    return ConfigError(
        f"two nodes call themselves {name!r}, and neither is asked; give each shop's node a name "
        "of its own, or wait until the node that is gone is found missing"
    )


def _answered(message: Any, context: Any) -> Any:
    """A shop's answer to a message; an error that it can name is an answer too."""
    (what, number, document), sent = _read(message.content)
    node = context.node_config
    try:
        reply = Reply({_NAME: node["name"]})
        if what != _NAME:
            key = Path(node["key"]).read_text("utf-8").strip()
            if what == "tell" and node.get("secure") and not terms_of(document["terms"]).secure:
                raise ConfigError("the shop asks for secure = true in [federate]")
            silo = Silo(read_shop(Path(node["shop"])), Path(node["out"]), key=key)
            reply = silo.answer(what, number, document, sent)
        content = _record(json.dumps(plain(reply.document)), reply.tensors)
    except DaogouError as error:
        told = {"error": type(error).__name__, "words": str(error)}
        content = _record(json.dumps(told), {})
    return _flower().app.Message(content, reply_to=message)


def error_of(name: str, words: str) -> DaogouError:
    """The error that a node tells of; whatever it calls it, it is one of ours."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DaogouError):
        return kind(words)
    return DaogouError(words)


def _printed(what: str, done: int, total: int, words: str) -> None:
    """Progress as lines of the server's log."""
    print(f"{what} {done}/{total} {words}", file=sys.stderr, flush=True)


def _record(words: str, tensors: Tensors) -> Any:
    app = _flower().app
    arrays = app.ArrayRecord(
        {name: app.Array(each.cpu().numpy()) for name, each in tensors.items()}
    )
    return app.RecordDict({_ASKED: app.ConfigRecord({"words": words}), _SENT: arrays})


def _read(content: Any) -> tuple[Any, dict[str, Tensor]]:
    arrays = content[_SENT]
    # A copy, because what came over the wire is read-only.
    tensors = {name: torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}
    return json.loads(content[_ASKED]["words"]), tensors


def _flower() -> Any:
    """Flower, which reports its use to its makers unless it is told not to."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        import flwr.app
        import flwr.clientapp
        import flwr.serverapp
    except ImportError:
        raise MissingExtra(
            "learning over Flower needs it: pip install 'daogou[federated]', in an environment of "
            "its own, since it pins old releases of typer and rich"
        ) from None
    return flwr
