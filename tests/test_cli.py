"""The command line's promises: one document, exit codes, one-sentence errors, a quick --help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (
    "simulate", "import", "new", "check", "fit", "evaluate", "recommend", "match", "profile",
    "extract", "explain", "demo", "doctor",
)  # fmt: skip


def daogou(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daogou", *words], capture_output=True, text=True, timeout=300
    )


def test_help_answers_without_loading_torch_or_duckdb() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom daogou.cli import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "print([name for name in ('torch', 'duckdb', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    from typer.testing import CliRunner

    from daogou.cli import app

    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert f"daogou {command}" in answer.output


def test_each_command_is_in_the_readme_or_the_changelog() -> None:
    text = Path("README.md").read_text() + Path("CHANGELOG.md").read_text()
    assert not [command for command in COMMANDS if f"{command}" not in text]


def test_a_wrong_setting_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    answer = daogou("simulate", str(tmp_path / "shop"), "--preset", "eazy")
    assert answer.returncode == 2
    assert "error:" in answer.stderr and "'easy'" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


def test_a_missing_run_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    answer = daogou("evaluate", str(tmp_path / "nothing"))
    assert answer.returncode == 1
    assert "no such run" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_shop_goes_from_made_to_asked_by_commands_alone(tmp_path: Path) -> None:
    shop, run = str(tmp_path / "shop"), str(tmp_path / "run")
    size = ("--users", "60", "--items", "50", "--exposures", "4000")
    made = daogou("simulate", shop, "--preset", "easy", *size)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["preset"] == "easy"
    checked = daogou("check", shop)
    assert "findings" in json.loads(checked.stdout), checked.stderr
    fitted = daogou("fit", shop, "--out", run, "--set", "fit.epochs=1", "--set", "fit.threads=1")
    assert fitted.returncode == 0, fitted.stderr
    assert {"run", "tasks", "epochs", "seconds", "validation"} <= set(json.loads(fitted.stdout))
    report = json.loads(daogou("evaluate", run).stdout)
    assert {"click", "cart", "purchase", "match", "extract"} <= set(report["tasks"])
    users = tmp_path / "users.jsonl"
    users.write_text('{"user": "100001"}\n{"user": "nobody"}\n')
    lines = daogou("recommend", run, "--users", str(users), "-k", "3").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["user"] for answer in answers] == ["100001", "nobody"]
    assert [answer["known"] for answer in answers] == [True, False]
    again = daogou("fit", shop, "--out", run)
    assert again.returncode == 1
    assert "holds a finished run" in again.stderr
