"""The tables of the docs to the figures beside them, and the drawings that explain: SVG files.

``python benchmarks/figures.py [FOLDER]`` writes them, into ``docs/pictures`` where no other folder
is named. A number that a figure shows is read from the table it belongs to, so none can differ;
`tests/test_docs.py` draws them again. All are legible on light and on dark pages.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from daogou.report.axes import Series
from daogou.report.lying import Row
from daogou.report.page import STYLE
from daogou.report.plot import forest, line_chart
from daogou.report.svg import Frame

DOCS: Final = Path(__file__).parent.parent / "docs"
_NUMBER: Final = r"[+-]?\d*\.?\d+"


# ---- tables -------------------------------------------------------------------------------


def table(page: str, heading: str, first: str, which: int = 0) -> list[list[str]]:
    """The body of the table under a heading of a page whose head begins with ``first``.

    ``which`` counts the tables of that head.

    Raises:
        KeyError: There is no such table.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    part = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (section,) = [each for each in part if each.startswith(heading + "\n")]
    lines = section.split("\n")
    heads = [place for place, line in enumerate(lines) if line.startswith(first)]
    if len(heads) <= which:
        raise KeyError(f"{page}, {heading}: no table {which} begins with {first!r}")
    rows = []
    for line in lines[heads[which] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def numbers(cell: str) -> list[float]:
    """The numbers in a cell, in order.

    >>> numbers("+0.114 (+0.090 to +0.146), 77 %"), numbers("**.568, x16**")
    ([0.114, 0.09, 0.146, 77.0], [0.568, 16.0])
    """
    return [float(each) for each in re.findall(_NUMBER, cell.replace(",", ""))]


def interval(name: str, cell: str, said: str | None = None) -> Row:
    """A value and its two ends to a row of a forest plot."""
    value, low, high = numbers(cell)[:3]
    return Row(name, value, low, high, said if said is not None else cell.split(" ")[0])


def spread(name: str, cell: str) -> Row:
    """A value and its standard deviation to a row."""
    value, around = numbers(cell)[:2]
    return Row(name, value, value - around, value + around, cell)


# ---- figures of tables --------------------------------------------------------------------

_MAP: Final = "How tasks that share latent factors, or do not, fare under each way of sharing"


def sharing() -> str:
    """What sharing gains on the sparse task as tasks have less in common."""
    rows = table("results.md", _MAP, "| model | kappa 1 |", 1)
    kappas = (1.0, 0.5, 0.0)
    series = []
    for name, *cells in rows:
        if name in ("shared_bottom", "mmoe", "stem", "stem, own_norm"):
            found = [numbers(cells[place])[:3] for place in (0, 2, 3)]
            value, low, high = zip(*found, strict=True)
            series.append(Series(name, kappas, value, low, high))
    frame = Frame(
        "Orders: shared less learnt alone",
        "Difference of test AUC by the share of taste that both tasks have in common.",
        "share of taste in common (kappa)",
        "AUC, least to most of three seeds",
        height=300,
    )
    return line_chart(frame, series, level=(0.0, "learnt alone"))


def guard() -> str:
    """The guarded model less what each task reaches alone."""
    rows = table("results.md", "The guard on shops whose tasks share and do not", "| sharing |")
    drawn = [
        interval(f"{sharing}: {task}", cells[place])
        for place, task in ((0, "click"), (1, "order"))
        for sharing, *cells in rows
    ]
    frame = Frame(
        "Guarded model less its twins",
        "Difference of test AUC to each task learnt alone, mean and extremes of three shops.",
        "AUC, hatched: the margin of .005",
    )
    return forest(frame, drawn, zero=0.0, margin=0.005)


def receipt() -> str:
    """By how much sharing changed the sparse task in the sixty shops of either kind."""
    rows = table("results.md", "How often a receipt finds the harm that is there", "| kappa |")
    drawn = [
        interval(
            f"kappa {kappa}",
            cells[-1],
            f"HELPS {cells[1]}, HURTS {cells[2]}, UNDECIDED {cells[3]}",
        )
        for kappa, *cells in rows
    ]
    frame = Frame(
        "Shared less alone: 60 made shops a line",
        "Difference of AUC of the sparse task, mean and extremes.",
        "difference of AUC",
    )
    return forest(frame, drawn, zero=0.0)


def families() -> str:
    """Four families learnt together less each alone."""
    rows = table("results.md", "Four families learnt together beside each alone", "| family |")
    drawn = [interval(row[1].split(",")[0], row[4]) for row in rows]
    frame = Frame(
        "Together less the family alone",
        "Difference of each task's metric with its interval of 95 %.",
        "difference of the task's metric",
    )
    return forest(frame, drawn, zero=0.0)


def mixers() -> str:
    """Every mixer on adult: the differences are those of seeds."""
    rows = [row for row in table("results.md", "adult", "| method |") if row[0].endswith(", sum")]
    drawn = [interval(row[0].removesuffix(", sum"), row[1]) for row in rows]
    frame = Frame(
        "income_50k of adult by mixer",
        "Test AUC, mean and range of three seeds.",
        "AUC, mean and range of three seeds",
    )
    return forest(frame, drawn)


def searches() -> str:
    """What five searches of each kind found."""
    rows = table("results.md", "Searches beside random search", "| sampler |")
    drawn = []
    for name, median, _, five in rows:
        found = numbers(five)
        drawn.append(Row(name, float(median), min(found), max(found), median))
    frame = Frame(
        "Best validation score of a search, 40 trials",
        "Median and extremes of five searches; less is better.",
        "joint validation score, less is better",
    )
    return forest(frame, drawn)


def transfer() -> str:
    """A target shop learnt from scratch and from a source's run."""
    rows = table("adapt.md", "Made shops", "| click |")
    sizes = (100.0, 300.0, 1000.0, 3000.0, 10000.0, 20000.0)
    series = [
        Series(name, sizes, [numbers(cell)[0] for cell in cells])
        for name, *cells in rows
        if name in ("scratch", "adapter", "full")
    ]
    frame = Frame(
        "Clicks of a new shop",
        "Test AUC by the exposures of the new shop, from scratch and from a like shop's run.",
        "exposures of the new shop",
        "AUC",
        height=270,
    )
    return line_chart(frame, series)


def newcomers() -> str:
    """New users and new products by what is known of them."""
    series = []
    for kind, first in (
        ("users", "| new users, events known |"),
        ("products", "| new products, exposures known |"),
    ):
        rows = table("adapt.md", "Newcomers", first)
        known = [float(row[0]) for row in rows]
        series.append(Series(f"new {kind}", known, [float(row[1]) for row in rows]))
        series.append(Series(f"known {kind}", known, [float(row[6]) for row in rows]))
    frame = Frame(
        "Clicks of newcomers",
        "Test AUC by the events of a new user or the exposures of a new product that are known.",
        "events or exposures known",
        "AUC",
        height=270,
    )
    return line_chart(frame, series)


_SHORT: Final = {
    "together, a fifth of the answers fails": "a fifth fails",
    "together, robust rule": "robust rule",
    "one shop of five lies, mean by rows": "a liar, mean",
    "one shop of five lies, robust rule": "a liar, robust rule",
    "one tells the opposite at its honest length, robust rule": "a subtle liar, robust",
}


def together() -> str:
    """Shops that learn one model without moving a row, with and without a liar."""
    rows = table("adapt.md", "Federated", "| | click | | cart | |")
    drawn = [
        spread(f"{task}: {_SHORT.get(row[0], row[0])}", row[place])
        for place, task in ((2, "click"), (4, "cart"))
        for row in rows[1:]
    ]
    frame = Frame(
        "Five shops, less one fit of all their tables",
        "Difference of test AUC, mean and standard deviation of three seeds.",
        "difference of AUC",
    )
    return forest(frame, drawn, zero=0.0)


def privacy() -> str:
    """What noise costs, by how many users a shop has."""
    rows = table("adapt.md", "Privacy", "| users |")
    found: dict[str, list[tuple[float, float]]] = {}
    name = ""
    for users, noise, _, auc, *_ in rows:
        name = users.split(" ")[0].rstrip(",") or name
        if float(noise) <= 4:
            found.setdefault(name, []).append((float(noise), float(auc)))
    drawn = [
        Series(f"{name} users", [noise for noise, _ in points], [auc for _, auc in points])
        for name, points in found.items()
    ]
    frame = Frame(
        "What privacy of users costs",
        "AUC of new impressions by the noise in units of the longest gradient.",
        "noise; 0 is no privacy",
        "AUC",
        height=270,
    )
    return line_chart(frame, drawn)


# ---- drawings -----------------------------------------------------------------------------

_SAID: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "A shop's tables become one model that answers in four ways",
        "events": "events", "events_": "impression, click, cart …",
        "items": "items", "items_": "titles, columns",
        "users": "users", "users_": "columns, profiles",
        "check": "check", "check_": "named findings",
        "exposures": "exposures", "exposures_": "point in time, 3 splits",
        "transform": "transform", "transform_": "fitted on train, frozen",
        "model": "one model, all tasks",
        "encoders": "encoders", "encoders_": "text, item, user",
        "mixer": "mixer", "mixer_": "layers that tasks share",
        "heads": "heads", "heads_": "layers of each task",
        "recommend": "recommend", "recommend_": "click → cart → purchase, reasons",
        "match": "match", "match_": "two towers, whole catalogue",
        "profile": "profile", "profile_": "from behaviour, with evidence",
        "extract": "extract", "extract_": "attributes in titles, 中文 too",
        "receipt": "receipt", "receipt_": "per task: does sharing help or hurt?",
        "serve": "serve", "serve_": "API and page, events kept",
    },
    "zh": {
        "title": "一家店的表变成一个模型，四种方式作答",
        "events": "行为日志", "events_": "曝光、点击、加购、购买",
        "items": "商品", "items_": "标题、属性列",
        "users": "用户", "users_": "特征列、画像列",
        "check": "检查 check", "check_": "逐条列出数据问题",
        "exposures": "曝光样本", "exposures_": "按时点取特征，三段切分",
        "transform": "特征变换", "transform_": "只在训练集上拟合，冻结",
        "model": "一个模型，一起训练",
        "encoders": "编码器 encoders", "encoders_": "文本、商品、用户",
        "mixer": "共享层 mixer", "mixer_": "各任务共用",
        "heads": "任务层 heads", "heads_": "每个任务自己的",
        "recommend": "推荐 recommend", "recommend_": "点击→加购→购买，附理由",
        "match": "匹配 match", "match_": "双塔，检索全量商品",
        "profile": "画像 profile", "profile_": "只看行为，附证据",
        "extract": "抽取 extract", "extract_": "中英文标题里的属性",
        "receipt": "对照单 receipt", "receipt_": "逐任务：共享是帮忙还是添乱？",
        "serve": "上线 serve", "serve_": "API 与网页，事件落库",
    },
}  # fmt: skip

_DRAWN: Final = """
.box { fill: var(--card); stroke: var(--line); stroke-width: 1.5; }
.main { fill: none; stroke: var(--help); stroke-width: 2; }
.layer { fill: var(--help); fill-opacity: .12; stroke: var(--help); stroke-opacity: .5; }
.answer { fill: var(--third); fill-opacity: .1; stroke: var(--third); stroke-opacity: .6; }
.proof { fill: var(--hurt); fill-opacity: .1; stroke: var(--hurt); stroke-opacity: .6; }
.way { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.back { fill: none; stroke: var(--hurt); stroke-width: 1.5; stroke-dasharray: 5 4; }
.tip { fill: var(--soft); } .backtip { fill: var(--hurt); }
text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; }
.name { font-size: 15px; font-weight: 600; }
"""


def _box(
    at: tuple[float, float, float, float], name: str, below: str = "", kind: str = "box"
) -> str:
    """A rounded box (x, y, width, height) with a name, and a line under it."""
    x, y, width, height = at
    middle, line = x + width / 2, y + height / 2 + (5 if not below else -3)
    said = (
        f'<text class="name" x="{middle:g}" y="{line:g}" text-anchor="middle">{escape(name)}</text>'
    )
    if below:
        said += (
            f'<text class="soft" x="{middle:g}" y="{line + 18:g}" text-anchor="middle">'
            f"{escape(below)}</text>"
        )
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10"/>'
        + said
    )


def _arrow(path: str, *, back: bool = False) -> str:
    """A path with a tip at its end; dashed and of another colour where it goes back."""
    kind, tip = ("back", "backtip") if back else ("way", "tip")
    return f'<path class="{kind}" d="{path}" marker-end="url(#{tip})"/>'


def _label(words: str, x: float, y: float, anchor: str = "start", kind: str = "soft") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def _drawing(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    tips = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path class="{name}" d="M0 0L8 4L0 8z"/></marker>'
        for name in ("tip", "backtip")
    )
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="100%" viewBox="0 0 {width} {height}">'
        f"<title>{escape(title)}</title><style>{_DRAWN}</style><defs>{tips}</defs>"
        + "\n".join(parts)
        + "</svg>"
    )


def flow(lang: str) -> str:
    """From tables to answers."""
    said = _SAID[lang]

    def box(name: str, at: tuple[float, float, float, float], kind: str = "box") -> str:
        return _box(at, said[name], said.get(f"{name}_", ""), kind)

    parts = [
        *(
            box(name, (8, 42 + 76 * n, 180, 58))
            for n, name in enumerate(("events", "items", "users"))
        ),
        *(
            box(name, (232, 42 + 76 * n, 190, 58))
            for n, name in enumerate(("check", "exposures", "transform"))
        ),
        *(_arrow(f"M188 {71 + 76 * n}H210V71H230") for n in (2, 1)),
        _arrow("M188 71H230"),
        _arrow("M327 100V116"),
        _arrow("M327 176V192"),
        '<rect class="main" x="464" y="20" width="214" height="246" rx="14"/>',
        _label(said["model"], 571, 44, "middle", "name"),
        box("encoders", (480, 60, 182, 50), "layer"),
        box("mixer", (480, 130, 182, 50), "layer"),
        box("heads", (480, 200, 182, 50), "layer"),
        _arrow("M422 223H443V84H478"),
        _arrow("M571 110V128"),
        _arrow("M571 180V198"),
    ]
    for n, name in enumerate(("recommend", "match", "profile", "extract")):
        y = 8 + 68 * n
        parts += [box(name, (724, y, 228, 56), "answer"), _arrow(f"M662 224H700V{y + 28}H722")]
    parts += [
        box("receipt", (464, 300, 260, 56), "proof"),
        _arrow("M571 266V298"),
        box("serve", (740, 300, 212, 56)),
        _arrow("M846 268V298"),
    ]
    return _drawing(said["title"], 960, 366, parts)


def time() -> str:
    """Which label an exposure gets, and why some are missing."""

    def lane(y: float, said: str, outcome: str, clicked: float | None, shown: float) -> list[str]:
        ends = shown + 180
        parts = [
            f'<rect class="layer" x="{shown:g}" y="{y - 9:g}" width="180" height="18" rx="9"/>',
            f'<circle class="tip" cx="{shown:g}" cy="{y:g}" r="6"/>',
            _label(said, 8, y + 4),
            _label(outcome, 940, y + 4, "end", "name"),
        ]
        if clicked is not None:
            parts.append(f'<path class="backtip" d="M{clicked:g} {y - 9:g}l9 9l-9 9l-9 -9z"/>')
        if ends > 640:
            parts.append(_label("?", 660, y + 5, "start", "name"))
        return parts

    parts = [
        _label("time →", 200, 26),
        _label("end of the split", 640, 26, "middle"),
        '<path class="back" d="M640 36V250"/>',
        *lane(64, "click within the window", "1", 330, 220),
        *lane(108, "no click, window closed", "0", None, 320),
        *lane(152, "click after the window", "0", 540, 260),
        *lane(196, "window still open", "missing", None, 540),
        *lane(240, "open too, clicked already", "missing", 600, 560),
    ]
    return _drawing("When an exposure's label is 1, 0 or missing", 960, 270, parts)


def fork() -> str:
    """Where tasks meet, and where a task's weight acts."""
    parts = [
        _box((8, 96, 150, 64), "encoders", "once a row", "layer"),
        _box((214, 96, 130, 64), "leaves", "detached copies"),
        _box((400, 96, 150, 64), "mixer", "[T, B, H]", "layer"),
        _arrow("M158 118H212"),
        _arrow("M344 118H398"),
        _arrow("M212 142H160", back=True),
        _arrow("M398 142H346", back=True),
    ]
    for n, name in enumerate(("click", "cart | click", "purchase | cart")):
        y = 20 + 74 * n
        parts += [
            _box((640, y, 160, 56), name, "its own layers", "answer"),
            _arrow(f"M550 118H600V{y + 20}H638"),
            _arrow(f"M638 {y + 38}H616V142H552", back=True),
            _box((850, y, 100, 56), "loss"),
            _arrow(f"M800 {y + 28}H848"),
        ]
    parts += [
        _label("solid: forward", 8, 232),
        _label(
            "dashed: gradient; a task's weight acts on it at the fork, so a task of weight 0",
            8,
            250,
        ),
        _label("still trains its own layers", 8, 268),
    ]
    return _drawing(
        "One step: towers learn in full, what is below the fork by weight", 960, 280, parts
    )


FIGURES: Final[Mapping[str, Callable[[], str]]] = {
    "flow": lambda: flow("en"), "flow.zh": lambda: flow("zh"), "time": time, "fork": fork,
    "sharing": sharing, "guard": guard, "receipt": receipt, "families": families,
    "mixers": mixers, "searches": searches, "transfer": transfer, "newcomers": newcomers,
    "federated": together, "privacy": privacy,
}  # fmt: skip


def standalone(svg: str) -> str:
    """A drawing of a page to a file of its own: with its style, its size, and paper around it."""
    box = re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0]
    width, height = (int(each) + 32 for each in box)
    zoom = 1.4 if width < 500 else 1.0
    head, body = svg.split(">", 1)
    head = re.sub(r' (?:width|style|viewBox)="[^"]*"', "", head)
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg" viewBox="-16 -16 {width} {height}" '
        f'width="{width * zoom:.0f}" height="{height * zoom:.0f}"><style>{STYLE}</style>'
        f'<rect x="-16" y="-16" width="{width}" height="{height}" rx="12" '
        f'style="fill:var(--card)"/>{body}\n'
    )


def main() -> None:
    """Write every figure."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (out / f"{name}.svg").write_text(standalone(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
