"""An evaluation, findings, answers or a machine to tables in the terminal.

What shops write may hold square brackets, which rich would take for markup: `_row` escapes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from daogou.report.drift import numbers as drift_numbers
from daogou.report.receipt import beside_rows
from daogou.report.relate import AFFINITY, TRANSFER
from daogou.report.transfer import numbers as transfer_numbers
from daogou.report.words.receipt import WORDS as RECEIPT_WORDS

Document = Mapping[str, Any]

# The one metric a task is known by, its ceiling's key, and where it starts from.
_LEADING: Final = ("auc", "macro_f1", "recall@50", "f1", "gini")
_WORTH: Final[Mapping[str, str]] = {"en": "worth", "zh": "期望价值"}
_HEADS: Final[Mapping[str, Sequence[str]]] = {
    "en": ("task", "metric", "value", "95 % interval", "ceiling", "of the gap", "log loss", "n"),
    "zh": ("任务", "指标", "数值", "95% 区间", "上限", "已缩小差距", "对数损失", "样本数"),
}


def evaluation(document: Document, *, lang: str = "en") -> Table:
    """One row per task: its leading metric, interval, ceiling and the share of the gap closed.

    The gap runs from chance (an AUC of a half, otherwise 0) to the ceiling, which only simulated
    shops know; elsewhere both columns are a dash.
    """
    title = {"en": f"split: {document['split']}", "zh": f"数据划分：{document['split']}"}[lang]
    table = _table(_HEADS[lang], title, numbers_from=2)
    table.columns[1].no_wrap = True  # where there is little room a task's name is folded instead
    for name, entry in document["tasks"].items():
        metric = leading(name, entry)
        value, ceiling = entry.get(metric), entry.get(f"ceiling_{metric}")
        low, high = entry.get(f"{metric}_interval") or (None, None)
        _row(
            table, name, metric, _number(value), f"{_number(low)} - {_number(high)}",
            _number(ceiling), share_of_gap(metric, value, ceiling), _number(entry.get("log_loss")),
            entry.get("n", "-"),
        )  # fmt: skip
    return table


def training(epochs: Sequence[Document], kept: int | None = None, *, lang: str = "en") -> Table:
    """One row per epoch of a run's events.jsonl; a star marks the ``kept`` one.

    Of each task the validation loss over that of the best constant: below 1 is better than it.
    """
    heads = {"en": ("epoch", "joint"), "zh": ("轮", "联合得分")}
    title = {"en": "validation loss over the best constant's", "zh": "验证损失 / 最佳常数的损失"}
    tasks = list(epochs[0]["validation"]) if epochs else []
    table = _table((*heads[lang], *tasks), title[lang], numbers_from=1)
    for one in epochs:
        losses = [one["validation"].get(task, {}) for task in tasks]
        shares = [
            loss["loss"] / loss["constant"] if loss.get("loss") and loss.get("constant") else None
            for loss in losses
        ]
        mark = "*" if one["epoch"] == kept else ""
        _row(table, f"{one['epoch']}{mark}", _number(one["score"]), *map(_number, shares))
    return table


def alarms(document: Document, *, lang: str = "en") -> list[str]:
    """A sentence for each task that did better than the truth allows: something leaked."""
    said = {
        "en": "leak alarm: {} is above its ceiling by more than chance; an input knows the answer",
        "zh": "泄漏警报：{} 显著高于其上限；某个输入泄漏了答案",
    }
    return [
        said[lang].format(name) for name, entry in document["tasks"].items()
        if entry.get("leak_alarm")
    ]  # fmt: skip


def inferable(document: Document, *, lang: str = "en") -> list[str]:
    """One sentence per sensitive column: how well it could be told from behaviour."""
    found = []
    for column, entry in document["sensitive"].items():
        value, interval = entry["auc"], entry["auc_interval"]
        if value is None or value != value:
            found.append(
                {
                    "en": f"{column}: too few known values to say whether it could be told.",
                    "zh": f"{column}：已知值太少，无法判断能否被推断。",
                }[lang]
            )
            continue
        surely = interval[0] > 0.5
        numbers = f"AUC {_number(value)} [{_number(interval[0])}, {_number(interval[1])}]"
        english = (
            "can be told from behaviour" if surely else "is not seen to be told from behaviour"
        )
        chinese = "可以从行为推断" if surely else "未见可从行为推断"
        found.append(
            {
                "en": f"{column} {english}: {numbers} over {entry['n']} users; a coin has 0.5.",
                "zh": f"{column} {chinese}：{entry['n']} 位用户，{numbers}；随机猜测为 0.5。",
            }[lang]
        )
    return found


def findings(found: Sequence[Document], *, lang: str = "en") -> Table:
    """One row per finding, worst first."""
    heads = {"en": ("check", "level", "count", "what"), "zh": ("检查", "级别", "数量", "说明")}
    table = _table(heads[lang])
    colours = {"FAIL": "red", "WARN": "yellow", "PASS": "green"}
    order = list(colours)
    for one in sorted(found, key=lambda each: order.index(each["level"])):
        text = one["text"] if lang == "en" else _in_chinese(one)
        _row(table, one["name"], one["level"], one["count"], text)
        table.rows[-1].style = colours[one["level"]]
    return table


# What each check finds, and what to do about it.
CHECKS_ZH: Final[Mapping[str, str]] = {
    "orphan_users": "事件里的用户在用户表中没有，按未知用户处理；有就补上",
    "orphan_items": "事件里的商品在商品表中没有，按未知商品处理；有就补上",
    "duplicate_events": "用户、商品、时间、行为完全相同的重复事件；若是导出出错，请在导出处去重",
    "late_events": "后来的文件里有早于上次训练日志的事件，会重复计数；去掉或放行",
    "untimed_events": "时间读不出来，这些事件没有采用；请在导出处修正",
    "time_order": "事件没有按时间排列；不要求有序",
    "future_times": "时间不像真的（太早或太晚）；检查单位和时区",
    "few_events": "事件太少，置信区间会很宽；多给几天的日志",
    "few_users": "有两次以上行为的用户太少；多给几天的日志",
    "later_without_earlier": "有后一阶段却没有前一阶段，视为已发生；检查 funnel 的顺序",
    "uncredited_events": "事件之前的窗口内没有对应的曝光；检查 window_h，或日志是否缺曝光",
    "one_class_label": "标签全是 0 或全是 1，学不了也测不了；检查行为的写法，或关掉该任务",
    "all_labels_missing": "这一段里没有已知标签，窗口比这一段还长；缩短 window_h 或多给几天",
    "no_values": "没有大于 0 的金额，学不了；检查列名，或关掉该任务",
    "zero_values": "金额为 0，这种损失不接受；检查导出，或换一种损失",
    "profile_column_one_value": "画像列只有一个值，没有东西可学；去掉这一列",
    "numbers_as_text": "少数值不是数字，整列只好当作文本；请在导出处修正",
    "null_text": "商品没有标题，只能靠编号和属性列认识",
    "spans_out_of_text": "标注越出标题；按原始文本的 Unicode 码点计位，末位不含",
    "unknown_attribute_in_spans": "标注用了 items.attributes 没有列出的属性；补上或改正",
    "leaky_context": "这一列恰好就是答案，多半是事后填的；从 context 里去掉",
    "leaky_profile": "这一列是画像列换了个名字；从 columns 里去掉",
    "truth_column_as_feature": "列名像模拟店铺的真值；从输入里去掉",
}


def _in_chinese(finding: Document) -> str:
    """What a check found, with its first examples."""
    if finding["level"] == "PASS" and not finding["count"]:
        return "未发现问题"
    said = CHECKS_ZH.get(finding["name"], finding["text"])
    shown = "、".join(finding["examples"][:3])
    return f"{said}（如 {shown}）" if shown else said


def recommendations(answer: Document, titles: Mapping[str, str], *, lang: str = "en") -> Table:
    """The products of a recommendation with their chances and reasons."""
    heads = {"en": ("item", "score", "chances", "why"), "zh": ("商品", "得分", "概率", "理由")}
    title = {"en": f"for {answer['user']}", "zh": f"推荐给 {answer['user']}"}[lang]
    table = _table(heads[lang], title)
    for item in answer["items"]:
        chances = "  ".join(f"{stage} {chance:.3f}" for stage, chance in item["p"].items())
        if item.get("expected_value") is not None:
            chances += f"  {_WORTH[lang]} {item['expected_value']:.4g}"
        why = "; ".join(reason["text"] for reason in item["reasons"])
        shown = f"{item['item']} {titles.get(item['item'], '')}".strip()
        _row(table, shown, f"{item['score']:.4f}", chances, why)
    return table


def spans(answer: Document, *, lang: str = "en") -> Table:
    """The values found in a title, one a row, with how sure the model is."""
    heads = {"en": ("title", "attribute", "sure"), "zh": ("标题", "属性", "置信度")}
    text = answer["text"]
    table = _table(heads[lang], numbers_from=2)
    _row(table, text, "", "")
    for start, end, attribute, sure in answer["spans"]:
        _row(table, f"  {text[start:end]}", attribute, f"{sure:.2f}")
    return table


def relations(document: Document, *, lang: str = "en") -> list[Table]:
    """Which task helps which: who gives in the rows, who receives in the columns.

    Left out, in hundredths of the best constant's loss, if that was measured; then looked ahead, in
    ten-thousandths of a task's own loss. A star is beyond noise.
    """
    titles = {
        "en": ("left out: + helps, - hurts (0.01 of the constant's loss; * beyond noise)",
               "looked ahead: + helps, - hurts (0.0001 of the loss; * beyond noise)"),
        "zh": ("逐一去掉：+ 有帮助，- 有害（常数答案损失的 0.01；* 超过噪声）",
               "前瞻一步：+ 有帮助，- 有害（损失的 0.0001；* 超过噪声）"),
    }[lang]  # fmt: skip
    corner = {"en": "gives \\ receives", "zh": "给予 \\ 得到"}[lang]
    left, ahead = document["leave_out"], document["affinity"]
    made = []
    if left is not None:
        made.append((titles[0], left["transfer"], left["beyond_noise"], TRANSFER, 1))
    made.append((titles[1], ahead["mean"], ahead["clear"], AFFINITY, 2))
    tables = []
    for title, values, sure, scale, digits in made:
        table = _table((corner, *values), title, numbers_from=1)
        for giver, row in values.items():
            cells = [
                "-" if value is None
                else _signed(value * scale, digits) + ("*" if sure[giver][receiver] else " ")
                for receiver, value in row.items()
            ]  # fmt: skip
            _row(table, giver, *cells)
        tables.append(table)
    return tables


def _signed(value: float, digits: int) -> str:
    """With its sign, and +0.0 for what rounds to nothing from either side."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def trials(document: Document, *, lang: str = "en", most: int = 10) -> Table:
    """The best trials of a search, one a row; ``+`` marks those that no other beats in all tasks.

    A score is the validation loss over that of the best constant: lower is better.
    """
    counts = document["counts"]
    heads = {"en": ("trial", "score", "epoch", "settings"), "zh": ("试验", "得分", "轮次", "设置")}
    titles = {
        "en": "{sampler}, {objective}: {finished} finished, {stopped} stopped early, "
        "{failed} failed, {unfinished} unfinished",
        "zh": "{sampler}，{objective}：完成 {finished}，提前停止 {stopped}，失败 {failed}，"
        "未完成 {unfinished}",
    }
    words = {"sampler": document["sampler"], "objective": document["objective"], **counts}
    table = _table(heads[lang], titles[lang].format(**words))
    finished = [one for one in document["trials"] if one["state"] == "finished"]
    for one in sorted(finished, key=lambda each: each["score"])[:most]:
        settings = "  ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in one["settings"].items()
        )
        mark = "+" if one["number"] in document["pareto"] else ""
        _row(table, f"{one['number']}{mark}", f"{one['score']:.4f}", one["best_epoch"], settings)
    return table


def verdicts(document: Document, *, lang: str = "en") -> list[Table]:
    """A comparison's receipt: tasks, slices that show something, other contenders, the cost."""
    words = RECEIPT_WORDS[lang]
    chosen = document["candidates"][document["chosen"]]
    keys = ("task", "metric", "verdict", "together", "alone", "difference", "interval",
            "smallest", "more_head", "n")  # fmt: skip
    tasks = _table([words[key] for key in keys], document["chosen"], numbers_from=3)
    for name, entry in chosen["tasks"].items():
        _verdict_row(tasks, (name, entry["metric"]), entry, words)
    keys = ("slice", "metric", *keys[2:])
    slices = _table([words[key] for key in keys], words["slices"], numbers_from=3)
    for entry in chosen["slices"]:
        if entry["verdict"] in ("HELPS", "HURTS"):
            name = f"{entry['task']}: {words.get(entry['slice'], entry['slice'])}"
            _verdict_row(slices, (name, entry["metric"]), entry, words)
    cost = _table([words[key] for key in ("contender", "seconds", "parameters", "ms")],
                  words["cost"], numbers_from=1)  # fmt: skip
    for name in document["contenders"]:
        spent = [
            document["cost"][key].get(name) for key in ("seconds", "parameters", "ms_per_1000")
        ]
        _row(cost, words.get(name, name),
             *("-" if value is None else f"{value:,.{digits}f}"
               for value, digits in zip(spent, (1, 0, 1), strict=True)))  # fmt: skip
    heads, rows = beside_rows(document, words)
    against = _table(heads, words["against"])
    for cells in rows:
        _row(against, *cells)
    return [tasks, *(each for each in (slices, against) if each.row_count), cost]


def _verdict_row(
    table: Table, name: tuple[str, str], entry: Document, words: Mapping[str, str]
) -> None:
    low, high = entry["interval"]
    said = "-" if low is None or low != low else f"{low:+.4f}..{high:+.4f}"
    gap, more = entry["difference"], entry["more_positives"]
    _row(table, *name, words[entry["verdict"]], _number(entry["multi"]), _number(entry["single"]),
         "-" if gap is None or gap != gap else f"{gap:+.4f}", said,
         _number(entry["smallest_detectable"]), "-" if more is None else f"{more:,}",
         f"{entry['n']:,}")  # fmt: skip
    colour = {"HELPS": "green", "HURTS": "red"}.get(entry["verdict"])
    if colour:
        table.rows[-1].style = colour


def transfers(document: Document, *, lang: str = "en") -> Table:
    """One row for each size of training, task and way of a transfer."""
    heads, rows = transfer_numbers(document, lang=lang)
    table = _table(heads, numbers_from=3)
    for cells in rows:
        _row(table, *cells)
    return table


def drifts(document: Document, *, lang: str = "en") -> Table:
    """One row for each thing that may have changed since a run."""
    heads, rows = drift_numbers(document, lang=lang)
    table = _table(heads, numbers_from=2)
    for line, cells in zip(document["lines"], rows, strict=True):
        _row(table, *cells)
        table.rows[-1].style = {"far": "red", "moved": "yellow"}.get(line["verdict"])
    return table


def machine(document: Document, *, lang: str = "en") -> Table:
    """What `daogou doctor` found, one fact a row."""
    heads = {"en": ("what", "found"), "zh": ("项目", "结果")}
    absent = {"en": "none", "zh": "无"}[lang]
    table = _table(heads[lang])
    for name, version in {"python": document["python"], **document["versions"]}.items():
        _row(table, name, version or absent)
    for name in ("platform", "cores", "torch_threads", "gpu", "disk_free_gb"):
        _row(table, name, document[name] if document[name] is not None else absent)
    for extra, modules in document["missing"].items():
        remedy = f"{', '.join(modules)}: pip install 'daogou[{extra}]'"
        _row(table, f"[{extra}]", remedy if modules else {"en": "all there", "zh": "齐全"}[lang])
    return table


def show(console: Console, *tables: Table) -> None:
    """Print tables one after the other."""
    for table in tables:
        console.print(table)


def _table(heads: Sequence[str], title: str | None = None, *, numbers_from: int = 99) -> Table:
    table = Table(title=escape(title) if title is not None else None)
    for place, head in enumerate(heads):
        justify: JustifyMethod = "right" if place >= numbers_from else "left"
        table.add_column(head, justify=justify, overflow="fold")  # a name that is cut says nothing
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))


def leading(name: str, entry: Document) -> str:
    """The one metric that a task is known by."""
    if name.startswith("profile.") and "macro_f1" in entry:
        return "macro_f1"
    return next((metric for metric in _LEADING if metric in entry), "auc")


def _number(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def share_of_gap(metric: str, value: Any, ceiling: Any) -> str:
    """How much of the way from chance to the ceiling was gone, in per cent, or a dash."""
    floor = 0.5 if metric == "auc" else 0.0
    if value is None or ceiling is None or value != value or ceiling != ceiling:
        return "-"
    return f"{100 * (value - floor) / (ceiling - floor):.0f} %" if ceiling > floor else "-"
