"""What the page of a transfer says, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

from daogou.report.words import Words

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
