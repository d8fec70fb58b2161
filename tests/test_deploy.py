"""What is in deploy/ names files, commands, counters and ports that exist; no engine is needed."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from daogou.cli import app
from daogou.serve.meters import Meters

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document


def test_every_file_that_is_copied_or_mounted_is_there(compose: dict[str, Any]) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert copied
    for name in " ".join(copied).split():
        assert (DEPLOY.parent / name).exists(), name
    mounted = [
        mount.split(":")[0] for each in compose["services"].values() for mount in each["volumes"]
    ]
    for name in mounted:
        assert name in compose["volumes"] or name == "../runs" or (DEPLOY / name).exists(), name


def test_the_server_is_started_by_a_command_that_there_is(compose: dict[str, Any]) -> None:
    name, *given = compose["services"]["server"]["command"]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", x) for x in given])
    assert context.params["run"] == Path("/runs/mine")
    assert context.params["host"] == "0.0.0.0"
    target = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (asked,) = target["scrape_configs"][0]["static_configs"][0]["targets"]
    assert asked == f"server:{context.params['port']}"


def test_the_board_shows_counters_that_the_server_has() -> None:
    pytest.importorskip("prometheus_client")
    meters = Meters()
    told = {f"{each.name}{end}" for each in meters.registry.collect()
            for end in ("", "_total", "_bucket", "_count", "_sum")}  # fmt: skip
    source = (DEPLOY.parent / "daogou/serve/meters.py").read_text("utf-8")
    told |= set(re.findall(r'"(daogou_\w+)"', source))  # those that ask at every scrape
    board = json.loads((DEPLOY / "grafana/daogou.json").read_text("utf-8"))
    shown = {name for panel in board["panels"] for target in panel["targets"]
             for name in re.findall(r"daogou_\w+", target["expr"])}  # fmt: skip
    assert len(shown) > 10
    assert shown <= told


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, as in its container")
def test_the_first_start_makes_a_key_for_each_who_asks_and_the_second_none(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "daogou"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m daogou "$@"\n')
    command.chmod(0o755)
    keys = tmp_path / "keys"
    keys.mkdir()
    asked = {**os.environ, "KEYS": str(keys), "DAOGOU_STORE": f"sqlite:///{tmp_path / 's.db'}",
             "PATH": f"{command.parent}:{os.environ['PATH']}"}  # fmt: skip
    made = []
    for _ in range(2):
        subprocess.run(["sh", DEPLOY / "first_keys"], env=asked, check=True, cwd=DEPLOY.parent)
        found = {each.name: each.read_text() for each in keys.iterdir()}
        assert set(found) == {"admin", "page", "prometheus"}
        assert all(key.startswith("dg_") for key in found.values())
        assert stat.S_IMODE((keys / "admin").stat().st_mode) == 0o600
        assert (keys / "prometheus").stat().st_uid == 65534
        made.append(found)
    assert made[0] == made[1]
