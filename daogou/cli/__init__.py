"""One command, one stage: progress to stderr, one JSON document with the result to stdout.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

import inspect
import io
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import typer

from daogou.cli import ask, data, judge, server, train
from daogou.cli.demo import demo
from daogou.cli.doctor import doctor
from daogou.cli.report import report
from daogou.cli.say import say_errors
from daogou.errors import ConfigError, DaogouError, short_of_memory
from daogou.learn.stop import stoppable

# In the order of --help.
COMMANDS: Final[Mapping[str, Callable[..., Any]]] = {
    "simulate": data.simulate,
    "import": data.import_,
    "new": data.new,
    "check": data.check,
    "fit": train.fit,
    "drift": train.drift,
    "evaluate": judge.evaluate,
    "relate": judge.relate,
    "tune": train.tune,
    "federate": train.federate,
    "compare": judge.compare,
    "transfer": train.transfer,
    "report": report,
    "recommend": ask.recommend,
    "match": ask.match,
    "similar": ask.similar,
    "profile": ask.profile,
    "extract": ask.extract,
    "explain": ask.explain,
    "search": ask.search,
    "guide": ask.guide,
    "serve": server.serve,
    "keys": server.keys,
    "demo": demo,
    "doctor": doctor,
}

# Under which heading of --help the commands of a module stand.
_PANELS: Final[Mapping[str, str]] = {
    "data": "Tables",
    "train": "Train",
    "judge": "Judge",
    "report": "Judge",
    "ask": "Ask a run",
    "server": "Serve",
    "demo": "See it work",
    "doctor": "See it work",
}

_SHORT: Final = (
    "there is not enough of it; what was whole is kept, for --resume where there is more. Or "
    "begin anew with less: lower fit.rows_per_step, fit.history_length or model.size"
)

app = typer.Typer(
    name="daogou",
    help="导购: one jointly trained model that recommends, matches, profiles and reads titles.\n\n"
    "Begin with `daogou demo`, or on tables of your own with `daogou new DIR`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name, rich_help_panel=_PANELS[_command.__module__.rsplit(".", 1)[-1]])(_command)


def main() -> None:
    """Run the command line; what the caller can fix ends in a sentence each and 1 or 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 whatever the locale; bytes of an argument that were none stay escapes.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    words = sys.argv[1:]
    try:
        with stoppable(_onward(words)) if _resumes(words) else nullcontext():
            app()
    except DaogouError as error:
        say_errors(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say_errors(f"{where}{error.strerror or error}")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        say_errors(f"memory: {_SHORT} ({str(error).split(chr(10))[0] or 'no more is to be had'})")
        sys.exit(1)


def _resumes(words: Sequence[str]) -> bool:
    """Whether a command goes on where it was stopped."""
    command = COMMANDS.get(words[0]) if words else None
    return command is not None and "resume" in inspect.signature(command).parameters


def _onward(words: Sequence[str]) -> str:
    """What to do about a command that was stopped."""
    again = shlex.join(["daogou", *words, *([] if "--resume" in words else ["--resume"])])
    return f"stopped; all that was whole is kept, and this goes on: {again}"
