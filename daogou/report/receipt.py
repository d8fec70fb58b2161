"""A comparison to its receipt: one page, in English or Chinese, that says first what came of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daogou.report.page import bullets, folded, number, page, paragraph, section, table
from daogou.report.plot import Frame, Row, forest, grid

Document = Mapping[str, Any]
Words = Mapping[str, str]

VERDICTS: Final = ("HELPS", "HURTS", "NEUTRAL", "UNDECIDED")
# What a verdict says of a control: the candidate is ... than it.
_AGAINST: Final = dict(zip(VERDICTS, ("better", "worse", "same", "UNDECIDED"), strict=True))
DIGITS: Final = 4

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
    judged = {name: entry for name, entry in tasks.items() if _is_number(entry["difference"])}
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
    if _is_number(_chosen(document)["delta_m"]):
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
            if entry is not None and _is_number(entry["difference"]):
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


# ---- sections -----------------------------------------------------------------------------


def _differences(document: Document, words: Words) -> str:
    """A picture for each metric, since an AUC's differences and a recall's share no axis."""
    tasks = _chosen(document)["tasks"]
    by_metric: dict[str, list[Row]] = {}
    for name, entry in tasks.items():
        if _is_number(entry["difference"]):
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
            plain(entry["smallest_detectable"]), _percent(entry["relative"]),
            plain(entry["p_holm"], 3), _count(entry["more_positives"]), _count(entry["n"]),
            _count(entry["positives"]),
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
            _percent(entry["gap_closed"]),
        ]
        for name, entry in _chosen(document)["tasks"].items()
        if _is_number(entry["ceiling"])
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
        if _is_number(entry["difference"])
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
    slices = [each for each in _chosen(document)["slices"] if _is_number(each["difference"])]
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
            plain(each["smallest_detectable"]), _count(each["n"]), _count(each["positives"]),
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
            _count(cost["parameters"].get(name)), plain(cost["ms_per_1000"].get(name), 1),
        ]
        for name in document["contenders"]
    ]  # fmt: skip
    return section(words["cost"], paragraph(words["cost_note"], note=True), table(heads, rows))


# ---- words of numbers ---------------------------------------------------------------------


def interval(entry: Document, digits: int = DIGITS) -> str:
    """The interval of a difference, with its signs.

    >>> interval({"interval": [-0.01, 0.02]})
    '−0.0100 … +0.0200'
    """
    low, high = entry["interval"]
    return f"{number(low, digits)} … {number(high, digits)}" if _is_number(low) else "–"


def plain(value: float | None, digits: int = DIGITS) -> str:
    """A number without a sign of its own; a dash where it is undefined.

    >>> plain(0.25), plain(None)
    ('0.2500', '–')
    """
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else "–"


def _mean(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or () if value is not None and math.isfinite(value)]
    return plain(sum(known) / len(known)) if known and len(known) == len(values or ()) else "–"


def _percent(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else number(100 * value, 1) + " %"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _metric(entry: Document) -> str:
    return "AUC" if entry["metric"] == "auc" else str(entry["metric"])


def _chosen(document: Document) -> Document:
    found: Document = document["candidates"][document["chosen"]]
    return found


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)
