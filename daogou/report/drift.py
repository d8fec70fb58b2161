"""What has changed since a run to its report, in English or Chinese."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daogou.report.page import bullets, number, page, paragraph, section, table
from daogou.report.plot import Frame, Row, bars, forest, grid

Document = Mapping[str, Any]
Words = Mapping[str, str]
KINDS: Final = ("feature", "unknown", "rate", "slope", "auc")
_FAR, _MOVED, _NOT_KNOWN = "far", "moved", "not known"

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "{shop}: what has changed since the run?",
        "lead": "{n} exposures after {since} UTC, where the log of the run ends.",
        "summary": "In short",
        "refit in full": "Refit in full: {lines}. Going on does not mend this.",
        "go on": "Go on: nothing is so far from the run that going on would not learn it.",
        "moved.some": "Changed, and learnt by going on: {lines}.",
        "not known.some": "Too little is there to say: {lines}.",
        "rule": "The rule: refit in full where a column's population stability index, less its "
        "noise, is {feature} or more, or where a stage's AUC is {auc} or more below that of the "
        "run's own test split; each only if it is no luck, with at most 5 % chance of any false "
        "alarm. Everything else is learnt by going on.",
        "feature": "Columns",
        "feature.note": "Population stability index of the new exposures against the training "
        "exposures of the last fit in full. Below 0.1 is little, from 0.25 it is another shop; "
        "noise is what luck alone would give, users drawn whole.",
        "unknown": "Ids and words without a row",
        "unknown.note": "Share among the new exposures, against the test split; the interval is of "
        "the difference.",
        "rate": "How often a stage is reached",
        "rate.note": "Of exposures whose label was not known at the end of the run's log, against "
        "the training exposures; the interval is of the ratio.",
        "slope": "Calibration of the run",
        "slope.note": "Slope of the labels over what the run says: below 1 it is too sure, above 1 "
        "not sure enough. ECE is the mean distance of what was said from what came true, less "
        "luck's share.",
        "auc": "AUC of the run",
        "auc.note": "On the new exposures, against its own test split; the interval is of what "
        "was lost.",
        "stretch": "slope",
        "name": "what",
        "change": "change",
        "before": "before",
        "now": "now",
        "noise": "noise",
        "unknown.share": "unknown",
        "interval": "95 % interval",
        "verdict": "verdict",
        "kind": "of",
        "same": "same",
        "moved": "moved",
        "far": "far",
        "not known": "not known",
    },
    "zh": {
        "title": "{shop}：自上次运行以来有什么变化？",
        "lead": "上次运行的日志止于 {since} UTC，其后有 {n} 条曝光。",
        "summary": "结论",
        "refit in full": "需要完整重训：{lines}。增量训练无法弥补。",
        "go on": "继续增量训练：没有任何变化大到增量训练学不到。",
        "moved.some": "有变化，增量训练可以学到：{lines}。",
        "not known.some": "数据太少，无法判断：{lines}。",
        "rule": "规则：某列的群体稳定性指数减去噪声后达到 {feature}，或某阶段的 AUC 比该运行自己的"
        "测试集低 {auc} 以上时，需要完整重训；且仅当这不是偶然（任何误报的概率至多 5%）。"
        "其余变化由增量训练学到。",
        "feature": "列",
        "feature.note": "新曝光相对于上次完整训练的训练曝光的群体稳定性指数。低于 0.1 变化很小，"
        "0.25 以上已是另一家店；噪声是纯属偶然时的数值，按整个用户抽样。",
        "unknown": "没有行的编号和词",
        "unknown.note": "在新曝光中的占比，对比测试集；区间属于差值。",
        "rate": "各阶段的发生率",
        "rate.note": "标签在上次运行的日志结束时尚未知的曝光，对比训练曝光；区间属于比值。",
        "slope": "该运行的校准",
        "slope.note": "标签对预测的斜率：低于 1 过于自信，高于 1 不够自信。"
        "ECE 是预测与实际的平均差距，已减去偶然部分。",
        "auc": "该运行的 AUC",
        "auc.note": "在新曝光上，对比其自己的测试集；区间属于损失的部分。",
        "stretch": "斜率",
        "name": "名称",
        "change": "变化",
        "before": "之前",
        "now": "现在",
        "noise": "噪声",
        "unknown.share": "未知占比",
        "interval": "95% 区间",
        "verdict": "结论",
        "kind": "类别",
        "same": "不变",
        "moved": "有变化",
        "far": "变化很大",
        "not known": "未知",
    },
}  # fmt: skip


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
