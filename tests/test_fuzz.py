"""What reads files and requests refuses whatever it is given: a few of the cases of `fuzz.py`."""

import random
import warnings
from pathlib import Path

import fuzz
import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize(("name", "cases"), [("toml", 300), ("run", 60), ("requests", 500)])
def test_a_changed_input_is_read_or_refused(folder: Path, name: str, cases: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of arrays whose head was changed
        told = fuzz.fuzz(fuzz.parser_of(name, folder), cases, seed=1)
    assert told.cases == told.read + told.refused == cases
    assert told.read and told.refused


def test_what_is_unhandled_is_counted_and_kept(tmp_path: Path) -> None:
    def parse(data: bytes) -> None:
        raise ZeroDivisionError

    parser, told = fuzz.Parser([b"a = 1"], parse), fuzz.Told()
    fuzz.one_case(parser, b"x", told, tmp_path / "toml")
    assert (told.unhandled, told.refused) == (1, 0)
    assert (tmp_path / "toml-1.bin").read_bytes() == b"x"
    with pytest.raises(ZeroDivisionError):
        fuzz.one_case(parser, b"x", told, None)


def test_changes_follow_from_the_seed() -> None:
    corpus = [b'{"a": [1, 2]}', b"name = 3"]
    one, other = ([fuzz.changed(each, corpus, random.Random(7)) for each in corpus * 20]
                  for _ in range(2))  # fmt: skip
    assert one == other


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000])
def test_numbers_and_nesting_without_end_are_no_toml(tmp_path: Path, text: str) -> None:
    (tmp_path / "shop.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"shop\.toml: not valid TOML"):
        read_shop(tmp_path)
