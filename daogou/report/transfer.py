"""A transfer to its report: what the other shop's run was worth here, in English or Chinese."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from daogou.report.page import bullets, number, page, paragraph, section, table
from daogou.report.plot import Frame, Series, grid, line_chart
from daogou.report.receipt import DIGITS, interval, plain

Document = Mapping[str, Any]
Words = Mapping[str, str]
SCRATCH: Final = "scratch"

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "From {source} to {shop}: does it help?",
        "lead": "{n} training exposures, {seeds} seeds of each way, the test split, a margin of "
        "{margin}. Kept: {chosen}.",
        "summary": "In short",
        "kept": "The run is learnt by `{way}`.",
        "auto.scratch": "Validation finds no way that helps some task and hurts none: the run "
        "learns from its own shop alone.",
        "auto": "Validation chose `{way}`: it helps some task and hurts none, by seeds and users "
        "together.",
        "said": "`{way}` with all {n} exposures: {tasks}.",
        "task_said": "{name} {verdict} ({difference})",
        "worth": "At {n} exposures of this shop, one of them learnt by `{way}` is worth {factor} "
        "from scratch for {name}.",
        "at_least": "at least {factor}",
        "at_most": "at most {factor}",
        "shared": "Known to the source too: {kinds}.",
        "kind": "{some} of {all} {kind}",
        "and": ", ",
        "HELPS": "helps",
        "HURTS": "hurts",
        "NEUTRAL": "neutral",
        "UNDECIDED": "undecided",
        "curves": "By how much there is to learn from",
        "curves_note": "The latest so many training exposures, and no history from before them, as "
        "if the shop had opened later. Mean over seeds, of the test split.",
        "x": "log10 of training exposures",
        "numbers": "The numbers",
        "numbers_note": "Differences are to scratch, paired by seed and by user; intervals of 95 "
        "%. Samples: by what factor scratch needs more exposures to get as far.",
        "exposures": "exposures",
        "task": "task",
        "way": "way",
        "value": "value",
        "difference": "difference",
        "interval": "95 % interval",
        "verdict": "verdict",
        "samples": "samples",
        "source": "What the source's own tasks lose",
        "source_note": "AUC on the source's test split with its own weights, and with those that "
        "each way made of them. `joint` went on learning both.",
        "before": "before",
        "choice": "What validation says",
        "choice_note": "Against scratch with all exposures; this alone decides `auto`.",
    },
    "zh": {
        "title": "从 {source} 迁移到 {shop}：有帮助吗？",
        "lead": "{n} 条训练曝光，每种方式 {seeds} 个随机种子，测试集，界限 {margin}。"
        "保留：{chosen}。",
        "summary": "结论",
        "kept": "本次运行采用 `{way}`。",
        "auto.scratch": "验证集没有发现能帮助某个任务且不损害任何任务的方式：只用本店数据训练。",
        "auto": "验证集选择了 `{way}`：综合种子与用户，它帮助了某个任务且没有损害任何任务。",
        "said": "`{way}`（全部 {n} 条曝光）：{tasks}。",
        "task_said": "{name} {verdict}（{difference}）",
        "worth": "本店有 {n} 条曝光时，用 `{way}` 学习的一条，"
        "对 {name} 相当于从零训练的 {factor} 条。",
        "at_least": "至少 {factor}",
        "at_most": "至多 {factor}",
        "shared": "源店也认识：{kinds}。",
        "kind": "{all} 个{kind}中的 {some} 个",
        "and": "，",
        "HELPS": "有帮助",
        "HURTS": "有损害",
        "NEUTRAL": "无差别",
        "UNDECIDED": "无法判断",
        "curves": "随训练数据量的变化",
        "curves_note": "只用最近的若干条训练曝光，也没有更早的历史，就像店铺更晚开张。"
        "种子平均，测试集。",
        "x": "训练曝光数（log10）",
        "numbers": "数值",
        "numbers_note": "差值相对于从零训练，按种子和用户配对；95% 区间。样本："
        "从零训练要达到同样水平所需曝光的倍数。",
        "exposures": "曝光",
        "task": "任务",
        "way": "方式",
        "value": "数值",
        "difference": "差值",
        "interval": "95% 区间",
        "verdict": "结论",
        "samples": "样本",
        "source": "源店任务的损失",
        "source_note": "源店测试集上的 AUC：使用原来的权重，以及各方式改变后的权重。"
        "`joint` 同时学习两店。",
        "before": "之前",
        "choice": "验证集的结论",
        "choice_note": "使用全部曝光，与从零训练相比；`auto` 只由它决定。",
    },
}  # fmt: skip


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
