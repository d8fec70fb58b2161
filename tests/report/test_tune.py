"""The page about a search: what it says, in both languages, and which trials are on a front."""

import re
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.report.tune import front_of, sentences, tune_page
from daogou.report.words.tune import WORDS
from tests.report.test_relate import read


def trial(number: int, state: str, score: float | None, rate: float, mixer: str) -> dict[str, Any]:
    relative = {"click": score, "<b>": None if score is None else 2 - score, "odd": None}
    return {
        "number": number, "state": state, "score": score, "best_epoch": 2 if score else None,
        "settings": {"fit.learning_rate": rate, "model.mixer": mixer}, "relative": relative,
        "epochs": 3, "seconds": 1.25, "reason": None,
    }  # fmt: skip


TRIALS = [
    trial(0, "finished", 0.9, 0.001, "ple"),
    trial(1, "stopped", None, 0.1, "mmoe"),
    trial(2, "finished", 0.8, 0.01, "ple"),
    trial(3, "failed", None, 10.0, "mmoe"),
    *(trial(number, "finished", 1.0, 0.02, "mmoe") for number in range(4, 12)),
]
DOCUMENT: dict[str, Any] = {
    "shop": "tiny <shop>", "seed": 0, "sampler": "tpe", "objective": "joint",
    "space": {"fit.learning_rate": {"low": 0.001, "high": 10.0, "log": True},
              "model.mixer": {"choices": ["ple", "mmoe"]}},
    "counts": {"finished": 10, "stopped": 1, "failed": 1, "unfinished": 0},
    "best": {**TRIALS[2], "run": "best"}, "pareto": [0, 2], "trials": TRIALS,
}  # fmt: skip
NOTHING = {
    **DOCUMENT, "best": None, "pareto": [], "trials": TRIALS[1:2],
    "counts": {"finished": 0, "stopped": 1, "failed": 0, "unfinished": 0},
}  # fmt: skip


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("document", [DOCUMENT, NOTHING])
def test_a_page_is_whole_by_itself_and_escapes_what_shops_write(
    document: dict[str, Any], lang: str
) -> None:
    html = tune_page(document, lang=lang)
    reader = read(html)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "img", "b", "shop")]
    assert not re.findall(r"(?:https?:)?//|url\((?!#)|@import|\bnan\b", html)
    assert "tiny <shop>" in "".join(reader.words)


def test_a_chinese_page_has_no_english_words_left() -> None:
    shown = " ".join(read(tune_page(DOCUMENT, lang="zh")).words)
    for word in ("tiny <shop>", "fit.learning_rate", "model.mixer", "daogou compare", "click",
                 "<b>", "log₁₀", "tpe", "ple", "mmoe"):  # fmt: skip
        shown = shown.replace(word, "")
    assert re.findall(r"[A-Za-z]{2,}", shown) == []


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    def gaps(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert {key: gaps(text) for key, text in WORDS["en"].items()} == {
        key: gaps(text) for key, text in WORDS["zh"].items()
    }


def test_the_summary_names_the_best_trial_and_the_front() -> None:
    said = sentences(DOCUMENT)
    assert said[0] == (
        "Best is trial 2 with a score of 0.8000: fit.learning_rate = 0.01, model.mixer = ple."
    )
    assert said[1].startswith("10 finished, 1 were stopped early")
    assert said[2].endswith("in every task: 0, 2.")
    assert sentences(NOTHING)[0].startswith("No trial is finished")


def test_trials_stand_from_the_best_with_the_front_marked() -> None:
    html = tune_page(DOCUMENT)
    firsts = re.findall(r'<th scope="row">([^<]*)</th>', html)
    assert firsts[:3] == ["2 ★", "0 ★", "4"]
    assert firsts[10:12] == ["2 ★", "0 ★"] and firsts[-2:] == ["1", "3"]


def test_a_front_is_drawn_for_pairs_of_tasks_that_every_trial_has() -> None:
    html = tune_page(DOCUMENT)
    assert html.count("click against &lt;b&gt;</title>") == 1
    assert "against odd" not in html
    assert "log₁₀ fit.learning_rate" in html and "Score by model.mixer" not in html


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_a_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    front = [points[place] for place in front_of(points)]

    def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one != other and one[0] <= other[0] and one[1] <= other[1]

    unbeaten = {point for point in points if not any(beats(other, point) for other in points)}
    assert set(front) == unbeaten and len(front) == len(unbeaten)
    assert front == sorted(front)
