"""A comparison to its receipt: one page, in English or Chinese, that says first what came of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daogou.report.lying import Row
from daogou.report.numbers import DIGITS, count, interval, is_number, percent, plain
from daogou.report.page import bullets, folded, number, page, paragraph, section, table
from daogou.report.plot import forest, grid
from daogou.report.svg import Frame
from daogou.report.words import Words
from daogou.report.words.receipt import WORDS

Document = Mapping[str, Any]


VERDICTS: Final = ("HELPS", "HURTS", "NEUTRAL", "UNDECIDED")

# What a verdict says of a control: the candidate is ... than it.
_AGAINST: Final = dict(zip(VERDICTS, ("better", "worse", "same", "UNDECIDED"), strict=True))


def receipt(document: Document, *, lang: str = "en") -> str:
    """The HTML of a document of `learn.compare.compare`: one page, no network, no script."""
    words = WORDS[lang]
    lead = words["lead"].format(
        candidate=document["chosen"], seeds=len(document["seeds"]), margin=document["margin"]
    )
    body = [
        section(words["summary"], bullets(sentences(document, lang=lang))),
        _differences(document, words),
        _numbers(document, words),
        _ceiling(document, words),
        _everyone(document, words),
        _against(document, words),
        _slices(document, words),
        _candidates(document, words),
        _cost(document, words),
        section(
            words["how"],
            *(paragraph(words[each]) for each in ("how_pairs", "how_twins", "how_verdict")),
            *(
                paragraph(words["absent"].format(name=name, why=why), note=True)
                for name, why in document["absent"].items()
            ),
        ),
    ]
    title = words["title"].format(shop=document["shop"])
    return page(title, [each for each in body if each], lead=lead, lang=lang)


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The document in plain words: how many of each verdict, then task by task, the worst first."""
    words = WORDS[lang]
    tasks = _chosen(document)["tasks"]
    judged = {name: entry for name, entry in tasks.items() if is_number(entry["difference"])}
    counts = {each: sum(entry["verdict"] == each for entry in judged.values()) for each in VERDICTS}
    said = [words["headline"].format(n=len(judged), **counts)]
    for verdict in ("HURTS", "HELPS", "NEUTRAL", "UNDECIDED"):
        said += [
            _sentence(name, entry, words)
            for name, entry in judged.items()
            if entry["verdict"] == verdict
        ]
    said += [
        words["undefined"].format(name=name, n=entry["n"], positives=entry["positives"])
        for name, entry in tasks.items()
        if name not in judged
    ]
    said += _beside_controls(document, words)
    if is_number(_chosen(document)["delta_m"]):
        said.append(words["delta_m"].format(value=number(_chosen(document)["delta_m"], 2)))
    if len(document["candidates"]) > 1:
        said.append(
            words["chosen"].format(n=len(document["candidates"]), candidate=document["chosen"])
        )
    if len(document["seeds"]) == 1:
        said.append(words["one_seed"])
    return said


def _beside_controls(document: Document, words: Words) -> list[str]:
    """A sentence for each control that was asked for."""
    said = []
    for control, listed in beside(document).items():
        if f"against.{control}" in words:
            parts = [
                f"{words[_AGAINST[verdict]]} ({words['and'].join(tasks)})"
                for verdict, tasks in listed.items()
                if tasks
            ]
            about = {"control": words[control], "said": words["and"].join(parts)}
            said.append(words["beside"].format(**about))
    return said


def beside(document: Document) -> dict[str, dict[str, list[str]]]:
    """Of each other contender on which tasks the candidate helps, hurts and so on against it."""
    found: dict[str, dict[str, list[str]]] = {}
    tasks = _chosen(document)["tasks"]
    for control in document["contenders"]:
        listed: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
        for task, whole in tasks.items():
            entry = whole["against"].get(control)
            if entry is not None and is_number(entry["difference"]):
                listed[entry["verdict"]].append(task)
        if any(listed.values()):
            found[control] = listed
    return found


def beside_rows(document: Document, words: Words) -> tuple[list[str], list[list[str]]]:
    """The same as the head and the rows of a table."""
    heads = [words["control"], *(words[_AGAINST[verdict]] for verdict in VERDICTS)]
    rows = [
        [words.get(control, control), *(words["and"].join(each) or "–" for each in listed.values())]
        for control, listed in beside(document).items()
    ]
    return heads, rows


def _sentence(name: str, entry: Document, words: Words) -> str:
    more = ""
    if entry["verdict"] == "UNDECIDED":
        wanted = entry["more_positives"]
        more = words["more_luck"] if wanted is None else words["more"].format(more=f"{wanted:,}")
    return words[f"said.{entry['verdict']}"].format(
        name=name,
        metric=_metric(entry),
        multi=plain(entry["multi"]),
        single=plain(entry["single"]),
        difference=number(entry["difference"], DIGITS),
        interval=interval(entry),
        smallest=plain(entry["smallest_detectable"]),
        more=more,
    )


def _differences(document: Document, words: Words) -> str:
    """A picture for each metric, since an AUC's differences and a recall's share no axis."""
    tasks = _chosen(document)["tasks"]
    by_metric: dict[str, list[Row]] = {}
    for name, entry in tasks.items():
        if is_number(entry["difference"]):
            by_metric.setdefault(_metric(entry), []).append(_row(name, entry, words))
    plots = [
        forest(
            Frame(
                words["differences_of"].format(metric=metric),
                words["differences_note"],
                words["difference_axis"].format(metric=metric),
            ),
            rows,
            zero=0.0,
            margin=document["margin"],
        )
        for metric, rows in by_metric.items()
    ]
    return section(
        words["differences"], paragraph(words["differences_note"], note=True), grid(plots)
    )


def _row(name: str, entry: Document, words: Words) -> Row:
    low, high = entry["interval"]
    return Row(
        name,
        entry["difference"],
        low,
        high,
        said=f"{number(entry['difference'], DIGITS)} {words[entry['verdict']]}",
        strong=entry["verdict"] in ("HELPS", "HURTS"),
    )


def _numbers(document: Document, words: Words) -> str:
    tasks = _chosen(document)["tasks"]
    heads = [
        words[key]
        for key in (
            "task", "metric", "verdict", "together", "alone", "difference", "interval",
            "smallest", "relative", "p", "more_head", "n", "positives",
        )
    ]  # fmt: skip
    rows = [
        [
            name, _metric(entry), words[entry["verdict"]], plain(entry["multi"]),
            plain(entry["single"]), number(entry["difference"], DIGITS), interval(entry),
            plain(entry["smallest_detectable"]), percent(entry["relative"]),
            plain(entry["p_holm"], 3), count(entry["more_positives"]), count(entry["n"]),
            count(entry["positives"]),
        ]
        for name, entry in tasks.items()
    ]  # fmt: skip
    doubt = [
        [name, plain(entry["seed_se"], 5), plain(entry["test_se"], 5)]
        for name, entry in tasks.items()
    ]
    return section(
        words["numbers"],
        paragraph(words["numbers_note"], note=True),
        table(heads, rows, numbers_from=3),
        folded(
            words["sources"],
            paragraph(words["sources_note"], note=True),
            table([words["task"], words["seed_se"], words["test_se"]], doubt),
        ),
    )


def _ceiling(document: Document, words: Words) -> str:
    rows = [
        [
            name, plain(entry["single"]), plain(entry["multi"]), plain(entry["ceiling"]),
            percent(entry["gap_closed"]),
        ]
        for name, entry in _chosen(document)["tasks"].items()
        if is_number(entry["ceiling"])
    ]  # fmt: skip
    if not rows:
        return ""
    heads = [words[key] for key in ("task", "alone", "together", "ceiling_head", "closed")]
    return section(
        words["ceiling"], paragraph(words["ceiling_note"], note=True), table(heads, rows)
    )


def _everyone(document: Document, words: Words) -> str:
    """Means of all contenders, the candidates' best of each task beside their joint ones."""
    columns: list[tuple[str, Mapping[str, Sequence[float]]]] = []
    for name, each in document["contenders"].items():
        if each["kind"] == "multi":
            columns.append((words["joint"].format(name=name), each["values"]))
            columns.append((words["best"].format(name=name), each["best_per_task"]))
        else:
            columns.append((words.get(name, name), each["values"]))
    rows = [
        [task, _metric(entry), *(_mean(values.get(task)) for _, values in columns)]
        for task, entry in _chosen(document)["tasks"].items()
    ]
    heads = [words["task"], words["metric"], *(head for head, _ in columns)]
    return section(
        words["everyone"],
        paragraph(words["everyone_note"], note=True),
        table(heads, rows, numbers_from=2),
    )


def _against(document: Document, words: Words) -> str:
    """On which tasks the candidate is better and worse than each other contender."""
    heads, rows = beside_rows(document, words)
    if not rows:
        return ""
    found = [
        (control, task, entry)
        for task, whole in _chosen(document)["tasks"].items()
        for control, entry in whole["against"].items()
        if is_number(entry["difference"])
    ]
    notes = [
        paragraph(words[f"against.{control}"], note=True)
        for control in document["contenders"]
        if f"against.{control}" in words
    ]
    keys = ("task", "control", "verdict", "its", "difference", "interval")
    every = [
        [
            task, words.get(control, control), words[_AGAINST[entry["verdict"]]],
            plain(entry["single"]), number(entry["difference"], DIGITS), interval(entry),
        ]
        for control, task, entry in found
    ]  # fmt: skip
    return section(
        words["against"],
        paragraph(words["against_note"].format(candidate=document["chosen"]), note=True),
        *notes,
        table(heads, rows, numbers_from=9),
        folded(
            words["against_all"].format(n=len(every)),
            table([words[key] for key in keys], every, numbers_from=3),
        ),
    )


def _slices(document: Document, words: Words) -> str:
    slices = [each for each in _chosen(document)["slices"] if is_number(each["difference"])]
    if not slices:
        return ""
    heads = [
        words[key]
        for key in (
            "slice", "verdict", "together", "alone", "difference", "interval", "smallest", "n",
            "positives",
        )
    ]  # fmt: skip

    def row(each: Document) -> list[str]:
        name = words.get(each["slice"], each["slice"])
        return [
            f"{each['task']}: {name}", words[each["verdict"]], plain(each["multi"]),
            plain(each["single"]), number(each["difference"], DIGITS), interval(each),
            plain(each["smallest_detectable"]), count(each["n"]), count(each["positives"]),
        ]  # fmt: skip

    clear = [each for each in slices if each["verdict"] in ("HELPS", "HURTS")]
    shown = table(heads, [row(each) for each in clear], numbers_from=2) if clear else ""
    return section(
        words["slices"],
        paragraph(
            words["slices_note"].format(cold=document["cold"], head=f"{100 * document['head']:g}"),
            note=True,
        ),
        shown or paragraph(words["slices_none"]),
        folded(
            words["all_slices"].format(n=len(slices)),
            table(heads, [row(each) for each in slices], numbers_from=2),
        ),
    )


def _candidates(document: Document, words: Words) -> str:
    if len(document["candidates"]) < 2:
        return ""
    tasks = list(_chosen(document)["tasks"])
    heads = [words["candidate"], words["validation"], "delta-m", *tasks]
    rows = []
    for name, found in document["candidates"].items():
        cells = [
            f"{number(found['tasks'][task]['difference'], DIGITS)} "
            f"{words[found['tasks'][task]['verdict']]}"
            for task in tasks
        ]
        validation = _mean(document["contenders"][name]["validation"])
        rows.append([name, validation, number(found["delta_m"], 2) + " %", *cells])
    return section(
        words["candidates"], paragraph(words["candidates_note"], note=True), table(heads, rows)
    )


def _cost(document: Document, words: Words) -> str:
    cost = document["cost"]
    heads = [words[key] for key in ("contender", "seconds", "parameters", "ms")]
    rows = [
        [
            words.get(name, name), plain(cost["seconds"].get(name), 1),
            count(cost["parameters"].get(name)), plain(cost["ms_per_1000"].get(name), 1),
        ]
        for name in document["contenders"]
    ]  # fmt: skip
    return section(words["cost"], paragraph(words["cost_note"], note=True), table(heads, rows))


def _mean(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or () if value is not None and math.isfinite(value)]
    return plain(sum(known) / len(known)) if known and len(known) == len(values or ()) else "–"


def _metric(entry: Document) -> str:
    return "AUC" if entry["metric"] == "auc" else str(entry["metric"])


def _chosen(document: Document) -> Document:
    found: Document = document["candidates"][document["chosen"]]
    return found
