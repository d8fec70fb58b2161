"""What is found out of runs and tasks: `evaluate`, `relate`, `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from daogou.cli.flags import Lang, Out, Run, Seed, Sets, ShopFile, language_of, names_in, shop_of
from daogou.cli.report import relation_report, show_report
from daogou.cli.say import answer, console, note, watched


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

    language = language_of(lang)
    other = shop_of(data, seed=seed) if data is not None else None
    loaded = artifact.load(run)
    if seed is not None:
        loaded = replace(loaded, shop=replace(loaded.shop, seed=seed))
    if sensitive:
        from daogou.learn.sensitive import probe_sensitive
        from daogou.report import terminal

        told = probe_sensitive(loaded, data=other)
        for sentence in terminal.inferable(told, lang=language):
            note(sentence)
        answer(told)
        return
    document = judge(loaded, split=split, data=other)
    show_report(document, language)
    answer(document)


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

    language = language_of(lang)
    described = shop_of(shop, sets, seed)
    with watched() as progress:
        found = measure(described, out, leave_out=leave_out, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "relate.html"
    tables, _, html = relation_report(out, language)
    artifact.write_whole(page, html)
    terminal.show(console, *tables)
    note(str(page))
    answer(document)


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

    language = language_of(lang)
    asked = Asked(
        seeds=seeds,
        mixers=names_in(mixers),
        balancers=names_in(balancers),
        controls=names_in(controls),
        rivals=None if rivals is None else names_in(rivals),
        margin=margin,
        cold=cold,
        head=head,
    )
    described = shop_of(shop, sets, seed)
    with watched() as progress:
        found = measure(described, out, asked, resume=resume, progress=progress)
    document = artifact.plain(found)
    page = out / "receipt.html"
    artifact.write_whole(page, receipt(document, lang=language))
    terminal.show(console, *terminal.verdicts(document, lang=language))
    for sentence in sentences(document, lang=language):
        note(sentence)
    note(str(page))
    answer(document)
