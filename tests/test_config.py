"""TOML to a shop: types, overrides, spellings, and every message once."""

from pathlib import Path
from typing import Any

import pytest

from daogou.config import arguments, make, read_shop, shop_of
from daogou.errors import ConfigError
from daogou.schema import Events, Items, Split
from tests.shops import TOML

LOG = """
[events]
path = "e.parquet"
user = "u"
item = "i"
time = "t"
kind = "k"
funnel = ["shown", "click", "buy"]
"""
FULL = (
    LOG
    + """
[users]
path = "u.parquet"
key = "u"
profile = ["gender", "age band"]
"""
)


def written(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "shop.toml"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_file_and_its_folder_give_the_same_shop(tmp_path: Path) -> None:
    path = written(tmp_path, TOML)
    shop = read_shop(path)
    assert shop == read_shop(tmp_path) == read_shop(str(tmp_path))
    assert (shop.name, shop.seed, shop.root) == ("tiny", 7, tmp_path)
    assert shop.items is not None and shop.items.text == ("title",)
    assert shop.events is not None and shop.events.stages == ("click", "buy")
    assert [task.name for task in shop.tasks] == [
        *("click", "buy", "match", "profile.gender", "extract")
    ]


def test_a_shop_without_a_name_is_called_after_its_folder(tmp_path: Path) -> None:
    assert read_shop(written(tmp_path, LOG)).name == tmp_path.name
    assert shop_of({"items": {"path": "i", "key": "k"}}, Path()).name == "shop"


def test_a_mark_at_the_start_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, LOG.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert read_shop(path).events == read_shop(written(tmp_path, LOG)).events


def test_the_sections_for_model_and_fit_are_kept_as_they_are() -> None:
    document = {"items": {"path": "i", "key": "k"}, "model": {"width": 8}, "fit": {"epochs": 2}}
    shop = shop_of(document, Path())
    assert (shop.model, shop.fit, shop.document) == ({"width": 8}, {"epochs": 2}, document)


# ---- types ------------------------------------------------------------------------------


def test_a_whole_number_is_taken_where_any_number_is_wanted() -> None:
    events = make("events", Events, {"path": "e", "window_h": {"buy": 2}})
    assert events.window_h == {"buy": 2.0}
    assert isinstance(events.window_h["buy"], float)
    assert make("split", Split, {"test": 0}).test == 0.0


@pytest.mark.parametrize(
    ("maker", "table", "message"),
    [
        (Items, {"path": 3, "key": "k"}, r"^x\.path: text is wanted, found 3$"),
        (Items, {"path": "i", "key": "k", "spans": 1}, r"^x\.spans: text is wanted, found 1$"),
        (Items, {"path": "i", "key": "k", "text": "title"}, r"x\.text: a list is wanted, found 't"),
        (Items, {"path": "i", "key": "k", "text": ["a", 2]}, r"x\.text\[1\]: text is wanted, fou"),
        (Items, {"path": "i"}, r"^x\.key: missing, and there is no default$"),
        (Items, {"path": "i", "key": "k", "colums": []}, r"x\.colums: .*did you mean 'columns'"),
        (Items, ["path"], r"^x: a table is wanted, found \['path'\]$"),
        (Split, {"folds": 2.5}, r"^x\.folds: a whole number is wanted, found 2\.5$"),
        (Split, {"folds": True}, r"^x\.folds: a whole number is wanted, found True$"),
        (Split, {"test": "0.1"}, r"^x\.test: a number is wanted, found '0\.1'$"),
        (Split, {"test": True}, r"^x\.test: a number is wanted, found True$"),
        (Events, {"path": "e", "window_h": 3}, r"^x\.window_h: a table is wanted, found 3$"),
        (Events, {"path": "e", "window_h": {"buy": "1"}}, r"x\.window_h\.buy: a number is wanted"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(maker: Any, table: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("x", maker, table)


def cook(heat: float, *, minutes: int = 5, lid: bool = True, note: str | None = None) -> None:
    """Something with a signature."""


def test_the_legal_keys_are_the_parameters_of_the_maker() -> None:
    assert arguments("pan", cook, {"heat": 3, "lid": False}) == {"heat": 3.0, "lid": False}
    with pytest.raises(ConfigError, match=r"pan\.minuts: .*did you mean 'minutes'"):
        arguments("pan", cook, {"heat": 1.0, "minuts": 3})
    with pytest.raises(ConfigError, match=r"pan\.lid: true or false is wanted, found 1"):
        arguments("pan", cook, {"heat": 1.0, "lid": 1})


def test_what_comes_from_elsewhere_is_neither_wanted_nor_taken() -> None:
    assert arguments("pan", cook, {"minutes": 1}, given=["heat"]) == {"minutes": 1}
    with pytest.raises(ConfigError, match=r"pan\.heat: no 'heat' here"):
        arguments("pan", cook, {"heat": 1.0}, given=["heat"])


# ---- whole documents --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LOG + "[evnts]\n", r"evnts: no 'evnts' here \(did you mean 'events'\?\)"),
        ("seed = 'x'\n" + LOG, r"seed: a whole number is wanted, found 'x'"),
        ("seed = true\n" + LOG, r"seed: a whole number is wanted, found True"),
        ("seed = -1\n" + LOG, r"seed: -1 is negative; give 0 or more"),
        ("name = 3\n" + LOG, r"name: text is wanted, found 3"),
        ("fit = 3\n" + LOG, r"fit: a table is wanted, found 3"),
        ("model = []\n" + LOG, r"model: a table is wanted, found \[\]"),
        ("tasks = 3\n" + LOG, r"tasks: a table is wanted, found 3"),
        (LOG + "[tasks]\nclick = 3\n", r"tasks\.click: a table is wanted, found 3"),
        (LOG + "[tasks.click]\nwieght = 1\n", r"tasks\.click\.wieght: .*did you mean 'weight'"),
        (LOG + "[tasks.clik]\n", r"tasks\.clik: no 'clik' here \(did you mean 'click'\?\)"),
        (LOG + "[truth]\n", r"truth\.path: missing, and there is no default"),
        ("", r"no table: give at least one of"),
        (LOG + "[users]\npath = 1\n", r"users\.key: missing"),
    ],
)
def test_a_wrong_document_is_refused_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_shop(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).split("\n"))


def test_all_problems_of_a_document_are_reported_at_once(tmp_path: Path) -> None:
    text = """
    seed = "x"
    [items]
    kye = "k"
    [split]
    folds = "five"
    [tasks.click]
    weigth = 1
    """
    with pytest.raises(ConfigError) as caught:
        read_shop(written(tmp_path, text))
    found = str(caught.value)
    for part in ("items.kye", "items.path", "items.key: missing", "split.folds", "seed"):
        assert part in found
    assert "tasks.click.weigth: no 'weigth' here (did you mean 'weight'?)" in found
    assert len(found.split("\n")) == 6


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop\.toml: no such file; `daogou new DIR` writes one"):
        read_shop(tmp_path)


def test_a_file_in_another_encoding_says_where(tmp_path: Path) -> None:
    path = written(tmp_path, "# 店\n" + LOG, encoding="gb18030")
    with pytest.raises(ConfigError, match=r"shop\.toml: not UTF-8 \(.* at byte 2\)"):
        read_shop(path)


def test_a_file_that_is_not_toml_says_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop\.toml: not valid TOML: .*line 2"):
        read_shop(written(tmp_path, "[items]\npath = items.parquet\n"))


# ---- tasks of a profile -----------------------------------------------------------------


@pytest.mark.parametrize("section", ["[tasks.profile.gender]", '[tasks."profile.gender"]'])
def test_both_spellings_name_the_same_profile_task(tmp_path: Path, section: str) -> None:
    path = written(tmp_path, f"{FULL}{section}\nweight = 0.7\n")
    shop = read_shop(path)
    assert shop.task("profile.gender").weight == 0.7
    assert shop.task("profile.age band").weight == 0.1
    changed = read_shop(path, ["tasks.profile.gender.enabled=false"])
    assert "profile.gender" not in [task.name for task in changed.tasks]


def test_an_override_leaves_the_other_settings_of_the_task(tmp_path: Path) -> None:
    path = written(tmp_path, FULL + "[tasks.profile.gender]\nweight = 0.7\n")
    shop = read_shop(path, ["tasks.profile.gender.enabled=true"])
    assert shop.task("profile.gender").weight == 0.7
    shop = read_shop(path, ["tasks.profile.gender.weight=0.2"])
    assert shop.task("profile.gender").weight == 0.2


def test_a_setting_of_all_profiles_is_refused_and_not_ignored(tmp_path: Path) -> None:
    path = written(tmp_path, FULL + "[tasks.profile]\nweight = 0.7\n")
    with pytest.raises(ConfigError, match=r"tasks\.profile: no 'profile' here \(did you mean"):
        read_shop(path)


def test_a_profile_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, FULL + "[tasks.profile.gendre]\n")
    with pytest.raises(ConfigError, match=r"tasks\.profile\.gendre: .*did you mean 'profile\.gen"):
        read_shop(path)


# ---- overrides --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("fit.x=3", 3),
        ("fit.x=3.0", 3.0),
        ("fit.x=true", True),
        ("fit.x=mean", "mean"),
        ("fit.x='3'", "3"),
        ("fit.x=[1, 2]", [1, 2]),
        ("fit.x={a = 1}", {"a": 1}),
        ("fit.x=a=b", "a=b"),
        ("fit.x=", ""),
        (" fit.x = 3", 3),
    ],
)
def test_an_override_is_read_as_toml_and_else_as_text(
    tmp_path: Path, override: str, value: object
) -> None:
    found = read_shop(written(tmp_path, LOG), [override]).fit["x"]
    assert found == value and type(found) is type(value)


def test_overrides_reach_every_section_and_the_last_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path, FULL)
    given = [
        *("seed=1", "seed=2", "split.folds=7", "events.window_h.buy=48", "tasks.buy.weight=3"),
        'tasks."profile.age band".weight=0.5',
        "users.columns=['city']",
    ]
    shop = read_shop(path, given)
    assert (shop.seed, shop.split.folds) == (2, 7)
    assert shop.events is not None and shop.events.window_of("buy") == 48.0
    assert shop.task("buy").weight == 3.0
    assert shop.task("profile.age band").weight == 0.5
    assert shop.users is not None and shop.users.columns == ("city",)


def test_an_override_of_a_column_in_chinese_needs_no_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, FULL.replace('"gender"', '"性别"'))
    assert read_shop(path, ["tasks.profile.性别.weight=0.9"]).task("profile.性别").weight == 0.9


@pytest.mark.parametrize("override", ["fit.epochs", "=3", "", " =3"])
def test_an_override_without_a_key_or_a_value_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"--set '.*': write it as key=value, e\.g\. fit\.epochs"):
        read_shop(written(tmp_path, LOG), [override])


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "seed = 3\n" + LOG)
    with pytest.raises(ConfigError, match=r"--set 'seed\.x=3': seed is a value, not a table"):
        read_shop(path, ["seed.x=3"])


def test_a_misspelt_override_is_refused_like_a_misspelt_line(tmp_path: Path) -> None:
    path = written(tmp_path, LOG)
    with pytest.raises(ConfigError, match=r"split\.validaton: .*did you mean 'validation'"):
        read_shop(path, ["split.validaton=0.2"])
    with pytest.raises(ConfigError, match=r"modle: no 'modle' here \(did you mean 'model'\?\)"):
        read_shop(path, ["modle.width=3"])


def test_what_was_overridden_is_in_the_document_that_a_run_keeps(tmp_path: Path) -> None:
    shop = read_shop(written(tmp_path, FULL), ["tasks.profile.gender.weight=0.6", "seed=9"])
    again = shop_of(shop.document, shop.root)
    assert again == shop
    assert (again.seed, again.task("profile.gender").weight) == (9, 0.6)
