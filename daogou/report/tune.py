"""What a search for settings tried to one page, in English or Chinese."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

from daogou.report.page import bullets, folded, number, page, paragraph, section, table
from daogou.report.plot import Frame, Series, grid, line_chart, scatter

Document = Mapping[str, Any]
Words = Mapping[str, str]
_PAIRS: Final = 4  # pairs of tasks that are drawn
_SHOWN: Final = 10  # trials that are not folded away

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


def tune_page(document: Document, *, lang: str = "en") -> str:
    """The HTML of a document of `learn.tune.tune`: one page, no network, no script."""
    words = WORDS[lang]
    objective = document["objective"]
    lead = words["lead"].format(
        n=len(document["trials"]),
        sampler=document["sampler"],
        objective=words["joint"] if objective == "joint" else objective,
    )
    body = [
        section(words["summary"], bullets(sentences(document, lang=lang))),
        _front(document, words),
        _progress(document, words),
        _by_setting(document, words),
        _trials(document, words),
    ]
    title = words["title"].format(shop=document["shop"])
    return page(title, [each for each in body if each], lead=lead, lang=lang)


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The search in plain words."""
    words = WORDS[lang]
    best = document["best"]
    said = [words["none"]]
    if best is not None:
        said = [
            words["best"].format(
                number=best["number"], score=_plain(best["score"]), settings=_settings(best, words)
            )
        ]
    said.append(words["counts"].format(**document["counts"]))
    if len(document["pareto"]) > 1:
        numbers = words["and"].join(map(str, document["pareto"]))
        said.append(words["pareto"].format(n=len(document["pareto"]), numbers=numbers))
    return said + ([words["luck"]] if best is not None else [])


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other beats in one number without losing in the other.

    Lower is better; from the left.

    >>> front_of([(1.0, 3.0), (2.0, 2.0), (2.0, 2.5), (3.0, 2.0)])
    [0, 1]
    """
    kept: list[int] = []
    for place in sorted(range(len(points)), key=lambda each: points[each]):
        if not kept or points[place][1] < points[kept[-1]][1]:
            kept.append(place)
    return kept


# ---- sections -----------------------------------------------------------------------------


def _finished(document: Document) -> list[Document]:
    return [
        one
        for one in document["trials"]
        if one["state"] == "finished" and _is_number(one.get("score"))
    ]


def _front(document: Document, words: Words) -> str:
    finished = _finished(document)
    tasks = [
        task
        for task in (finished[0]["relative"] if finished else ())
        if all(_is_number(one["relative"].get(task)) for one in finished)
    ]
    plots = []
    for second in tasks[1 : _PAIRS + 1]:
        first = tasks[0]
        points = [(one["relative"][first], one["relative"][second]) for one in finished]
        line = [points[place] for place in front_of(points)]
        best = (document["best"] or {}).get("number")
        chosen = [
            point for one, point in zip(finished, points, strict=True) if one["number"] == best
        ]
        frame = Frame(
            words["front_of"].format(first=first, second=second),
            words["front_note"],
            words["loss_of"].format(task=first),
            words["loss_of"].format(task=second),
        )
        series = [
            _points(words["trials"], points, joined=False),
            _points(words["front_line"], line, joined=True),
            _points(words["chosen"], chosen, joined=False),
        ]
        plots.append(scatter(frame, series))
    if not plots:
        return ""
    return section(words["front"], paragraph(words["front_note"], note=True), grid(plots))


def _points(name: str, points: Sequence[tuple[float, float]], *, joined: bool) -> Series:
    return Series(name, [x for x, _ in points], [y for _, y in points], joined=joined)


def _progress(document: Document, words: Words) -> str:
    finished = sorted(_finished(document), key=lambda one: int(one["number"]))
    if not finished:
        return ""
    x = [one["number"] for one in finished]
    scores = [one["score"] for one in finished]
    best = [min(scores[: place + 1]) for place in range(len(scores))]
    frame = Frame(words["progress_title"], words["progress_note"], words["trial"], words["score"])
    series = [Series(words["so_far"], x, best), Series(words["each"], x, scores, joined=False)]
    return section(
        words["progress"],
        paragraph(words["progress_note"], note=True),
        grid([line_chart(frame, series)]),
    )


def _by_setting(document: Document, words: Words) -> str:
    plots = []
    for setting, span in document["space"].items():
        told = [
            (one["settings"][setting], one["score"])
            for one in _finished(document)
            if _is_plain_number(one["settings"].get(setting))
        ]
        if len({value for value, _ in told}) < 2:
            continue
        is_log = bool(span.get("log")) and all(value > 0 for value, _ in told)
        axis = words["log_of"].format(setting=setting) if is_log else setting
        points = [(math.log10(value) if is_log else value, score) for value, score in told]
        frame = Frame(
            words["setting_of"].format(setting=setting), words["settings_note"], axis,
            words["score"],
        )  # fmt: skip
        plots.append(scatter(frame, [_points("", points, joined=False)]))
    if not plots:
        return ""
    return section(
        words["settings_title"], paragraph(words["settings_note"], note=True), grid(plots)
    )


def _trials(document: Document, words: Words) -> str:
    heads = [words[key] for key in ("trial", "state", "settings", "score", "epoch", "seconds")]
    rows = list(_rows(document, words))
    body = [paragraph(words["table_note"], note=True), table(heads, rows[:_SHOWN], numbers_from=3)]
    if len(rows) > _SHOWN:
        whole = table(heads, rows, numbers_from=3)
        body.append(folded(words["all"].format(n=len(rows)), whole))
    return section(words["table"], *body)


def _rows(document: Document, words: Words) -> Iterator[list[str]]:
    """Trials from the best; those without a score last."""

    def place(one: Document) -> tuple[bool, bool, float]:
        score = one.get("score")
        return one["state"] != "finished", not _is_number(score), score or 0.0

    for one in sorted(document["trials"], key=place):
        mark = " ★" if one["number"] in document["pareto"] else ""
        yield [
            f"{one['number']}{mark}",
            words[one["state"]],
            _settings(one, words),
            _plain(one.get("score")),
            "–" if one.get("best_epoch") is None else str(one["best_epoch"]),
            _plain(one.get("seconds"), 1),
        ]


def _settings(trial: Document, words: Words) -> str:
    return words["and"].join(
        f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in trial["settings"].items()
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: float | None, digits: int = 4) -> str:
    return number(value, digits).removeprefix("+")
