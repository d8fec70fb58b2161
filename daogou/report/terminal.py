"""An evaluation, findings or answers to tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

Document = Mapping[str, Any]

# The one metric a task is known by, its ceiling's key, and where it starts from.
_LEADING: Final = ("auc", "macro_f1", "recall@50", "f1")
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
    table = Table(title=title)
    for i, head in enumerate(_HEADS[lang]):
        table.add_column(head, justify="left" if i < 2 else "right")
    for name, entry in document["tasks"].items():
        metric = _leading(name, entry)
        value, ceiling = entry.get(metric), entry.get(f"ceiling_{metric}")
        low, high = entry.get(f"{metric}_interval") or (None, None)
        table.add_row(
            name, metric, _number(value), f"{_number(low)} - {_number(high)}",
            _number(ceiling), _share(metric, value, ceiling), _number(entry.get("log_loss")),
            str(entry.get("n", "-")),
        )  # fmt: skip
    return table


def findings(found: Sequence[Document], *, lang: str = "en") -> Table:
    """One row per finding, worst first."""
    heads = {"en": ("check", "level", "count", "what"), "zh": ("检查", "级别", "数量", "说明")}
    table = Table()
    for head in heads[lang]:
        table.add_column(head)
    colours = {"FAIL": "red", "WARN": "yellow", "PASS": "green"}
    order = list(colours)
    for one in sorted(found, key=lambda each: order.index(each["level"])):
        level = one["level"]
        table.add_row(one["name"], f"[{colours[level]}]{level}[/]", str(one["count"]), one["text"])
    return table


def recommendations(answer: Document, titles: Mapping[str, str], *, lang: str = "en") -> Table:
    """The products of a recommendation with their chances and reasons."""
    heads = {"en": ("item", "score", "chances", "why"), "zh": ("商品", "得分", "概率", "理由")}
    table = Table(title=str(answer["user"]))
    for head in heads[lang]:
        table.add_column(head)
    for item in answer["items"]:
        chances = "  ".join(f"{stage} {chance:.3f}" for stage, chance in item["p"].items())
        why = "; ".join(reason["text"] for reason in item["reasons"])
        shown = f"{item['item']} {titles.get(item['item'], '')}".strip()
        table.add_row(shown, f"{item['score']:.4f}", chances, why)
    return table


def show(console: Console, *tables: Table) -> None:
    """Print tables one after the other."""
    for table in tables:
        console.print(table)


def _leading(name: str, entry: Document) -> str:
    if name.startswith("profile.") and "macro_f1" in entry:
        return "macro_f1"
    return next((metric for metric in _LEADING if metric in entry), "auc")


def _number(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"


def _share(metric: str, value: Any, ceiling: Any) -> str:
    floor = 0.5 if metric == "auc" else 0.0
    if value is None or ceiling is None or value != value or ceiling != ceiling:
        return "-"
    return f"{100 * (value - floor) / (ceiling - floor):.0f} %" if ceiling > floor else "-"
