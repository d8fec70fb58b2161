"""What the page about tasks that help one another says, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

from daogou.report.words import Words

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "Which tasks help which: {shop}",
        "lead": "{n} tasks share one model. Seed {seed}, epoch {epoch} kept, {probes} probes.",
        "summary": "In short",
        "and": ", ",
        "pair": "{giver} → {receiver} ({value})",
        "helped": "Leaving out shows help: {pairs}. Without the first task the second is worse.",
        "hurt": "Leaving out shows harm: {pairs}. Without the first task the second is better.",
        "neither": "Leaving a task out changed no other task by more than other seeds do.",
        "skipped": "No task was left out, so the look-ahead below is the only held-out evidence. "
        "Run again with --resume and without --no-leave-out to check it.",
        "ahead_helped": "Looked ahead, a step for the first lowers the second's held-out loss: "
        "{pairs}.",
        "ahead_hurt": "Looked ahead, a step for the first raises the second's held-out loss: "
        "{pairs}.",
        "ahead_neither": "Looked ahead, no step for one task clearly moves another's held-out "
        "loss.",
        "one_group": "Suggested: all tasks together. Nothing held out speaks for parting them.",
        "groups": "Suggested by the look-ahead: {groups}.",
        "leave_out_groups": "Suggested by leaving out, which is the stronger evidence: {groups}.",
        "same_groups": "Leaving tasks out suggests the same.",
        "cosine": "The angle between gradients does not decide. In a controlled experiment it was "
        "0.01 and 0.00 where training together gained 0.028 and lost 0.032 of AUC.",
        "agreement": "Here, over all pairs, the look-ahead orders them like leaving out does with "
        "a rank correlation of {affinity}, the cosine with {cosine} (1 the same, 0 unrelated).",
        "leave_out": "Leaving one task out",
        "leave_out_unit": "In per cent of the loss of the best constant answer, validation split. "
        "Above 0: the column's task is better with the row's task than without it. Framed: more "
        "than nine in ten differences between seeds; so one in ten is framed by chance.",
        "margins": "Within these is noise, by {n} joint runs of different seeds",
        "affinity": "Looking one step ahead",
        "affinity_unit": "In ten-thousandths (‱) of the column's task's held-out loss, a mean over "
        "probes. Above 0: a tenth of a step along the row's gradient alone lowers it. Framed: "
        "beyond the 95 % interval of Student around 0; so one in twenty is framed by chance. On "
        "the diagonal, a task's own step.",
        "legend": "Plain green helps (+), hatched amber harms (−); the deeper, the more.",
        "gives": "gives",
        "receives": "receives",
        "group_title": "Tasks to train together",
        "group_note": "The partition whose members receive most from one another. Pairs that are "
        "not clear count as 0, and of equal partitions the one with the fewest groups is taken. "
        "Sums over the givers.",
        "by_affinity": "By the look-ahead",
        "by_leave_out": "By leaving out",
        "by_both": "By both",
        "group_head": "group",
        "group": "Group {n}",
        "task": "task",
        "ahead_inside": "look-ahead, from group",
        "ahead_outside": "from others",
        "transfer_inside": "leaving out, from group",
        "transfer_outside": "from others",
        "beside": "Angles beside what was held out",
        "beside_note": "A cosine near 0 says nothing about whether two tasks help each other; only "
        "the held-out columns do. Cosine is a mean over the parts in which the two tasks meet.",
        "column_transfer": "leaving out",
        "column_affinity": "look-ahead",
        "column_cosine": "cosine",
        "direction": "gives → receives",
        "all_pairs": "All {n} pairs",
        "parts": "Gradients, part by part",
        "all_parts": "All {n} parts",
        "parts_note": "Cosine of two tasks' gradients in each part that they share, a mean over "
        "the probes, and below it how alike in length they are, 2|a||b| / (|a|² + |b|²): 1 is "
        "equally long. To look for causes, not to decide.",
        "cosine_of": "Cosine: {part}",
        "size_of": "Likeness of length: {part}",
        "how": "How it was measured",
        "how_leave_out": "Leaving out: one run per task in which its weight is 0. It still trains "
        "its own layers, and nothing of it reaches what is shared; so the stages of a funnel stay "
        "conditional on the same ones. In each run the epoch is kept that is best for the tasks "
        "that count. The joint losses are means over the seeds.",
        "how_affinity": "Looking ahead: at {probes} steps of the joint run, each task's gradient "
        "alone moves the shared weights by a tenth of the optimisers' step; all tasks are judged "
        "on validation rows without dropout, and the weights are put back. Fifty et al., "
        "Efficiently Identifying Task Groupings for Multi-Task Learning, NeurIPS 2021.",
        "how_split": "No label of the test split was read.",
        "part.text": "title encoder",
        "part.text.rows": "word table",
        "part.item": "product encoder",
        "part.item.rows": "product tables",
        "part.user": "user encoder",
        "part.user.rows": "user tables",
        "part.meet": "where user meets product",
        "part.meet.rows": "context table",
        "part.mixer": "mixer",
        "part.mixer.rows": "mixer's tables",
        "part.mixer_input": "mixer's input",
    },
    "zh": {
        "title": "哪些任务互相帮助：{shop}",
        "lead": "{n} 个任务共用一个模型。随机种子 {seed}，保留第 {epoch} 轮，探测 {probes} 次。",
        "summary": "结论",
        "and": "、",
        "pair": "{giver} → {receiver}（{value}）",
        "helped": "去掉后会有损失：{pairs}。没有前者，后者变差。",
        "hurt": "去掉后反而更好：{pairs}。没有前者，后者变好。",
        "neither": "去掉任何一个任务，对其他任务的影响都没有超过更换随机种子带来的波动。",
        "skipped": "本次没有做“逐一去掉任务”的训练，下面的前瞻结果是唯一的留出证据。"
        "去掉 --no-leave-out 并加上 --resume 再运行一次即可验证。",
        "ahead_helped": "前瞻一步，沿前者的梯度走，后者的留出损失下降：{pairs}。",
        "ahead_hurt": "前瞻一步，沿前者的梯度走，后者的留出损失上升：{pairs}。",
        "ahead_neither": "前瞻一步，没有任何任务明显改变其他任务的留出损失。",
        "one_group": "建议：所有任务一起训练。没有留出证据支持把它们分开。",
        "groups": "按前瞻结果建议的分组：{groups}。",
        "leave_out_groups": "按逐一去掉的结果（更可靠的证据）建议的分组：{groups}。",
        "same_groups": "逐一去掉任务得到的分组相同。",
        "cosine": "梯度夹角不能作为判断依据。在一个受控实验中，余弦分别为 0.01 和 0.00，"
        "而联合训练的 AUC 却分别提高 0.028 和降低 0.032。",
        "agreement": "在这里，对所有任务对按影响排序，前瞻与逐一去掉的秩相关为 {affinity}，"
        "余弦与逐一去掉的秩相关为 {cosine}（1 为完全一致，0 为无关）。",
        "leave_out": "逐一去掉任务",
        "leave_out_unit": "单位：最佳常数答案损失的百分之一（%），验证集。大于 0 表示有行任务时，"
        "列任务比没有它时更好。加框：超过九成由随机种子引起的差异，因此约十分之一的框出于偶然。",
        "margins": "不超过以下数值的差异属于噪声（由 {n} 次不同种子的联合训练得出）",
        "affinity": "前瞻一步",
        "affinity_unit": "单位：列任务留出损失的万分之一（‱），取各次探测的平均。大于 0 表示"
        "只沿行任务的梯度走十分之一步会降低列任务的损失。加框：超出以 0 为中心的 95% t 区间，"
        "因此约二十分之一的框出于偶然。对角线为任务自身的一步。",
        "legend": "绿色无纹为有帮助（+），琥珀色斜纹为有害（−）；颜色越深，影响越大。",
        "gives": "给予",
        "receives": "得到",
        "group_title": "适合一起训练的任务",
        "group_note": "使组内成员彼此得到最多的划分。不明确的任务对按 0 计；"
        "同样好时取组数最少的划分。"
        "表中为各给予任务之和。",
        "by_affinity": "按前瞻结果",
        "by_leave_out": "按逐一去掉的结果",
        "by_both": "两种结果相同",
        "group_head": "分组",
        "group": "第 {n} 组",
        "task": "任务",
        "ahead_inside": "前瞻：来自组内",
        "ahead_outside": "来自组外",
        "transfer_inside": "逐一去掉：来自组内",
        "transfer_outside": "来自组外",
        "beside": "夹角与留出结果对照",
        "beside_note": "余弦接近 0 并不能说明两个任务是否互相帮助，只有留出结果可以。"
        "余弦为两个任务相遇的各部分的平均值。",
        "column_transfer": "逐一去掉",
        "column_affinity": "前瞻",
        "column_cosine": "余弦",
        "direction": "给予 → 得到",
        "all_pairs": "全部 {n} 对",
        "parts": "各部分的梯度",
        "all_parts": "全部 {n} 个部分",
        "parts_note": "两个任务在共用的每个部分中梯度的余弦，取各次探测的平均；其下为长度相似度 "
        "2|a||b| / (|a|² + |b|²)，1 表示等长。用于寻找原因，不用于下结论。",
        "cosine_of": "余弦：{part}",
        "size_of": "长度相似度：{part}",
        "how": "测量方法",
        "how_leave_out": "逐一去掉：每个任务单独训练一次，其权重设为 0。它仍训练自己的层，"
        "但不影响任何共用部分，因此漏斗各阶段的条件不变。"
        "每次训练保留对其余任务最好的一轮。联合训练的损失取各种子的平均。",
        "how_affinity": "前瞻：在联合训练的 {probes} 个步骤上，只用一个任务的梯度把共用权重"
        "移动优化器一步的十分之一，在验证数据上（不使用 dropout）评估所有任务，"
        "然后恢复权重。参见 Fifty et al., "
        "Efficiently Identifying Task Groupings for Multi-Task Learning, NeurIPS 2021。",
        "how_split": "没有读取测试集的任何标签。",
        "part.text": "标题编码器",
        "part.text.rows": "词表",
        "part.item": "商品编码器",
        "part.item.rows": "商品表",
        "part.user": "用户编码器",
        "part.user.rows": "用户表",
        "part.meet": "用户与商品交汇层",
        "part.meet.rows": "场景表",
        "part.mixer": "混合层",
        "part.mixer.rows": "混合层的表",
        "part.mixer_input": "混合层输入",
    },
}
