"""`report`: a page or tables about what another command has left in a folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from daogou.cli.flags import Lang, language_of
from daogou.cli.say import answer, console, note
from daogou.errors import ArtifactError

Written = tuple[list[Any], list[str], str]  # tables, sentences and a page


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_DIR",
            help="A folder made by fit, compare, tune or relate, or RUN/transfer.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write; tables here without it.")
    ] = None,
    lang: Lang = "en",
) -> None:
    """One page about a run, a comparison, a search or a relation of tasks.

    Example: daogou report runs/easy --out report.html --lang zh
    """
    from daogou import artifact
    from daogou.report import terminal

    language = language_of(lang)
    kind = _kind_of(folder)
    tables, sentences, html = _REPORTS[kind](folder, language)
    if out is not None:
        artifact.write_whole(out, html)
        note(str(out))
    else:
        terminal.show(console, *tables)
        for sentence in sentences:
            note(sentence)
    answer({"folder": str(folder), "kind": kind, "report": None if out is None else str(out)})


def _kind_of(folder: Path) -> str:
    """What made a folder, by what is in it."""
    marks = {
        "compare": ("compare.json",), "tune": ("tune.json",), "relate": ("relate.json",),
        "transfer": ("transfer.json",),
        "run": ("manifest.json", "events.jsonl"),
    }  # fmt: skip
    for kind, names in marks.items():
        if any((folder / name).exists() for name in names):
            return kind
    if (folder / "started.json").exists():
        raise ArtifactError(f"{folder}: has no epoch yet; wait for one, or `daogou fit --resume`")
    raise ArtifactError(
        f"{folder}: no run, comparison, search or relation of tasks is in it (if one was begun "
        "there, it is not finished); give a folder made by fit, compare, tune or relate"
    )


def _report_run(folder: Path, lang: str) -> Written:
    from daogou import artifact
    from daogou.report import terminal
    from daogou.report.found import found_in
    from daogou.report.run import run_page, sentences

    manifest = evaluation = None
    if (folder / "manifest.json").exists():
        manifest = artifact.read_manifest(folder)
        evaluation = evaluated(folder)
    found = found_in(folder, manifest, evaluation)
    kept = manifest["fit"]["best_epoch"] if manifest else None
    tables = [terminal.evaluation(evaluation, lang=lang)] if evaluation else []
    tables.append(terminal.training(found.epochs, kept, lang=lang))
    return tables, sentences(found, lang=lang), run_page(found, lang=lang)


def evaluated(run: Path) -> Any:
    """The run's report on its test split: kept beside it, since a finished run never changes."""
    from daogou import artifact
    from daogou.learn.evaluate import evaluate as judge
    from daogou.report.found import kept_evaluation

    kept = kept_evaluation(run)
    if kept is not None:
        return kept
    note(f"judging {run} on its test split")
    document = artifact.plain(judge(artifact.load(run)))
    digest = artifact.sha256(run / "manifest.json")
    text = json.dumps({"manifest": digest, "evaluation": document}, ensure_ascii=False)
    artifact.write_whole(run / "evaluate.json", text)
    return document


def _report_compare(folder: Path, lang: str) -> Written:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.receipt import receipt, sentences

    document = read_document(folder / "compare.json")
    tables = terminal.verdicts(document, lang=lang)
    return tables, sentences(document, lang=lang), receipt(document, lang=lang)


def _report_tune(folder: Path, lang: str) -> Written:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.tune import sentences, tune_page

    document = read_document(folder / "tune.json")
    tables = [terminal.trials(document, lang=lang)]
    return tables, sentences(document, lang=lang), tune_page(document, lang=lang)


def relation_report(folder: Path, lang: str) -> Written:
    """What `relate` has left in a folder."""
    from daogou.artifact import read_document, read_records
    from daogou.report import terminal
    from daogou.report.affinity import over_time
    from daogou.report.relate import relation, sentences

    document = read_document(folder / "relate.json")
    probes = folder / "probes.jsonl"
    moved = over_time(read_records(probes), lang=lang)
    page = relation(document, [moved] if moved else [], lang=lang)
    return terminal.relations(document, lang=lang), sentences(document, lang=lang), page


def _report_transfer(folder: Path, lang: str) -> Written:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.transfer import sentences, transfer_page

    document = read_document(folder / "transfer.json")
    tables = [terminal.transfers(document, lang=lang)]
    return tables, sentences(document, lang=lang), transfer_page(document, lang=lang)


_REPORTS: Final[Mapping[str, Callable[[Path, str], Written]]] = {
    "run": _report_run,
    "compare": _report_compare,
    "tune": _report_tune,
    "relate": relation_report,
    "transfer": _report_transfer,
}


def show_report(document: Mapping[str, Any], lang: str) -> None:
    """An evaluation as tables, and whatever in it is alarming."""
    from daogou.report import terminal

    terminal.show(console, terminal.evaluation(document, lang=lang))
    for sentence in terminal.alarms(document, lang=lang):
        console.print(f"[bold red]{escape(sentence)}[/]", highlight=False, soft_wrap=True)
