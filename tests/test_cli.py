"""The command line's promises: one document, exit codes, errors of a line, a quick --help."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from rich.console import Console
from typer.testing import CliRunner

from daogou.cli import app, ask, main, say
from daogou.cli.demo import _claim_demo
from daogou.cli.doctor import missing
from tests.report.test_transfer import DOCUMENT as TRANSFERRED
from tests.shops import EVENTS, TOML, write_shop

ROOT = Path(__file__).parent.parent
COMMANDS: Any = typer.main.get_command(app)
Answer = tuple[int, str, str]
Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`daogou WORDS` in this process: exit code, stdout, stderr."""

    def run(*words: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["daogou", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else int(code is not None)), said.out, said.err

    return run


def document(answer: Answer, code: int = 0) -> Any:
    """The one JSON document of a command that ended with ``code``."""
    assert answer[0] == code, answer[2]
    assert answer[1].count("\n") == 1
    return json.loads(answer[1], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def refused(answer: Answer, code: int) -> str:
    """The message of a command that could not: lines of `error: `, nothing on stdout."""
    assert answer[0] == code, answer[2]
    assert answer[1] == ""
    lines = answer[2].splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)
    return answer[2]


# ---- help ---------------------------------------------------------------------------------


def test_help_answers_without_loading_what_is_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom daogou.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['fit', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'duckdb', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.stdout.strip() == "[]", answer.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, daogou\nassert len(daogou.__all__) <= 20\n"
        "print([name for name in ('torch', 'duckdb', 'numpy', 'typer') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.parametrize("command", COMMANDS.commands)
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert f"Example: daogou {command}" in answer.output


def test_the_commands_are_those_of_this_release() -> None:
    assert list(COMMANDS.commands) == [
        "simulate", "import", "new", "check", "fit", "drift", "evaluate", "relate", "tune",
        "federate", "compare", "transfer", "report", "recommend", "match", "similar", "profile",
        "extract", "explain",
        "search", "guide", "serve", "keys", "demo", "doctor",
    ]  # fmt: skip


# ---- exit codes ---------------------------------------------------------------------------


def test_a_wrong_setting_is_a_line_and_exit_2(call: Call, tmp_path: Path) -> None:
    message = refused(call("simulate", tmp_path / "shop", "--preset", "eazy"), 2)
    assert "'easy'" in message
    message = refused(call("fit", tmp_path / "none.toml", "--out", tmp_path / "run"), 2)
    assert "no such file" in message


def test_several_problems_are_a_line_each(call: Call, made_shop: Path) -> None:
    sets = ("--set", "fit.epochs=0", "--set", "model.mixer=plee")
    message = refused(call("check", made_shop, *sets), 2)
    assert "fit.epochs" in message and "'ple'" in message
    assert message.count("error: ") == 2


def test_a_missing_run_is_a_line_and_exit_1(call: Call, tmp_path: Path) -> None:
    assert "no such run" in refused(call("evaluate", tmp_path / "nothing"), 1)
    assert "no such run" in refused(
        call("match", tmp_path / "no", "--user", "1", "--items", "2"), 1
    )


@pytest.mark.parametrize(
    "words",
    [
        ["fitt"],
        ["fit"],
        ["recommend", "run", "--user", "1", "-k", "0"],
        ["simulate", "x", "--seed", "-1"],
    ],
)
def test_a_wrong_call_is_exit_2(call: Call, words: list[str]) -> None:
    code, out, said = call(*words)
    assert (code, out) == (2, "")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "run", "--lang", "de"], "--lang: no 'de' here"),
        (["recommend", "run"], "give either --user or --users"),
        (["recommend", "run", "--user", "1", "--users", "f"], "give either --user or --users"),
        (["fit", "--out", "r"], "fit: give a shop.toml, or a run with --from"),
        (["fit", "s", "--out", "r", "--events", "e"], "later events are of a run; name it"),
        (["fit", "--from", "r", "--guard", "--out", "s"], "--guard: a fit that goes on keeps"),
        (["fit", "--from", "r", "--workers", "2", "--out", "s"], "--workers: a fit that goes on"),
        (["recommend", "run", "--user", "1", "--workers", "2"], "--workers: one user is one"),
        (["extract", "run"], "give one of --text, --in and --fill"),
        (["extract", "run", "--text", "a", "--in", "b"], "give one of --text, --in and --fill"),
        (["extract", "run", "--fill", "a"], "--fill and --out go together"),
        (["extract", "run", "--text", "a", "--out", "b"], "--fill and --out go together"),
        (["match", "run", "--user", "1", "--items", " , "], "names no product"),
        (["import", "adlt", "here", "--out", "there"], "'adult'"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused_before_anything_is_loaded(
    call: Call, words: list[str], message: str
) -> None:
    assert message in refused(call(*words), 2)


def test_an_error_of_the_system_is_a_line_and_exit_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refused(call("simulate", tmp_path / "file" / "shop", "--exposures", "2000"), 1)
    assert "file" in message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_too_little_memory_is_a_line_and_exit_1(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("daogou.cli.app", fails)
    message = refused(call("fit"), 1)
    assert "error: memory: there is not enough of it" in message
    assert "--resume" in message and "lower fit.rows_per_step" in message


def test_an_error_of_our_own_stays_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("daogou.cli.app", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        call("check")


def test_brackets_in_a_message_are_shown(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "[bold]" / "shop.toml"
    assert "[bold]" in refused(call("check", path), 2)


# ---- tables -------------------------------------------------------------------------------


def test_a_shop_is_made_and_checked(call: Call, tmp_path: Path) -> None:
    size = ("--users", "60", "--items", "50", "--exposures", "3000", "--seed", "3", "--sign", "-1")
    made = document(call("simulate", tmp_path / "shop", "--preset", "easy", *size))
    assert (made["preset"], made["seed"], made["users"]) == ("easy", 3, 60)
    answer = call("check", tmp_path / "shop", "--lang", "zh")
    checked = document(answer)
    assert {"name", "level", "count", "examples", "text"} == set(checked["findings"][0])
    assert checked["failed"] == []
    assert "检查" in answer[2]


@pytest.fixture
def broken_shop(tmp_path: Path) -> Path:
    """The shop of `tests.shops` with an input that is named like the planted truth."""
    events = [{**each, "p_click": 0.5} for each in EVENTS]
    toml = TOML.replace('"device", "position"', '"device", "p_click"')
    toml += '\n[truth]\npath = "truth/"\n'
    return write_shop(tmp_path / "broken", events=events, toml=toml).root


def test_a_failed_check_is_exit_1_unless_it_is_waived(call: Call, broken_shop: Path) -> None:
    found = document(call("check", broken_shop), 1)
    assert "truth_column_as_feature" in found["failed"]
    waivers = [word for name in found["failed"] for word in ("--waive", name)]
    assert document(call("check", broken_shop, *waivers))["failed"] == []


def test_a_failed_check_stops_fit_and_says_how_to_waive(
    call: Call, broken_shop: Path, tmp_path: Path
) -> None:
    message = refused_after_progress(call("fit", broken_shop, "--out", tmp_path / "run"), 1)
    assert "check truth_column_as_feature" in message and "waive" in message


def test_an_unknown_check_cannot_be_waived(call: Call, made_shop: Path) -> None:
    message = refused(call("check", made_shop, "--waive", "few_user"), 2)
    assert "fit.waive: no 'few_user' here (did you mean 'few_users'?)" in message


def refused_after_progress(answer: Answer, code: int) -> str:
    assert (answer[0], answer[1]) == (code, ""), answer[2]
    assert "Traceback" not in answer[2]
    return answer[2]


def test_new_writes_a_shop_and_never_over_one(call: Call, made_shop: Path, tmp_path: Path) -> None:
    for name in ("items", "users", "events"):
        shutil.copy(made_shop / f"{name}.parquet", tmp_path)
    written = document(call("new", tmp_path))
    assert written["written"] == str(tmp_path / "shop.toml")
    assert "click" in written["tasks"] and written["problems"] == []
    before = (tmp_path / "shop.toml").read_bytes()
    assert "rename it" in refused(call("new", tmp_path), 2)
    assert (tmp_path / "shop.toml").read_bytes() == before


def test_a_public_data_set_needs_its_path(call: Call, tmp_path: Path) -> None:
    assert "no path given" in refused(call("import", "adult", "--out", tmp_path / "a"), 2)


# ---- a run --------------------------------------------------------------------------------


def test_fit_prints_its_document_and_writes_its_progress_to_stderr(
    call: Call, made_shop: Path, tmp_path: Path
) -> None:
    sets = ("--set", "fit.epochs=1", "--set", "fit.rows_per_step=4096")
    answer = call("fit", made_shop, "--out", tmp_path / "run", "--seed", "5", *sets)
    fitted = document(answer)
    assert {"run", "tasks", "epochs", "seconds", "validation"} <= set(fitted)
    assert "epoch 1/1" in answer[2]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["shop"]["seed"] == 5
    again = refused(call("fit", made_shop, "--out", tmp_path / "run"), 1)
    assert "holds a finished run" in again


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(say, "console", console)
    with say.watched() as progress:
        progress("steps", 1, 2, "loss [1.5]")
        progress("steps", 2, 2, "loss [1.25]")
    assert "━" in screen.getvalue() and "loss [1.25]" in screen.getvalue()


def test_an_unfinished_run_is_refused_without_resume(
    call: Call, made_shop: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "started.json").write_text("{}")
    assert "add --resume" in refused(call("fit", made_shop, "--out", run), 1)
    message = refused(call("fit", made_shop, "--out", run, "--resume"), 1)
    assert "other settings or another shop" in message


def test_relate_writes_a_page_in_the_language_asked_for_and_goes_on(
    call: Call, shop_folder: Path, tmp_path: Path
) -> None:
    sets = ("--set", "fit.epochs=1", "--set", "fit.rows_per_step=4096")
    words = ("relate", shop_folder, "--out", tmp_path / "out", "--no-leave-out", *sets)
    found = document(call(*words))
    assert found == json.loads((tmp_path / "out" / "relate.json").read_text("utf-8"))
    assert found["leave_out"] is None and found["affinity"]["n_probes"] == 1
    assert 'lang="en"' in (tmp_path / "out" / "relate.html").read_text("utf-8")
    assert "add --resume" in refused(call(*words), 1)
    again = call(*words, "--resume", "--lang", "zh")
    assert document(again) == found
    assert 'lang="zh-Hans"' in (tmp_path / "out" / "relate.html").read_text("utf-8")
    assert "前瞻一步" in again[2]


def test_transfer_names_what_it_cannot_be_asked(
    call: Call, made_run: Path, shop_folder: Path, tmp_path: Path
) -> None:
    words = ("transfer", made_run, "--to", shop_folder, "--out", tmp_path / "out")
    assert "did you mean 'full'" in refused(call(*words, "--how", "ful"), 2)
    assert "--sizes 1e3: whole numbers" in refused(call(*words, "--sizes", "1e3"), 2)
    assert "no 'shops' here" in refused(call(*words, "--same", "shops"), 2)
    assert not (tmp_path / "out").exists()


def test_the_report_of_a_transfer_is_in_the_language_asked_for(call: Call, tmp_path: Path) -> None:
    (tmp_path / "transfer.json").write_text(json.dumps(TRANSFERRED), encoding="utf-8")
    answer = call("report", tmp_path, "--lang", "zh")
    assert document(answer)["kind"] == "transfer"
    assert "验证集选择了 `full`" in answer[2]


def test_compare_writes_a_receipt_in_the_language_asked_for_and_goes_on(
    call: Call, shop_folder: Path, tmp_path: Path
) -> None:
    off = ("match", "purchase", "extract", '"profile.gender"', '"profile.age_band"',
           '"profile.tier"')  # fmt: skip
    sets = [f"tasks.{name}.enabled=false" for name in off]
    sets += ["fit.epochs=1", "fit.rows_per_step=4096"]
    words = ("compare", shop_folder, "--out", tmp_path / "out", "--seeds", "1", "--rivals",
             "popularity",
             *(word for each in sets for word in ("--set", each)))  # fmt: skip
    found = document(call(*words))
    assert found == json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    short = json.loads((tmp_path / "out" / "receipt.json").read_text("utf-8"))
    assert set(short["tasks"]) == {"click", "cart", "cart|click"}
    assert 'lang="en"' in (tmp_path / "out" / "receipt.html").read_text("utf-8")
    assert "add --resume" in refused(call(*words), 1)
    again = call(*words, "--resume", "--lang", "zh", "--margin", "0.5")
    assert document(again)["margin"] == 0.5
    assert 'lang="zh-Hans"' in (tmp_path / "out" / "receipt.html").read_text("utf-8")
    assert "联合训练" in again[2]
    wrong = ("--mixers", "plee,mmoe", "--margin", "0", "--controls", "auxx")
    message = refused(call(*words[:3], tmp_path / "no", *wrong), 2)
    assert "'ple'" in message and "margin: 0.0" in message and "'aux'" in message


def test_tune_keeps_the_best_run_and_can_be_made_longer(
    call: Call, shop_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    space = 'tune.space."fit.learning_rate"={choices=[0.001, 0.002]}'
    sets = ("--set", "fit.epochs=1", "--set", "fit.rows_per_step=4096", "--set", space)
    words = ("tune", shop_folder, "--out", out, "--sampler", "grid", "--objective", "click", *sets)
    found = document(call(*words, "--trials", "1"))
    assert found["objective"] == "click" and found["counts"]["finished"] == 1
    assert "add --resume" in refused(call(*words), 1)
    again = call(*words, "--resume", "--lang", "zh")
    found = document(again)
    assert found == json.loads((out / "tune.json").read_text("utf-8"))
    assert found["counts"]["finished"] == 2 and "提前停止 0" in again[2]
    assert document(call("evaluate", found["best"]["run"]))["split"] == "test"
    message = refused(call("tune", shop_folder, "--out", out, "--sampler", "tpee", "--resume"), 2)
    assert "did you mean 'tpe'" in message


def test_a_report_of_a_run_is_a_page_or_tables_and_judges_it_once(
    call: Call, made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    answer = call("report", run)
    assert document(answer) == {"folder": str(run), "kind": "run", "report": None}
    assert "judging" in answer[2] and "recall@50" in answer[2]
    page = tmp_path / "page.html"
    answer = call("report", run, "--out", page, "--lang", "zh")
    assert document(answer)["report"] == str(page)
    assert "judging" not in answer[2]
    assert 'lang="zh-Hans"' in page.read_text("utf-8")
    altered = json.loads((run / "evaluate.json").read_text("utf-8"))
    (run / "evaluate.json").write_text(json.dumps({**altered, "manifest": "of another run"}))
    assert "judging" in call("report", run)[2]


def test_a_report_of_a_run_under_way_is_drawn_as_far_as_it_is(
    call: Call, made_run: Path, tmp_path: Path
) -> None:
    for name in ("events.jsonl", "started.json"):
        shutil.copy(made_run / name, tmp_path / name)
    assert document(call("report", tmp_path))["kind"] == "run"
    (tmp_path / "events.jsonl").unlink()
    assert "has no epoch yet" in refused(call("report", tmp_path), 1)
    (tmp_path / "started.json").unlink()
    assert "no run, comparison, search" in refused(call("report", tmp_path), 1)


def test_evaluate_prints_one_entry_per_task_and_a_table(call: Call, made_run: Path) -> None:
    answer = call("evaluate", made_run, "--split", "validation")
    report = document(answer)
    assert report["split"] == "validation"
    assert {"click", "cart", "purchase", "purchase|cart", "match", "extract"} <= set(
        report["tasks"]
    )
    assert "ceiling_auc" in report["tasks"]["click"]
    assert "ceiling" in answer[2] and "Traceback" not in answer[2]
    assert "no 'tset' here" in call("evaluate", made_run, "--split", "tset")[2]


def test_the_seed_of_evaluate_draws_other_intervals(call: Call, made_run: Path) -> None:
    first, same, other = (
        document(call("evaluate", made_run, "--seed", seed))["tasks"]["click"] for seed in "112"
    )
    assert first == same
    assert first["auc"] == other["auc"]


def test_a_file_of_edits_is_followed(call: Call, made_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text('{"set": {"gender": "F"}, "forbid": {"category": ["shoes"]}}', encoding="utf-8")
    found = document(call("profile", made_run, "--user", "100001", "--edits", path))
    assert found["columns"]["gender"] == {"F": 1.0, "M": 0.0}
    for command, more in (("recommend", ()), ("match", ("--items", "500001,500002"))):
        asked = call(command, made_run, "--user", "100001", *more, "--edits", path)
        assert document(asked)["edits"] == {
            "set": {"gender": ["F"]},
            "forbid": {"category": ["shoes"]},
        }
    path.write_text("{", encoding="utf-8")
    assert "not JSON" in refused(call("profile", made_run, "--user", "1", "--edits", path), 1)


def test_each_question_is_answered_with_one_document(call: Call, made_run: Path) -> None:
    known = call("recommend", made_run, "--user", "100001", "-k", "3", "--lang", "zh")
    items = [item["item"] for item in document(known)["items"]]
    assert len(items) == 3
    matched = document(call("match", made_run, "--user", "100001", "--items", ", ".join(items)))
    assert {item["item"] for item in matched["items"]} == set(items)
    assert document(call("profile", made_run, "--user", "100001"))["known"] is True
    explained = document(call("explain", made_run, "--user", "100001", "--item", items[0]))
    assert explained["contributions"] and explained["text"]
    title = "云栖 秋季 羊毛 毛衣"
    assert document(call("extract", made_run, "--text", title))["text"] == title


def test_a_price_and_a_category_narrow_what_is_recommended(call: Call, made_run: Path) -> None:
    nothing = call("recommend", made_run, "--user", "100001", "--price-max", "0")
    assert document(nothing)["items"] == []
    code, out, said = call("recommend", made_run, "--user", "100001", "--category", "no such")
    assert "Traceback" not in said
    assert code in (0, 2)
    assert bool(out) == (code == 0)


def test_a_file_of_users_is_answered_line_by_line_in_order(
    call: Call, made_run: Path, tmp_path: Path
) -> None:
    users = tmp_path / "users.jsonl"
    lines = [b'\xef\xbb\xbf{"user": "100001"}', b"nobody", b"", b'{"user": ', b'{"item": 3}',
             b"\xff", b'{"user": true}', b'"100002"', b"100003\r"]  # fmt: skip
    users.write_bytes(b"\n".join(lines) + b"\n")
    code, out, _ = call("recommend", made_run, "--users", users, "-k", "1")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer.get("user") for answer in answers] == [
        "100001", "nobody", None, None, None, None, None, "100002", "100003",
    ]  # fmt: skip
    assert [answer.get("known") for answer in answers if "user" in answer] == [
        True, False, True, True,
    ]  # fmt: skip
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert errors[:2] == ["line 3: empty", errors[1]]
    assert "line 4: not JSON" in errors[1]
    assert errors[2:4] == ["line 5: no 'user' in it", "line 6: not UTF-8 (byte 0)"]
    assert "an id is wanted" in errors[4]


def test_a_file_of_titles_keeps_every_character(
    call: Call, made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "_TITLES", 2)
    titles = ["红色 连衣裙", "a\u2028b\x0bc", "[New] shoe", "", "\U0001f45f shoe"]
    path = tmp_path / "titles.jsonl"
    path.write_text(
        "".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in titles)
    )
    code, out, _ = call("extract", made_run, "--in", path)
    assert code == 0
    assert [json.loads(line)["text"] for line in out.strip("\n").split("\n")] == titles


def test_missing_values_are_proposed_into_a_new_file(
    call: Call, made_run: Path, made_shop: Path, tmp_path: Path
) -> None:
    out = tmp_path / "proposals.jsonl"
    told = document(call("extract", made_run, "--fill", made_shop / "items.parquet", "--out", out))
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert told["items"] == 80
    assert sum(told["proposed"].values()) == len(lines)
    assert list(tmp_path.iterdir()) == [out]
    message = refused(
        call("extract", made_run, "--fill", made_shop / "items.parquet", "--out", out), 2
    )
    assert "is there already; nothing is overwritten" in message


def test_a_file_that_is_not_there_is_exit_1(call: Call, made_run: Path, tmp_path: Path) -> None:
    message = refused(call("recommend", made_run, "--users", tmp_path / "none"), 1)
    assert "no such file" in message


def test_an_unknown_product_cannot_be_explained(call: Call, made_run: Path) -> None:
    assert "5000" in refused(call("explain", made_run, "--user", "1", "--item", "50000"), 2)


def test_a_dialogue_goes_on_from_what_was_printed(
    call: Call, made_run: Path, tmp_path: Path
) -> None:
    first = document(call("guide", made_run, "--user", "100001", "--query", "shirt"))
    assert first["state"]["user"] == "100001" and first["question"]
    chip = first["question"]["chips"][0]
    first["state"]["answers"].append(chip["answer"])
    path = tmp_path / "turn.json"
    path.write_text(json.dumps(first))
    second = document(call("guide", made_run, "--answers", path))
    assert second["left"] == chip["count"] < first["left"]
    path.write_text(json.dumps(first["state"]["answers"]))
    words = ("--user", "100001", "--query", "shirt", "--answers", path)
    assert document(call("guide", made_run, *words)) == second


@pytest.mark.parametrize("text", ["{", "3", '{"answer": []}', '{"state": {"users": 1}}'])
def test_a_file_that_is_no_dialogue_is_exit_1(
    call: Call, made_run: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "turn.json"
    path.write_text(text)
    assert "turn.json" in refused(call("guide", made_run, "--answers", path), 1)


def test_a_search_prints_products_and_counts(call: Call, made_run: Path) -> None:
    words = ("--query", "shirt", "--user", "100001", "--price-max", "60", "-k", "3")
    found = document(call("search", made_run, *words))
    assert found["total"] >= len(found["items"]) == 3
    assert found["facets"]


def test_doctor_prints_versions_and_what_is_missing(call: Call) -> None:
    found = document(call("doctor", "--lang", "zh"))
    assert found["versions"]["torch"]
    assert found["missing"]["balancers"] == []
    assert set(found["missing"]) >= {"balancers", "tune", "dev"}


def test_what_an_extra_misses_is_what_the_package_says_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["numpy>=1", "typer>=0.15", 'nowhere[of]<2,>=1; extra == "ray"',
              "numpy; extra == 'tune'", 'daogou[tune]; extra == "dev"']  # fmt: skip
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    assert missing() == {"ray": ["nowhere"], "tune": [], "dev": []}


def test_a_shell_can_complete_commands() -> None:
    asked = {"_DAOGOU_COMPLETE": "complete_bash", "COMP_WORDS": "daogou rec", "COMP_CWORD": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", "from daogou.cli import app; app(prog_name='daogou')"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **asked}, check=False,
    )  # fmt: skip
    assert answer.stdout.split() == ["recommend"]


# ---- a server -----------------------------------------------------------------------------


def test_keys_are_made_listed_and_taken_away(call: Call, tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path / 's.db'}")
    made = document(call("keys", *store, "--create", "server", "--name", "shop"))
    assert made["created"]["key"].startswith(f"dg_{made['created']['id']}_")
    (listed,) = document(call("keys", *store))["keys"]
    assert (listed["id"], listed["name"], listed["scope"]) == (
        made["created"]["id"], "shop", "server",
    )  # fmt: skip
    assert made["created"]["key"] not in json.dumps(listed)
    assert "no 'nobody' here" in refused(call("keys", *store, "--remove", "nobody"), 2)
    assert document(call("keys", *store, "--remove", listed["id"]))["keys"] == []
    assert "'admin'" in refused_after_progress(call("keys", *store, "--create", "amin"), 2)


@pytest.mark.parametrize("wrong", ["runs/b", "runs/b=", "runs/b=half"])
def test_a_variant_without_its_share_is_refused(call: Call, wrong: str) -> None:
    assert "RUN=SHARE is wanted" in refused(call("serve", "run", "--variant", wrong), 2)


@pytest.mark.parametrize("words", [("keys",), ("serve", "run")])
def test_a_database_that_is_not_known_is_refused(call: Call, words: tuple[str, ...]) -> None:
    assert "write sqlite:///" in refused_after_progress(call(*words, "--store", "mysql://x/y"), 2)


def test_a_server_s_extra_is_named_where_it_is_missing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'daogou[serve]'" in refused(call("keys"), 1)


# ---- the whole path -----------------------------------------------------------------------


def test_a_demo_goes_on_is_repeated_and_is_not_mixed_up(
    call: Call, made_run: Path, made_shop: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    shutil.copytree(made_run, out / "run")
    (out / "demo.json").write_text(json.dumps({"exposures": 2000, "seed": 0}))
    answer = call("demo", "--out", out, "--exposures", "2000", "--lang", "zh")
    assert "click" in document(answer)["tasks"]
    assert "推荐给" in answer[2] and "for 100" in answer[2]
    message = refused(call("demo", "--out", out, "--exposures", "3000"), 2)
    assert "holds a demo with" in message
    assert "no demo" in refused(call("demo", "--out", made_shop), 2)


def test_a_demo_that_was_killed_as_it_began_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "demo.json.partial").write_text("{")
    _claim_demo(tmp_path, {"exposures": 2000, "seed": 0})
    assert json.loads((tmp_path / "demo.json").read_text()) == {"exposures": 2000, "seed": 0}


@pytest.mark.slow
def test_the_demo_runs_from_nothing_as_a_process(tmp_path: Path) -> None:
    words = ["demo", "--out", str(tmp_path / "demo"), "--exposures", "6000"]
    answer = subprocess.run(
        [sys.executable, "-m", "daogou", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "click" in json.loads(answer.stdout)["tasks"]


@pytest.mark.slow
def test_ten_lines_of_python_do_the_same(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "ten_lines.py")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "reasons" in answer.stdout


def test_a_process_ends_with_a_line_too(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "daogou", "evaluate", str(tmp_path / "无")],
        capture_output=True, cwd=ROOT, env={**os.environ, "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stdout == b""
    assert answer.stderr.startswith(b"error: ") and answer.stderr.count(b"\n") == 1
