"""Whether what reads files and requests refuses whatever it is given with an error of ours.

    python benchmarks/fuzz.py OUT [--cases 10000] [--only toml run requests] [--seed 0] [--coverage]

Each parser is given inputs that were valid once and were then changed: bits, pieces, values and
whole branches. It may read one, or refuse it as a caller can tell (DaogouError; for a request what
the server answers with 4xx); anything else is unhandled and its input is kept in OUT.

``toml``: `read_shop` and the settings of model, fit and search. ``run``: `artifact.load` of a run
of which one file was changed and signed for, and the tables of its keys. ``requests``: bodies, rows
of events and lines of batch files. With ``--coverage`` each parser runs under Atheris, which goes
on from inputs that reach new code (``pip install atheris``). OUT gets ``fuzz.json``.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from record import about

from daogou import artifact
from daogou.cli.given import value_of
from daogou.config import read_shop
from daogou.errors import DaogouError
from daogou.learn.fit import fit
from daogou.learn.settings import settings_of
from daogou.learn.space import tuning_of
from daogou.serve import bodies
from daogou.serve.events import EventRow, read_event
from daogou.tables.simulate import simulate

NOW_US: Final = 1_795_858_200_000_000
KINDS: Final = ("impression", "click", "cart", "purchase")
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1e308, -0.0, float("nan"), float("inf"), "",
    "\x00", "\ud800", "../..", "/dev/zero", "x" * 300, "名字", [], {}, [[]], [None], {"": None},
    ["a", 1, None], "2026-13-45", "nan", "1e999", "__class__",
)  # fmt: skip
WORDS: Final = (
    *(json.dumps(each).encode() for each in ODD),
    b"{", b"}", b"[", b"]", b'"', b"\\", b"=", b".", b"\n", b"[[", b"#", b"'''", b"\xff",
    b"\xef\xbb\xbf", b"[" * 2000, b'{"a":' * 2000, b"1" * 5000, b"9" * 400, b"inf", b"-inf", b"0x",
    b"1979-05-27T07:32:00Z",
)  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """``parse`` reads an input or refuses it by one of ``refusals``."""

    corpus: Sequence[bytes]
    parse: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...] = (DaogouError,)


@dataclass
class Told:
    """What became of a parser's cases."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    unhandled: int = 0
    slowest_s: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)  # of what is unhandled


# ---- what is changed -------------------------------------------------------------------------


def changed(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    """An input after some changes, as JSON where it is JSON and half of the time, else as bytes."""
    try:
        document = json.loads(data) if chance.random() < 0.5 else None
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict | list):
        for _ in range(chance.choice((1, 1, 2))):
            _change_branch(document, chance)
        return json.dumps(document).encode("utf-8", "surrogatepass")
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = chance.choice(_CHANGES)(data, corpus, chance)
    return data


def _change_branch(node: Any, chance: random.Random) -> None:
    """Walk down to some place and put something else there, or take it away, or name it anew."""
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = chance.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and chance.random() < 0.85:
            node = node[key]
            continue
        how = chance.randrange(4)
        if how == 0:
            del node[key]
        elif how == 1 and isinstance(node, dict):
            node[chance.choice(["", "x", str(key) + "x", "\x00", "a/../b"])] = node.pop(key)
        elif how == 2:
            node[key] = [node[key]] if chance.random() < 0.5 else node[chance.choice(keys)]
        else:
            node[key] = chance.choice(ODD)
        return


def _flip(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    first, last = sorted(chance.randint(0, len(data)) for _ in range(2))
    return data[:first] + data[last:] if chance.random() < 0.5 else data[:last]


def _repeat(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    first = chance.randint(0, len(data))
    return data[:first] + data[max(first - 64, 0) : first] * chance.randint(1, 8) + data[first:]


def _insert(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(WORDS) + data[at:]


def _replace(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Another value in place of a number, a word or a text."""
    found = list(re.finditer(rb'"[^"\n]{0,80}"|[-+.\w]+', data[:20_000]))
    if not found:
        return data
    at = chance.choice(found)
    other = chance.choice(WORDS) if chance.random() < 0.6 else chance.choice(found)[0]
    return data[: at.start()] + other + data[at.end() :]


def _splice(data: bytes, corpus: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(corpus)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


_CHANGES: Final = (_flip, _flip, _cut, _repeat, _insert, _replace, _replace, _replace, _splice)


# ---- who reads it ----------------------------------------------------------------------------


def toml_parser(folder: Path, shop: Path) -> Parser:
    """What reads a shop.toml, and the settings in it."""
    path = folder / "shop.toml"
    more = (
        b'[events]\npath = "e.csv"\nuser = "u"\nitem = "i"\ntime = "t"\nlabels = ["a", "b"]\n'
        b'value = "v"\ncontext = ["d"]\ndomain = "d"\n[tasks.b]\nloss = "dfm"\nweight = 0.5\n'
        b'[fit]\nepochs = 3\nbalancer = "gradnorm"\nbalancer_options = { alpha = 1.5 }\n'
        b'[model]\nmixer = "ple"\nexpert_widths = [8, 8]\nmixer_options = { n_own = 2 }\n',
        b'name = "x"\nseed = 3\n[users]\npath = "u"\nkey = "k"\nprofile = ["g"]\nsensitive = []\n'
        b'[items]\npath = "i"\nkey = "k"\ntext = ["t"]\nattributes = ["c"]\n[guide]\nstock = "n"\n'
        b'[split]\nvalidation = 0.1\ntest = 0.2\n[tune.space]\n"fit.learning_rate" = [1e-4, 1e-2]\n'
        b'[tasks.profile.g]\nloss = "ordinal"\norder = ["a", "b"]\n[text]\nencoder = "here"\n',
    )

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        read = read_shop(path)
        settings_of(read)
        tuning_of(read)

    return Parser([(shop / "shop.toml").read_bytes(), *more], parse)


def run_parser(folder: Path, shop: Path) -> Parser:
    """What loads a run of which one file was changed; the input's first byte says which."""
    run = folder / "run"
    small = ["fit.epochs=1", "fit.history_length=4", "fit.extra_items=4", "model.width=8"]
    fit(read_shop(shop, small), run)
    names = sorted(json.loads((run / "manifest.json").read_bytes())["files"])
    # What is read by our own code comes up more often than arrays, of which one is like another.
    weighed = [
        "manifest.json",
        "transform.json",
        "store/store.json",
        "model.safetensors",
    ] * 8 + names
    whole = {name: (run / name).read_bytes() for name in set(weighed)}

    def parse(data: bytes) -> None:
        name = weighed[data[0] % len(weighed)] if data else "manifest.json"
        put(name, signed(data[1:]) if name == "manifest.json" else data[1:])
        try:
            read = artifact.load(run, verify=False)
            list(read.store.item_rows), list(read.store.user_rows), read.store.titles.to_pylist()
            read.store.exposure_keys("test").to_pylist()
        finally:
            put(name, whole[name])

    def put(name: str, data: bytes) -> None:
        partial = run / "changed"  # a file of its own: what is mapped must not shrink
        partial.write_bytes(data)
        partial.replace(run / name)

    corpus = [bytes([place]) + whole[name][:200_000] for place, name in enumerate(weighed)]
    return Parser(corpus, parse)


def signed(data: bytes) -> bytes:
    """A manifest with the digest that fits it; as it is where it is none."""
    try:
        document = json.loads(data)
        document.pop("digest", None)
        document["digest"] = artifact._digest(document)
        return json.dumps(document).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data


def example_of(body: type[BaseModel]) -> Any:
    """The example that a body's schema shows; None without one."""
    more: Any = body.model_config.get("json_schema_extra")
    return (more or {}).get("example")


def request_parser() -> Parser:
    """What reads bodies, events and lines; the input's first byte says which."""
    models = [
        each
        for each in vars(bodies).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
    ]
    asked = [each for each in models if example_of(each) is not None]
    n_kinds = len(asked) + 2

    def parse(data: bytes) -> None:
        kind, data = (data[0] % n_kinds, data[1:]) if data else (0, data)
        if kind < len(asked):
            asked[kind].model_validate_json(data)
        elif kind == len(asked):
            value_of(data, "user")
        else:
            try:
                row = json.loads(data)
            except RecursionError:
                return  # a body that the server refuses before it is a row
            read_event(row, kinds=KINDS, now_us=NOW_US)

    corpus = [
        bytes([place]) + json.dumps(example_of(each)).encode() for place, each in enumerate(asked)
    ]
    event = json.dumps(example_of(EventRow)).encode()
    corpus += [bytes([len(asked)]) + b'{"user": "17"}', bytes([len(asked)]) + b"17"]
    corpus += [bytes([len(asked) + 1]) + event] * len(asked)
    # ValueError is how rows and lines are refused, each by itself.
    return Parser(corpus, parse, (DaogouError, ValidationError, ValueError))


def parser_of(name: str, folder: Path) -> Parser:
    """A parser with its corpus; what it reads lies in ``folder``."""
    if name == "requests":
        return request_parser()
    shop = folder / "shop"
    if not shop.exists():
        simulate(shop, "easy", users=60, items=40, exposures=1500)
    return {"toml": toml_parser, "run": run_parser}[name](folder, shop)


PARSERS: Final = ("toml", "run", "requests")


# ---- runs ------------------------------------------------------------------------------------


def fuzz(parser: Parser, cases: int, seed: int, keep: Path | None = None) -> Told:
    """Give a parser so many changed inputs; those that are unhandled are kept."""
    told, chance = Told(), random.Random(seed)
    for _ in range(cases):
        one_case(parser, changed(chance.choice(parser.corpus), parser.corpus, chance), told, keep)
    return told


def one_case(parser: Parser, data: bytes, told: Told, keep: Path | None) -> None:
    """Give a parser one input and count what it does."""
    started = time.perf_counter()
    told.cases += 1
    try:
        parser.parse(data)
        told.read += 1
    except parser.refusals:
        told.refused += 1
    except Exception as error:
        told.unhandled += 1
        kind = f"{type(error).__name__}: {str(error)[:100]}"
        told.kinds[kind] = told.kinds.get(kind, 0) + 1
        if keep is None:
            raise
        keep.with_name(f"{keep.name}-{told.cases}.bin").write_bytes(data)
    told.slowest_s = max(told.slowest_s, time.perf_counter() - started)


def guided(name: str, out: Path, cases: int, seed: int) -> None:
    """Run one parser under Atheris, which ends the process; its line is written before."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    parser, told = parser_of(name, folder), Told()
    atheris.instrument_all()

    def one(data: bytes) -> None:
        one_case(parser, data, told, out / name)
        if told.cases == cases:
            (out / f"{name}.json").write_text(json.dumps(asdict(told)), encoding="utf-8")

    def mutate(data: bytes, most: int, mutation_seed: int) -> bytes:
        chance = random.Random(mutation_seed)
        data = data if len(data) > 1 else chance.choice(parser.corpus)
        return changed(data, parser.corpus, chance)[:most]

    seen = folder / "corpus"
    seen.mkdir()
    for place, each in enumerate(parser.corpus):
        (seen / str(place)).write_bytes(each)
    atheris.Setup(
        ["fuzz", str(seen), f"-runs={cases + 1}", f"-seed={seed + 1}", "-max_len=200000"],
        one,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main(argv: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if argv is None else argv)
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    asked.add_argument("out", type=Path)
    asked.add_argument("--cases", type=int, default=10_000)
    asked.add_argument("--only", nargs="+", default=list(PARSERS), choices=PARSERS)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--coverage", action="store_true")
    asked.add_argument("--guided", choices=PARSERS, help=argparse.SUPPRESS)
    wanted = asked.parse_args(given)
    out: Path = wanted.out
    out.mkdir(parents=True, exist_ok=True)
    if wanted.guided:
        guided(wanted.guided, out, wanted.cases, wanted.seed)
        return
    found: dict[str, Any] = {}
    for name in wanted.only:
        if wanted.coverage:
            more = ["--cases", str(wanted.cases), "--seed", str(wanted.seed), "--guided", name]
            subprocess.run([sys.executable, __file__, str(out), *more], check=False)
            found[name] = json.loads((out / f"{name}.json").read_text("utf-8"))
        else:
            with tempfile.TemporaryDirectory() as folder:
                parser = parser_of(name, Path(folder))
                found[name] = asdict(fuzz(parser, wanted.cases, wanted.seed, out / name))
        print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    document = {**about("fuzz.py", given), "parsers": found}
    (out / "fuzz.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
