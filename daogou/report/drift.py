"""What has changed since a run to its report, in English or Chinese."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daogou.report.lying import Row
from daogou.report.page import bullets, number, page, paragraph, section, table
from daogou.report.plot import bars, forest, grid
from daogou.report.svg import Frame
from daogou.report.words import Words
from daogou.report.words.drift import WORDS

Document = Mapping[str, Any]


KINDS: Final = ("feature", "unknown", "rate", "slope", "auc")

_FAR, _MOVED, _NOT_KNOWN = "far", "moved", "not known"


def drift_page(document: Document, *, lang: str = "en") -> str:
    """The HTML of a document of `learn.drift.drift`: one page, no network, no script."""
    words = WORDS[lang]
    body = [section(words["summary"], bullets(sentences(document, lang=lang)))]
    for kind in KINDS:
        lines = [line for line in document["lines"] if line["kind"] == kind]
        if lines:
            body.append(
                section(
                    words[kind],
                    paragraph(words[f"{kind}.note"], note=True),
                    grid([_drawn(kind, lines, document, words)]),
                    table(*_rows(kind, lines, words)),
                )
            )
    lead = words["lead"].format(n=document["n"], since=document["since"])
    return page(words["title"].format(shop=document["shop"]), body, lead=lead, lang=lang)


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The verdict, what it rests on, what else has changed, and the rule."""
    words = WORDS[lang]

    def named(verdict: str) -> str:
        return ", ".join(
            f"{words[line['kind']]} / {line['name']}"
            for line in document["lines"]
            if line["verdict"] == verdict
        )

    said = [words[document["verdict"]].format(lines=named(_FAR))]
    for verdict in (_MOVED, _NOT_KNOWN):
        if named(verdict):
            said.append(words[f"{verdict}.some"].format(lines=named(verdict)))
    bounds = document["bounds"]
    return [*said, words["rule"].format(feature=bounds["feature"][1], auc=bounds["auc"][1])]


def numbers(document: Document, *, lang: str = "en") -> tuple[list[str], list[list[str]]]:
    """Heads and a row for each line: what it is of, its name, before, now, the change, verdict."""
    words = WORDS[lang]
    heads = [words[key] for key in ("kind", "name", "before", "now", "change", "verdict")]
    rows = [
        [
            words[line["kind"]], line["name"], _said(line.get("before")),
            _said(line.get("now", line.get("slope"))), number(line["change"], 3),
            words[line["verdict"]],
        ]
        for line in document["lines"]
    ]  # fmt: skip
    return heads, rows


def _said(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _interval(line: Document) -> str:
    low, high = line.get("interval") or (None, None)
    return f"{_said(low)} … {_said(high)}"


def _drawn(kind: str, lines: Sequence[Document], document: Document, words: Words) -> str:
    frame = Frame(words[kind], words[f"{kind}.note"], words["change"])
    if kind == "feature":
        rows = [Row(line["name"], max(line["change"] or 0.0, 0.0)) for line in lines]
        return bars(frame, rows)
    value, zero = {"rate": ("ratio", 1.0), "slope": ("slope", 1.0)}.get(kind, ("change", 0.0))
    rows = [
        Row(line["name"], line.get(value), *(line.get("interval") or (None, None)))
        for line in lines
    ]
    return forest(frame, rows, zero=zero)


def _rows(kind: str, lines: Sequence[Document], words: Words) -> tuple[list[str], list[list[str]]]:
    if kind == "feature":
        heads = [words[key] for key in ("name", "change", "noise", "unknown.share", "verdict")]
        return heads, [
            [
                line["name"], number(line["change"], 3), _said(line["noise"]),
                " → ".join(_said(each) for each in line["unknown"]), words[line["verdict"]],
            ]
            for line in lines
        ]  # fmt: skip
    if kind == "slope":
        heads = [words["name"], words["stretch"], words["interval"], "ECE", words["verdict"]]
        return heads, [
            [
                line["name"], _said(line.get("slope")), _interval(line),
                _said(line.get("ece_beyond_noise")), words[line["verdict"]],
            ]
            for line in lines
        ]  # fmt: skip
    heads = [words[key] for key in ("name", "before", "now", "interval", "verdict")]
    return heads, [
        [
            line["name"], _said(line["before"]), _said(line["now"]), _interval(line),
            words[line["verdict"]],
        ]
        for line in lines
    ]  # fmt: skip
