"""`demo`: a made shop, trained, judged and asked."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from daogou.cli.flags import Lang, Port, Seed, language_of, shop_of
from daogou.cli.report import evaluated, show_report
from daogou.cli.say import answer, console, note, watched
from daogou.cli.server import SERVES, needs_extra
from daogou.errors import ConfigError


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

    Run again, it goes on where it was stopped; once finished, it asks again.

    With --serve it ends at a page, where the shop is open until Ctrl-C.

    Example: daogou demo --out demo --lang zh --serve
    """
    import torch

    from daogou import artifact
    from daogou.learn.fit import fit as train
    from daogou.tables import simulate as simulator

    language = language_of(lang)
    if opens:
        needs_extra("serve", *SERVES)
    run = out / "run"
    # So small a model gains nothing from more, and on a busy machine threads wait for each other.
    torch.set_num_threads(1)
    _claim_demo(out, {"exposures": exposures, "seed": seed or 0})
    if (run / "manifest.json").exists():
        note(f"{run} is trained; delete {out} to start over")
    else:
        size = {"users": 500, "items": 400} if exposures < 200_000 else {}
        note("making the shop")
        simulator.simulate(out / "shop", "easy", seed=seed or 0, exposures=exposures, **size)
        described = shop_of(out / "shop", ["fit.epochs=6"])
        with watched() as progress:
            train(described, run, resume=run.exists(), progress=progress)
    loaded = artifact.load(run)
    document = evaluated(run)
    show_report(document, language)
    _show_answers(loaded, language)
    answer(document)
    if opens:
        from daogou.serve.run import serve as listen
        from daogou.serve.workers import Runs

        sys.stdout.flush()
        listen(
            Runs(run), store=f"sqlite:///{out / 'daogou.db'}", host="127.0.0.1", port=port,
            listening=lambda told: note(f"the shop is open at {told['url']}/ until Ctrl-C"),
        )  # fmt: skip


def _claim_demo(out: Path, wanted: Mapping[str, int]) -> None:
    """Note what this folder is a demo of, or refuse it if it is one of something else."""
    from daogou.artifact import write_whole

    note = out / "demo.json"
    if note.exists():
        if note.read_text("utf-8") != json.dumps(wanted):
            raise ConfigError(
                f"{out}: holds a demo with {note.read_text('utf-8')}; give another --out, or "
                "delete the folder"
            )
        return
    half = [note.with_name(note.name + ".partial")]  # of a try that was killed
    if out.exists() and (not out.is_dir() or [*out.iterdir()] not in ([], half)):
        raise ConfigError(f"{out}: is there and is no demo; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(note, json.dumps(wanted))


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
        note(guide.profile(user, lang=language)["text"])
        found = guide.extract(samples[language])
        terminal.show(console, terminal.spans(found, lang=language))


def _chinese(text: str) -> int:
    """How many characters of a title are Chinese."""
    return sum("\u4e00" <= character <= "\u9fff" for character in text)
