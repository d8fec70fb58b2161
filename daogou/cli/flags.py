"""The flags that several commands share, and what is made of their words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from daogou.errors import ConfigError, unknown

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
    typer.Option("--edits", help='JSON: {"set": {column: value}, "forbid": {column: \\[values]}}.'),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
StoreUrl = Annotated[
    str, typer.Option("--store", help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
]


def language_of(lang: str) -> str:
    """``lang`` itself; a ConfigError if it is none of ours."""
    if lang not in ("en", "zh"):
        raise ConfigError(f"--lang: {unknown(lang, ('en', 'zh'))}")
    return lang


def shop_of(
    path: Path,
    sets: list[str] | None = None,
    seed: int | None = None,
    waive: list[str] | None = None,
) -> Any:
    """The shop of a file, with what the flags say otherwise."""
    from daogou.config import read_shop

    given = [*(sets or [])]
    if seed is not None:
        given.append(f"seed={seed}")
    if waive:
        named = read_shop(path, given).fit.get("waive", ())
        both = dict.fromkeys([*(named if isinstance(named, list) else ()), *waive])
        given.append(f"fit.waive={json.dumps(list(both), ensure_ascii=False)}")
    return read_shop(path, given)


def with_sets(
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


def numbers_in(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    try:
        return tuple(int(word) for word in names_in(text))
    except ValueError:
        raise ConfigError(f"{flag} {text}: whole numbers are wanted, such as 100,1000") from None


def names_in(text: str) -> tuple[str, ...]:
    """Words with commas between, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
