"""What a folder's documents say of a run to one page, in English or Chinese."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

from daogou.artifact import read_document, read_records, sha256
from daogou.report.page import (
    HeatMap,
    bullets,
    folded,
    heat_map,
    number,
    page,
    paragraph,
    section,
    table,
)
from daogou.report.plot import (
    Frame,
    Row,
    Series,
    calibration_curve,
    forest,
    grid,
    line_chart,
)
from daogou.report.receipt import DIGITS
from daogou.report.receipt import WORDS as RECEIPT_WORDS
from daogou.report.relate import AFFINITY
from daogou.report.terminal import alarms, leading, share_of_gap

Document = Mapping[str, Any]
Words = Mapping[str, str]
_SPLITS: Final = ("train", "validation", "test")
_SHOWN: Final = 6  # pairs of tasks that are drawn over time, and gates that are not folded away
_95: Final = 1.96

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "One model of {shop}",
        "lead": "{n} tasks, {parameters} weights, mixer {mixer}, balancer {balancer}, seed {seed}. "
        "Epoch {best} of {epochs} is kept; training took {seconds} s.",
        "unfinished": "This run is not finished: {epochs} epochs so far.",
        "summary": "In short",
        "and": ", ",
        "valued": "{name} ({value})",
        "refit": "The validation rows chose epoch {best} and then taught too, from the start: what "
        "validation says here is of the model before that.",
        "federated": "Learnt by {shops} shops in {rounds} rounds, of which round {best} is kept; "
        "no row of any left it.",
        "private": "What left the shop is private for each {unit} of it: epsilon {epsilon} at "
        "delta {delta}, by {steps} steps with noise {noise}.",
        "told": "The labels that it was learnt from were told by chance: each is private with "
        "epsilon {epsilon}, whatever was made of them.",
        "audited": "By losses alone, who taught is told from who did not with an AUC of {auc} (0.5 "
        "tells nothing), and {tpr} of them at one false alarm in 1,000; {inside} users against "
        "{outside}.",
        "canaries": "Of {canaries} exposures that never were, {right} of {guesses} guesses about "
        "them were right (AUC {auc}): that proves an epsilon of at least {epsilon}, at "
        "{confidence} % confidence.",
        "above_chance": "Ranks better than chance, beyond its 95 % interval: {names}.",
        "not_above_chance": "Not surely better than chance: {names}. More positives in the test "
        "split would tell.",
        "worse_than_constant": "On validation no better than one constant answer to all: {names}. "
        "Its order may still be right; do not read its chances as chances.",
        "dead_experts": "Experts that hardly any gate uses, in the kept epoch: {names}.",
        "receipt_says": "Together against alone, {verdict}: {names}.",
        "receipt": "Whether sharing helps",
        "receipt_note": "Together less a model of its own, paired: above 0 sharing is better. The "
        "line is the 95 % interval; hatched is what does not matter.",
        "guard_note": "Each stage as it was learnt for this run, less a model of its own, on the "
        "validation split. A stage that shared layers would have hurt got its own, in the column "
        "after the difference. The interval is of the mean over users and holds whenever one stops "
        "looking; hatched is the margin.",
        "own": "own layers",
        "own.nothing": "none",
        "own.experts": "an expert",
        "own.rows": "an expert and rows",
        "metrics": "How good it is",
        "metrics_note": "Split: {split}. Points with 95 % intervals that draw whole users anew. "
        "Tasks are never averaged: an average hides the one that is bad.",
        "metric.auc": "AUC (0.5 is chance)",
        "metric.macro_f1": "macro F1",
        "metric.recall@50": "recall@50",
        "metric.f1": "F1 of spans",
        "metric.gini": "normalised Gini",
        "task": "task",
        "metric": "metric",
        "value": "value",
        "interval": "95 % interval",
        "ceiling": "ceiling",
        "gap": "of the gap",
        "log_loss": "log loss",
        "ece": "ECE",
        "over": "said / came",
        "n": "n",
        "positives": "positives",
        "metrics_heads": "ECE: mean distance between the chance that was said and the share that "
        "came true. Said / came: positives foretold for each that came. Ceiling and the share of "
        "the gap from chance to it are known of made shops only.",
        "curves": "How it learnt",
        "curves_note": "Loss of each task by epoch, its first epoch = 1: training and validation "
        "count different rows, so only how they move can be compared. The vertical line is the "
        "epoch whose weights are kept. Validation that rises while training falls is learning by "
        "heart.",
        "epoch": "epoch",
        "loss": "loss, first epoch = 1",
        "loss_less": "loss less that of the first epoch, nats",
        "train": "training",
        "validation": "validation",
        "test": "test",
        "kept": "kept",
        "constant": "best constant",
        "curve_of": "{task}: loss by epoch",
        "curve_said": "Training and validation loss over the epochs.",
        "numbers": "The numbers",
        "joint_score": "joint score",
        "numbers_note": "Validation loss over that of the best constant answer; below 1 is better "
        "than it. The joint score is their mean.",
        "calibration": "Whether its chances come true",
        "calibration_note": "Exposures in at most ten equal parts from the least to the most "
        "likely, each a point: on the line, what was said came true as often. Bars are 95 % "
        "intervals of the share.",
        "before": "before calibration",
        "after": "as answered",
        "said": "mean chance said",
        "came": "share that came true",
        "reliability_of": "{task}",
        "reliability_said": "Mean chance said against the share that came true.",
        "how_calibrated": "How it was calibrated, by the validation split",
        "method": "method",
        "why": "why",
        "nats": "log loss before → after",
        "eces": "ECE before → after",
        "gates": "Who uses which expert",
        "gates_note": "Mean share of each expert in what a task's gate mixes, in per cent, on "
        "validation rows; a dash is an expert that the gate may not use.",
        "gate_map": "Use of experts, {gates}, epoch {epoch}",
        "gate_entropy": "How evenly gates mix, {gates}",
        "gate_entropy_said": "Entropy of each gate over that of an even mixture, by epoch: 1 is an "
        "even mixture, 0 one expert per row.",
        "entropy": "entropy, even mixture = 1",
        "gate_share": "{gate}: share of each expert",
        "gate_share_said": "Mean share of each expert in what this gate mixes, by epoch.",
        "share": "share, %",
        "expert": "expert {n}",
        "gate": "gate {n}",
        "shared_gate": "shared",
        "by_epoch": "Each expert by epoch",
        "gate_head": "gate",
        "expert_head": "expert",
        "over_time": "Affinity and conflict over time",
        "over_time_note": "Of the {n} pairs whose look-ahead is largest. A step along the first "
        "task's gradient lowers (above 0) or raises (below 0) the second's held-out loss.",
        "ahead_title": "Look-ahead by epoch",
        "ahead_unit": "‱ of the second task's loss",
        "cosine_title": "Cosine of gradients by epoch",
        "cosine_unit": "cosine, mean over shared parts",
        "cosine_said": "Cosine of the two tasks' gradients, a mean over the parts that they share.",
        "conflict_title": "Pairs in conflict by epoch",
        "conflict_unit": "% of pairs",
        "conflict_said": "Share of pairs whose look-ahead is below 0, and whose cosine is.",
        "by_ahead": "look-ahead below 0",
        "by_cosine": "cosine below 0",
        "pair": "{giver} → {receiver}",
        "both": "{giver} & {receiver}",
        "nothing": "no effect",
        "data": "What it learnt from",
        "data_rows": "Rows read",
        "relation": "table",
        "rows": "rows",
        "data_split": "Splits",
        "what": "what",
        "exposures": "exposures",
        "users": "users with profile labels",
        "titles": "titles with spans",
        "censored": "labels missing: {stage}",
        "data_more": "Left out, implied and unread",
        "implied": "{stage}: said by a later stage alone",
        "uncredited": "{stage}: events without an exposure",
        "dropped": "dropped: {reason}",
        "unread": "unread columns of {relation}",
        "split_at": "Validation from {validation}, test from {test} (UTC).",
        "how": "How it was made",
        "settings": "All settings",
        "setting": "setting",
        "how_note": "By `daogou fit`; its manifest holds the shop's description, every setting and "
        "the hash of every file. No label of the test split chose anything.",
    },
    "zh": {
        "title": "{shop} 的统一模型",
        "lead": "{n} 个任务，{parameters} 个权重，混合层 {mixer}，平衡方法 {balancer}，"
        "随机种子 {seed}。共 {epochs} 轮，保留第 {best} 轮；训练用时 {seconds} 秒。",
        "unfinished": "本次训练尚未完成：目前 {epochs} 轮。",
        "summary": "结论",
        "and": "、",
        "valued": "{name}（{value}）",
        "refit": "验证集选定第 {best} 轮后也加入训练，模型从头重新训练："
        "此处验证集的数字属于此前的模型。",
        "federated": "由 {shops} 家商店共同学习 {rounds} 轮，保留第 {best} 轮；"
        "任何一行数据都没有离开其商店。",
        "private": "离开商店的内容对每个 {unit} 满足差分隐私：delta 为 {delta} 时 "
        "epsilon 为 {epsilon}，共 {steps} 步，噪声 {noise}。",
        "told": "用于学习的标签均经随机化后给出：无论如何使用，每个标签都满足差分隐私，"
        "epsilon 为 {epsilon}。",
        "audited": "仅凭损失区分谁参与过训练：AUC {auc}（0.5 表示看不出），"
        "千分之一误报时识别出 {tpr}；{inside} 位用户对 {outside} 位。",
        "canaries": "对 {canaries} 条虚构曝光作出的 {guesses} 次猜测中 {right} 次正确"
        "（AUC {auc}）：以 {confidence}% 的置信度证明 epsilon 至少为 {epsilon}。",
        "above_chance": "排序明确优于随机（超出 95% 区间）：{names}。",
        "not_above_chance": "尚不能确定优于随机：{names}。测试集中需要更多正样本才能判断。",
        "worse_than_constant": "在验证集上不优于对所有样本给出同一个常数答案：{names}。"
        "其排序仍可能正确，但不要把其概率当作概率使用。",
        "dead_experts": "保留的一轮中几乎没有门控使用的专家：{names}。",
        "receipt_says": "与单任务模型相比，联合训练的结论为 {verdict}：{names}。",
        "receipt": "联合训练是否有帮助",
        "receipt_note": "联合模型与单任务模型的配对差值：大于 0 说明联合训练更好。"
        "线为 95% 区间；阴影为可以忽略的差异。",
        "guard_note": "本次训练中各阶段与其单任务模型在验证集上的差值。会因共享而变差的阶段"
        "使用自己的层，见差值后一列。区间为按用户平均的差值，无论何时停止查看都成立；阴影为允许的差距。",
        "own": "独立的层",
        "own.nothing": "无",
        "own.experts": "一个专家",
        "own.rows": "一个专家和行向量",
        "metrics": "效果如何",
        "metrics_note": "数据划分：{split}。点为指标值，线为按用户重抽样的 95% 区间。"
        "各任务从不取平均：平均会掩盖表现差的任务。",
        "metric.auc": "AUC（0.5 为随机）",
        "metric.macro_f1": "宏平均 F1",
        "metric.recall@50": "召回率@50",
        "metric.f1": "片段 F1",
        "metric.gini": "归一化基尼系数",
        "task": "任务",
        "metric": "指标",
        "value": "数值",
        "interval": "95% 区间",
        "ceiling": "上限",
        "gap": "已缩小差距",
        "log_loss": "对数损失",
        "ece": "ECE",
        "over": "预测 / 实际",
        "n": "样本数",
        "positives": "正样本数",
        "metrics_heads": "ECE：预测概率与实际发生比例的平均差距。预测 / 实际：每个实际正样本对应的"
        "预测正样本数。上限以及从随机到上限已缩小的差距只有模拟店铺才知道。",
        "curves": "学习过程",
        "curves_note": "各任务每轮的损失，以第一轮为 1：训练和验证统计的样本不同，"
        "因此只能比较变化趋势。竖线为保留权重的一轮。训练损失下降而验证损失上升说明模型在死记硬背。",
        "epoch": "轮",
        "loss": "损失，第一轮 = 1",
        "loss_less": "损失与第一轮之差（nat）",
        "train": "训练",
        "validation": "验证",
        "test": "测试",
        "kept": "保留",
        "constant": "最佳常数",
        "curve_of": "{task}：每轮损失",
        "curve_said": "各轮的训练损失和验证损失。",
        "numbers": "具体数字",
        "joint_score": "联合得分",
        "numbers_note": "验证损失与最佳常数答案的损失之比，小于 1 说明优于常数答案。"
        "联合得分为各任务的平均。",
        "calibration": "概率是否可信",
        "calibration_note": "曝光按预测概率从低到高等分成至多十份，每份一个点："
        "在斜线上说明预测的概率与实际发生的比例一致。竖条为该比例的 95% 区间。",
        "before": "校准前",
        "after": "实际给出",
        "said": "平均预测概率",
        "came": "实际发生比例",
        "reliability_of": "{task}",
        "reliability_said": "平均预测概率与实际发生比例的对照。",
        "how_calibrated": "校准方式（依据验证集）",
        "method": "方法",
        "why": "原因",
        "nats": "对数损失：前 → 后",
        "eces": "ECE：前 → 后",
        "gates": "各任务使用哪些专家",
        "gates_note": "任务的门控混合各专家时的平均占比（%），按验证集统计；"
        "横线表示该门控不能使用的专家。",
        "gate_map": "专家使用情况，{gates}，第 {epoch} 轮",
        "gate_entropy": "门控混合的均匀程度，{gates}",
        "gate_entropy_said": "各门控每轮的熵与均匀混合的熵之比：1 为均匀混合，"
        "0 为每行只用一个专家。",
        "entropy": "熵，均匀混合 = 1",
        "gate_share": "{gate}：各专家的占比",
        "gate_share_said": "该门控每轮混合各专家的平均占比。",
        "share": "占比（%）",
        "expert": "专家 {n}",
        "gate": "门控 {n}",
        "shared_gate": "共享",
        "by_epoch": "各专家逐轮变化",
        "gate_head": "门控",
        "expert_head": "专家",
        "over_time": "任务亲和与冲突的变化",
        "over_time_note": "前瞻影响最大的 {n} 对任务。沿前者的梯度走一步，"
        "后者的留出损失下降（大于 0）或上升（小于 0）。",
        "ahead_title": "每轮的前瞻",
        "ahead_unit": "后者损失的 ‱",
        "cosine_title": "每轮梯度的余弦",
        "cosine_unit": "余弦，各共用部分的平均",
        "cosine_said": "两个任务的梯度在各共用部分的余弦的平均值。",
        "conflict_title": "每轮处于冲突的任务对",
        "conflict_unit": "任务对占比（%）",
        "conflict_said": "前瞻小于 0 的任务对占比，以及余弦小于 0 的任务对占比。",
        "by_ahead": "前瞻小于 0",
        "by_cosine": "余弦小于 0",
        "pair": "{giver} → {receiver}",
        "both": "{giver} 与 {receiver}",
        "nothing": "无影响",
        "data": "学习所用的数据",
        "data_rows": "读取的行数",
        "relation": "表",
        "rows": "行数",
        "data_split": "数据划分",
        "what": "内容",
        "exposures": "曝光",
        "users": "有画像标签的用户",
        "titles": "有片段标注的标题",
        "censored": "缺失的标签：{stage}",
        "data_more": "剔除、推断与未读取",
        "implied": "{stage}：仅由后续阶段推断",
        "uncredited": "{stage}：找不到曝光的事件",
        "dropped": "剔除：{reason}",
        "unread": "{relation} 中未读取的列",
        "split_at": "验证集始于 {validation}，测试集始于 {test}（UTC）。",
        "how": "如何得到",
        "settings": "全部设置",
        "setting": "设置",
        "how_note": "由 `daogou fit` 训练；其清单文件记录了店铺描述、所有设置和每个文件的哈希。"
        "没有用测试集的任何标签做选择。",
    },
}


@dataclass(frozen=True)
class Found:
    """The documents of a folder, as JSON has them; None or empty what is not there.

    ``manifest`` and ``evaluation`` are a run's, ``epochs`` its events.jsonl, ``probes`` a
    probes.jsonl, and the rest bear the names of their files.
    """

    folder: str
    manifest: Document | None = None
    evaluation: Document | None = None
    epochs: Sequence[Document] = field(default_factory=tuple)
    probes: Sequence[Document] = field(default_factory=tuple)
    prepared: Document | None = None
    receipt: Document | None = None


def found_in(run: Path, manifest: Document | None, evaluation: Document | None) -> Found:
    """What the folder of a run holds, beside what its manifest and its evaluation say."""
    whole = run.resolve()
    # The joint run of `daogou relate` is ``all`` in its folder, beside what that probed.
    probed = whole.parent if whole.name == "all" else whole
    return Found(
        whole.name,
        manifest,
        evaluation,
        read_records(run / "events.jsonl"),
        read_records(probed / "probes.jsonl"),
        read_document(run / "prepared.json"),
        read_document(run / "receipt.json"),
    )


def kept_evaluation(run: Path) -> Document | None:
    """The evaluation that is kept beside a run, if it is this run's and not a former one's."""
    kept = read_document(run / "evaluate.json")
    is_its = kept is not None and kept["manifest"] == sha256(run / "manifest.json")
    return kept["evaluation"] if is_its else None


def run_page(found: Found, *, lang: str = "en") -> str:
    """The HTML of a run, finished or not: one page, no network, no script."""
    words = WORDS[lang]
    body = [
        section(words["summary"], bullets(sentences(found, lang=lang))),
        _metrics(found, words),
        _receipt(found, words, lang),
        _curves(found, words),
        _calibration(found, words),
        _gates(found, lang),
        over_time(found.probes, lang=lang),
        _data(found, words),
        _how(found, words),
    ]
    title = words["title"].format(shop=_shop(found))
    return page(title, [each for each in body if each], lead=_lead(found, words), lang=lang)


def sentences(found: Found, *, lang: str = "en") -> list[str]:
    """The run in plain words, what is wrong first."""
    words = WORDS[lang]
    said = list(alarms(found.evaluation, lang=lang)) if found.evaluation else []
    if found.manifest is None:
        said.append(words["unfinished"].format(epochs=len(found.epochs)))
    elif found.manifest["fit"].get("refit"):  # a run of before has no word of it
        said.append(words["refit"].format(best=found.manifest["fit"]["best_epoch"]))
    said += _federated(found, words)
    sure: list[str] = []
    unsure: list[str] = []
    for name, entry in found.evaluation["tasks"].items() if found.evaluation else ():
        low = (entry.get("auc_interval") or [None])[0]
        if _is_number(entry.get("auc")):
            valued = words["valued"].format(name=name, value=_plain(entry["auc"], 3))
            (sure if _is_number(low) and low > 0.5 else unsure).append(valued)
    worse = [
        words["valued"].format(name=name, value=_plain(loss["loss"] / loss["constant"], 2))
        for name, loss in _kept_losses(found).items()
        if _is_number(_over_constant(loss)) and loss["loss"] >= loss["constant"] > 0
    ]
    dead = [
        f"{_gates_name(module)} {words['expert'].format(n=place + 1)}"
        for module, use in _kept_epoch(found).get("gates", {}).items()
        for place in use["dead"]
    ]
    for key, names in (
        ("above_chance", sure),
        ("not_above_chance", unsure),
        ("worse_than_constant", worse),
        ("dead_experts", dead),
    ):
        if names:
            said.append(words[key].format(names=words["and"].join(names)))
    return said + _receipt_sentences(found, words, lang)


def _receipt_sentences(found: Found, words: Words, lang: str) -> list[str]:
    by_verdict: dict[str, list[str]] = {}
    for name, entry in (found.receipt or {}).get("tasks", {}).items():
        by_verdict.setdefault(entry["verdict"], []).append(name)
    said = RECEIPT_WORDS[lang]
    return [
        words["receipt_says"].format(
            verdict=said.get(verdict, verdict), names=words["and"].join(names)
        )
        for verdict, names in by_verdict.items()
    ]


# ---- sections -----------------------------------------------------------------------------


def _metrics(found: Found, words: Words) -> str:
    if found.evaluation is None:
        return ""
    by_metric: dict[str, list[Row]] = {}
    rows = []
    for name, entry in found.evaluation["tasks"].items():
        metric = leading(name, entry)
        value, ceiling = entry.get(metric), entry.get(f"ceiling_{metric}")
        low, high = entry.get(f"{metric}_interval") or (None, None)
        by_metric.setdefault(metric, []).append(Row(name, value, low, high, _plain(value, 3)))
        rows.append(
            [
                name, metric, _plain(value, 4), _between(low, high), _plain(ceiling, 4),
                _dashed(share_of_gap(metric, value, ceiling)),
                _plain(entry.get("log_loss"), 4), _plain(entry.get("ece"), 4),
                _plain(entry.get("predicted_over_observed"), 2), _count(entry.get("n")),
                _count(entry.get("positives")),
            ]
        )  # fmt: skip
    plots = []
    for metric, points in by_metric.items():
        name = words.get(f"metric.{metric}", metric)
        frame = Frame(name, words["metrics_note"].format(split=_split(found, words)), name)
        plots.append(forest(frame, points, zero=0.5 if metric == "auc" else None))
    heads = [
        words[key] for key in (
            "task", "metric", "value", "interval", "ceiling", "gap", "log_loss", "ece", "over",
            "n", "positives",
        )
    ]  # fmt: skip
    return section(
        words["metrics"],
        paragraph(words["metrics_note"].format(split=_split(found, words)), note=True),
        grid(plots),
        folded(words["numbers"], table(heads, rows, numbers_from=2)),
        paragraph(words["metrics_heads"], note=True),
    )


def _receipt(found: Found, words: Words, lang: str) -> str:
    """What a receipt.json says; a comparison's own page says more."""
    tasks = (found.receipt or {}).get("tasks", {})
    verdicts = RECEIPT_WORDS[lang]
    guards = (found.receipt or {}).get("kind") == "guard"
    note = words["guard_note" if guards else "receipt_note"]
    by_metric: dict[str, list[Row]] = {}
    rows = []
    for name, entry in tasks.items():
        low, high = entry.get("interval") or (None, None)
        difference = number(entry.get("difference"), DIGITS)
        verdict = verdicts.get(entry["verdict"], entry["verdict"])
        row = Row(
            name, entry.get("difference"), low, high, f"{difference} {verdict}",
            strong=entry["verdict"] in ("HELPS", "HURTS"),
        )  # fmt: skip
        by_metric.setdefault(entry.get("metric") or "", []).append(row)
        rows.append(
            [
                name, entry.get("metric") or "–", verdict, _plain(entry.get("multi"), DIGITS),
                _plain(entry.get("single"), DIGITS), difference,
                *([words[f"own.{entry['own']}"]] if guards else []), _between(low, high),
                *([] if guards else [_plain(entry.get("smallest_detectable"), DIGITS)]),
            ]
        )  # fmt: skip
    if not rows:
        return ""
    plots = []
    for metric, points in by_metric.items():
        name = words.get(f"metric.{metric}", metric) or words["metric"]
        title, axis = (
            verdicts[key].format(metric=name) for key in ("differences_of", "difference_axis")
        )
        frame = Frame(title, note, axis)
        margin = (found.receipt or {}).get("margin")
        plots.append(forest(frame, points, zero=0.0, margin=margin))
    keys = "task", "metric", "verdict", "together", "alone", "difference", "interval", "smallest"
    heads = [verdicts[key] for key in keys]
    if guards:
        heads[-2:] = [words["own"], heads[-2]]
    return section(
        words["receipt"],
        paragraph(note, note=True),
        grid(plots),
        folded(words["numbers"], table(heads, rows, numbers_from=3)),
    )


def _curves(found: Found, words: Words) -> str:
    if not found.epochs:
        return ""
    x = [epoch["epoch"] for epoch in found.epochs]
    kept = _kept_epoch(found).get("epoch")
    plots = []
    for task in found.epochs[0]["validation"]:
        held = [epoch["validation"].get(task, {}).get("loss") for epoch in found.epochs]
        taught = [epoch["train"].get(task) for epoch in found.epochs]
        constant = found.epochs[-1]["validation"].get(task, {}).get("constant")
        start = _first(held)
        is_ratio = all((each or 0.0) > 0 for each in (start, _first(taught)))
        series = [
            Series(words["train"], x, _since_first(taught, is_ratio)),
            Series(words["validation"], x, _since_first(held, is_ratio)),
        ]
        level = _moved(constant, start, is_ratio)
        near = [value for each in series for value in each.y if _is_number(value)]
        frame = Frame(
            words["curve_of"].format(task=task),
            words["curve_said"],
            words["epoch"],
            words["loss" if is_ratio else "loss_less"],
        )
        plots.append(
            line_chart(
                frame,
                series,
                marked=(kept, words["kept"]) if kept is not None else None,
                level=(level, words["constant"]) if _is_near(level, near) else None,
            )
        )
    return section(
        words["curves"],
        paragraph(words["curves_note"], note=True),
        grid(plots),
        folded(
            words["numbers"], paragraph(words["numbers_note"], note=True), _epochs(found, words)
        ),
    )


def _epochs(found: Found, words: Words) -> str:
    tasks = list(found.epochs[0]["validation"])
    rows = [
        [
            str(epoch["epoch"]),
            _plain(epoch["score"], 4),
            *(_plain(_over_constant(epoch["validation"].get(task, {})), 4) for task in tasks),
        ]
        for epoch in found.epochs
    ]
    return table([words["epoch"], words["joint_score"], *tasks], rows)


def _calibration(found: Found, words: Words) -> str:
    plots = []
    for name, entry in found.evaluation["tasks"].items() if found.evaluation else ():
        if not entry.get("reliability"):
            continue
        series = []
        if entry.get("reliability_before"):
            series.append(_reliability(words["before"], entry["reliability_before"], bars=False))
        series.append(_reliability(words["after"], entry["reliability"], bars=True))
        frame = Frame(
            words["reliability_of"].format(task=name),
            words["reliability_said"],
            words["said"],
            words["came"],
            height=290,
        )
        plots.append(calibration_curve(frame, series))
    if not plots:
        return ""
    told = (found.manifest or {}).get("fit", {}).get("calibration") or {}
    return section(
        words["calibration"],
        paragraph(words["calibration_note"], note=True),
        grid(plots),
        folded(words["how_calibrated"], _calibrated(told, words)) if told else "",
    )


def _calibrated(told: Mapping[str, Document], words: Words) -> str:
    rows = [
        [
            name, one["method"], one.get("why", "–"), _count(one.get("n")),
            _arrow(one.get("nats")), _arrow(one.get("ece")),
        ]
        for name, one in told.items()
    ]  # fmt: skip
    heads = [words[key] for key in ("task", "method", "why", "n", "nats", "eces")]
    return table(heads, rows, numbers_from=3)


def _reliability(name: str, points: Sequence[Sequence[float]], *, bars: bool) -> Series:
    ends = [_wilson(share, n) for _, share, n in points] if bars else []
    return Series(
        name,
        [said for said, _, _ in points],
        [share for _, share, _ in points],
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
    )


def _wilson(share: float, n: float) -> tuple[float, float]:
    """A 95 % interval of a share of n (Wilson, 1927), which holds where the share is 0 too."""
    middle = (share + _95**2 / (2 * n)) / (1 + _95**2 / n)
    half = _95 / (1 + _95**2 / n) * math.sqrt(share * (1 - share) / n + _95**2 / (4 * n * n))
    return middle - half, middle + half


def gate_shares(found: Found, lang: str = "en") -> list[Document]:
    """Of each module of the kept epoch its ``gates`` and what share ``[G, E]`` each gives experts.

    None is an expert that a gate never mixes.
    """
    return [
        {
            "module": module,
            "name": _gates_name(module),
            "gates": _gate_names(found, len(use["usage"]), WORDS[lang]),
            "shares": [[share or None for share in row] for row in use["usage"]],
        }
        for module, use in _kept_epoch(found).get("gates", {}).items()
    ]


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
            [_mean([_entry(one["affinity"], (i, j)) for one in probes]) for j in each] for i in each
        ],
    }


def _in_order(probes: Sequence[Document]) -> list[Document]:
    """The last record of each step: a run that was taken up again has probed some twice."""
    last = {(one["epoch"], one["step"]): one for one in probes}
    return [last[step] for step in sorted(last)]


def _gates(found: Found, lang: str) -> str:
    words = WORDS[lang]
    epoch = _kept_epoch(found).get("epoch")
    body = []
    for use in gate_shares(found, lang):
        name, gates, module = use["name"], use["gates"], use["module"]
        experts = [words["expert"].format(n=i + 1) for i in range(len(use["shares"][0]))]
        shares = [[None if each is None else 100 * each for each in row] for row in use["shares"]]
        title = words["gate_map"].format(gates=name, epoch=epoch)
        drawn = HeatMap(
            f"gates-{name.replace('.', '-')}", title, words["gates_note"], gates, experts, shares,
            axes=(words["gate_head"], words["expert_head"]), digits=0, full=100.0, unsigned=True,
        )  # fmt: skip
        body += [f"<h3>{title}</h3>", heat_map(drawn), _gates_by_epoch(found, module, gates, words)]
    if not body:
        return ""
    return section(words["gates"], paragraph(words["gates_note"], note=True), *body)


def _gates_by_epoch(found: Found, module: str, gates: Sequence[str], words: Words) -> str:
    told = [epoch for epoch in found.epochs if module in epoch.get("gates", {})]
    x = [epoch["epoch"] for epoch in told]
    uses = [epoch["gates"][module] for epoch in told]
    name = _gates_name(module)
    even = line_chart(
        Frame(
            words["gate_entropy"].format(gates=name), words["gate_entropy_said"], words["epoch"],
            words["entropy"], y_range=(0.0, 1.0),
        ),
        [Series(gate, x, [use["entropy"][i] for use in uses]) for i, gate in enumerate(gates)],
    )  # fmt: skip
    shares = []
    for i, gate in enumerate(gates):
        series = [
            Series(words["expert"].format(n=j + 1), x, [100 * use["usage"][i][j] for use in uses])
            for j in range(len(uses[0]["usage"][i]))
            if any(use["usage"][i][j] for use in uses)
        ]
        frame = Frame(
            words["gate_share"].format(gate=gate), words["gate_share_said"], words["epoch"],
            words["share"], y_range=(0.0, 100.0),
        )  # fmt: skip
        shares.append(line_chart(frame, series))
    return folded(words["by_epoch"], grid([even, *shares]))


def _gate_names(found: Found, n_gates: int, words: Words) -> list[str]:
    """Gates are the funnel's tasks in order, and one more for what is shared at a lower level."""
    tasks = [
        name
        for name in found.epochs[-1]["validation"]
        if not name.startswith("profile.") and name not in ("match", "extract")
    ]
    for names in (tasks, [*tasks, words["shared_gate"]]):
        if len(names) == n_gates:
            return names
    return [words["gate"].format(n=i + 1) for i in range(n_gates)]


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
            [_times(_entry(one["affinity"], pair), AFFINITY) for one in probes],
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
    level = (0.0, words["nothing"])
    epoch = words["epoch"]
    return section(
        words["over_time"],
        paragraph(note, note=True),
        grid(
            [
                line_chart(
                    Frame(words["ahead_title"], note, epoch, words["ahead_unit"], height=290),
                    ahead,
                    level=level,
                ),
                line_chart(
                    Frame(
                        words["cosine_title"], words["cosine_said"], epoch, words["cosine_unit"],
                        height=290,
                    ),
                    angles,
                    level=level,
                ),
                line_chart(
                    Frame(
                        words["conflict_title"], words["conflict_said"], epoch,
                        words["conflict_unit"], y_range=(0.0, 100.0),
                    ),
                    conflict,
                ),
            ]
        ),
    )  # fmt: skip


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
    return value if _is_number(value) else None


def _cosine(grams: Mapping[str, Any], pair: tuple[int, int]) -> float | None:
    """The mean over the parts in which both tasks have a gradient."""
    i, j = pair
    cosines = []
    for gram in grams.values():
        between, own = _entry(gram, pair), (_entry(gram, (i, i)), _entry(gram, (j, j)))
        if between is not None and own[0] and own[1] and own[0] > 0 and own[1] > 0:
            cosines.append(between / math.sqrt(own[0] * own[1]))
    return _mean(cosines)


def _share_below(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return 100 * sum(value < 0 for value in known) / len(known) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _data(found: Found, words: Words) -> str:
    prepared = found.prepared or (found.manifest or {}).get("prepared")
    if not prepared:
        return ""
    read, funnel, split = prepared["read"], prepared["funnel"], prepared["split"]
    rows = [[name, _count(n)] for name, n in read["rows"].items()]
    parts = [
        [words[what], *(_count(split[what].get(part)) for part in _SPLITS)]
        for what in ("exposures", "users", "titles")
        if any(split[what].values())
    ]
    censored = split.get("censored") or {}
    for stage in next(iter(censored.values()), {}):
        counts = [censored.get(part, {}).get(stage) for part in _SPLITS]
        if any(counts):
            parts.append([words["censored"].format(stage=stage), *map(_count, counts)])
    more = [
        [words[key].format(stage=stage), _count(n)]
        for key in ("implied", "uncredited")
        for stage, n in funnel[key].items()
        if n
    ]
    reasons = {**funnel["dropped"], **split["dropped"]}
    more += [[words["dropped"].format(reason=reason), _count(n)] for reason, n in reasons.items()]
    more += [
        [words["unread"].format(relation=relation), ", ".join(columns)]
        for relation, columns in read["unread"].items()
        if columns
    ]
    at = ""
    if split.get("validation_from") and split.get("test_from"):
        at = words["split_at"].format(
            validation=str(split["validation_from"])[:16], test=str(split["test_from"])[:16]
        )
    notes = [*read.get("notes", ()), *split.get("notes", ())]
    heads = [words["what"], *(words[part] for part in _SPLITS)]
    return section(
        words["data"],
        f"<h3>{words['data_rows']}</h3>",
        table([words["relation"], words["rows"]], rows),
        f"<h3>{words['data_split']}</h3>",
        table(heads, parts),
        paragraph(at, note=True) if at else "",
        folded(words["data_more"], table([words["what"], ""], more)) if more else "",
        bullets([str(note) for note in notes]),
    )


def _how(found: Found, words: Words) -> str:
    if found.manifest is None:
        return ""
    rows = [
        [f"{part}.{key}", _setting(value)]
        for part, name in (("fit", "settings"), ("model", "shape"))
        for key, value in found.manifest[name].items()
    ]
    return section(
        words["how"],
        paragraph(words["how_note"]),
        folded(words["settings"], table([words["setting"], words["value"]], rows)),
    )


# ---- what documents say -------------------------------------------------------------------


def _shop(found: Found) -> str:
    return str((found.manifest or {}).get("shop", {}).get("name") or found.folder)


def _lead(found: Found, words: Words) -> str:
    if found.manifest is None:
        return words["unfinished"].format(epochs=len(found.epochs))
    fitted = found.manifest["fit"]
    return words["lead"].format(
        n=len(fitted["tasks"]),
        parameters=_count(fitted["parameters"]),
        mixer=found.manifest["shape"]["mixer"],
        balancer=found.manifest["settings"]["balancer"],
        seed=found.manifest["shop"].get("seed", 0),
        best=fitted["best_epoch"],
        epochs=fitted["epochs"],
        seconds=_plain(fitted["seconds"], 1),
    )


def _split(found: Found, words: Words) -> str:
    split = str((found.evaluation or {}).get("split", ""))
    return words.get(split, split)


def _kept_epoch(found: Found) -> Document:
    """The record of the epoch whose weights are kept; of a run under way, the best so far."""
    if found.manifest is not None:
        best = found.manifest["fit"]["best_epoch"]
        return next((each for each in found.epochs if each["epoch"] == best), {})
    known = [each for each in found.epochs if _is_number(each["score"])]
    return min(known, key=lambda each: float(each["score"])) if known else {}


def _kept_losses(found: Found) -> Mapping[str, Document]:
    if found.manifest is not None:
        kept: Mapping[str, Document] = found.manifest["fit"]["validation"]
        return kept
    best: Mapping[str, Document] = _kept_epoch(found).get("validation", {})
    return best


def _gates_name(module: str) -> str:
    return module.removeprefix("heads.funnel.").removeprefix("mixer.")


def _over_constant(loss: Document) -> float | None:
    own, constant = loss.get("loss"), loss.get("constant")
    return own / constant if _is_number(own) and _is_number(constant) and constant else None


def _first(values: Sequence[float | None]) -> float | None:
    return next((value for value in values if _is_number(value)), None)


def _since_first(values: Sequence[float | None], is_ratio: bool) -> list[float | None]:
    start = _first(values)
    return [_moved(value, start, is_ratio) for value in values]


def _moved(value: float | None, start: float | None, is_ratio: bool) -> float | None:
    if value is None or start is None or not _is_number(value):
        return None
    return value / start if is_ratio else value - start


def _is_near(level: float | None, values: Sequence[float | None]) -> TypeGuard[float]:
    """Whether a line there would leave the curves most of the plot."""
    known = [value for value in values if value is not None]
    if level is None or not known:
        return False
    low, high = min(known), max(known)
    return low - (high - low) <= level <= high + (high - low)


def _is_number(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _federated(found: Found, words: Words) -> list[str]:
    """What a run that shops learnt together says of it; nothing of any other run."""
    told = (found.manifest or {}).get("federated")
    if told is None:
        return []
    best = found.manifest["fit"]["best_epoch"] if found.manifest else 0
    said = [words["federated"].format(shops=told["shops"], rounds=told["rounds"], best=best)]
    private, audited = told["privacy"], told["audit"]
    if private is not None:
        epsilon = _plain(private["epsilon"], 2)
        if private["unit"] == "label":
            said.append(words["told"].format(epsilon=epsilon))
        else:
            numbers = {"delta": f"{private['delta']:.1e}", "noise": f"{private['noise']:g}"}
            said.append(words["private"].format(**{**private, **numbers, "epsilon": epsilon}))
    if audited is not None:
        inside, outside = audited["users"]
        rates = {"auc": _plain(audited["auc"], 3), "tpr": _plain(audited["tpr"], 3)}
        said.append(words["audited"].format(**rates, inside=inside, outside=outside))
    proved = told.get("canaries")  # runs of before ask none
    if proved is not None:
        numbers = {
            "auc": _plain(proved["auc"], 3), "epsilon": _plain(proved["epsilon"], 2),
            "confidence": f"{100 * proved['confidence']:.0f}",
        }  # fmt: skip
        said.append(words["canaries"].format(**{**proved, **numbers}))
    return said


def _plain(value: float | None, digits: int) -> str:
    """A number without a plus.

    >>> _plain(0.5, 2), _plain(-1.0, 1), _plain(None, 3)
    ('0.50', '−1.0', '–')
    """
    return number(value, digits).removeprefix("+")


def _dashed(text: str) -> str:
    """A number's minus as people write it, and a dash where there is no number."""
    return "–" if text == "-" else text.replace("-", "−")


def _between(low: float | None, high: float | None) -> str:
    return f"{_plain(low, 4)} – {_plain(high, 4)}" if _is_number(low) and _is_number(high) else "–"


def _arrow(both: Sequence[float | None] | None) -> str:
    return " → ".join(_plain(each, 4) for each in both) if both else "–"


def _count(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else "–"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None or value == "" else str(value)
