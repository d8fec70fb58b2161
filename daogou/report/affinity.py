"""Probes of a training to how much one task's step helped another, as training went on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daogou.report.axes import Series
from daogou.report.found import Document
from daogou.report.numbers import is_number, mean_of, times
from daogou.report.page import paragraph, section
from daogou.report.plot import grid, line_chart
from daogou.report.relate import AFFINITY
from daogou.report.svg import Frame
from daogou.report.words.run import WORDS

_SHOWN: Final = 6  # pairs of tasks that are drawn over time, and gates that are not folded away


def mean_affinity(probes: Sequence[Document]) -> Document | None:
    """How much a step for one task (row) lowers another's held-out loss, over all probes.

    ``tasks`` and the ``share [T, T]`` of itself by which it falls, None where it was never seen;
    None without probes.
    """
    if not probes:
        return None
    tasks, probes = probes[-1]["tasks"], _in_order(probes)
    each = range(len(tasks))
    return {
        "tasks": tasks,
        "share": [
            [mean_of([_entry(one["affinity"], (i, j)) for one in probes]) for j in each]
            for i in each
        ],
    }


def _in_order(probes: Sequence[Document]) -> list[Document]:
    """The last record of each step: a run that was taken up again has probed some twice."""
    last = {(one["epoch"], one["step"]): one for one in probes}
    return [last[step] for step in sorted(last)]


def over_time(probes: Sequence[Document], *, lang: str = "en") -> str:
    """A section of how much one task's step helped another's loss as training went on.

    ``probes`` are the records of a probes.jsonl: affinities and Grams of all pairs at some steps.
    """
    affinity = mean_affinity(probes)
    if affinity is None:
        return ""
    words, names, size = WORDS[lang], affinity["tasks"], affinity["share"]
    probes = _in_order(probes)
    x = _moments(probes)
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    shown = sorted(pairs, key=lambda pair: -abs(size[pair[0]][pair[1]] or 0.0))[:_SHOWN]
    cosines = {pair: [_cosine(one["grams"], pair) for one in probes] for pair in pairs}

    def named(key: str, pair: tuple[int, int]) -> str:
        return words[key].format(giver=names[pair[0]], receiver=names[pair[1]])

    ahead = [
        Series(
            named("pair", pair),
            x,
            [times(_entry(one["affinity"], pair), AFFINITY) for one in probes],
        )
        for pair in shown
    ]
    unordered = list(dict.fromkeys((min(pair), max(pair)) for pair in shown))
    angles = [Series(named("both", pair), x, cosines[pair]) for pair in unordered]
    conflict = [
        Series(
            words["by_ahead"],
            x,
            [_share_below([_entry(one["affinity"], pair) for pair in pairs]) for one in probes],
        ),
        Series(
            words["by_cosine"],
            x,
            [_share_below([cosines[pair][k] for pair in pairs]) for k in range(len(probes))],
        ),
    ]
    note = words["over_time_note"].format(n=len(shown))
    level, epoch = (0.0, words["nothing"]), words["epoch"]
    frames = (
        Frame(words["ahead_title"], note, epoch, words["ahead_unit"], height=290),
        Frame(words["cosine_title"], words["cosine_said"], epoch, words["cosine_unit"], height=290),
        Frame(
            words["conflict_title"], words["conflict_said"], epoch, words["conflict_unit"],
            y_range=(0.0, 100.0),
        ),
    )  # fmt: skip
    charts = [
        line_chart(frames[0], ahead, level=level),
        line_chart(frames[1], angles, level=level),
        line_chart(frames[2], conflict),
    ]
    return section(words["over_time"], paragraph(note, note=True), grid(charts))


def _moments(probes: Sequence[Document]) -> list[float]:
    """When each probe was, in epochs: those of one lie at the middles of equal parts of it."""
    counts: dict[int, int] = {}
    for one in probes:
        counts[one["epoch"]] = counts.get(one["epoch"], 0) + 1
    seen: dict[int, int] = {}
    moments = []
    for one in probes:
        place = seen.get(one["epoch"], 0)
        seen[one["epoch"]] = place + 1
        moments.append(one["epoch"] + (place + 0.5) / counts[one["epoch"]])
    return moments


def _entry(matrix: Sequence[Sequence[float | None]], pair: tuple[int, int]) -> float | None:
    value = matrix[pair[0]][pair[1]]
    return value if is_number(value) else None


def _cosine(grams: Mapping[str, Any], pair: tuple[int, int]) -> float | None:
    """The mean over the parts in which both tasks have a gradient."""
    i, j = pair
    cosines = []
    for gram in grams.values():
        between, own = _entry(gram, pair), (_entry(gram, (i, i)), _entry(gram, (j, j)))
        if between is not None and own[0] and own[1] and own[0] > 0 and own[1] > 0:
            cosines.append(between / math.sqrt(own[0] * own[1]))
    return mean_of(cosines)


def _share_below(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return 100 * sum(value < 0 for value in known) / len(known) if known else None
