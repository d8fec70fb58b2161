"""The page about drift: the verdict first, in both languages, and every line with its numbers."""

import re
from string import Formatter
from typing import Any

import pytest
from rich.console import Console

from daogou.report.drift import drift_page, numbers, sentences
from daogou.report.terminal import drifts
from daogou.report.words.drift import WORDS
from tests.report.test_relate import read

LINES: list[dict[str, Any]] = [
    {"kind": "feature", "name": "items.<b>", "change": 0.4, "p": 0.0, "index": 0.41,
     "noise": 0.01, "n": 9, "unknown": [0.0, 0.5], "verdict": "far"},
    {"kind": "unknown", "name": "items", "change": 0.1, "p": 0.0, "before": 0.0, "now": 0.1,
     "n": 9, "interval": [0.05, 0.15], "verdict": "moved"},
    {"kind": "rate", "name": "click", "change": 0.01, "p": 0.5, "before": 0.2, "now": 0.202,
     "ratio": 1.01, "n": 9, "interval": [0.9, 1.1], "verdict": "same"},
    {"kind": "slope", "name": "click", "change": None, "p": None, "n": 9, "positives": 0,
     "verdict": "not known"},
    {"kind": "auc", "name": "click", "change": -0.01, "p": 0.9, "before": 0.7, "now": 0.71,
     "n": 9, "interval": [-0.02, 0.0], "verdict": "same"},
]  # fmt: skip
BOUNDS = {"feature": [0.1, 0.25], "auc": [0.005, 0.02]}
REFIT: dict[str, Any] = {
    "shop": "a <shop>", "run": "runs/a", "since": "2024-01-09 08:00:00", "n": 9,
    "verdict": "refit in full", "lines": LINES, "bounds": BOUNDS,
}  # fmt: skip
GO_ON: dict[str, Any] = {**REFIT, "verdict": "go on", "lines": LINES[2:]}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("document", [REFIT, GO_ON])
def test_a_page_is_whole_by_itself_and_escapes_what_shops_write(
    document: dict[str, Any], lang: str
) -> None:
    html = drift_page(document, lang=lang)
    read(html)
    assert "<shop>" not in html
    assert "<b>" not in html
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", html)


def test_the_verdict_comes_first_with_what_it_rests_on_and_the_rule() -> None:
    first, second, third, rule = sentences(REFIT)
    assert first == "Refit in full: Columns / items.<b>. Going on does not mend this."
    assert second == "Changed, and learnt by going on: Ids and words without a row / items."
    assert third == "Too little is there to say: Calibration of the run / click."
    assert "0.25 or more" in rule
    assert "0.02 or more below" in rule
    assert sentences(GO_ON)[0].startswith("Go on: ")
    assert len(sentences(GO_ON)) == 3
    assert sentences(REFIT, lang="zh")[0].startswith("需要完整重训：列 / items.<b>")


def test_each_line_has_a_row_and_what_is_not_known_a_dash() -> None:
    heads, rows = numbers(REFIT)
    assert heads == ["of", "what", "before", "now", "change", "verdict"]
    assert rows[0] == ["Columns", "items.<b>", "–", "–", "+0.400", "far"]
    assert rows[3][2:] == ["–", "–", "–", "not known"]
    assert rows[4][2:5] == ["0.7", "0.71", "−0.010"]
    console = Console(width=140, record=True)
    console.print(drifts(REFIT))
    assert "items.<b>" in console.export_text()


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        gaps = [{name for _, name, _, _ in Formatter().parse(each) if name is not None}
                for each in (text, WORDS["zh"][key])]  # fmt: skip
        assert gaps[0] == gaps[1], key
