"""The docs against the code: every command, flag and setting is on its page, and nothing else."""

import dataclasses
import importlib.machinery
import importlib.util
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import figures
import pytest
import typer.main

from daogou import schema
from daogou.balance import BALANCERS
from daogou.balance.base import GIVEN as BALANCERS_GIVEN
from daogou.cli import app
from daogou.learn.aggregate import RULES
from daogou.learn.calibrate import METHODS as CALIBRATIONS
from daogou.learn.dimension import Range
from daogou.learn.private import Privacy
from daogou.learn.sampling import SAMPLINGS
from daogou.learn.settings import Settings
from daogou.learn.space import Tuning
from daogou.learn.terms import Terms
from daogou.model.build import Shape
from daogou.model.mixers import MIXERS
from daogou.model.mixers.base import GIVEN
from daogou.tables.public import IMPORTERS
from daogou.tables.world import PRESETS

ROOT = Path(__file__).parent.parent
SECTIONS: Mapping[str, type[Any]] = {
    "[items]": schema.Items,
    "[users]": schema.Users,
    "[events]": schema.Events,
    "[split]": schema.Split,
    "[tasks.NAME]": schema.TaskSetting,
    "[guide]": schema.GuideSetting,
    "[text]": schema.TextSetting,
    "[truth]": schema.Truth,
    "[model]": Shape,
    "[fit]": Settings,
    "[tune]": Tuning,
    "[tune.space]": Range,
    "[federate]": Terms,
    "[federate.privacy]": Privacy,
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def parts(page: str) -> dict[str, str]:
    """The sections of a page under docs/, by heading of any level."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    pieces = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def rows(section: str) -> dict[str, str]:
    """Key and default of each row of a table of settings."""
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, flags=re.MULTILINE))


def shown(value: Any) -> str:
    """How the page writes a default."""
    if value is dataclasses.MISSING:
        return "-"
    if value is None:
        return "not given"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_is_documented_with_its_default(heading: str) -> None:
    wanted = {
        field.name: shown(default_of(field)) for field in dataclasses.fields(SECTIONS[heading])
    }
    assert rows(parts("settings.md")[heading]) == wanted


def test_every_option_of_a_mixer_is_documented_with_its_default() -> None:
    wanted = {
        f"{name}.{option}": shown(parameter.default)
        for name, maker in MIXERS.items()
        for option, parameter in inspect.signature(maker).parameters.items()
        if option not in GIVEN
    }
    assert rows(parts("settings.md")["mixer_options"]) == wanted


def test_every_option_of_a_balancer_is_documented_with_its_default() -> None:
    wanted = {
        f"{name}.{option}": shown(parameter.default)
        for name, maker in BALANCERS.items()
        for option, parameter in inspect.signature(maker).parameters.items()
        if option not in BALANCERS_GIVEN
    }
    assert rows(parts("settings.md")["balancer_options"]) == wanted


@pytest.mark.parametrize(
    ("heading", "row", "names"),
    [("[model]", "mixer", MIXERS), ("[fit]", "balancer", BALANCERS)],
)
def test_every_method_is_named_where_it_is_chosen(
    heading: str, row: str, names: Mapping[str, Any]
) -> None:
    (line,) = re.findall(rf"^\| `{row}` \|.*$", parts("settings.md")[heading], flags=re.MULTILINE)
    assert not [name for name in names if name not in line]


METHODS: Mapping[str, Iterable[str]] = {
    "Mixers": MIXERS,
    "Losses of a stage": (*schema.LOSSES["funnel"], *schema.LOSSES["value"]),
    "Losses of a profile": schema.LOSSES["profile"],
    "Balancers": BALANCERS,
    "Sampling": SAMPLINGS,
    "Calibration": CALIBRATIONS,
    "Federated rules": RULES,
}


@pytest.mark.parametrize("heading", METHODS)
def test_every_method_has_a_row_with_its_file_and_its_test(heading: str) -> None:
    """That the links lead somewhere is tested for all pages."""
    section = parts("methods.md")[heading]
    found = re.findall(
        r"^\| \[`(\w+)`\]\(\.\./daogou/\S+\) \(\[test\]\(\.\./tests/\S+\)\) \| ", section, re.M
    )
    assert sorted(found) == sorted(METHODS[heading])


def test_every_command_has_a_section_and_no_other_has() -> None:
    documented = [name.removeprefix("daogou ") for name in parts("commands.md")][1:]
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_flags_are_those_of_its_section(name: str) -> None:
    section = parts("commands.md")[f"daogou {name}"]
    usage = section.split("```")[1]
    flags = {
        option
        for parameter in COMMANDS[name].params
        for option in [*parameter.opts, *parameter.secondary_opts]
        if option.startswith("-") and option != "--help"
    }
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage)) == flags


@pytest.mark.parametrize(("name", "known"), [("simulate", PRESETS), ("import", IMPORTERS)])
def test_what_a_command_can_be_given_is_listed(name: str, known: Mapping[str, Any]) -> None:
    section = parts("commands.md")[f"daogou {name}"]
    assert not [each for each in known if f"`{each}`" not in section]


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_public_shop_has_its_row_with_a_command_and_its_section(name: str) -> None:
    sections = parts("public.md")
    row = next(
        line for line in sections["Public shops"].splitlines() if line.startswith(f"| [`{name}`]")
    )
    assert f"`daogou import {name} " in row
    assert sections[name].strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


READMES = ("README.md", "README.zh-CN.md")


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_shows_the_ten_lines_that_are_run(readme: str) -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / readme).read_text("utf-8"), flags=re.DOTALL
    )
    code = (ROOT / "examples" / "ten_lines.py").read_text("utf-8")
    assert code.split("\n\n", 1)[1] == block  # the file has a docstring before


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_names_only_commands_that_are_there(readme: str) -> None:
    called = re.findall(r"^daogou ([a-z]+)", (ROOT / readme).read_text("utf-8"), flags=re.MULTILINE)
    assert called
    assert set(called) <= set(COMMANDS)


def test_both_readmes_run_the_same_commands_and_show_the_same_numbers() -> None:
    """But for the language that answers are asked in."""
    shown = []
    for readme in READMES:
        text = (ROOT / readme).read_text("utf-8")
        calls = re.findall(r"^daogou [^#\n]+", text, flags=re.MULTILINE)
        table = re.findall(r"^\|.*\|$", text, flags=re.MULTILINE)[2:]
        numbers = [sorted(re.findall(r"\.\d{3,}", line)) for line in table]
        shown.append(([" ".join(call.replace("--lang zh", "").split()) for call in calls], numbers))
    assert shown[0] == shown[1]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a language on a page."""
    found: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return found


def calls(page: Path) -> list[list[str]]:
    """The words of each call of daogou in a page's shell blocks, lines that go on joined."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("daogou ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_call_commands_with_flags_that_are_there(page: Path) -> None:
    for name, *words in calls(page):
        assert name in COMMANDS, name
        known = {
            option
            for parameter in COMMANDS[name].params
            for option in [*parameter.opts, *parameter.secondary_opts]
        }
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= known | {"--help"}, (name, given - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_and_python_blocks_can_be_read(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("name", ["made", "own"])
def test_a_tutorial_says_the_same_in_chinese(name: str) -> None:
    """Commands but for the language asked for, programs but for their comments."""
    folder = ROOT / "docs" / "tutorials"
    both = [folder / f"{name}.md", folder / f"{name}.zh.md"]
    said = [
        [[word for word in call if word not in ("--lang", "zh", "en")] for call in calls(page)]
        for page in both
    ]
    assert said[0] == said[1]
    code = [re.sub(r"^ *#.*\n", "", "".join(blocks(page, "python")), flags=re.M) for page in both]
    assert code[0] == code[1]


def test_every_page_has_a_place_in_the_site_s_menu() -> None:
    """`make docs` says so too, where MkDocs is installed."""
    named = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), flags=re.M))
    folder = ROOT / "docs"
    assert named == {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")}


def test_links_out_of_the_docs_are_words_in_the_site_and_others_stay() -> None:
    loader = importlib.machinery.SourceFileLoader("site_links", str(ROOT / "scripts/site_links.py"))
    spec = importlib.util.spec_from_loader("site_links", loader)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    loader.exec_module(made)
    for page, text, wanted in (
        ("methods.md", "[`ple`](../daogou/ple.py)", '<span title="daogou/ple.py">`ple`</span>'),
        ("howto/tune.md", "[x](../../tests/a.py)", '<span title="tests/a.py">x</span>'),
        ("howto/tune.md", "[x](../faq.md#a)", "[x](../faq.md#a)"),
        ("index.md", "![x](pictures/a.svg) [y](https://z)", "![x](pictures/a.svg) [y](https://z)"),
    ):
        of = SimpleNamespace(file=SimpleNamespace(src_uri=page))
        assert made.on_page_markdown(text, of) == wanted


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_drawn_from_the_tables_that_the_pages_show(name: str) -> None:
    kept = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text("utf-8")
    assert figures.standalone(figures.FIGURES[name]()) == kept  # python benchmarks/figures.py
    ElementTree.fromstring(kept)
