"""Shops and a server as processes of their own, over TLS on this machine, and Flower's own rules.

Needs `pip install 'daogou[federated]'`, which does not go with the newest typer and rich: these
tests run in an environment of their own (`scripts/federated`) and are left out elsewhere.
"""

import datetime
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from daogou.learn.aggregate import Adam, Update, mean, trimmed_mean
from daogou.learn.federate import federate
from daogou.learn.flower import Nodes
from daogou.learn.silo import Reply
from tests.learn.parties import QUICK, write_parties

flwr = pytest.importorskip("flwr")
pytestmark = pytest.mark.filterwarnings("ignore")  # Flower's own

ROOT = Path(__file__).parent.parent.parent
SHAPES = {"dense": (5, 3), "bias": (3,)}


@pytest.fixture(autouse=True)
def within_a_run() -> None:
    """Messages say of which run they are; a process of Flower's own is told it."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


# ---- rules ------------------------------------------------------------------------------


def replies(changes: Sequence[Mapping[str, np.ndarray[Any, Any]]], rows: Sequence[int]) -> Any:
    """Messages of nodes as Flower's strategies read them."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

    found = []
    for node, (change, n) in enumerate(zip(changes, rows, strict=True), start=1):
        arrays = ArrayRecord({name: Array(each) for name, each in change.items()})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": n})})
        asked = Message(content=RecordDict(), dst_node_id=node, message_type="train")
        found.append(Message(content, reply_to=asked))
    return found


def weights_of(record: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: array.numpy() for name, array in record.items()}


@pytest.fixture
def five() -> tuple[list[dict[str, np.ndarray[Any, Any]]], list[int], list[Update]]:
    rng = np.random.default_rng(0)
    changes = [
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
        for _ in range(5)
    ]
    rows = [10, 20, 30, 40, 50]
    updates = [
        Update(str(place), n, {name: torch.from_numpy(each) for name, each in change.items()})
        for place, (change, n) in enumerate(zip(changes, rows, strict=True))
    ]
    return changes, rows, updates


def test_the_mean_is_flower_s_fedavg(five: Any) -> None:
    from flwr.serverapp.strategy import FedAvg

    changes, rows, updates = five
    theirs, _ = FedAvg().aggregate_train(1, replies(changes, rows))
    for name, wanted in weights_of(theirs).items():
        assert mean(updates)[name].numpy() == pytest.approx(wanted, abs=1e-6)


def test_the_trimmed_mean_is_flower_s_fedtrimmedavg(five: Any) -> None:
    from flwr.serverapp.strategy import FedTrimmedAvg

    changes, rows, updates = five
    theirs, _ = FedTrimmedAvg(beta=0.2).aggregate_train(1, replies(changes, rows))
    for name, wanted in weights_of(theirs).items():
        assert trimmed_mean(updates, 0.2)[name].numpy() == pytest.approx(wanted, abs=1e-6)


def test_the_server_s_adam_is_flower_s_fedadam(five: Any) -> None:
    from flwr.serverapp.strategy import FedAdam

    changes, rows, updates = five
    theirs = FedAdam(eta=0.1, tau=1e-3)
    adam = Adam(rate=0.1)
    ours = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    for step in range(3):
        now = {name: each.numpy() for name, each in ours.items()}
        theirs.current_arrays = now
        after = [{name: now[name] + each for name, each in change.items()} for change in changes]
        # Its corrections count rounds from 0.
        found, _ = theirs.aggregate_train(step, replies(after, rows))
        moved = adam(mean(updates))
        ours = {name: each + moved[name] for name, each in ours.items()}
        for name, wanted in weights_of(found).items():
            assert ours[name].numpy() == pytest.approx(wanted, abs=1e-5)


# ---- processes --------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def write_certificates(folder: Path) -> None:
    """A certificate authority of our own, and a certificate for this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("ca", "server")}
    names = {
        who: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"daogou {who}")]) for who in keys
    }
    for who in keys:
        made = (
            x509.CertificateBuilder()
            .subject_name(names[who])
            .issuer_name(names["ca"])
            .public_key(keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=who == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{who}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{who}.key").write_bytes(
            keys[who].private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


class Processes:
    """Flower's processes of one test, all with one home and ended together."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, []
        write_certificates(folder)
        self.port = free_port()
        self.bin = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        (folder / "flwr").mkdir()
        (folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{folder}/ca.pem"\n'
        )

    def start(self, name: str, *words: object) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("wb")
        command = [str(self.bin / str(words[0])), *map(str, words[1:])]
        made = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        self.running.append(made)
        return made

    def server(self) -> subprocess.Popen[bytes]:
        return self.start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", self.port,
            "--ssl-ca-certfile", self.folder / "ca.pem",
            "--ssl-certfile", self.folder / "server.pem",
            "--ssl-keyfile", self.folder / "server.key",
            "--disable-runtime-dependency-installation",
        )  # fmt: skip

    def shop(self, name: str, folder: Path, **more: str) -> subprocess.Popen[bytes]:
        told = {
            "name": name, "shop": folder, "out": self.folder / "runs" / name,
            "key": self.folder / "key.txt", **more,
        }  # fmt: skip
        return self.start(
            f"node-{name}", "flower-supernode", "--superlink", f"127.0.0.1:{self.port}",
            "--root-certificates", self.folder / "ca.pem", "--port", free_port(),
            "--node-config", " ".join(f'{key}="{value}"' for key, value in told.items()),
        )  # fmt: skip

    def learn(self, names: Sequence[str]) -> None:
        said = {
            "out": str(self.folder / "server"), "shops": ",".join(names),
            "terms": str(self.folder / "federate.toml"),
        }  # fmt: skip
        words = " ".join(f'{key}="{value}"' for key, value in said.items())
        command = ["flwr", "run", ROOT / "examples" / "flower", "here", "--run-config"]
        done = self.start("run", *command, f"{words} timeout=900.0").wait(timeout=600)
        assert done == 0, (self.folder / "run.log").read_text()

    def wait_for(self, path: Path, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not path.exists():
            logs = "\n".join(each.read_text()[-3000:] for each in self.folder.glob("*.log"))
            assert time.monotonic() < until, logs
            time.sleep(1)

    def end(self) -> None:
        for each in self.running:
            if each.poll() is None:
                os.killpg(each.pid, 9)
            each.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.end()


def toml_of(asked: Mapping[str, Any]) -> str:
    lines = []
    for section, table in asked.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines)


@pytest.mark.parametrize("secure", [False, True])
def test_shops_in_other_processes_learn_over_tls_what_they_learn_in_one(
    processes: Processes, tmp_path: Path, secure: bool
) -> None:
    shops = write_parties(tmp_path / "shops")
    asked = {**QUICK, "federate": {"rounds": 1}}
    summed = {**QUICK, "federate": {"rounds": 1, "secure": True}}
    (tmp_path / "federate.toml").write_text(toml_of(summed if secure else asked))
    here = tmp_path / "here"
    here.mkdir()
    for place in (here, tmp_path):
        (place / "key.txt").write_text("a secret of the shops")
    federate(shops, here, asked, resume=True)

    processes.server()
    for name, shop in shops.items():
        processes.shop(name, shop.root, **{"secure": "yes"} if secure else {})
    time.sleep(10)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", processes.port)) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    processes.learn(list(shops))
    processes.wait_for(tmp_path / "server" / "federate.json", 1200)

    one, other = (load_file(place / "last.safetensors") for place in (here, tmp_path / "server"))
    assert one.keys() == other.keys()
    if secure:
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
        return
    assert all(torch.equal(one[name], other[name]) for name in one)
    runs = [load_file(tmp_path / "runs" / name / "model.safetensors") for name in shops]
    kept = [load_file(here / "shops" / name / "model.safetensors") for name in shops]
    for run, wanted in zip(runs, kept, strict=True):
        assert all(torch.equal(run[name], wanted[name]) for name in wanted)


# ---- what a grid brings ------------------------------------------------------------------


class Grid:
    """Nodes that answer at once, of which some may be gone or fail."""

    def __init__(
        self, gone: Sequence[int] = (), failing: Sequence[int] = (), **named: Sequence[int]
    ) -> None:
        self.gone, self.failing = set(gone), set(failing)
        named = named or {"east": [11], "west": [22], "other": [33]}
        self.name_of = {node: name for name, nodes in named.items() for node in nodes}

    def get_node_ids(self) -> list[int]:
        return [node for node in self.name_of if node not in self.gone]

    def send_and_receive(self, messages: Any, *, timeout: float) -> list[Any]:
        from flwr.app import Error, Message

        from daogou.learn.flower import _read, _record

        found = []
        for message in messages:
            node = message.metadata.dst_node_id
            (what, _, _), sent = _read(message.content)
            told: dict[str, Any] = {"name": self.name_of[node]}
            if what != "name" and node in self.failing:
                found.append(Message(Error(code=0, reason="died"), reply_to=message))
                continue
            if what == "wrong":
                told = {"error": "ConfigError", "words": "no such thing"}
            found.append(Message(_record(json.dumps(told), sent), reply_to=message))
        return found


def test_weights_come_back_as_they_went_and_nodes_are_known_by_name() -> None:
    sent = {"w": torch.randn(3, 2), "scale": torch.tensor(1.5)}
    heard = Nodes(Grid(), ["east", "west"], timeout=1).ask("train", 0, {}, sent)
    assert sorted(heard) == ["east", "west"]  # a third node is none of them
    for reply in heard.values():
        assert isinstance(reply, Reply)
        assert all(torch.equal(reply.tensors[name], each) for name, each in sent.items())


def test_a_node_that_is_gone_or_dies_has_no_answer() -> None:
    nodes = Nodes(Grid(failing=[22]), ["east", "west"], timeout=0)
    assert list(nodes.ask("train", 0, {}, {})) == ["east"]
    nodes.grid = Grid(gone=[11])
    assert list(nodes.ask("train", 1, {}, {})) == ["west"]


def test_an_error_of_a_shop_s_own_is_told_as_what_it_is() -> None:
    from daogou.errors import ConfigError

    heard = Nodes(Grid(), ["east"], timeout=1).ask("wrong", 0, {}, {})
    assert isinstance(heard["east"], ConfigError)
    assert str(heard["east"]) == "no such thing"


def test_two_nodes_of_one_name_are_refused_by_it_until_one_is_gone() -> None:
    from daogou.errors import ConfigError

    nodes = Nodes(Grid(east=[11, 44], west=[22]), ["east", "west"], timeout=1)
    heard = nodes.ask("train", 0, {}, {})
    assert isinstance(heard["west"], Reply)
    assert isinstance(heard["east"], ConfigError)
    assert str(heard["east"]).startswith("two nodes call themselves 'east', and neither is asked")
    nodes.grid.gone = {11}
    assert isinstance(nodes.ask("train", 1, {}, {})["east"], Reply)


def test_a_node_of_a_name_that_nobody_waits_for_is_told_once() -> None:
    told: list[str] = []

    def progress(what: str, done: int, total: int, words: str) -> None:
        told.append(words)

    nodes = Nodes(Grid(east=[11], wset=[22]), ["east", "west"], 0, progress)
    for number in (0, 1):
        assert list(nodes.ask("train", number, {}, {})) == ["east"]
    assert told == [
        "a node calls itself 'wset': no 'wset' here (did you mean 'west'?); known: east, west"
    ]


def test_a_shop_that_asks_for_secure_sums_takes_no_other_terms(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from flwr.app import Message

    from daogou.learn.flower import _answered, _read, _record

    (tmp_path / "key.txt").write_text("a secret of the shops")
    shop = write_parties(tmp_path)["east"]
    node = {
        "name": "east", "shop": str(shop.root), "out": str(tmp_path / "run"),
        "key": str(tmp_path / "key.txt"), "secure": True,
    }  # fmt: skip
    asked = _record(json.dumps(["tell", 0, {"terms": {}}]), {})
    message = Message(asked, dst_node_id=1, message_type="query")
    answer = _answered(message, SimpleNamespace(node_config=node))
    told, _ = _read(answer.content)
    assert told == {
        "error": "ConfigError",
        "words": "the shop asks for secure = true in [federate]",
    }
