"""The receipt's page and tables: what they say first, in both languages, and who can read them."""

import copy
import re
from string import Formatter
from typing import Any

import pytest

from daogou.report import terminal
from daogou.report.numbers import interval, plain
from daogou.report.receipt import VERDICTS, receipt, sentences
from daogou.report.words.receipt import WORDS
from tests.report.test_terminal import cells, drawn

NAMES = ("click", "buy", "buy|click", "<b>&", "match")


def entry(verdict: str, difference: float | None, **more: Any) -> dict[str, Any]:
    """What is known of one task; None where it is undefined."""
    given: dict[str, Any] = {
        "metric": "auc", "n": 1200, "positives": 60, "verdict": verdict, "single": 0.7,
        "multi": None if difference is None else 0.7 + difference, "difference": difference,
        "interval": [None, None] if difference is None else [difference - 0.01, difference + 0.01],
        "se": 0.005, "seed_se": 0.003, "test_se": 0.004, "df": 8.0, "p": 0.01, "p_holm": 0.03,
        "smallest_detectable": 0.014, "more_positives": None, "relative": 0.1, "ceiling": None,
        "gap_closed": None, "against": {}, "best_per_task": None,
    }  # fmt: skip
    return given | more


def document() -> dict[str, Any]:
    """A comparison of five answers: one of each verdict, and one that cannot be judged."""
    tasks = {
        "click": entry("NEUTRAL", 0.0, ceiling=0.8, gap_closed=0.0),
        "buy": entry(
            "HELPS",
            0.03,
            against={
                "popularity": entry("HELPS", 0.2),
                "aux": entry("HURTS", -0.1),
            },
        ),
        "buy|click": entry(
            "UNDECIDED", 0.004, more_positives=2500, against={"aux": entry("NEUTRAL", 0.0)}
        ),
        "<b>&": entry("HURTS", -0.02),
        "match": entry("UNDECIDED", None, metric="recall@50", n=3, positives=0),
    }
    slices = [
        {"task": "buy", "slice": "cold users", **entry("HELPS", 0.05)},
        {"task": "buy", "slice": "domain <app>", **entry("UNDECIDED", 0.01)},
    ]
    values = {name: [0.7, 0.71] for name in NAMES}
    kinds = {"ple+fixed": "multi", "mmoe+fixed": "multi", "single": "single",
             "single_small": "single", "aux": "single", "popularity": "rival"}  # fmt: skip
    return {
        "shop": "tiny <shop>", "seed": 0, "seeds": [0, 1], "margin": 0.001, "split": "test",
        "cold": 7, "head": 0.25,
        "chosen": "ple+fixed", "absent": {"lightgbm": "pip install 'daogou[baselines]'"},
        "contenders": {
            name: {
                "kind": kind, "values": values, "validation": [0.9, 0.91],
                "best_per_task": values if kind == "multi" else {},
            }
            for name, kind in kinds.items()
        },
        "candidates": {
            name: {"tasks": tasks, "slices": slices, "delta_m": 1.25}
            for name in ("ple+fixed", "mmoe+fixed")
        },
        "cost": {
            "seconds": {"ple+fixed": 12.5, "single": 31.0},
            "parameters": {"ple+fixed": 231600, "single": 463200, "popularity": None},
            "ms_per_1000": {"ple+fixed": 3.2, "single": 8.1},
        },
    }  # fmt: skip


def test_both_languages_have_the_same_sentences_and_places() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        assert places(text) == places(WORDS["zh"][key]), key


def test_the_verdict_comes_first_and_the_worst_before_the_rest() -> None:
    said = sentences(document())
    assert said[0] == (
        "Of 4 answers, learning together helps 1, hurts 1 and makes no difference to 1; 1 cannot "
        "be told from this test split."
    )
    starts = [line.split(":")[0] for line in said[1:5]]
    assert starts == [
        "Learning together hurts <b>&", "Learning together helps buy",
        "Learning together makes no difference to click", "Undecided for buy|click",
    ]  # fmt: skip
    assert "0.7300, 0.7000 alone, +0.0300 (+0.0200 … +0.0400)" in said[2]
    assert "An effect below 0.0140 would go unseen here. About 2,500 more positives" in said[4]
    assert said[5].startswith("match cannot be judged") and "(3 rows, 0 positives)" in said[5]


def test_what_more_data_cannot_decide_is_said() -> None:
    found = document()
    found["candidates"]["ple+fixed"]["tasks"]["buy|click"]["more_positives"] = None
    assert any("More test data alone would not decide" in line for line in sentences(found))


def test_one_seed_is_a_warning() -> None:
    found = document() | {"seeds": [0]}
    assert sentences(found)[-1].startswith("With one seed")
    assert not any("With one seed" in line for line in sentences(document()))


def test_a_control_that_was_asked_for_is_said_in_a_sentence_and_explained() -> None:
    control = "alone, told the other stages' predictions"
    (said,) = [line for line in sentences(document()) if line.startswith("Against")]
    assert said == (f"Against “{control}” learning together is: worse (buy), the same (buy|click).")
    assert "the other labels help, and not sharing" in receipt(document())
    found = document()
    del found["contenders"]["aux"]
    assert not [line for line in sentences(found) if line.startswith("Against")]
    assert "the other labels help" not in receipt(found)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_needs_nothing_and_hides_nothing(lang: str) -> None:
    page = receipt(document(), lang=lang)
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "")
    assert "<b>&" not in page and "<app>" not in page and "<shop>" not in page
    assert "{" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    words = WORDS[lang]
    heads = ["summary", "differences", "numbers", "ceiling", "everyone", "against", "slices",
             "candidates", "cost", "how"]  # fmt: skip
    places = [page.index(f"<h2>{words[key]}</h2>") for key in heads]
    assert places == sorted(places)
    for verdict in VERDICTS:
        assert words[verdict] in page
    assert "daogou[baselines]" in page


def test_each_metric_has_a_picture_of_its_own() -> None:
    found = document()
    found["candidates"]["ple+fixed"]["tasks"]["match"] = entry("HELPS", 0.1, metric="recall@50")
    page = receipt(found)
    assert page.count('class="plot"') == 2
    assert "Together less alone, AUC" in page and "Together less alone, recall@50" in page


def test_joint_and_best_per_task_stand_beside_each_other() -> None:
    page = receipt(document())
    assert "ple+fixed, joint" in page and "ple+fixed, best per task" in page
    assert "single, joint" not in page


@pytest.mark.parametrize(("lang", "said"), [("en", "fewer than 7 events"), ("zh", "曝光 25% 的")])
def test_the_page_says_where_slices_were_cut(lang: str, said: str) -> None:
    assert said in receipt(document(), lang=lang)


def test_what_is_not_there_has_no_section() -> None:
    found = document()
    del found["candidates"]["mmoe+fixed"]
    for each in found["candidates"]["ple+fixed"]["tasks"].values():
        each |= {"ceiling": None, "against": {}}
    found["candidates"]["ple+fixed"]["slices"] = []
    page = receipt(found)
    for key in ("ceiling", "against", "slices", "candidates"):
        assert f"<h2>{WORDS['en'][key]}</h2>" not in page


def test_numbers_are_written_as_people_do() -> None:
    assert plain(1234.5, 1) == "1,234.5" and plain(float("nan")) == "–"
    assert interval({"interval": [None, None]}) == "–"


def test_the_terminal_shows_tasks_slices_and_cost() -> None:
    said = [drawn(table) for table in terminal.verdicts(document())]
    assert len(said) == 4
    assert "helps" in said[0] and "+0.0300" in said[0] and "2,500" in said[0]
    assert "buy: cold users" in said[1] and "domain" not in said[1]
    assert cells(said[2], "popularity")[1:] == ["buy", "–", "–", "–"]
    assert cells(said[2], "alone, told the other stages' predictions")[2:4] == ["buy", "buy|click"]
    assert "231,600" in said[3] and "alone, as wide" in said[3]
    quiet = copy.deepcopy(document())
    quiet["candidates"]["ple+fixed"]["slices"] = []
    assert len(terminal.verdicts(quiet, lang="zh")) == 3
