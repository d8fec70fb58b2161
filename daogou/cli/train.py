"""What changes weights: a fit, a search, shops together, from one shop to another."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from daogou.cli.flags import (
    Address,
    Lang,
    Out,
    Run,
    Seed,
    Sets,
    ShopFile,
    Waive,
    Workers,
    language_of,
    names_in,
    numbers_in,
    shop_of,
    with_sets,
)
from daogou.cli.say import answer, console, note, watched
from daogou.errors import ConfigError


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
    if source is not None:
        if guard:
            raise ConfigError("--guard: a fit that goes on keeps the tasks' layers; fit anew")
        if workers is not None:
            raise ConfigError("--workers: a fit that goes on is one process's; leave it out")
        later = _later(source, shop, (events, sets, seed, waive))
        _go_on(source, later, out, events, resume, language_of(lang))
        return
    if events is not None:
        raise ConfigError("--events: later events are of a run; name it with --from")
    if shop is None:
        raise ConfigError("fit: give a shop.toml, or a run with --from")
    described = shop_of(shop, sets, seed, waive)
    if guard and workers is not None:
        raise ConfigError("--workers: a guarded fit is many small ones; leave out --guard or this")
    with watched() as progress:
        asked: dict[str, Any] = {"resume": resume, "progress": progress}
        if workers is not None:
            asked |= {"workers": workers, "address": address}
        elif guard:
            asked |= {"margin": margin}
        document = _maker(guard, workers)(described, out, **asked)
    note(f"next: `daogou evaluate {out}`, `daogou report {out} --out report.html`")
    answer(document)


def _maker(guard: bool, workers: int | None) -> Callable[..., Any]:
    """What trains a run anew: one process, the guard's many fits, or several processes."""
    if workers is not None:
        from daogou.scale.train import fit_by

        return fit_by
    if guard:
        from daogou.learn.guard import guard as fit_guarded

        return fit_guarded
    from daogou.learn.fit import fit as fit_alone

    return fit_alone


def _later(
    run: Path,
    shop: Path | None,
    given: tuple[str | None, list[str] | None, int | None, list[str] | None],
) -> Any:
    """The shop of a run, or that of a shop.toml, with all its events."""
    from daogou import artifact
    from daogou.learn.onward import later

    events, sets, seed, waive = given
    described = None if shop is None else shop_of(shop, sets, seed, waive)
    document = artifact.read_manifest(run)
    if shop is None:
        document["shop"] = with_sets(document["shop"], sets, seed, waive)
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
    note(str(page))
    answer(document)


def _show_drift(document: Mapping[str, Any], lang: str) -> None:
    from daogou.report import terminal
    from daogou.report.drift import sentences

    terminal.show(console, terminal.drifts(document, lang=lang))
    for sentence in sentences(document, lang=lang):
        note(sentence)


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

    language = language_of(lang)
    shop = _later(run, data, (events, sets, None, None))
    document = artifact.plain(drift_since(artifact.load(run), shop))
    _show_drift(document, language)
    if out is not None:
        artifact.write_whole(out, drift_page(document, lang=language))
        note(str(out))
    answer(document)


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

    language = language_of(lang)
    named = [] if objective is None else [f"tune.objective={json.dumps(objective)}"]
    described = shop_of(shop, [*(sets or []), *named], seed)
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
    from daogou.learn.transfer import transfer as move
    from daogou.learn.ways import Wanted
    from daogou.report import terminal
    from daogou.report.transfer import sentences, transfer_page

    language = language_of(lang)
    wanted = Wanted(
        how=how,
        sizes=numbers_in("--sizes", sizes),
        seeds=seeds,
        margin=margin,
        same=names_in("" if same == "none" else same),
    )
    described = shop_of(to, sets, seed, waive)
    with watched() as progress:
        found = move(run, described, out, wanted, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "transfer" / "transfer.html"
    artifact.write_whole(page, transfer_page(document["transfer"], lang=language))
    terminal.show(console, terminal.transfers(document["transfer"], lang=language))
    for sentence in sentences(document["transfer"], lang=language):
        note(sentence)
    note(str(page))
    answer(document)
