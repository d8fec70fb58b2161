"""What the page of a search says, in English and Chinese."""

from collections.abc import Mapping
from typing import Final

from daogou.report.words import Words

WORDS: Final[Mapping[str, Words]] = {
    "en": {
        "title": "Settings that were tried for {shop}",
        "lead": "{n} trials by {sampler}, judged by {objective} on the validation split. "
        "Lower is better.",
        "joint": "the joint score",
        "summary": "In short",
        "and": ", ",
        "best": "Best is trial {number} with a score of {score}: {settings}.",
        "none": "No trial is finished, so there is no best one.",
        "counts": "{finished} finished, {stopped} were stopped early, {failed} failed, "
        "{unfinished} are unfinished.",
        "pareto": "Of {n} trials no other is better in every task: {numbers}.",
        "luck": "The best of many is in part the luckiest: its score is of the data that chose it. "
        "Judge it on the test split, once, or with `daogou compare`.",
        "front": "What is won for one task and lost for another",
        "front_note": "Validation loss of two tasks over that of their best constant answer: lower "
        "left is better. The line joins the trials that no other beats in both.",
        "front_of": "{first} against {second}",
        "loss_of": "{task}: loss over best constant",
        "trials": "trials",
        "front_line": "front of the two",
        "chosen": "best trial",
        "progress": "How the search went",
        "progress_note": "Score of each finished trial in the order they were begun, and the best "
        "until then.",
        "progress_title": "Score by trial",
        "trial": "trial",
        "score": "score",
        "each": "each trial",
        "so_far": "best so far",
        "settings_title": "What each setting did",
        "settings_note": "Score of the finished trials by each setting that is a number. Others "
        "changed at the same time; a cloud without a slope is a setting that matters little here.",
        "setting_of": "Score by {setting}",
        "log_of": "log₁₀ {setting}",
        "table": "The trials",
        "table_note": "From the best. ★: no other trial is better in every task.",
        "all": "All {n} trials",
        "state": "state",
        "epoch": "epoch kept",
        "seconds": "seconds",
        "settings": "settings",
        "finished": "finished",
        "stopped": "stopped early",
        "failed": "failed",
        "unfinished": "unfinished",
    },
    "zh": {
        "title": "为 {shop} 尝试过的设置",
        "lead": "共 {n} 次试验，采样方法 {sampler}，依据验证集上的{objective}评判，越低越好。",
        "joint": "联合得分",
        "summary": "结论",
        "and": "、",
        "best": "最好的是第 {number} 号试验，得分 {score}：{settings}。",
        "none": "还没有完成的试验，因此没有最好的一次。",
        "counts": "完成 {finished} 次，提前停止 {stopped} 次，失败 {failed} 次，"
        "未完成 {unfinished} 次。",
        "pareto": "有 {n} 次试验没有被任何其他试验在所有任务上超过：{numbers}。",
        "luck": "多次试验中最好的一次有运气成分：它的得分来自选中它的数据。"
        "请在测试集上评估一次，或用 `daogou compare` 比较。",
        "front": "一个任务的得与另一个任务的失",
        "front_note": "两个任务的验证损失与各自最佳常数答案的损失之比，左下方更好。"
        "连线为没有被其他试验在这两个任务上同时超过的试验。",
        "front_of": "{first} 与 {second}",
        "loss_of": "{task}：损失 / 最佳常数",
        "trials": "试验",
        "front_line": "两者的前沿",
        "chosen": "最好的试验",
        "progress": "搜索过程",
        "progress_note": "按开始顺序排列的各次完成的试验的得分，以及到当时为止的最好得分。",
        "progress_title": "各次试验的得分",
        "trial": "试验",
        "score": "得分",
        "each": "每次试验",
        "so_far": "目前最好",
        "settings_title": "每个设置的作用",
        "settings_note": "各次完成的试验的得分与每个数值设置的关系。其他设置也同时变化；"
        "看不出趋势的设置在这里影响不大。",
        "setting_of": "得分与 {setting}",
        "log_of": "log₁₀ {setting}",
        "table": "各次试验",
        "table_note": "从最好的开始。★：没有其他试验在所有任务上都更好。",
        "all": "全部 {n} 次试验",
        "state": "状态",
        "epoch": "保留的轮",
        "seconds": "秒",
        "settings": "设置",
        "finished": "完成",
        "stopped": "提前停止",
        "failed": "失败",
        "unfinished": "未完成",
    },
}
