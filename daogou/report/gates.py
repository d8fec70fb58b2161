"""Of which experts each task's gate makes what it reads, epoch by epoch."""

from collections.abc import Sequence

from daogou.report.axes import Series
from daogou.report.found import Document, Found, gates_name, kept_epoch
from daogou.report.page import HeatMap, folded, heat_map, paragraph, section
from daogou.report.plot import grid, line_chart
from daogou.report.svg import Frame
from daogou.report.words import Words
from daogou.report.words.run import WORDS


def gate_shares(found: Found, lang: str = "en") -> list[Document]:
    """Of each module of the kept epoch its ``gates`` and what share ``[G, E]`` each gives experts.

    None is an expert that a gate never mixes.
    """
    return [
        {
            "module": module,
            "name": gates_name(module),
            "gates": _gate_names(found, len(use["usage"]), WORDS[lang]),
            "shares": [[share or None for share in row] for row in use["usage"]],
        }
        for module, use in kept_epoch(found).get("gates", {}).items()
    ]


def gates(found: Found, lang: str) -> str:
    """The section of what gates take of experts."""
    words = WORDS[lang]
    epoch = kept_epoch(found).get("epoch")
    body = []
    for use in gate_shares(found, lang):
        name, gates, module = use["name"], use["gates"], use["module"]
        experts = [words["expert"].format(n=i + 1) for i in range(len(use["shares"][0]))]
        shares = [[None if each is None else 100 * each for each in row] for row in use["shares"]]
        title = words["gate_map"].format(gates=name, epoch=epoch)
        drawn = HeatMap(
            f"gates-{name.replace('.', '-')}", title, words["gates_note"], gates, experts, shares,
            axes=(words["gate_head"], words["expert_head"]), digits=0, full=100.0, unsigned=True,
        )  # fmt: skip
        body += [f"<h3>{title}</h3>", heat_map(drawn), _gates_by_epoch(found, module, gates, words)]
    if not body:
        return ""
    return section(words["gates"], paragraph(words["gates_note"], note=True), *body)


def _gates_by_epoch(found: Found, module: str, gates: Sequence[str], words: Words) -> str:
    told = [epoch for epoch in found.epochs if module in epoch.get("gates", {})]
    x = [epoch["epoch"] for epoch in told]
    uses = [epoch["gates"][module] for epoch in told]
    name = gates_name(module)
    even = line_chart(
        Frame(
            words["gate_entropy"].format(gates=name), words["gate_entropy_said"], words["epoch"],
            words["entropy"], y_range=(0.0, 1.0),
        ),
        [Series(gate, x, [use["entropy"][i] for use in uses]) for i, gate in enumerate(gates)],
    )  # fmt: skip
    shares = []
    for i, gate in enumerate(gates):
        series = [
            Series(words["expert"].format(n=j + 1), x, [100 * use["usage"][i][j] for use in uses])
            for j in range(len(uses[0]["usage"][i]))
            if any(use["usage"][i][j] for use in uses)
        ]
        frame = Frame(
            words["gate_share"].format(gate=gate), words["gate_share_said"], words["epoch"],
            words["share"], y_range=(0.0, 100.0),
        )  # fmt: skip
        shares.append(line_chart(frame, series))
    return folded(words["by_epoch"], grid([even, *shares]))


def _gate_names(found: Found, n_gates: int, words: Words) -> list[str]:
    """Gates are the funnel's tasks in order, and one more for what is shared at a lower level."""
    tasks = [
        name
        for name in found.epochs[-1]["validation"]
        if not name.startswith("profile.") and name not in ("match", "extract")
    ]
    for names in (tasks, [*tasks, words["shared_gate"]]):
        if len(names) == n_gates:
            return names
    return [words["gate"].format(n=i + 1) for i in range(n_gates)]
