"""What a search for settings tried to one page, in English or Chinese."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from daogou.report.axes import Series
from daogou.report.numbers import is_number, plain
from daogou.report.page import bullets, folded, page, paragraph, section, table
from daogou.report.plot import grid, line_chart, scatter
from daogou.report.svg import Frame
from daogou.report.words import Words
from daogou.report.words.tune import WORDS

Document = Mapping[str, Any]


_PAIRS: Final = 4  # pairs of tasks that are drawn

_SHOWN: Final = 10  # trials that are not folded away


def tune_page(document: Document, *, lang: str = "en") -> str:
    """The HTML of a document of `learn.tune.tune`: one page, no network, no script."""
    words = WORDS[lang]
    objective = document["objective"]
    lead = words["lead"].format(
        n=len(document["trials"]),
        sampler=document["sampler"],
        objective=words["joint"] if objective == "joint" else objective,
    )
    body = [
        section(words["summary"], bullets(sentences(document, lang=lang))),
        _front(document, words),
        _progress(document, words),
        _by_setting(document, words),
        _trials(document, words),
    ]
    title = words["title"].format(shop=document["shop"])
    return page(title, [each for each in body if each], lead=lead, lang=lang)


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The search in plain words."""
    words = WORDS[lang]
    best = document["best"]
    said = [words["none"]]
    if best is not None:
        said = [
            words["best"].format(
                number=best["number"], score=plain(best["score"]), settings=_settings(best, words)
            )
        ]
    said.append(words["counts"].format(**document["counts"]))
    if len(document["pareto"]) > 1:
        numbers = words["and"].join(map(str, document["pareto"]))
        said.append(words["pareto"].format(n=len(document["pareto"]), numbers=numbers))
    return said + ([words["luck"]] if best is not None else [])


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other beats in one number without losing in the other.

    Lower is better; from the left.

    >>> front_of([(1.0, 3.0), (2.0, 2.0), (2.0, 2.5), (3.0, 2.0)])
    [0, 1]
    """
    kept: list[int] = []
    for place in sorted(range(len(points)), key=lambda each: points[each]):
        if not kept or points[place][1] < points[kept[-1]][1]:
            kept.append(place)
    return kept


def _finished(document: Document) -> list[Document]:
    return [
        one
        for one in document["trials"]
        if one["state"] == "finished" and is_number(one.get("score"))
    ]


def _front(document: Document, words: Words) -> str:
    finished = _finished(document)
    tasks = [
        task
        for task in (finished[0]["relative"] if finished else ())
        if all(is_number(one["relative"].get(task)) for one in finished)
    ]
    plots = []
    for second in tasks[1 : _PAIRS + 1]:
        first = tasks[0]
        points = [(one["relative"][first], one["relative"][second]) for one in finished]
        line = [points[place] for place in front_of(points)]
        best = (document["best"] or {}).get("number")
        chosen = [
            point for one, point in zip(finished, points, strict=True) if one["number"] == best
        ]
        frame = Frame(
            words["front_of"].format(first=first, second=second),
            words["front_note"],
            words["loss_of"].format(task=first),
            words["loss_of"].format(task=second),
        )
        series = [
            _points(words["trials"], points, joined=False),
            _points(words["front_line"], line, joined=True),
            _points(words["chosen"], chosen, joined=False),
        ]
        plots.append(scatter(frame, series))
    if not plots:
        return ""
    return section(words["front"], paragraph(words["front_note"], note=True), grid(plots))


def _points(name: str, points: Sequence[tuple[float, float]], *, joined: bool) -> Series:
    return Series(name, [x for x, _ in points], [y for _, y in points], joined=joined)


def _progress(document: Document, words: Words) -> str:
    finished = sorted(_finished(document), key=lambda one: int(one["number"]))
    if not finished:
        return ""
    x = [one["number"] for one in finished]
    scores = [one["score"] for one in finished]
    best = [min(scores[: place + 1]) for place in range(len(scores))]
    frame = Frame(words["progress_title"], words["progress_note"], words["trial"], words["score"])
    series = [Series(words["so_far"], x, best), Series(words["each"], x, scores, joined=False)]
    return section(
        words["progress"],
        paragraph(words["progress_note"], note=True),
        grid([line_chart(frame, series)]),
    )


def _by_setting(document: Document, words: Words) -> str:
    plots = []
    for setting, span in document["space"].items():
        told = [
            (one["settings"][setting], one["score"])
            for one in _finished(document)
            if _is_plain_number(one["settings"].get(setting))
        ]
        if len({value for value, _ in told}) < 2:
            continue
        is_log = bool(span.get("log")) and all(value > 0 for value, _ in told)
        axis = words["log_of"].format(setting=setting) if is_log else setting
        points = [(math.log10(value) if is_log else value, score) for value, score in told]
        frame = Frame(
            words["setting_of"].format(setting=setting), words["settings_note"], axis,
            words["score"],
        )  # fmt: skip
        plots.append(scatter(frame, [_points("", points, joined=False)]))
    if not plots:
        return ""
    return section(
        words["settings_title"], paragraph(words["settings_note"], note=True), grid(plots)
    )


def _trials(document: Document, words: Words) -> str:
    heads = [words[key] for key in ("trial", "state", "settings", "score", "epoch", "seconds")]
    rows = list(_rows(document, words))
    body = [paragraph(words["table_note"], note=True), table(heads, rows[:_SHOWN], numbers_from=3)]
    if len(rows) > _SHOWN:
        whole = table(heads, rows, numbers_from=3)
        body.append(folded(words["all"].format(n=len(rows)), whole))
    return section(words["table"], *body)


def _rows(document: Document, words: Words) -> Iterator[list[str]]:
    """Trials from the best; those without a score last."""

    def place(one: Document) -> tuple[bool, bool, float]:
        score = one.get("score")
        return one["state"] != "finished", not is_number(score), score or 0.0

    for one in sorted(document["trials"], key=place):
        mark = " ★" if one["number"] in document["pareto"] else ""
        yield [
            f"{one['number']}{mark}",
            words[one["state"]],
            _settings(one, words),
            plain(one.get("score")),
            "–" if one.get("best_epoch") is None else str(one["best_epoch"]),
            plain(one.get("seconds"), 1),
        ]


def _settings(trial: Document, words: Words) -> str:
    return words["and"].join(
        f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in trial["settings"].items()
    )


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
