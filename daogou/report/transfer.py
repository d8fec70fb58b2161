"""A transfer to its report: what the other shop's run was worth here, in English or Chinese."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from daogou.report.axes import Series
from daogou.report.numbers import DIGITS, interval, plain
from daogou.report.page import bullets, number, page, paragraph, section, table
from daogou.report.plot import grid, line_chart
from daogou.report.svg import Frame
from daogou.report.words import Words
from daogou.report.words.transfer import WORDS

Document = Mapping[str, Any]


SCRATCH: Final = "scratch"


def transfer_page(document: Document, *, lang: str = "en") -> str:
    """The HTML of a document of `learn.transfer.transfer`: one page, no network, no script."""
    words = WORDS[lang]
    lead = words["lead"].format(
        n=document["n"],
        seeds=len(document["seeds"]),
        margin=document["margin"],
        chosen=document["chosen"],
    )
    body = [
        section(words["summary"], bullets(sentences(document, lang=lang))),
        _curves(document, words),
        section(
            words["numbers"],
            paragraph(words["numbers_note"], note=True),
            table(*numbers(document, lang=lang), numbers_from=3),
        ),
        _source(document, words),
        _choice(document, words),
    ]
    title = words["title"].format(source=document["source"]["shop"], shop=document["shop"])
    return page(title, [each for each in body if each], lead=lead, lang=lang)


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The document in plain words, what was decided first."""
    words, chosen = WORDS[lang], document["chosen"]
    which = "kept" if document["how"] != "auto" else "auto"
    which = "auto.scratch" if (which, chosen) == ("auto", SCRATCH) else which
    said = [words[which].format(way=chosen)]
    for way, tasks in document["sizes"][str(document["n"])]["against"].items():
        told = [
            words["task_said"].format(
                name=name,
                verdict=words[entry["verdict"]],
                difference=number(entry["difference"], DIGITS),
            )
            for name, entry in tasks.items()
        ]
        said.append(words["said"].format(way=way, n=document["n"], tasks=words["and"].join(told)))
    said += _worths(document, words)
    kinds = [
        words["kind"].format(some=some, all=whole, kind=kind)
        for kind, (some, whole) in document["shared"].items()
    ]
    return [*said, words["shared"].format(kinds=words["and"].join(kinds))]


def _worths(document: Document, words: Words) -> Iterator[str]:
    """Of each way the factor for the first task at the size that is nearest to 1,000."""
    for way, tasks in document["equivalence"].items():
        name, by_size = next(iter(tasks.items()))
        if not by_size:
            continue
        n = min(by_size, key=lambda size: abs(math.log(int(size) / 1000)))
        if by_size[n]["factor"] is not None:
            yield words["worth"].format(
                n=n, way=way, name=name, factor=_factor(by_size[n], words)
            )  # fmt: skip


def _factor(entry: Document | None, words: Words) -> str:
    if entry is None or entry["factor"] is None or not math.isfinite(entry["factor"]):
        return "–"
    said = f"{entry['factor']:.1f}"
    return words[entry["bound"]].format(factor=said) if entry["bound"] else said


def numbers(document: Document, *, lang: str = "en") -> tuple[list[str], list[list[str]]]:
    """Heads and a row for each size, task and way."""
    words = WORDS[lang]
    keys = ("exposures", "task", "way", "value", "difference", "interval", "verdict", "samples")
    rows = []
    for n, found in document["sizes"].items():
        for name in found["values"][SCRATCH]:
            for way, values in found["values"].items():
                if name not in values:
                    continue
                entry = found["against"].get(way, {}).get(name)
                samples = document["equivalence"].get(way, {}).get(name, {}).get(n)
                rows.append(
                    [n, name, way, plain(_mean(values[name]))]
                    + (
                        [
                            number(entry["difference"], DIGITS),
                            interval(entry),
                            words[entry["verdict"]],
                            _factor(samples, words),
                        ]
                        if entry
                        else ["–"] * 4
                    )
                )
    return [words[key] for key in keys], rows


def _curves(document: Document, words: Words) -> str:
    sizes = list(document["sizes"])
    if len(sizes) < 2:
        return ""
    plots = []
    for name in document["sizes"][sizes[0]]["values"][SCRATCH]:
        series = []
        for way in document["sizes"][sizes[0]]["values"]:
            told = [
                (math.log10(int(n)), _mean(found["values"][way][name]))
                for n, found in document["sizes"].items()
                if name in found["values"].get(way, {})
            ]
            series.append(Series(way, [x for x, _ in told], [y for _, y in told]))
        metric = next(
            (each[name]["metric"] for each in document["sizes"][sizes[-1]]["against"].values()
             if name in each), ""
        )  # fmt: skip
        frame = Frame(name, words["curves_note"], words["x"], metric)
        plots.append(line_chart(frame, series))
    return section(words["curves"], paragraph(words["curves_note"], note=True), grid(plots))


def _source(document: Document, words: Words) -> str:
    told = document["source_tasks"]
    if not told["after"]:
        return ""
    ways = list(told["after"])
    rows = [
        [name, plain(value)]
        + [
            f"{plain(told['after'][way].get(name))} "
            f"({number(_less(told['after'][way].get(name), value), DIGITS)})"
            for way in ways
        ]
        for name, value in told["before"].items()
    ]
    heads = [words["task"], words["before"], *ways]
    return section(
        words["source"], paragraph(words["source_note"], note=True), table(heads, rows)
    )  # fmt: skip


def _choice(document: Document, words: Words) -> str:
    heads = [words[key] for key in ("way", "task", "difference", "interval", "verdict")]
    rows = [
        [way, name, number(each["difference"], DIGITS), interval(each), words[each["verdict"]]]
        for way, told in document["choice"].items()
        for name, each in told["tasks"].items()
    ]
    if not rows:
        return ""
    return section(
        words["choice"],
        paragraph(words["choice_note"], note=True),
        table(heads, rows, numbers_from=2),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(known) if known else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
