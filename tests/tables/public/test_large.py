"""What holds of every public data set that comes in gigabytes, on a few rows of its format."""

from collections.abc import Callable
from pathlib import Path

import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.learn.fit import fit
from daogou.tables import Engine, prepare
from daogou.tables.check import check
from daogou.tables.public import IMPORTERS, import_shop
from tests.tables.public.files import FILES

TINY = ("fit.epochs=1", "fit.rows_per_step=256", "fit.history_length=10", "fit.extra_items=8")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A data set's shops, imported once from its made rows."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            source = tmp_path_factory.mktemp("source")
            FILES[name](source)
            made[name] = tmp_path_factory.mktemp("shops") / name
            import_shop(name, source, made[name])
        return made[name]

    return folder


def shops(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("shop.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES))
def test_its_shops_are_named_seeded_commented_and_pass_every_check(
    name: str, imported: Callable[[str], Path]
) -> None:
    folder = imported(name)
    assert folder in shops(folder)
    for each in shops(folder):
        shop = read_shop(each)
        assert (shop.name.startswith(name), shop.seed) == (True, 0)
        assert (each / "shop.toml").read_text(encoding="utf-8").startswith("# ")
        with Engine() as engine:
            counts = prepare(engine, shop)
            failed = [found for found in check(engine, shop, counts) if found.level == "FAIL"]
        assert not failed
        assert min(counts.split.exposures.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FILES))
def test_its_shops_fit(name: str, imported: Callable[[str], Path], tmp_path: Path) -> None:
    for number, each in enumerate(shops(imported(name))):
        done = fit(read_shop(each, TINY), tmp_path / str(number))
        assert done["epochs"] == 1
        assert all(told["loss"] > 0 for told in done["validation"].values())


@pytest.mark.parametrize("name", sorted(FILES))
def test_progress_is_told_in_rows_and_ends_at_its_total(name: str, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    FILES[name](tmp_path)
    IMPORTERS[name](tmp_path, tmp_path / "out", lambda *said: told.append(said[:3]))
    assert told
    assert {what for what, _, _ in told} == {"rows"}
    assert all(done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2] > 0


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_of_another_kind_is_refused_with_what_it_is_and_where_to_get_it(
    name: str, tmp_path: Path
) -> None:
    FILES[name](tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"neither this nor that\n")
    with pytest.raises(DataError, match=r"first line should be .*'neither this.*get the file from"):
        import_shop(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
