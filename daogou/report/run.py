"""What a folder's documents say of a run to one page, in English or Chinese."""

from typing import Any

from daogou.report.affinity import over_time
from daogou.report.epochs import curves
from daogou.report.found import SPLITS, Found, gates_name, kept_epoch, kept_losses, over_constant
from daogou.report.gates import gates
from daogou.report.numbers import count, is_number, plain
from daogou.report.page import bullets, folded, page, paragraph, section, table
from daogou.report.tasks import calibration, metrics, verdict_sentences, verdicts
from daogou.report.terminal import alarms
from daogou.report.words import Words
from daogou.report.words.run import WORDS


def run_page(found: Found, *, lang: str = "en") -> str:
    """The HTML of a run, finished or not: one page, no network, no script."""
    words = WORDS[lang]
    body = [
        section(words["summary"], bullets(sentences(found, lang=lang))),
        metrics(found, words),
        verdicts(found, words, lang),
        curves(found, words),
        calibration(found, words),
        gates(found, lang),
        over_time(found.probes, lang=lang),
        _data(found, words),
        _how(found, words),
    ]
    title = words["title"].format(shop=_shop(found))
    return page(title, [each for each in body if each], lead=_lead(found, words), lang=lang)


def sentences(found: Found, *, lang: str = "en") -> list[str]:
    """The run in plain words, what is wrong first."""
    words = WORDS[lang]
    said = list(alarms(found.evaluation, lang=lang)) if found.evaluation else []
    if found.manifest is None:
        said.append(words["unfinished"].format(epochs=len(found.epochs)))
    elif found.manifest["fit"].get("refit"):  # a run of before has no word of it
        said.append(words["refit"].format(best=found.manifest["fit"]["best_epoch"]))
    said += _federated(found, words)
    sure: list[str] = []
    unsure: list[str] = []
    for name, entry in found.evaluation["tasks"].items() if found.evaluation else ():
        low = (entry.get("auc_interval") or [None])[0]
        if is_number(entry.get("auc")):
            valued = words["valued"].format(name=name, value=plain(entry["auc"], 3))
            (sure if is_number(low) and low > 0.5 else unsure).append(valued)
    worse = [
        words["valued"].format(name=name, value=plain(loss["loss"] / loss["constant"], 2))
        for name, loss in kept_losses(found).items()
        if is_number(over_constant(loss)) and loss["loss"] >= loss["constant"] > 0
    ]
    dead = [
        f"{gates_name(module)} {words['expert'].format(n=place + 1)}"
        for module, use in kept_epoch(found).get("gates", {}).items()
        for place in use["dead"]
    ]
    for key, names in (
        ("above_chance", sure),
        ("not_above_chance", unsure),
        ("worse_than_constant", worse),
        ("dead_experts", dead),
    ):
        if names:
            said.append(words[key].format(names=words["and"].join(names)))
    return said + verdict_sentences(found, words, lang)


def _data(found: Found, words: Words) -> str:
    prepared = found.prepared or (found.manifest or {}).get("prepared")
    if not prepared:
        return ""
    read, funnel, split = prepared["read"], prepared["funnel"], prepared["split"]
    rows = [[name, count(n)] for name, n in read["rows"].items()]
    parts = [
        [words[what], *(count(split[what].get(part)) for part in SPLITS)]
        for what in ("exposures", "users", "titles")
        if any(split[what].values())
    ]
    censored = split.get("censored") or {}
    for stage in next(iter(censored.values()), {}):
        counts = [censored.get(part, {}).get(stage) for part in SPLITS]
        if any(counts):
            parts.append([words["censored"].format(stage=stage), *map(count, counts)])
    more = [
        [words[key].format(stage=stage), count(n)]
        for key in ("implied", "uncredited")
        for stage, n in funnel[key].items()
        if n
    ]
    reasons = {**funnel["dropped"], **split["dropped"]}
    more += [[words["dropped"].format(reason=reason), count(n)] for reason, n in reasons.items()]
    more += [
        [words["unread"].format(relation=relation), ", ".join(columns)]
        for relation, columns in read["unread"].items()
        if columns
    ]
    at = ""
    if split.get("validation_from") and split.get("test_from"):
        at = words["split_at"].format(
            validation=str(split["validation_from"])[:16], test=str(split["test_from"])[:16]
        )
    notes = [*read.get("notes", ()), *split.get("notes", ())]
    heads = [words["what"], *(words[part] for part in SPLITS)]
    return section(
        words["data"],
        f"<h3>{words['data_rows']}</h3>",
        table([words["relation"], words["rows"]], rows),
        f"<h3>{words['data_split']}</h3>",
        table(heads, parts),
        paragraph(at, note=True) if at else "",
        folded(words["data_more"], table([words["what"], ""], more)) if more else "",
        bullets([str(note) for note in notes]),
    )


def _how(found: Found, words: Words) -> str:
    if found.manifest is None:
        return ""
    rows = [
        [f"{part}.{key}", _setting(value)]
        for part, name in (("fit", "settings"), ("model", "shape"))
        for key, value in found.manifest[name].items()
    ]
    return section(
        words["how"],
        paragraph(words["how_note"]),
        folded(words["settings"], table([words["setting"], words["value"]], rows)),
    )


def _shop(found: Found) -> str:
    return str((found.manifest or {}).get("shop", {}).get("name") or found.folder)


def _lead(found: Found, words: Words) -> str:
    if found.manifest is None:
        return words["unfinished"].format(epochs=len(found.epochs))
    fitted = found.manifest["fit"]
    return words["lead"].format(
        n=len(fitted["tasks"]),
        parameters=count(fitted["parameters"]),
        mixer=found.manifest["shape"]["mixer"],
        balancer=found.manifest["settings"]["balancer"],
        seed=found.manifest["shop"].get("seed", 0),
        best=fitted["best_epoch"],
        epochs=fitted["epochs"],
        seconds=plain(fitted["seconds"], 1),
    )


def _federated(found: Found, words: Words) -> list[str]:
    """What a run that shops learnt together says of it; nothing of any other run."""
    told = (found.manifest or {}).get("federated")
    if told is None:
        return []
    best = found.manifest["fit"]["best_epoch"] if found.manifest else 0
    said = [words["federated"].format(shops=told["shops"], rounds=told["rounds"], best=best)]
    private, audited = told["privacy"], told["audit"]
    if private is not None:
        epsilon = plain(private["epsilon"], 2)
        if private["unit"] == "label":
            said.append(words["told"].format(epsilon=epsilon))
        else:
            numbers = {"delta": f"{private['delta']:.1e}", "noise": f"{private['noise']:g}"}
            said.append(words["private"].format(**{**private, **numbers, "epsilon": epsilon}))
    if audited is not None:
        inside, outside = audited["users"]
        rates = {"auc": plain(audited["auc"], 3), "tpr": plain(audited["tpr"], 3)}
        said.append(words["audited"].format(**rates, inside=inside, outside=outside))
    proved = told.get("canaries")  # runs of before ask none
    if proved is not None:
        numbers = {
            "auc": plain(proved["auc"], 3), "epsilon": plain(proved["epsilon"], 2),
            "confidence": f"{100 * proved['confidence']:.0f}",
        }  # fmt: skip
        said.append(words["canaries"].format(**{**proved, **numbers}))
    return said


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None or value == "" else str(value)
