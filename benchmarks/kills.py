"""Whether what is killed at any moment and resumed ends as if nothing had happened.

    python benchmarks/kills.py OUT [--kills 50] [--only fit transform tune ...] [--seed 0]
    python benchmarks/kills.py OUT --kills 10 --only workers worker

Each command runs once unbroken. Then it is begun in a session of its own, all of which is killed
(SIGKILL) at a random moment of the time that the unbroken one took, begun again with ``--resume``,
perhaps killed again, and in the end left alone. Whatever both leave is compared: weights, scores,
arrays and tables byte by byte, what is said and every document but for times, and that nothing is
there that the other lacks (of pages and the search's database that alone). ``transform`` is a fit
that is killed while it reads and compiles its tables. A kill counts if the command was still at
work, otherwise another moment is drawn.

``workers`` is a fit by two processes of Ray's, all of which are killed with the command;
``worker`` is one of which a single process is killed while it trains, and which goes on by itself.

The made shops are tiny and every step leaves a checkpoint. Prints PASS or MISS for the bar and ends
with status 1 if it is missed. OUT gets ``kills.json`` and ``kills.md``, and keeps what was not
identical; finished cases of an earlier try are kept.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from record import about, keep_line, kept_lines, show

from daogou.tables.simulate import simulate

SMALL: Final = (
    "fit.epochs=3", "fit.patience=3", "fit.rows_per_step=128", "fit.history_length=5",
    "fit.extra_items=8", "fit.threads=1", "fit.checkpoint_minutes=1e-9", "model.width=8",
    "fit.learning_rate=0.0005", "fit.row_learning_rate=0.02",  # so slow that the last epoch counts
)  # fmt: skip
TWO_TASKS: Final = tuple(
    f'tasks."{name}".enabled=false'
    for name in ("purchase", "match", "profile.gender", "profile.age_band", "profile.tier",
                 "extract")
)  # fmt: skip
COMMANDS: Final[dict[str, tuple[str, ...]]] = {  # what each is told beside its shop and OUT
    "fit": ("--set", "fit.refit=true", "--set", "fit.pretrain_epochs=1"),
    "transform": ("--set", "fit.epochs=1"),
    "tune": ("--trials", "4", "--sampler", "random", "--set", "tune.halving=2"),
    "compare": ("--seeds", "1", "--rivals", "logistic",
                *(word for each in TWO_TASKS for word in ("--set", each))),
    "federate": ("--set", "federate.rounds=3"),
    "workers": ("--workers", "2"),
    "worker": ("--workers", "2"),
}  # fmt: skip
ALONE: Final = ("fit", "transform", "tune", "compare", "federate")  # by a process each
NOT_FIT: Final = ("tune", "compare", "federate")
MARK: Final = "DAOGOU_KILLS"  # in the environment of all processes of a command
READING, READY = "prepare 0/3", "prepare 3/3"  # tables begin to be read, and are compiled
MOST_IN_A_ROW: Final = 3
TIMES: Final = ("seconds", "ms_per_1000", "digest")  # in documents; a manifest's digest has them
OTHERWISE: Final = (".html", ".db", "secret.txt")  # files with times or chance in them


@dataclass(frozen=True)
class Case:
    """One folder: killed so often, resumed, and compared with the unbroken one."""

    command: str
    number: int
    at: list[str]  # what it had said last before each kill that found it at work
    missed: bool  # the last kill came when all was done
    resumed: bool
    differing: list[str]
    said: str = ""  # the last lines, if it did not resume

    @property
    def identical(self) -> bool:
        return self.resumed and not self.differing


@dataclass(frozen=True)
class Ended:
    """A process that ended: its code, what it said, and after how many seconds it did."""

    code: int
    said: str
    seconds: float = 0.0
    tables: tuple[float, float] = (0.0, 0.0)  # seconds until they were read, and compiled
    killed: bool = False


# ---- processes -------------------------------------------------------------------------------


def words_of(command: str, shops: Path) -> list[str]:
    """A command whose folder is ``run`` in the folder where it is begun."""
    name = command if command in NOT_FIT else "fit"
    shop = shops if command == "federate" else shops / "a"
    sets = [word for each in SMALL for word in ("--set", each)]
    words = [name, str(shop), "--out", "run", *sets, *COMMANDS[command]]
    return [sys.executable, "-m", "daogou", *words]


def begun(words: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """A command in a session of its own, in whose folder its answer is kept."""
    own = {"OMP_NUM_THREADS": "1", MARK: str(folder)}
    with (folder / "answer.json").open("w") as answer:
        return subprocess.Popen(
            words, cwd=folder, stdout=answer, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, **own},
        )  # fmt: skip


def marked(folder: Path, name: str = "") -> list[int]:
    """The processes of the command that works in a folder, all or those whose name has this."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            if (
                f"{MARK}={folder}".encode() in environment
                and name.encode() in (process / "cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended
    return found


def left_alone(words: Sequence[str], folder: Path) -> Ended:
    """Run a command to its end."""
    began = time.monotonic()
    said, at = "", {READING: 0.0, READY: 0.0}
    with begun(words, folder) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            place = line[: len(READY)]
            if not at.get(place, 1.0):
                at[place] = time.monotonic() - began
    return Ended(process.returncode, said, time.monotonic() - began, (at[READING], at[READY]))


def killed(words: Sequence[str], folder: Path, after: float) -> tuple[bool, str]:
    """Whether a command was still at work after so many seconds, when it is killed; what it said.

    The answer is written by one who is done, so that a kill between it and the end found nothing.
    """
    with begun(words, folder) as process:
        try:
            _, said = process.communicate(timeout=after)
            return False, said
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            while others := marked(folder):  # that Ray began in sessions of their own
                for each in others:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
            _, said = process.communicate()
    done = (folder / "answer.json").stat().st_size > 0
    return process.returncode == -signal.SIGKILL and not done, said


def worker_killed(words: Sequence[str], folder: Path, draw: random.Random, span: float) -> Ended:
    """Run a fit by several to its end, one of whom is killed, if it trains for so long."""
    told: list[int] = []

    def kill() -> None:
        while process.poll() is None and len(marked(folder, "RayTrainWorker")) < 2:
            time.sleep(0.1)
        time.sleep(draw.uniform(0, span))
        for each in sorted(marked(folder, "RayTrainWorker"))[draw.randrange(2) :][:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
                told.append(each)

    with begun(words, folder) as process:
        killer = threading.Thread(target=kill)
        killer.start()
        _, said = process.communicate()
        killer.join()
    return Ended(process.returncode, said, killed=bool(told))


# ---- what is compared --------------------------------------------------------------------------


def traces(folder: Path) -> dict[str, str]:
    """A hash for each file that a command left in a folder, of documents without times or it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.endswith(OTHERWISE):
            content = b""
        elif path.suffix in (".json", ".jsonl"):
            lines = [path.read_text("utf-8").replace(str(folder), "")]
            if path.suffix == ".jsonl":
                lines = lines[0].splitlines()
            content = json.dumps([untimed(json.loads(line)) for line in lines]).encode()
        else:
            content = path.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def untimed(value: Any) -> Any:
    """A document without the times in it."""
    if isinstance(value, dict):
        return {key: untimed(each) for key, each in value.items() if key not in TIMES}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def differing(mine: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """The files and folders that only one of two has, and the files that are not the same."""
    return sorted(
        name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name)
    )


# ---- cases -------------------------------------------------------------------------------------


def fresh(folder: Path, command: str) -> Path:
    """An empty folder for a command. Shops that learn together share one secret in all cases.

    It orders products that are seen equally often, so that with another one weights are others.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if command == "federate":
        (folder / "run").mkdir()
        (folder / "run" / "key.txt").write_text("0" * 64)
    return folder


def unbroken(command: str, shops: Path, out: Path) -> tuple[Ended, dict[str, str]]:
    """What a command that nobody kills leaves, and the times that it took."""
    folder = fresh(out / command / "unbroken", command)
    words = words_of(command, shops)
    ended = left_alone([*words, *(["--resume"] if command == "federate" else [])], folder)
    if ended.code:
        raise SystemExit(f"{command} does not even run unbroken: {ended.said}")
    return ended, traces(folder)


def one_case(
    command: str, number: int, most: int, shops: Path, out: Path, seed: int,
    whole: tuple[Ended, dict[str, str]],
) -> Case:  # fmt: skip
    """Kill a command up to ``most`` times in one folder, resume it, compare."""
    draw = random.Random(f"{seed} {command} {number}")
    ended, wanted = whole
    span = ended.tables if command == "transform" else (0.0, ended.seconds)
    folder = fresh(out / command / str(number), command)
    words, resumed = words_of(command, shops), ["--resume"]
    more = resumed if command == "federate" else []
    at: list[str] = []
    missed = False
    if command == "worker":
        last = worker_killed(words, folder, draw, ended.seconds - ended.tables[1])
        at = ["train"] if last.killed else []
        return compared(Case(command, number, at, not at, not last.code, []), folder, last, wanted)
    for _ in range(min(draw.randint(1, MOST_IN_A_ROW), most)):
        hit, said = killed([*words, *more], folder, draw.uniform(*span))
        if not hit or (command == "transform" and READY in said):
            missed = True
            break
        at.append(" ".join(said.strip().split("\n")[-1].split()[:2]) or "begin")
        more = resumed
    last = left_alone([*words, *resumed], folder)
    return compared(Case(command, number, at, missed, not last.code, []), folder, last, wanted)


def compared(case: Case, folder: Path, last: Ended, wanted: Mapping[str, str]) -> Case:
    """A case with what its folder has otherwise than the unbroken one, kept if there is any."""
    if last.code:
        return replace(case, said=last.said[-2000:])
    case = replace(case, differing=differing(traces(folder), wanted))
    if case.identical:
        shutil.rmtree(folder)
    return case


def cases_of(
    command: str, kills: int, shops: Path, out: Path, seed: int, done: list[Case]
) -> list[Case]:
    """All cases of a command, until so many kills found it at work."""
    cases = [case for case in done if case.command == command]
    whole = None
    while (hits := sum(len(case.at) for case in cases)) < kills:
        whole = whole or unbroken(command, shops, out)
        case = one_case(command, len(cases), kills - hits, shops, out, seed, whole)
        keep_line(out / "cases.jsonl", case)
        cases.append(case)
        found = "identical" if case.identical else f"NOT: {case.differing or case.said}"
        print(f"{command} {case.number}: {case.at} {found}", file=sys.stderr, flush=True)
    return cases


def row_of(command: str, kills: int, cases: Sequence[Case]) -> list[str]:
    """A line of the table."""
    places = Counter(place.split()[0] for case in cases for place in case.at)
    return [
        command,
        str(kills),
        str(sum(len(case.at) for case in cases)),
        str(sum(len(case.at) for case in cases if case.resumed)),
        str(sum(len(case.at) for case in cases if case.identical)),
        str(sum(len(case.at) > 1 for case in cases)),
        ", ".join(f"{place} {n}" for place, n in places.most_common()),
    ]


HEADING: Final = (
    "command", "kills", "found it at work", "resumed", "identical", "folders killed repeatedly",
    "what it had said last",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Kill what is not killed yet, print and keep the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=50, help="in all, an equal share a command")
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(ALONE))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    shops = out / "shops"
    if not shops.exists():
        for seed, name in enumerate("ab"):
            simulate(shops / name, "easy", seed=seed, users=80, items=60, exposures=2_000)
    done = kept_lines(out / "cases.jsonl", Case)
    each, over = divmod(given.kills, len(given.only))
    rows, found = [], []
    for place, command in enumerate(given.only):
        kills = each + (place < over)
        cases = cases_of(command, kills, shops, out, given.seed, done)
        rows.append(row_of(command, kills, cases))
        found += cases
    show(out / "kills.md", {"kills": (HEADING, rows)}, width=140)
    hits = sum(len(case.at) for case in found)
    identical = sum(len(case.at) for case in found if case.identical)
    met = hits >= given.kills and all(case.identical for case in found)
    document = {**about("kills.py", arguments), "kills": hits, "identical": identical, "met": met,
                "cases": [asdict(case) for case in found]}  # fmt: skip
    (out / "kills.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(f"{'PASS' if met else 'MISS'} {identical} of {hits} kills ended as if there were none")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
