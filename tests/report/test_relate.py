"""The page about which tasks help which: what it says, in both languages, and who can read it."""

import re
from html.parser import HTMLParser
from string import Formatter
from typing import Any

import pytest

from daogou.report import terminal
from daogou.report.page import HeatMap, heat_map, page, table
from daogou.report.relate import pairs, relation, sentences
from daogou.report.words.relate import WORDS
from tests.report.test_terminal import cells, drawn

NAMES = ("click", "buy", "<b>&")


def grid(*rows: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    return {
        giver: dict(zip(NAMES, row, strict=True)) for giver, row in zip(NAMES, rows, strict=True)
    }


NO = (False, False, False)
FULL: dict[str, Any] = {
    "shop": "tiny <shop>",
    "seed": 3,
    "tasks": [{"name": name, "family": "funnel", "weight": 1.0} for name in NAMES],
    "kept_epoch": 4,
    "affinity": {
        "mean": grid((0.01, 0.002, None), (-0.0003, 0.01, 0.0), (0.0, 0.0, 0.01)),
        "se": grid((0.0, 0.0, None), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        "clear": grid((True, True, False), (True, True, False), NO),
        "n_probes": 16,
    },
    "gradients": {
        "item.rows": {
            "cosine": grid((1.0, 0.25, None), (0.25, 1.0, None), (None, None, None)),
            "magnitude_similarity": grid((1.0, 0.5, None), (0.5, 1.0, None), (None, None, None)),
        }
    },
    "leave_out": {
        "transfer": grid((None, 0.032, 0.001), (-0.05, None, 0.001), (0.0, 0.0, None)),
        "noise": dict.fromkeys(NAMES, 0.003),
        "margin": dict.fromkeys(NAMES, 0.01),
        "beyond_noise": grid((False, True, False), (True, False, False), NO),
        "relative_loss": {run: {} for run in ("all", "seed-4", "seed-5", "without-click")},
    },
    "agreement": {"affinity": 0.51, "cosine": -0.02, "n": 6},
    "groups": [],
    "groups_by_leave_out": [],
}  # fmt: skip


def group(*names: str) -> dict[str, Any]:
    got = dict.fromkeys(
        ("affinity_from_group", "affinity_from_others", "transfer_from_group",
         "transfer_from_others"), 0.001,
    )  # fmt: skip
    return {"tasks": list(names), "members": {name: got for name in names}}


FULL["groups"] = [group(*NAMES)]
FULL["groups_by_leave_out"] = [group("click"), group("buy", "<b>&")]
SHORT = {**FULL, "leave_out": None, "agreement": None, "groups_by_leave_out": None}


class Reader(HTMLParser):
    """Words a person sees, and whether every element is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("document", [FULL, SHORT])
def test_a_page_is_whole_by_itself_and_escapes_what_shops_write(
    document: dict[str, Any], lang: str
) -> None:
    html = relation(document, lang=lang)
    reader = read(html)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "img", "b")]
    assert not re.findall(r"(?:https?:)?//|url\((?!#)|@import", html)
    ids = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {hit for hit in re.findall(r"url\(#([^)]+)\)", html)} <= set(ids)
    assert "tiny <shop>" in "".join(reader.words)


def test_a_chinese_page_has_no_english_words_left() -> None:
    shown = " ".join(read(relation(FULL, lang="zh")).words)
    for name in (*NAMES, "tiny <shop>", *("Fifty et al., Efficiently Identifying Task Groupings "
                 "for Multi-Task Learning, NeurIPS", "AUC", "dropout")):  # fmt: skip
        shown = shown.replace(name, "")
    assert re.findall(r"[A-Za-z]{2,}", shown) == []


def test_both_languages_have_the_same_words_with_the_same_gaps() -> None:
    def gaps(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert WORDS["en"].keys() == WORDS["zh"].keys()
    assert {key: gaps(text) for key, text in WORDS["en"].items()} == {
        key: gaps(text) for key, text in WORDS["zh"].items()
    }


def test_the_summary_names_what_is_beyond_noise_and_says_that_angles_do_not_decide() -> None:
    said = sentences(FULL)
    assert said[0].startswith("Leaving out shows help: click → buy (+3.2 %).")
    assert said[1].startswith("Leaving out shows harm: buy → click (−5.0 %).")
    assert "click → buy (+20.0‱)" in said[2] and "buy → click (−3.0‱)" in said[3]
    assert said[4] == "Suggested by the look-ahead: click, buy, <b>&."
    assert said[5].endswith("which is the stronger evidence: click | buy, <b>&.")
    assert "0.01 and 0.00 where training together gained 0.028 and lost 0.032" in said[6]
    assert "+0.51, the cosine with −0.02" in said[7]


def test_without_leaving_out_the_summary_says_how_to_get_it() -> None:
    said = sentences(SHORT)
    assert "--no-leave-out" in said[0]
    assert said[3] == WORDS["en"]["one_group"]


def test_where_nothing_is_clear_it_says_so() -> None:
    quiet = {
        **FULL,
        "affinity": {**FULL["affinity"], "clear": grid(NO, NO, NO)},
        "leave_out": {**FULL["leave_out"], "beyond_noise": grid(NO, NO, NO)},
    }
    assert sentences(quiet)[:2] == [WORDS["en"]["neither"], WORDS["en"]["ahead_neither"]]


def test_a_pair_has_the_mean_cosine_of_the_parts_where_it_meets() -> None:
    found = {(each.giver, each.receiver): each for each in pairs(FULL)}
    assert len(found) == 6
    assert found["click", "buy"].cosine == 0.25
    assert found["click", "<b>&"].cosine is None


# ---- a heat map ---------------------------------------------------------------------------

MAP = HeatMap(
    "m", "title", "what it is", ("a", "b"), ("a", "b"),
    ((9.0, 0.5), (-1.0, None)), ((True, False), (True, False)), ("gives", "receives"), own=True,
)  # fmt: skip


def test_a_heat_map_is_a_table_of_numbers_to_a_screen_reader() -> None:
    reader = read(heat_map(MAP))
    roles = [attributes.get("role") for _, attributes in reader.tags]
    assert roles.count("table") == 1 and roles.count("row") == 3
    assert roles.count("columnheader") == 3 and roles.count("rowheader") == 2
    assert roles.count("cell") == 4
    (whole,) = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert whole["aria-label"] == "title: what it is"
    assert "b → a: −1.0" in reader.words


def test_harm_is_hatched_and_signed_and_what_is_sure_is_framed() -> None:
    def part(pair: str) -> str:
        return heat_map(MAP).split(f"<title>{pair}: ")[1].split("</g>")[0]

    assert "hatch" in part("b → a") and 'class="hurts"' in part("b → a")
    assert "framed" in part("b → a") and 'fill-opacity="0.63"' in part("b → a")
    assert "hatch" not in part("a → b") and "framed" not in part("a → b")
    assert "−1.0</text>" in part("b → a") and "+0.5</text>" in part("a → b")
    # The diagonal is a number without a colour, and does not set the scale.
    assert "helps" not in part("a → a") and "+9.0" in part("a → a")
    assert "–</text>" in part("b → b")


def test_a_table_and_a_page_escape_their_texts() -> None:
    html = page("<&>", [table(["<h>", "n"], [["<r>", "1 < 2"]])], lead="<l>")
    assert {"<&>", "<l>", "<h>", "<r>", "1 < 2"} <= set(read(html).words)


# ---- the terminal -------------------------------------------------------------------------


def test_in_the_terminal_a_star_is_beyond_noise_and_a_dash_unknown() -> None:
    left, ahead = terminal.relations(FULL)
    assert cells(drawn(left), "buy")[1:] == ["-5.0*", "-", "+0.1"]
    assert cells(drawn(ahead), "click")[1:] == ["+100.00*", "+20.00*", "-"]
    (only,) = terminal.relations(SHORT, lang="zh")
    assert "前瞻一步" in drawn(only)
