"""scripts/audit: pins, licences and vulnerabilities by hand, and what it says of this project."""

import json
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = {
    "name": "shop",
    "dependencies": ["torch>=2.10", "Typing_Extensions"],
    "optional-dependencies": {"serve": ["uvicorn[standard]>=0.30,<1"], "dev": ["shop[serve]"]},
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    loader = SourceFileLoader("audit", str(ROOT / "scripts" / "audit"))
    spec = spec_from_loader("audit", loader)
    assert spec is not None
    made = module_from_spec(spec)
    loader.exec_module(made)
    return made


def test_a_requirement_without_a_pin_or_with_one_that_does_not_fit_is_told(
    audit: ModuleType,
) -> None:
    pins = audit.pinned("# pins\ntorch==2.9.1\ntyping-extensions==4.0\n")
    assert audit.unpinned(PROJECT, pins) == [
        "torch: pinned to 2.9.1, and pyproject.toml asks for torch>=2.10",
        "uvicorn: pyproject.toml asks for it and constraints.txt has no pin",
    ]
    assert audit.unpinned(PROJECT, {**pins, "torch": "2.13.0", "uvicorn": "0.54.0"}) == []


def test_every_requirement_of_this_project_is_pinned(audit: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (
        audit.unpinned(project, audit.pinned((ROOT / "constraints.txt").read_text("utf-8"))) == []
    )


def test_another_version_than_the_pinned_one_is_told(audit: ModuleType) -> None:
    found = audit.differing({"pytest": "0.0.1", "no-such-package": "1"})
    assert found == [f"pytest: {pytest.__version__} is installed, 0.0.1 is pinned"]


@pytest.mark.parametrize(
    ("licence", "is_refused"),
    [
        ("MIT", False), ("", False), ("LGPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False), ("GPL-3.0-or-later", True),
        ("GNU General Public License v2 (GPLv2)", True), ("MIT AND AGPL-3.0", True),
        ("MIT OR GPL-2.0-only", False), ("GNU Affero General Public License v3", True),
    ],
)  # fmt: skip
def test_licences_that_bind_a_shop_s_own_work_are_refused(
    audit: ModuleType, licence: str, is_refused: bool
) -> None:
    assert audit.refused(licence) is is_refused


def test_a_licence_is_read_from_wherever_metadata_has_it(audit: ModuleType) -> None:
    kind = ["License :: OSI Approved :: MIT License", "Topic :: Database"]
    assert audit.licence_of({"License-Expression": "BSD-3-Clause"}, kind) == "BSD-3-Clause"
    assert audit.licence_of({}, kind) == "MIT License"
    assert audit.licence_of({"License": "Apache 2.0\n\nall of its text"}, []) == "Apache 2.0"
    assert audit.licence_of({}, []) == ""


def test_packages_needed_by_what_is_needed_are_found(audit: ModuleType) -> None:
    found = audit.closure(audit.required({"name": "x", "dependencies": ["uvicorn"]}, [""]))
    assert {"uvicorn", "h11", "click"} <= set(found) and "torch" not in found


def reported(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = ""
) -> list[str]:
    done = subprocess.CompletedProcess([sys.executable], 1, stdout, stderr)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    found: list[str] = audit.audited()
    return found


def test_a_known_vulnerability_is_told_with_its_mending(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw = {"id": "CVE-1", "fix_versions": ["1.2"]}
    report = {
        "dependencies": [
            {"name": "a", "version": "1.1", "vulns": [flaw]},
            {"name": "b", "version": "3", "vulns": []},
        ]
    }
    found = reported(audit, monkeypatch, json.dumps(report))
    assert found == ["a 1.1: CVE-1, mended in 1.2"]


def test_a_service_that_does_not_answer_is_not_waited_for(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "MOST_S", 0.01)
    assert audit.audited() == []
    assert "did not answer in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stdout", "stderr", "words"),
    [
        (json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), "", "network?"),
        ("", "ConnectionError: unreachable\n", "ConnectionError: unreachable"),
        ("", "", "no report"),
    ],
)
def test_without_a_network_it_is_said_and_nothing_fails(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    stdout: str, stderr: str, words: str,
) -> None:  # fmt: skip
    assert reported(audit, monkeypatch, stdout, stderr) == []
    told = capsys.readouterr().out
    assert told.startswith("SKIPPED known vulnerabilities") and words in told
