"""The page about a run: what it says, in both languages, of runs finished and not."""

import re
from dataclasses import replace
from string import Formatter
from typing import Any

import pytest

from daogou.report import terminal
from daogou.report.affinity import over_time
from daogou.report.found import Found
from daogou.report.run import run_page, sentences
from daogou.report.words.run import WORDS
from tests.report.test_relate import read
from tests.report.test_terminal import cells, drawn

TASKS = ("click", "cart", "profile.<b>", "value")
POINTS = [[0.1, 0.125, 80.0], [0.3, 0.25, 80.0]]


def losses(*values: float | None) -> dict[str, Any]:
    return {
        name: {"loss": value, "constant": 0.5, "n": 100}
        for name, value in zip(TASKS, values, strict=True)
    }


def epoch(number: int, *values: float | None) -> dict[str, Any]:
    uses = {"usage": [[0.75, 0.25, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]],
            "entropy": [0.8, 1.0, None], "dead": [2]}  # fmt: skip
    return {
        "epoch": number, "score": 0.9, "seconds": 1.0, "validation": losses(*values),
        "train": dict(zip(TASKS, (0.4, None, 0.3, -0.2), strict=True)),
        "gates": {"heads.funnel.mixer.gates.0": uses},
    }  # fmt: skip


PREPARED: dict[str, Any] = {
    "read": {"rows": {"items": 40, "events": 12345}, "unread": {"items": ["odd <column>"]},
             "notes": ["a note"]},
    "funnel": {"implied": {"click": 3}, "uncredited": {"click": 0}, "dropped": {"no user": 5}},
    "split": {
        "exposures": {"train": 100, "validation": 20, "test": 10},
        "users": {"train": 0, "validation": 0, "test": 0}, "titles": {}, "dropped": {},
        "censored": {"train": {"cart": 7}, "validation": {"cart": 0}, "test": {"cart": 2}},
        "validation_from": "2024-03-13 15:43:49.578565", "test_from": "2024-03-22 15:58:33",
        "notes": [],
    },
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "shop": {"name": "tiny <shop>", "seed": 3},
    "shape": {"mixer": "ple", "expert_widths": [], "size": "small"},
    "settings": {"balancer": "fixed", "epochs": 3, "device": ""},
    "prepared": PREPARED,
    "fit": {
        "tasks": list(TASKS), "parameters": 12345, "best_epoch": 2, "epochs": 3, "seconds": 4.25,
        "validation": losses(0.4, 0.6, None, 0.3),
        "calibration": {
            "click": {"method": "platt", "n": 50, "nats": [0.5, 0.25], "ece": [0.1, None]},
            "cart": {"method": "none", "why": "too few", "n": 2},
        },
    },
}  # fmt: skip
EVALUATION: dict[str, Any] = {
    "split": "test",
    "tasks": {
        "click": {
            "auc": 0.75, "auc_interval": [0.7, 0.8], "ceiling_auc": 0.9, "log_loss": 0.25,
            "ece": 0.01, "predicted_over_observed": 1.1, "n": 1000, "positives": 160,
            "reliability": POINTS, "reliability_before": [[0.2, 0.125, 80.0], [0.5, 0.25, 80.0]],
            "leak_alarm": True,
        },
        "cart": {"auc": 0.5, "auc_interval": [0.4, 0.6], "n": 9, "reliability": POINTS},
        "profile.<b>": {"macro_f1": 0.5, "macro_f1_interval": None, "auc": None, "n": 4},
        "value": {"gini": 0.25, "gini_interval": [0.1, 0.4], "n": 7},
    },
}  # fmt: skip
RECEIPT: dict[str, Any] = {
    "tasks": {
        "click": {"verdict": "HURTS", "difference": -0.01, "interval": [-0.02, -0.005],
                  "smallest_detectable": 0.008, "single": 0.76, "multi": 0.75},
        "cart": {"verdict": "UNDECIDED", "difference": None, "interval": None,
                 "smallest_detectable": None, "single": None, "multi": None},
    },
    "cost": {},
}  # fmt: skip


def probe(at: int, step: int, click_to_cart: float, cosine: float) -> dict[str, Any]:
    affinity = [[0.01, click_to_cart], [None, 0.01]]
    grams = {"item": [[4.0, 2 * cosine], [2 * cosine, 1.0]], "user": [[1.0, None], [None, None]]}
    return {
        "epoch": at,
        "step": step,
        "tasks": ["click", "cart"],
        "affinity": affinity,
        "grams": grams,
    }


PROBES = [probe(0, 1, 0.001, 0.5), probe(0, 5, -0.002, -0.25), probe(1, 3, 0.003, 0.125)]
FULL = Found(
    "folder", MANIFEST, EVALUATION,
    [epoch(1, 0.5, 0.4, None, 0.4), epoch(2, 0.4, 0.6, None, 0.3), epoch(3, 0.45, 0.7, None, 0.2)],
    PROBES, PREPARED, RECEIPT,
)  # fmt: skip
BEGUN = Found("folder", epochs=FULL.epochs[:1])


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("found", [FULL, BEGUN, replace(FULL, epochs=(), receipt=None, probes=())])
def test_a_page_is_whole_by_itself_and_escapes_what_shops_write(found: Found, lang: str) -> None:
    html = run_page(found, lang=lang)
    reader = read(html)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "img", "b", "shop")]
    assert not re.findall(r"(?:https?:)?//|url\((?!#)|@import|\bnan\b", html)
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    if found.manifest is not None:
        assert "tiny <shop>" in "".join(reader.words)


def test_a_chinese_page_has_no_english_words_left() -> None:
    shown = " ".join(read(run_page(FULL, lang="zh")).words)
    allowed = (
        *TASKS, "tiny <shop>", "AUC", "ECE", "F1", "UTC", "daogou fit", "ple", "fixed", "platt",
        "none", "too few", "auc", "macro_f1", "gini", "gates.0", "nat", "items", "events",
        "odd <column>", "a note", "no user", "small",
        *(f"{part}.{key}" for part, name in (("fit", "settings"), ("model", "shape"))
          for key in MANIFEST[name]),
    )  # fmt: skip
    for word in sorted(allowed, key=len, reverse=True):
        shown = shown.replace(word, "")
    assert re.findall(r"[A-Za-z]{2,}", shown) == []


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    def gaps(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert WORDS["en"].keys() == WORDS["zh"].keys()
    assert {key: gaps(text) for key, text in WORDS["en"].items()} == {
        key: gaps(text) for key, text in WORDS["zh"].items()
    }


def test_the_summary_says_what_is_wrong_first() -> None:
    said = sentences(FULL)
    assert said[0].startswith("leak alarm: click")
    assert said[1].startswith("Ranks better than chance") and "click (0.750)" in said[1]
    assert said[2].startswith("Not surely better than chance: cart (0.500)")
    # 0.6 over 0.5 is 1.2; what is undefined is left out.
    assert (
        said[3].startswith("On validation no better than one constant") and "cart (1.20)" in said[3]
    )
    assert said[4].endswith("in the kept epoch: gates.0 expert 3.")
    assert said[5:] == [
        "Together against alone, hurts: click.", "Together against alone, undecided: cart.",
    ]  # fmt: skip


def test_a_run_under_way_is_drawn_as_far_as_it_is() -> None:
    assert sentences(BEGUN)[0] == "This run is not finished: 1 epochs so far."
    html = run_page(BEGUN)
    assert "How it learnt" in html and "Whether its chances come true" not in html


def plots(html: str) -> dict[str, str]:
    """What each plot says aloud, by its title."""
    labels = re.findall(r'<svg class="plot"[^>]*aria-label="([^"]*)"', html)
    return {label.split(". ")[0]: label for label in labels}


def test_losses_are_drawn_since_their_first_epoch_and_the_kept_one_is_marked() -> None:
    html = run_page(FULL)
    said = plots(html)
    # 0.4 stays; 0.5 -> 0.45 is 0.9 of it. A training loss below 0 has no ratio: 0.2 - 0.4.
    assert said["click: loss by epoch"].endswith("training: 1 → 1; validation: 1 → 0.9")
    assert said["value: loss by epoch"].endswith("training: 0 → 0; validation: 0 → −0.2")
    assert html.count(">kept</text>") == len(TASKS)


def test_calibration_curves_show_before_and_after() -> None:
    html = run_page(FULL)
    assert ">before calibration</text>" in html
    assert "before calibration: 0.125 → 0.25; as answered: 0.125 → 0.25" in plots(html)["click"]
    assert "before" not in plots(html)["cart"]
    assert "0.5000 → 0.2500" in html and "too few" in html


def test_an_expert_that_is_closed_to_a_gate_is_a_dash() -> None:
    html = run_page(FULL)
    titles = re.findall(r'<g role="cell"><title>([^<]*)</title>', html)
    assert titles[:3] == ["click → expert 1: 75", "click → expert 2: 25", "click → expert 3: –"]
    # Three gates for the funnel's click, cart and value.
    assert "value → expert 1: 100" in titles


def test_pairs_of_tasks_are_drawn_over_time() -> None:
    html = over_time(PROBES)
    said = plots(html)
    # 0.001 is 10 ten-thousandths; the cosine is 2c / sqrt(4 * 1) = c, of the part that both have.
    assert "click → cart: 10 → 30" in said["Look-ahead by epoch"]
    assert "click &amp; cart: 0.5 → 0.125" in said["Cosine of gradients by epoch"]
    assert over_time([]) == ""


def test_a_step_that_was_probed_twice_is_drawn_once_in_its_place() -> None:
    """A kill between a probe and its epoch's checkpoint has the steps probed again, later."""
    stale = [probe(1, 3, 0.009, 0.5), probe(0, 5, 0.009, 0.5)]
    assert over_time([*PROBES[:1], *stale, *PROBES[1:]]) == over_time(PROBES)


def test_the_receipt_is_shown_with_its_verdicts() -> None:
    html = run_page(FULL)
    assert "−0.0100 hurts" in html and "– undecided" in html
    assert "Whether sharing helps" not in run_page(replace(FULL, receipt=None))


@pytest.mark.parametrize(
    ("lang", "words"), [("en", "an expert and rows"), ("zh", "一个专家和行向量")]
)
def test_a_guarded_run_says_which_stages_got_layers_of_their_own(lang: str, words: str) -> None:
    entry = {
        "verdict": "HELPS", "difference": 0.01, "interval": [0.002, 0.02], "single": 0.7,
        "multi": 0.71, "own": "rows", "metric": "auc", "smallest_detectable": None,
    }  # fmt: skip
    receipt = {"kind": "guard", "margin": 0.005, "tasks": {"cart": entry}}
    page = run_page(replace(FULL, receipt=receipt), lang=lang)
    assert words in page and "0.002" in page


def test_what_was_read_is_counted() -> None:
    words = read(run_page(FULL)).words
    for word in ("12,345", "labels missing: cart", "dropped: no user", "odd <column>", "a note"):
        assert word in words
    assert "users with profile labels" not in words  # there are none
    assert "Validation from 2024-03-13 15:43, test from 2024-03-22 15:58 (UTC)." in words


def test_the_terminal_has_a_row_for_each_epoch() -> None:
    text = drawn(terminal.training(FULL.epochs, 2))
    assert cells(text, "2*")[:4] == ["2*", "0.9000", "0.8000", "1.2000"]
    assert cells(text, "1")[4] == "-"
    assert "轮" in drawn(terminal.training([], lang="zh"))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_run_of_several_shops_says_what_left_them(lang: str) -> None:
    federated = {
        "shops": 5, "rounds": 7,
        "privacy": {"unit": "user", "units": 800, "noise": 1.5, "clip": 1.0, "share": 0.1,
                    "steps": 140, "delta": 0.001, "epsilon": 3.456},
        "audit": {"auc": 0.512, "tpr": None, "users": [800, 200]},
    }  # fmt: skip
    alone = sentences(Found("", MANIFEST), lang=lang)
    found = Found("", {**MANIFEST, "federated": federated})
    first, private, audited = [each for each in sentences(found, lang=lang) if each not in alone]
    assert "5" in first and "7" in first
    assert "3.46" in private and "1.0e-03" in private and "140" in private and "1.5" in private
    assert "0.512" in audited and "–" in audited and "800" in audited and "200" in audited
    nothing = {**federated, "privacy": None, "audit": None}
    told = sentences(Found("", {**MANIFEST, "federated": nothing}), lang=lang)
    assert [each for each in told if each not in alone] == [first]
    proved = {"auc": 0.75, "canaries": 200, "confidence": 0.95, "epsilon": 0.876, "right": 41,
              "guesses": 50}  # fmt: skip
    told = sentences(
        Found("", {**MANIFEST, "federated": {**nothing, "canaries": proved}}), lang=lang
    )
    (canaries,) = [each for each in told if each not in [*alone, first]]
    assert all(each in canaries for each in ("200", "41", "50", "0.750", "0.88", "95"))
    labels = {"unit": "label", "units": 800, "delta": 0.0, "epsilon": 2.0}
    of_labels = {**federated, "privacy": labels, "audit": None}
    told = sentences(Found("", {**MANIFEST, "federated": of_labels}), lang=lang)
    (chance,) = [each for each in told if each not in [*alone, first]]
    assert "2.00" in chance
