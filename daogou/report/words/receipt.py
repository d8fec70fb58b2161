"""What the page of a comparison says, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

from daogou.report.words import Words

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "Does learning together help? {shop}",
        "lead": "{candidate} against a model for each task alone: {seeds} paired seeds, the test "
        "split, a margin of {margin}.",
        "summary": "In short",
        "HELPS": "helps",
        "HURTS": "hurts",
        "NEUTRAL": "neutral",
        "UNDECIDED": "undecided",
        "and": ", ",
        "headline": "Of {n} answers, learning together helps {HELPS}, hurts {HURTS} and makes no "
        "difference to {NEUTRAL}; {UNDECIDED} cannot be told from this test split.",
        "said.HELPS": "Learning together helps {name}: {metric} {multi}, {single} alone, "
        "{difference} ({interval}).",
        "said.HURTS": "Learning together hurts {name}: {metric} {multi}, {single} alone, "
        "{difference} ({interval}). `daogou fit --guard` gives such a task parameters of its own.",
        "said.NEUTRAL": "Learning together makes no difference to {name}: {metric} {multi}, "
        "{single} alone, {difference} ({interval}).",
        "said.UNDECIDED": "Undecided for {name}: {metric} {multi}, {single} alone, {difference} "
        "({interval}). An effect below {smallest} would go unseen here.{more}",
        "undefined": "{name} cannot be judged: the test split has no rows that tell ({n} rows, "
        "{positives} positives).",
        "more": " About {more} more positives in the test would decide.",
        "more_luck": " More test data alone would not decide.",
        "delta_m": "Over all tasks (delta-m, mean relative gain): {value} %.",
        "one_seed": "With one seed the luck of training is not in the intervals; give --seeds 5.",
        "chosen": "Of {n} candidates, validation chose {candidate}; the test split chose nothing.",
        "differences": "Together less alone",
        "differences_of": "Together less alone, {metric}",
        "differences_note": "Above 0 learning together is better. The line is the 95 % interval of "
        "the paired difference over seeds and over users of the test split; hatched is the margin, "
        "within which a difference does not matter.",
        "difference_axis": "difference of {metric}",
        "numbers": "The numbers",
        "task": "task",
        "metric": "metric",
        "alone": "alone",
        "together": "together",
        "difference": "difference",
        "interval": "95 % interval",
        "smallest": "smallest visible",
        "relative": "relative",
        "verdict": "verdict",
        "p": "p (Holm)",
        "more_head": "more positives",
        "n": "rows",
        "positives": "positives",
        "numbers_note": "Smallest visible: the least true difference that a test of this size "
        "would show in 4 of 5 cases. Relative: the gain over what alone is above chance. p is "
        "corrected over the tasks (Holm); `stage|given` is where the stage before happened.",
        "sources": "Where the doubt comes from",
        "sources_note": "Standard errors of the difference: of training (seeds) and of the test "
        "split (users). More seeds lower the first, more test data the second.",
        "seed_se": "of seeds",
        "test_se": "of the test",
        "ceiling": "How far it is to the ceiling",
        "ceiling_note": "The shop is simulated, so what could be known at best is known. The share "
        "of the gap that is closed is the one scale on which tasks can be compared.",
        "ceiling_head": "ceiling",
        "closed": "gap closed",
        "everyone": "Everyone",
        "everyone_note": "Means over seeds on the test split. Joint is the one checkpoint that can "
        "be deployed; best per task takes each task's own best epoch by validation, an upper bound "
        "that no verdict uses.",
        "joint": "{name}, joint",
        "best": "{name}, best per task",
        "single": "alone, as wide",
        "single_small": "alone, as large in sum",
        "aux": "alone, told the other stages' predictions",
        "pretrained": "alone, after the others",
        "beside": "Against “{control}” learning together is: {said}.",
        "against": "Against every control",
        "against_note": "{candidate} beside every control and every other candidate, by the paired "
        "difference, corrected over the tasks (Holm). Alone, as large in sum: twins so narrow that "
        "all of them together have as many parameters as the joint model.",
        "against.aux": "Alone, told the other stages' predictions: what other twins predict of the "
        "other stages is an input; each training row is predicted by a model that it did not "
        "teach. Where together is the same or worse, the other labels help, and not sharing.",
        "against.pretrained": "Alone, after the others: learnt alone from where all other tasks "
        "have led, with a budget of epochs for either. Where together is the same or worse, the "
        "better start helps, and not sharing until the end.",
        "control": "control",
        "better": "better",
        "worse": "worse",
        "same": "the same",
        "against_all": "All {n} differences",
        "its": "control's",
        "slices": "Slices",
        "slices_note": "The same question of some rows only; corrected over all tasks and slices "
        "together (Holm). Cold users have fewer than {cold} events by the end of training, cold "
        "items fewer than {cold} training exposures; head items are the fewest that have {head} % "
        "of the training exposures.",
        "slice": "slice",
        "all_slices": "All {n} slices",
        "slices_none": "No slice shows anything beyond chance.",
        "cold users": "cold users",
        "cold items": "cold items",
        "head items": "head items",
        "tail items": "tail items",
        "candidates": "Candidates",
        "candidates_note": "The validation column is the mean over tasks of validation loss over "
        "the best constant's; it chose the candidate of this page.",
        "candidate": "candidate",
        "validation": "validation",
        "cost": "What it costs",
        "cost_note": "Seconds of training a seed (twins: the sum), parameters, and milliseconds to "
        "score 1000 exposures on this machine, timed in turn.",
        "contender": "contender",
        "seconds": "seconds",
        "parameters": "parameters",
        "ms": "ms per 1000",
        "absent": "{name} did not take part: {why}",
        "how": "How it was measured",
        "how_pairs": "All contenders read the same compiled tables; a seed gives the same order of "
        "data to all. Epochs, calibration and the candidate were chosen by the validation split.",
        "how_twins": "A twin has one task, the same network and the same budget of epochs. A "
        "stage's twin keeps the stages it is learnt after at weight 0: they say where it is "
        "defined and teach nothing that is shared. Over all exposures the twins' chances are "
        "multiplied.",
        "how_verdict": "Helps or hurts: the difference is beyond the margin and clear after Holm's "
        "correction. Neutral: the 90 % interval, corrected likewise, lies within the margin. "
        "Otherwise undecided.",
    },
    "zh": {
        "title": "联合训练有用吗？{shop}",
        "lead": "{candidate} 与逐任务单独训练的模型对照：{seeds} 个配对的随机种子，测试集，"
        "判定界限 {margin}。",
        "summary": "结论",
        "HELPS": "有益",
        "HURTS": "有害",
        "NEUTRAL": "无差别",
        "UNDECIDED": "未定",
        "and": "、",
        "headline": "共 {n} 项：联合训练对 {HELPS} 项有益，对 {HURTS} 项有害，对 {NEUTRAL} 项"
        "没有差别；另有 {UNDECIDED} 项无法从该测试集判定。",
        "said.HELPS": "联合训练对 {name} 有益：{metric} 为 {multi}，单独训练为 {single}，"
        "差值 {difference}（{interval}）。",
        "said.HURTS": "联合训练对 {name} 有害：{metric} 为 {multi}，单独训练为 {single}，"
        "差值 {difference}（{interval}）。`daogou fit --guard` 会给这样的任务独立的参数。",
        "said.NEUTRAL": "联合训练对 {name} 没有差别：{metric} 为 {multi}，单独训练为 {single}，"
        "差值 {difference}（{interval}）。",
        "said.UNDECIDED": "{name} 未定：{metric} 为 {multi}，单独训练为 {single}，"
        "差值 {difference}（{interval}）。小于 {smallest} 的效果在这里看不出来。{more}",
        "undefined": "{name} 无法评判：测试集中没有可以区分的样本（{n} 行，{positives} 个正例）。",
        "more": "测试集再多约 {more} 个正例即可判定。",
        "more_luck": "仅增加测试数据无法判定。",
        "delta_m": "全部任务（delta-m，平均相对增益）：{value} %。",
        "one_seed": "只有一个种子，区间不含训练的随机性；请使用 --seeds 5。",
        "chosen": "{n} 个候选中由验证集选出 {candidate}；测试集没有参与任何选择。",
        "differences": "联合减单独",
        "differences_of": "联合减单独，{metric}",
        "differences_note": "大于 0 表示联合训练更好。横线为配对差值的 95% 区间，"
        "同时计入种子与测试用户的波动；斜纹为判定界限，界限以内的差别无关紧要。",
        "difference_axis": "{metric} 的差值",
        "numbers": "数值",
        "task": "任务",
        "metric": "指标",
        "alone": "单独",
        "together": "联合",
        "difference": "差值",
        "interval": "95% 区间",
        "smallest": "最小可见效果",
        "relative": "相对增益",
        "verdict": "结论",
        "p": "p（Holm）",
        "more_head": "还需正例",
        "n": "行数",
        "positives": "正例",
        "numbers_note": "最小可见效果：这样大小的测试集在五次中有四次能看出的最小真实差值。"
        "相对增益：相对单独训练高出随机的部分。p 值按任务做 Holm 校正；"
        "“阶段|前提”只统计前一阶段已发生的样本。",
        "sources": "不确定性的来源",
        "sources_note": "差值的标准误：来自训练（种子）和来自测试集（用户）。"
        "增加种子降低前者，增加测试数据降低后者。",
        "seed_se": "种子",
        "test_se": "测试集",
        "ceiling": "离上限还有多远",
        "ceiling_note": "店铺是模拟的，因此最好能知道多少是已知的。已缩小的差距比例是唯一"
        "可以跨任务比较的尺度。",
        "ceiling_head": "上限",
        "closed": "已缩小差距",
        "everyone": "全部参与者",
        "everyone_note": "测试集上各种子的平均。“联合”是可以部署的唯一检查点；"
        "“逐任务最佳”取每个任务在验证集上最好的一轮，只是上界，不用于任何结论。",
        "joint": "{name}，联合",
        "best": "{name}，逐任务最佳",
        "single": "单独，同宽",
        "single_small": "单独，总参数相同",
        "aux": "单独，以其他阶段的预测为输入",
        "pretrained": "单独，在其他任务之后",
        "beside": "与“{control}”相比，联合训练：{said}。",
        "against": "与每个对照比较",
        "against_note": "{candidate} 与每个对照及其他候选的配对差值，按任务做 Holm 校正。"
        "单独，总参数相同：把宽度缩小到所有单任务模型的参数之和与联合模型相当。",
        "against.aux": "单独，以其他阶段的预测为输入：其他单任务模型对其他阶段的预测作为输入；"
        "每个训练样本由未学过它的模型预测。联合训练相同或更差之处，有用的是其他标签，而不是共用。",
        "against.pretrained": "单独，在其他任务之后：从所有其他任务学到的权重出发单独训练，"
        "两段各有一份轮数预算。联合训练相同或更差之处，有用的是更好的起点，而不是始终共用。",
        "control": "对照",
        "better": "更好",
        "worse": "更差",
        "same": "相同",
        "against_all": "全部 {n} 个差值",
        "its": "对照值",
        "slices": "分组",
        "slices_note": "同样的问题，只看部分样本；对所有任务与分组一起做 Holm 校正。"
        "冷启动用户：训练结束前不足 {cold} 个事件；冷启动商品：训练曝光不足 {cold} 次；"
        "头部商品：占训练曝光 {head}% 的最少商品。",
        "slice": "分组",
        "all_slices": "全部 {n} 个分组",
        "slices_none": "没有分组显示出超过偶然的差别。",
        "cold users": "冷启动用户",
        "cold items": "冷启动商品",
        "head items": "头部商品",
        "tail items": "长尾商品",
        "candidates": "候选",
        "candidates_note": "“验证”一列为各任务验证损失与最佳常数损失之比的平均；"
        "本页的候选由它选出。",
        "candidate": "候选",
        "validation": "验证",
        "cost": "代价",
        "cost_note": "每个种子的训练秒数（单独训练为总和）、参数个数，以及在本机上"
        "为 1000 次曝光打分所需毫秒数（轮流计时）。",
        "contender": "参与者",
        "seconds": "秒",
        "parameters": "参数",
        "ms": "毫秒/千次",
        "absent": "{name} 没有参与：{why}",
        "how": "测量方法",
        "how_pairs": "所有参与者读取同一份编译后的数据；同一种子的数据顺序相同。"
        "轮数、校准和候选都由验证集选择。",
        "how_twins": "单任务模型只有一个任务，网络与轮数预算相同。阶段的单任务模型保留其前提阶段，"
        "权重为 0：它们只说明该阶段在哪里有定义，不影响任何共用部分。"
        "对全部曝光，各单任务模型的概率相乘。",
        "how_verdict": "有益或有害：差值超过界限，且经 Holm 校正后仍然明确。"
        "无差别：同样校正后的 90% 区间落在界限以内。其余为未定。",
    },
}
