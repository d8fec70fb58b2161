"""What was found about which tasks help which to one page, in English or Chinese."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from daogou.report.numbers import is_number, times
from daogou.report.page import (
    HeatMap,
    bullets,
    folded,
    heat_map,
    number,
    page,
    paragraph,
    section,
    table,
)
from daogou.report.words.relate import WORDS

Document = Mapping[str, Any]

Table = Mapping[str, Mapping[str, Any]]

TRANSFER: Final = 100.0  # shown in hundredths of the best constant's loss

AFFINITY: Final = 10_000.0  # shown in ten-thousandths of a task's loss

_SHOWN: Final = 10  # pairs that are not folded away


@dataclass(frozen=True)
class Pair:
    """What is known of one task's effect on another; None where it was not measured."""

    giver: str
    receiver: str
    transfer: float | None
    beyond_noise: bool
    affinity: float | None
    clear: bool
    cosine: float | None


def relation(document: Document, more: Sequence[str] = (), *, lang: str = "en") -> str:
    """The HTML of a document of `learn.relate.relate`: one page, no network, no script.

    ``more`` are further cards, which stand before the last.
    """
    words = WORDS[lang]
    lead = words["lead"].format(
        n=len(document["tasks"]),
        seed=document["seed"],
        epoch=document["kept_epoch"],
        probes=document["affinity"]["n_probes"],
    )
    title = words["title"].format(shop=document["shop"])
    body = relation_sections(document, lang=lang)
    return page(title, [*body[:-1], *more, body[-1]], lead=lead, lang=lang)


def relation_sections(document: Document, *, lang: str = "en") -> list[str]:
    """The cards of that page; the last says how it was measured."""
    words = WORDS[lang]
    names = [task["name"] for task in document["tasks"]]
    probes = document["affinity"]["n_probes"]
    body = [
        section(words["summary"], bullets(sentences(document, lang=lang))),
        _leave_out(document, names, words),
        _ahead(document, names, words),
        _groups(document, words),
        _beside(document, words),
        _parts(document, words),
        section(
            words["how"],
            paragraph(words["how_leave_out"]) if document["leave_out"] else "",
            paragraph(words["how_affinity"].format(probes=probes)),
            paragraph(words["how_split"]),
        ),
    ]
    return [each for each in body if each]


def sentences(document: Document, *, lang: str = "en") -> list[str]:
    """The document in plain words, the strongest evidence first."""
    words = WORDS[lang]
    found = list(pairs(document))
    said: list[str] = []
    if document["leave_out"] is None:
        said.append(words["skipped"])
    else:
        sure = [(each, each.transfer) for each in found if each.beyond_noise]
        said += _both_ways(sure, ("helped", "hurt", "neither"), words, (TRANSFER, " %"))
    clear = [(each, each.affinity) for each in found if each.clear]
    keys = "ahead_helped", "ahead_hurt", "ahead_neither"
    said += _both_ways(clear, keys, words, (AFFINITY, "‱"))
    said += _group_sentences(document, words)
    said.append(words["cosine"])
    agreement = document["agreement"]
    if agreement is not None and is_number(agreement["affinity"]):
        said.append(
            words["agreement"].format(
                affinity=number(agreement["affinity"], 2), cosine=number(agreement["cosine"], 2)
            )
        )
    return said


def pairs(document: Document) -> Iterator[Pair]:
    """Every pair of different tasks, giver by giver."""
    names = [task["name"] for task in document["tasks"]]
    left, ahead = document["leave_out"], document["affinity"]
    for giver in names:
        for receiver in names:
            if giver == receiver:
                continue
            cosines = [
                value
                for part in document["gradients"].values()
                if is_number(value := part["cosine"][giver][receiver])
            ]
            yield Pair(
                giver,
                receiver,
                None if left is None else left["transfer"][giver][receiver],
                left is not None and bool(left["beyond_noise"][giver][receiver]),
                ahead["mean"][giver][receiver],
                bool(ahead["clear"][giver][receiver]),
                sum(cosines) / len(cosines) if cosines else None,
            )


def _both_ways(
    found: Sequence[tuple[Pair, float | None]],
    keys: tuple[str, str, str],
    words: Mapping[str, str],
    unit: tuple[float, str],
) -> list[str]:
    """The largest few above 0 and below 0, in a unit of so many, or that there is none."""
    said = []
    known = [(pair, value) for pair, value in found if value is not None]
    for key, sign in zip(keys, (1, -1), strict=False):
        largest = sorted((each for each in known if sign * each[1] > 0), key=lambda e: -abs(e[1]))
        shown = [
            words["pair"].format(
                giver=pair.giver, receiver=pair.receiver, value=number(value * unit[0]) + unit[1]
            )
            for pair, value in largest[:4]
        ]
        if shown:
            said.append(words[key].format(pairs=words["and"].join(shown)))
    return said or [words[keys[2]]]


def _group_sentences(document: Document, words: Mapping[str, str]) -> list[str]:
    ahead = [group["tasks"] for group in document["groups"]]
    left = document["groups_by_leave_out"]
    by_left = None if left is None else [group["tasks"] for group in left]
    if len(ahead) == 1 and by_left in (None, ahead):
        return [words["one_group"]]
    said = [words["groups"].format(groups=_listed(ahead, words))]
    if by_left == ahead:
        said.append(words["same_groups"])
    elif by_left is not None:
        said.append(words["leave_out_groups"].format(groups=_listed(by_left, words)))
    return said


def _listed(groups: Sequence[Sequence[str]], words: Mapping[str, str]) -> str:
    return " | ".join(words["and"].join(group) for group in groups)


def _leave_out(document: Document, names: Sequence[str], words: Mapping[str, str]) -> str:
    left = document["leave_out"]
    if left is None:
        return ""
    drawn = HeatMap(
        "leave-out",
        words["leave_out"],
        words["leave_out_unit"],
        names,
        names,
        _grid(left["transfer"], names, TRANSFER),
        _marks(left["beyond_noise"], names),
        (words["gives"], words["receives"]),
        own=True,
    )
    margins = " · ".join(f"{name} {_size(left['margin'][name], TRANSFER)}" for name in names)
    n_runs = sum(not run.startswith("without-") for run in left["relative_loss"])
    return section(
        words["leave_out"],
        paragraph(words["leave_out_unit"], note=True),
        heat_map(drawn),
        paragraph(words["legend"], note=True),
        paragraph(f"{words['margins'].format(n=n_runs)}: {margins}", note=True),
    )


def _ahead(document: Document, names: Sequence[str], words: Mapping[str, str]) -> str:
    ahead = document["affinity"]
    drawn = HeatMap(
        "look-ahead",
        words["affinity"],
        words["affinity_unit"],
        names,
        names,
        _grid(ahead["mean"], names, AFFINITY),
        _marks(ahead["clear"], names),
        (words["gives"], words["receives"]),
        own=True,
        digits=2,
    )
    return section(
        words["affinity"],
        paragraph(words["affinity_unit"], note=True),
        heat_map(drawn),
        paragraph(words["legend"], note=True),
    )


def _groups(document: Document, words: Mapping[str, str]) -> str:
    ahead, left = document["groups"], document["groups_by_leave_out"]
    columns = [("affinity", AFFINITY, 2)] + ([] if left is None else [("transfer", TRANSFER, 1)])
    heads = [words["group_head"], words["task"], words["ahead_inside"], words["ahead_outside"]]
    if left is not None:
        heads += [words["transfer_inside"], words["transfer_outside"]]
    shown = [("by_affinity", ahead), ("by_leave_out", left)]
    if left == ahead:
        shown = [("by_both", ahead)]
    body = [paragraph(words["group_note"], note=True)]
    for key, groups in shown:
        if groups is None:
            continue
        rows = [
            [
                words["group"].format(n=place),
                name,
                *(
                    number(times(got[f"{kind}_from_{who}"], scale), digits)
                    for kind, scale, digits in columns
                    for who in ("group", "others")
                ),
            ]
            for place, group in enumerate(groups, start=1)
            for name, got in group["members"].items()
        ]
        body += [f"<h3>{words[key]}</h3>", table(heads, rows, numbers_from=2)]
    return section(words["group_title"], *body)


def _beside(document: Document, words: Mapping[str, str]) -> str:
    def size(pair: Pair) -> tuple[bool, float]:
        value = pair.affinity if pair.transfer is None else pair.transfer
        return (value is None, -abs(value or 0.0))

    found = sorted(pairs(document), key=size)
    has_left = document["leave_out"] is not None
    heads = [words["direction"], words["column_affinity"], words["column_cosine"]]
    if has_left:
        heads.insert(1, words["column_transfer"])
    rows = []
    for pair in found:
        row = [
            f"{pair.giver} → {pair.receiver}",
            number(times(pair.affinity, AFFINITY), 2),
            number(pair.cosine, 2),
        ]
        if has_left:
            row.insert(1, number(times(pair.transfer, TRANSFER)))
        rows.append(row)
    body = [table(heads, rows[:_SHOWN])]
    if len(rows) > _SHOWN:
        body.append(folded(words["all_pairs"].format(n=len(rows)), table(heads, rows)))
    return section(words["beside"], paragraph(words["beside_note"], note=True), *body)


def _parts(document: Document, words: Mapping[str, str]) -> str:
    maps = []
    for part, found in document["gradients"].items():
        meet = [
            name
            for name in found["cosine"]
            if any(is_number(v) for other, v in found["cosine"][name].items() if other != name)
        ]
        name = words.get(f"part.{part}", part)
        for key, title in (("cosine", "cosine_of"), ("magnitude_similarity", "size_of")):
            said = words[title].format(part=name)
            drawn = HeatMap(
                f"{key}-{part.replace('.', '-')}", said, words["parts_note"], meet, meet,
                _grid(found[key], meet, 1.0), own=True, digits=2, full=1.0,
                unsigned=key != "cosine",
            )  # fmt: skip
            maps.append(f"<h3>{said}</h3>" + heat_map(drawn))
    return section(
        words["parts"],
        paragraph(words["parts_note"], note=True),
        folded(words["all_parts"].format(n=len(document["gradients"])), *maps),
    )


def _grid(found: Table, names: Sequence[str], scale: float) -> list[list[float | None]]:
    return [[times(found[giver][receiver], scale) for receiver in names] for giver in names]


def _marks(found: Table, names: Sequence[str]) -> list[list[bool]]:
    return [[bool(found[giver][receiver]) for receiver in names] for giver in names]


def _size(value: float | None, scale: float) -> str:
    return "–" if not is_number(value) or value is None else f"{value * scale:.1f}"
