"""Tables before any training: a made shop, a public data set, a first shop.toml, checks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from daogou.cli.flags import Lang, Out, Seed, Sets, ShopFile, Waive, language_of, shop_of
from daogou.cli.say import answer, console, note, watched
from daogou.errors import ConfigError


def simulate(  # noqa: PLR0913 - one parameter per flag of the contract
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="easy, default, aliexpress, confounded or transfer.")
    ] = ("default"),
    users: Annotated[
        int | None, typer.Option(help="How many users; the preset's if not given.")
    ] = None,
    items: Annotated[int | None, typer.Option(help="How many products, likewise.")] = None,
    exposures: Annotated[
        int | None, typer.Option(help="About how many exposures, likewise.")
    ] = None,
    kappa: Annotated[
        float | None,
        typer.Option(help="Share of taste that later stages have in common with clicks."),
    ] = None,
    sign: Annotated[int | None, typer.Option(help="-1: later stages want the opposite.")] = None,
    confounder: Annotated[
        float | None, typer.Option(help="Weight of an intent that no input shows.")
    ] = None,
    domain: Annotated[
        int | None, typer.Option(help="1: a further shop beside that of 0, same seed.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="With --domain: share of taste in common.")
    ] = None,
    shared_users: Annotated[
        float | None, typer.Option(help="With --domain: share of users in common.")
    ] = None,
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


def import_(
    name: Annotated[
        str, typer.Argument(help="A public data set: adult, gms-ga4 ...; a wrong name lists them.")
    ],
    out: Out,
    path: Annotated[Path | None, typer.Argument(help="Where its files lie.")] = None,
) -> None:
    """Turn a public data set into a shop folder.

    Example: daogou import adult data/adult_census --out shops/adult
    """
    from daogou.tables.public import import_shop

    with watched() as report:
        counts = import_shop(name, path, out, report)
    answer({"out": str(out), "counts": counts})


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
        note(f"{target}: a first guess that does not hold yet; correct what `problems` says")
    else:
        note(f"{target}: read it, then `daogou check {target}` and `daogou fit {target} --out RUN`")
    answer(document)


def check(shop: ShopFile, waive: Waive = None, sets: Sets = None, lang: Lang = "en") -> None:
    """Look for what is wrong with a shop's tables; exit 1 if a check fails.

    Example: daogou check shops/mine/shop.toml --waive few_users
    """
    from dataclasses import asdict

    from daogou.learn.settings import settings_of
    from daogou.report import terminal
    from daogou.tables import engine_for, prepare
    from daogou.tables.check import check as look

    language = language_of(lang)
    described = shop_of(shop, sets, waive=waive)
    settings, _ = settings_of(described)
    with engine_for(described, memory_limit=settings.memory_limit) as engine:
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
