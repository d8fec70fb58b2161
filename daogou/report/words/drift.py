"""What the page about what has changed since a run says, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

from daogou.report.words import Words

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
