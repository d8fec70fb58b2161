from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import DataError
from daogou.tables import Engine, prepare
from daogou.tables.public.movielens import import_movielens
from tests.tables.public.files import movielens

SECONDS = 978_300_760


def text(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


def rows(folder: Path, table: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(folder / f"{table}.parquet").to_pylist()
    return found


def test_four_stars_are_liked_and_five_are_loved_as_well(tmp_path: Path) -> None:
    stars = ("0.5", "3.5", "4.0", "4.5", "5.0")
    ratings = [f"1,{film},{star},{SECONDS + film}" for film, star in enumerate(stars)]
    text(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp", *ratings)
    text(tmp_path / "movies.csv", "movieId,title,genres", '1,"Rose, The (1995)",Drama|War')
    counts = import_movielens(tmp_path, tmp_path / "out")
    assert counts == {"films": 1, "users": 1, "rated": 5, "liked": 3, "loved": 1}
    found = [(row["item_id"], row["kind"]) for row in rows(tmp_path / "out", "events")]
    assert [kind for film, kind in found if film == 4] == ["rated", "liked", "loved"]
    assert [kind for film, kind in found if film == 3] == ["rated", "liked"]
    assert rows(tmp_path / "out", "items") == [
        {"item_id": 1, "title": "Rose, The (1995)", "genres": "Drama|War", "year": 1995}
    ]
    assert read_shop(tmp_path / "out").users is None


def test_a_low_rating_is_history_and_no_label(tmp_path: Path) -> None:
    movielens(tmp_path)
    import_movielens(tmp_path, tmp_path / "out")
    with Engine() as engine:
        counts = prepare(engine, read_shop(tmp_path / "out"))
        liked, known = engine.rows("SELECT sum(label_liked), count(label_liked) FROM exposures")[0]
        rated = engine.value("SELECT count(*) FROM history WHERE action = 'rated'")
    assert counts.funnel.uncredited == {"liked": 0, "loved": 0}
    assert counts.funnel.implied == {"liked": 0, "loved": 0}
    assert 0.3 < liked / known < 0.5
    assert rated == 600


def test_the_million_is_latin_1_with_its_codes_in_words(tmp_path: Path) -> None:
    text(tmp_path / "ratings.dat", f"1::1193::5::{SECONDS}", f"2::7::1::{SECONDS}")
    film = "1193::Cité des enfants perdus, La (1995)::Drama"
    text(tmp_path / "movies.dat", film, '7::"Odd"::War', encoding="latin-1")
    text(tmp_path / "users.dat", "1::F::1::10::48067", "2::M::56::0::70072-1")
    import_movielens(tmp_path, tmp_path / "out")
    first, second = rows(tmp_path / "out", "items")
    assert (first["title"], first["year"]) == ('"Odd"', None)
    assert second["title"] == "Cité des enfants perdus, La (1995)"
    assert rows(tmp_path / "out", "users") == [
        {"user_id": 1, "gender": "F", "age": "under 18", "occupation": "K-12 student"},
        {"user_id": 2, "gender": "M", "age": "56+", "occupation": "other"},
    ]
    assert read_shop(tmp_path / "out").task("profile.age").loss == "ordinal"


def test_ten_millions_are_utf_8_and_have_no_users(tmp_path: Path) -> None:
    text(tmp_path / "ratings.dat", f"1::122::4.5::{SECONDS}")
    text(tmp_path / "movies.dat", "122::Amélie (2001)::Comedy|Romance")
    counts = import_movielens(tmp_path, tmp_path / "out")
    assert (counts["liked"], counts["loved"]) == (1, 0)
    assert rows(tmp_path / "out", "items")[0]["title"] == "Amélie (2001)"
    assert not (tmp_path / "out" / "users.parquet").exists()


def test_the_hundred_thousand_has_genres_as_flags_and_ages_as_numbers(tmp_path: Path) -> None:
    text(tmp_path / "u.data", f"196\t242\t3\t{SECONDS}", f"186\t242\t5\t{SECONDS}")
    flags = ["1" if n in (1, 16) else "0" for n in range(19)]
    film = "|".join(["242", "Kolya (1996)", "24-Jan-1997", "", "http://x", *flags])
    text(tmp_path / "u.item", film, encoding="latin-1")
    text(tmp_path / "u.user", "186|17|M|student|1", "196|49|F|writer|55105")
    import_movielens(tmp_path, tmp_path / "out")
    assert rows(tmp_path / "out", "items") == [
        {"item_id": 242, "title": "Kolya (1996)", "genres": "Action|Thriller", "year": 1996}
    ]
    assert [tuple(row.values()) for row in rows(tmp_path / "out", "users")] == [
        (186, "M", "under 18", "student"),
        (196, "F", "45-49", "writer"),
    ]


def test_films_that_are_missing_are_named(tmp_path: Path) -> None:
    text(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp", f"1,1,4,{SECONDS}")
    with pytest.raises(DataError, match=r"movies\.csv.*grouplens"):
        import_movielens(tmp_path, tmp_path / "out")


def test_a_rating_that_is_no_number_is_refused_with_its_file(tmp_path: Path) -> None:
    movielens(tmp_path)
    text(tmp_path / "ratings.dat", f"1::1::four::{SECONDS}")
    with pytest.raises(DataError, match=r"(?s)ratings\.dat: not the expected ratings.*four"):
        import_movielens(tmp_path, tmp_path / "out")
