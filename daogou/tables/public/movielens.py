"""MovieLens, of any size, to a shop of ratings: what was liked of what was rated.

Source: https://grouplens.org/datasets/movielens (for research; not to be passed on, nor used for
money without leave: each archive's README). One of three forms, each as its README describes it:
``u.data``, ``u.item``, ``u.user`` (100K: tabs and bars, ISO 8859-1); ``ratings.dat``,
``movies.dat`` and, in 1M alone, ``users.dat`` (``::`` between fields; 1M in ISO 8859-1, 10M in
UTF-8); or ``ratings.csv`` and ``movies.csv`` (20M, 25M, 32M, latest; with headers). From 5 MB to
0.9 GB.

* **There are no impressions.** A rating is the exposure, ``liked`` is 4 stars or more and ``loved``
  is 5: what people think of films they chose to rate, and not which they would choose. A rating
  enters the history, so what was rated low is known too.
* The splits are by time. People rate many films in one sitting, often at the same second, and few
  come back, so most users of the test are new.
* ``gender``, ``age`` (in the bands of 1M) and ``occupation`` are what profiling predicts, in 100K
  and 1M.
* Titles are read as text; the year in their brackets and the genres are inputs.

Left out: tags (written later than most ratings), links, zip codes, dates of release on video.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from daogou.errors import DataError
from daogou.tables.engine import name_of, quoted
from daogou.tables.public.folder import (
    RATINGS_TOML,
    Report,
    about_lines,
    csv_rows,
    engine_in,
    find_source,
    folder_of,
    kinds_of,
    n_different,
    rating_log,
    reading,
    say_nothing,
    stream_parquet,
    write_parquet,
    write_toml,
)

_HOME = "https://grouplens.org/datasets/movielens, unpacked"
_RATING: Final = {
    "user_id": "BIGINT",
    "item_id": "BIGINT",
    "rating": "DOUBLE",
    "seconds": "BIGINT",
}
_MOVIE: Final = {"item_id": "BIGINT", "title": "VARCHAR", "genres": "VARCHAR"}
_USER: Final = {
    "user_id": "BIGINT",
    "gender": "VARCHAR",
    "age": "BIGINT",
    "occupation": "VARCHAR",
    "zip": "VARCHAR",
}
_GENRES: Final = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_OCCUPATIONS: Final = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
# The least age of each band, which is also the code that stands for it in 1M.
_BANDS: Final = {
    18: "18-24",
    25: "25-34",
    35: "35-44",
    45: "45-49",
    50: "50-55",
    56: "56+",
}

_TOML = """\
# MovieLens: what was liked of what was rated. No impressions.
name = "movielens"
seed = 0

[items]
path = "items.parquet"
key = "item_id"
text = ["title"]
columns = ["year", "genres"]

"""
_USERS_TOML = """\
[users]
path = "users.parquet"
key = "user_id"
profile = ["gender", "age", "occupation"]

"""
_ORDER_TOML = """
# Bands, which have an order.
[tasks.profile]
age = { loss = "ordinal" }
"""


def import_movielens(path: Path, out: Path, report: Report = say_nothing) -> dict[str, int]:
    """Write the ratings in folder ``path`` as a shop in ``out``; returns ratings and films.

    Raises `DataError` if a file is missing or not as expected.
    """
    folder = folder_of(path)
    ratings, movies, users = _sources(folder)
    with engine_in(out) as engine:
        events = out / "events.parquet"
        source, rows = ratings
        with reading(source, "ratings"):
            stream_parquet(
                engine,
                rating_log(
                    "(SELECT user_id, item_id, rating, make_timestamp(seconds * 1000000) AS time "
                    f"FROM {rows})"
                ),
                events,
                report,
                about_lines(source) * 2,
            )
        source, rows = movies
        with reading(source, "films"):
            counts = {
                "films": write_parquet(
                    engine,
                    "SELECT item_id, title, genres, try_cast(nullif(regexp_extract(title, "
                    "'\\((\\d{4})\\)\\s*$', 1), '') AS INTEGER) AS year "
                    f"FROM {rows} ORDER BY item_id",
                    out / "items.parquet",
                )
            }
        if users:
            source, rows = users
            with reading(source, "users"):
                write_parquet(engine, f"FROM {rows} ORDER BY user_id", out / "users.parquet")
        counts["users"] = n_different(engine, events, "user_id")
        counts |= kinds_of(engine, events, ("rated", "liked", "loved"), ratings[0], "rating")
    text = _TOML + (_USERS_TOML if users else "") + RATINGS_TOML + (_ORDER_TOML if users else "")
    write_toml(out, text)
    return counts


_Source = tuple[Path, str]  # a file, and SQL for its rows


def _sources(folder: Path) -> tuple[_Source, _Source, _Source | None]:
    """Ratings, films and users of whichever form the folder has."""
    if (folder / "ratings.csv").is_file():
        ratings = _csv(
            folder / "ratings.csv", _RATING, ("userId", "movieId", "rating", "timestamp")
        )
        return ratings, _csv(folder / "movies.csv", _MOVIE, ("movieId", "title", "genres")), None
    if (folder / "ratings.dat").is_file():
        first = find_source(folder / "ratings.dat", (), _HOME)
        users = folder / "users.dat"
        encoding = "latin-1" if users.is_file() else "utf-8"
        told = _dat(users, _USER, encoding) if users.is_file() else None
        return (
            _dat(first, _RATING, encoding),
            _dat(folder / "movies.dat", _MOVIE, encoding),
            (users, _people(told[1], coded=True)) if told else None,
        )
    if (folder / "u.data").is_file():
        return _of_100k(folder)
    raise DataError(
        f"{folder}: looked for ratings.csv, ratings.dat or u.data and found none; get it from "
        f"{_HOME}"
    )


def _csv(path: Path, columns: Mapping[str, str], names: tuple[str, ...]) -> _Source:
    source = find_source(path, (), _HOME)
    types = dict(zip(names, columns.values(), strict=True))
    renamed = ", ".join(
        f"{name_of(name)} AS {ours}" for name, ours in zip(names, columns, strict=True)
    )
    return source, f"(SELECT {renamed} FROM {csv_rows(source, types, _HOME)})"


def _dat(path: Path, columns: Mapping[str, str], encoding: str) -> _Source:
    source = find_source(path, (), _HOME)
    return source, csv_rows(
        source, columns, _HOME, header=False, delim="::", quote="", encoding=encoding
    )


def _of_100k(folder: Path) -> tuple[_Source, _Source, _Source | None]:
    ratings, movies, users = (
        find_source(folder / name, (), _HOME) for name in ("u.data", "u.item", "u.user")
    )
    flags = [f"genre_{n}" for n in range(len(_GENRES))]
    texts = ("title", "released", "released_on_video", "url", *flags)
    films = csv_rows(
        movies,
        {"item_id": "BIGINT", **dict.fromkeys(texts, "VARCHAR")},
        _HOME,
        header=False,
        delim="|",
        quote="",
        encoding="latin-1",
    )
    named = ", ".join(
        f"CASE WHEN {flag} = '1' THEN {quoted(genre)} END"
        for flag, genre in zip(flags, _GENRES, strict=True)
    )
    order = ("user_id", "age", "gender", "occupation", "zip")
    told = csv_rows(
        users, {name: _USER[name] for name in order}, _HOME, header=False, delim="|", quote=""
    )
    return (
        (ratings, csv_rows(ratings, _RATING, _HOME, header=False, delim="\t", quote="")),
        (movies, f"(SELECT item_id, title, concat_ws('|', {named}) AS genres FROM {films})"),
        (users, _people(told, coded=False)),
    )


def _people(rows: str, *, coded: bool) -> str:
    """SQL of users with the age in bands and, where it is ``coded``, the occupation in words."""
    bands = " ".join(
        f"WHEN age >= {least} THEN {quoted(band)}"
        for least, band in sorted(_BANDS.items(), reverse=True)
    )
    words = " ".join(f"WHEN '{n}' THEN {quoted(word)}" for n, word in enumerate(_OCCUPATIONS))
    work = f"CASE occupation {words} END" if coded else "occupation"
    return (
        f"(SELECT user_id, gender, CASE {bands} WHEN age IS NOT NULL THEN 'under 18' END AS age, "
        f"{work} AS occupation FROM {rows})"
    )
