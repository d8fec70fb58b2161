"""Plots: where points stand, what tells series apart without colour, and what is said aloud."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daogou.report.axes import Series, scale
from daogou.report.lying import Row
from daogou.report.plot import bars, calibration_curve, forest, grid, line_chart, scatter
from daogou.report.svg import Frame

NAN = float("nan")
FRAME = Frame("Loss <&> by epoch", "How it falls.", "epoch", "loss, nats")
TWO = [Series("train", [1, 2, 3], [0.9, 0.8, 0.7]), Series("held", [1, 2, 3], [0.9, 0.85, 0.86])]
ROWS = [
    Row("click", 0.02, 0.01, 0.03),
    Row("a name <that> is longer than a plot is wide", -0.01, -0.03, 0.01, said="HURTS"),
    Row("unknown", None),
]
PLOTS: dict[str, str] = {
    "line": line_chart(FRAME, TWO, marked=(2, "kept"), level=(0.88, "constant")),
    "scatter": scatter(FRAME, [Series("", [1, 2], [3, 4], labels=["#1", "#2"], joined=False)]),
    "calibration": calibration_curve(
        FRAME, [Series("said", [0.1, 0.2], [0.1, 0.3], low=[0.0, 0.2], high=[0.2, 0.9])]
    ),
    "forest": forest(FRAME, ROWS, zero=0.0, margin=0.005),
    "bars": bars(FRAME, ROWS),
    "nothing": line_chart(FRAME, [Series("none", [1, 2], [None, NAN])]),
    "empty": line_chart(FRAME, []),
    "one": line_chart(FRAME, [Series("one", [3], [0.0])]),
    "no rows": forest(FRAME, []),
}


def tree(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def marks(svg: str) -> list[ET.Element]:
    return [each for each in tree(svg).iter() if "mark" in each.get("class", "").split()]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_whole_says_what_it_shows_and_asks_nobody(name: str) -> None:
    svg = PLOTS[name]
    root = tree(svg)
    assert root.get("role") == "img"
    assert (root.get("aria-label") or "").startswith("Loss <&> by epoch. How it falls.")
    assert [each.text for each in list(root)[:2]] == ["Loss <&> by epoch", "How it falls."]
    assert not re.search(r"script|https?:|url\(|href|nan|inf", svg)
    words = [each.text for each in root.iter("text")]
    assert "epoch" in words


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_is_drawn_outside(name: str) -> None:
    root = tree(PLOTS[name])
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for each in root.iter():
        for key, most in (("x", width), ("x1", width), ("cx", width), ("y", height)):
            assert -0.5 <= float(each.get(key, 0)) <= most + 0.5


def test_series_are_told_apart_without_colour() -> None:
    svg = line_chart(FRAME, [Series(str(i), [1, 2], [i, i + 1]) for i in range(12)])
    lines = [each for each in tree(svg).iter("path") if "series" in each.get("class", "")]
    looks = set()
    for line in lines[12:]:  # after the legend's
        looks.add(line.get("stroke-dasharray"))
    assert len(looks) == 6
    shapes = {
        (
            each.tag,
            len(each.get("points", "").split()),
            each.get("points", "0,0 0,0")[-4:] if each.tag == "polygon" else "",
            each.get("fill"),
        )
        for each in marks(svg)
        if each.find("title") is None  # the legend's
    }
    assert len({(tag, n, fill) for tag, n, _, fill in shapes}) >= 8
    assert not re.search(r"#[0-9a-f]{3,6}\b", svg)  # colour is the page's


def test_points_stand_where_their_numbers_say() -> None:
    # From 0 to 4 and from 0 to 2: the second point is half way in both.
    svg = line_chart(
        Frame("t", "d", "x", "y", x_range=(0, 4), y_range=(0, 2)), [Series("", [0, 2], [0, 1])]
    )
    axis = next(each for each in tree(svg).iter("path") if each.get("class") == "frame")
    left, top, bottom, right = map(float, re.findall(r"[\d.]+", axis.get("d", "")))
    low, middle = ((float(e.get("cx", 0)), float(e.get("cy", 0))) for e in marks(svg))
    assert low == pytest.approx((left + 8, bottom), abs=0.1)
    assert middle == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.1)


def test_a_missing_number_is_a_gap_in_the_line() -> None:
    svg = line_chart(FRAME, [Series("", [1, 2, 3, 4, 5], [1, 2, None, 4, 5])])
    lines = [each for each in tree(svg).iter("path") if "series" in each.get("class", "")]
    assert [len(each.get("d", "").split()) for each in lines] == [4, 4]
    assert len(marks(svg)) == 4


def test_a_pointer_and_a_reader_hear_the_numbers() -> None:
    root = tree(PLOTS["line"])
    assert "train: 0.9 → 0.7; held: 0.9 → 0.86" in (root.get("aria-label") or "")
    said = [(each.find("title").text) for each in marks(PLOTS["line"]) if list(each)]  # type: ignore[union-attr]
    assert "train: 2, 0.8" in said


def test_a_row_has_its_whole_name_and_its_number() -> None:
    root = tree(PLOTS["forest"])
    titles = [each.text for each in root.iter("title")]
    assert "a name <that> is longer than a plot is wide" in titles
    shown = ["".join(each.itertext()) for each in root.iter("text")]
    assert {"0.02", "HURTS", "–"} <= set(shown)
    assert "unknown: –" in (root.get("aria-label") or "")


def test_words_make_way_for_a_line() -> None:
    def height(svg: str) -> float:
        (word,) = (each for each in tree(svg).iter("text") if each.text == "constant")
        return float(word.get("y", 0))

    frame = Frame("t", "d", "x", "y", y_range=(0, 2))
    below = line_chart(frame, [Series("", [1, 2, 3], [0.9, 0.9, 0.9])], level=(1.0, "constant"))
    above = line_chart(frame, [Series("", [1, 2, 3], [1.1, 1.1, 1.1])], level=(1.0, "constant"))
    assert height(below) < height(above)


def test_a_grid_leaves_out_what_is_empty() -> None:
    assert grid(["", ""]) == ""
    assert grid(["<svg/>", ""]).count("<figure>") == 1


numbers: Any = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(st.lists(numbers, min_size=1, max_size=6))
def test_a_scale_holds_its_values_and_its_ticks(values: list[float]) -> None:
    found = scale(values, 10, 110)
    unseen = found.step / 1e5
    assert found.low - unseen <= min(values) and max(values) <= found.high + unseen
    assert all(9.99 <= found.at(tick) <= 110.01 for tick in found.ticks)
    assert 2 <= len(found.ticks) <= 9
    assert len({found.written(tick) for tick in found.ticks}) == len(found.ticks)


@given(st.lists(st.integers(-50, 10**6), min_size=1, max_size=6))
def test_ticks_of_whole_numbers_are_whole(values: list[int]) -> None:
    assert all(tick == round(tick) for tick in scale(values, 0, 100, round_ends=False).ticks)
