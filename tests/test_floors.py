"""A module imports only from lower floors, never from a neighbour on its own; rooms are small."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = [
    {"errors"},
    {"schema", "metrics"},
    {"config", "tables"},
    {"features"},
    {"model", "balance"},
    {"artifact"},
    {"learn", "guide", "report"},
    {"serve", "scale"},
    {"cli"},
    {"__main__"},
]
LEVEL = {unit: level for level, units in enumerate(FLOORS) for unit in units}
MOST_LINES = 400  # of a file
MOST_OF_A_FUNCTION = 60  # lines of its own: without its docstring and the functions inside it
ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "daogou"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full, from daogou down"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def wrong_imports(unit: str, source: str) -> set[str]:
    units = {name.split(".")[1] for name in imported_names(source) if name.startswith("daogou.")}
    units &= set(LEVEL)  # the rest are public names, which only the top floor may use
    return {other for other in units - {unit} if LEVEL[other] >= LEVEL[unit]}


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    assert unit_of(path) in LEVEL, "a new file or folder needs a floor"
    assert not wrong_imports(unit_of(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "from daogou.learn import fit",
        "from daogou import learn",
        "import daogou.learn.fit",
        "def late():\n    from daogou.learn.fit import fit",
    ],
)
def test_the_check_sees_every_way_to_import(line: str) -> None:
    assert wrong_imports("guide", line) == {"learn"}


def test_the_check_refuses_a_relative_import() -> None:
    with pytest.raises(AssertionError, match="write imports in full"):
        wrong_imports("guide", "from ..learn import fit")


def test_the_page_about_the_design_shows_the_same_floors() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = page.split("## Floors")[1].split("```")[1]
    shown: dict[str, int] = {}
    level = -1
    for line in filter(str.strip, block.splitlines()):
        level = int(line[0]) if line[0].isdigit() else level
        names = re.findall(r"([a-z_]+)(?:\.py|/)", line)
        shown |= dict.fromkeys(names, level)
    assert shown == {unit: LEVEL[unit] for unit in shown}
    assert {unit_of(path) for path in FILES} - {"__main__"} <= set(shown)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST) -> Iterator[Function]:
    yield from (each for each in ast.walk(node) if isinstance(each, Function))


def own_lines(function: Function) -> int:
    """Lines of a function without its docstring and without the functions inside it."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1))
    told = function.body[0]
    if isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant):
        lines -= set(range(told.lineno, (told.end_lineno or 0) + 1))
    for other in functions(function):
        if other is not function:
            first = min(each.lineno for each in [other, *other.decorator_list])
            lines -= set(range(first, (other.end_lineno or 0) + 1))
    return len(lines)


def test_lines_of_a_function_are_its_own() -> None:
    source = (
        'def f(x):\n    """Two\n    lines."""\n    @x\n    def g():\n        return 1\n    return g'
    )
    assert own_lines(next(functions(ast.parse(source)))) == 2


def test_no_function_and_no_file_is_longer_than_a_reader_holds() -> None:
    files, long = set(), set()
    for path in PACKAGE.rglob("*.py"):
        source, name = path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()
        if len(source.splitlines()) > MOST_LINES:
            files.add(name)
        for each in functions(ast.parse(source)):
            if own_lines(each) > MOST_OF_A_FUNCTION:
                long.add(f"{name}:{each.name}")
    assert not files
    assert not long


def modules_after(line: str) -> set[str]:
    code = f"import sys; {line}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_tables_metrics_and_settings_do_not_load_torch() -> None:
    line = "import daogou.tables.simulate, daogou.tables.check, daogou.metrics, daogou.config"
    assert "torch" not in modules_after(line)


def test_no_network_is_needed_to_import_the_package() -> None:
    line = (
        "import socket; socket.socket.connect = socket.create_connection = None; "
        "import daogou.artifact"
    )
    assert "daogou.artifact" in modules_after(line)
