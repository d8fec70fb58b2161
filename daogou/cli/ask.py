"""Questions to a run: what to show, whom it suits, what a title says, and why."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from daogou.cli.flags import Address, EditsFile, Lang, Run, User, Workers, language_of
from daogou.cli.given import answer_lines, edits_in, state_in
from daogou.cli.say import answer
from daogou.errors import ConfigError

_TITLES: Final = 4096  # titles of one, for each thread


def _guide(run: Path) -> Any:
    from daogou.guide import Guide

    return Guide.load(run)


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
        "diversity": diversity, "edits": edits_in(edits), "lang": language_of(lang),
    }  # fmt: skip
    if (user is None) == (users is None):
        raise ConfigError("recommend: give either --user or --users")
    if user is not None and workers is not None:
        raise ConfigError("--workers: one user is one process's work; give --users")
    if users is not None and workers is not None:
        from daogou.scale.score import Recommending, answers_by

        how = Recommending(wishes, by_value)
        by_all = partial(answers_by, run, how=how, workers=workers, address=address)
        answer_lines(users, "user", by_all)
        return
    guide = _guide(run)
    if by_value:
        guide = guide.following(by_value=True)
    if users is not None:
        answer_lines(
            users, "user", lambda blocks: (
                list(guide.recommend_many(asked, **wishes)) for asked in blocks
            ),
        )  # fmt: skip
    else:
        answer(guide.recommend(user, **wishes))


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
    answer(_guide(run).match(user, wanted, edits=edits_in(edits)))


def similar(
    run: Run,
    item: Annotated[str, typer.Option("--item", help="The shop's own id of a product.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many products.")] = 10,
) -> None:
    """The products most like one.

    Example: daogou similar runs/easy --item 3 -k 5
    """
    answer(_guide(run).similar(item, k=k))


def profile(run: Run, user: User, edits: EditsFile = None, lang: Lang = "en") -> None:
    """What a user's behaviour says about them, with evidence.

    Example: daogou profile runs/easy --user 17 --lang zh
    """
    language = language_of(lang)
    answer(_guide(run).profile(user, edits=edits_in(edits), lang=language))


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
    answer_lines(
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
    language = language_of(lang)
    answer(_guide(run).explain(user, item, edits=edits_in(edits), lang=language))


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
    language = language_of(lang)
    found = _guide(run).search(
        query, user, k=k, offset=offset, category=category, brand=brand,
        price_min=price_min, price_max=price_max, lang=language,
    )  # fmt: skip
    answer(found)


def guide(
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
    said = {"user": user, "query": query, "lang": language_of(lang)}
    answer(_guide(run).ask(**{**said, **state_in(answers)}, k=k))
