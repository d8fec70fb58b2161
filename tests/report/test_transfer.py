"""The page about a transfer: what it says first, in both languages, and the numbers beside."""

import re
from string import Formatter
from typing import Any

import pytest

from daogou.report.transfer import numbers, sentences, transfer_page
from daogou.report.words.transfer import WORDS
from tests.report.test_relate import read


def entry(difference: float, verdict: str) -> dict[str, Any]:
    return {
        "metric": "auc", "n": 9, "positives": 3, "single": 0.6, "multi": 0.6 + difference,
        "difference": difference, "interval": [difference - 0.01, difference + 0.01],
        "verdict": verdict, "smallest_detectable": 0.02, "ceiling": None, "gap_closed": None,
    }  # fmt: skip


def size(full: float, verdict: str) -> dict[str, Any]:
    return {
        "values": {
            "scratch": {"<b>": [0.6, 0.62], "buy": [None, None]},
            "full": {"<b>": [full, full], "buy": [None, None]},
        },
        "validation": {"scratch": [0.9, 0.9], "full": [0.8, 0.8]},
        "against": {"full": {"<b>": entry(full - 0.61, verdict)}},
    }


DOCUMENT: dict[str, Any] = {
    "shop": "drug <shop>", "source": {"run": "runs/a", "shop": "grocery"}, "how": "auto",
    "chosen": "full", "seeds": [0, 1], "margin": 0.001, "n": 3000,
    "shared": {"items": [0, 9], "users": [3, 4]},
    "sizes": {"1000": size(0.64, "HELPS"), "3000": size(0.6, "HURTS")},
    "equivalence": {"full": {"<b>": {
        "1000": {"factor": 3.0, "bound": "at_least"}, "3000": {"factor": 0.5, "bound": None},
    }}},
    "choice": {
        "scratch": {"score": 0.9, "tasks": {}},
        "full": {"score": 0.8, "tasks": {"<b>": entry(0.02, "HELPS")}},
    },
    "source_tasks": {"before": {"<b>": 0.7}, "after": {"full": {"<b>": 0.65}}},
}  # fmt: skip
ALONE: dict[str, Any] = {
    **DOCUMENT, "chosen": "scratch", "equivalence": {}, "choice": {"scratch": {"tasks": {}}},
    "sizes": {"3000": {"values": {"scratch": {"<b>": [0.6]}}, "against": {}}},
    "source_tasks": {"before": {"<b>": 0.7}, "after": {}},
}  # fmt: skip


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("document", [DOCUMENT, ALONE])
def test_a_page_is_whole_by_itself_and_escapes_what_shops_write(
    document: dict[str, Any], lang: str
) -> None:
    html = transfer_page(document, lang=lang)
    read(html)
    assert "<shop>" not in html
    assert "<b>" not in html
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", html)


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        gaps = [{name for _, name, _, _ in Formatter().parse(each) if name is not None}
                for each in (text, WORDS["zh"][key])]  # fmt: skip
        assert gaps[0] == gaps[1], key


def test_what_was_kept_and_why_is_said_first() -> None:
    said = sentences(DOCUMENT)
    assert said[0].startswith("Validation chose `full`")
    assert "<b> hurts (−0.0100)" in said[1]
    assert "At 1000 exposures" in said[2]
    assert "is worth at least 3.0 from scratch" in said[2]
    assert said[-1] == "Known to the source too: 0 of 9 items, 3 of 4 users."
    assert sentences(ALONE)[0].startswith("Validation finds no way")
    assert sentences({**DOCUMENT, "how": "full"})[0] == "The run is learnt by `full`."


def test_the_numbers_stand_by_size_task_and_way() -> None:
    heads, rows = numbers(DOCUMENT)
    assert heads[-1] == "samples"
    assert [row[:4] for row in rows[:3]] == [
        ["1000", "<b>", "scratch", "0.6100"], ["1000", "<b>", "full", "0.6400"],
        ["1000", "buy", "scratch", "–"],
    ]  # fmt: skip
    assert rows[1][4:] == ["+0.0300", "+0.0200 … +0.0400", "helps", "at least 3.0"]
    assert rows[0][4:] == ["–"] * 4
    assert rows[5][-1] == "0.5"
