"""Checks of what labels and amounts came of a log, by task and split."""

from collections.abc import Iterable

from daogou.schema import Shop, Task
from daogou.tables import Counts
from daogou.tables.checks.finding import Finding
from daogou.tables.engine import Engine, name_of


def _labels(engine: Engine, shop: Shop) -> Iterable[tuple[str, str | None, str, int, int]]:
    """Task, ``given``, split, labels known and labels of 1, for each funnel task and split."""
    tasks = [task for task in shop.of_family("funnel") if not task.is_value]
    names = list(dict.fromkeys(name for task in tasks for name in (task.name, task.given) if name))
    if not names:
        return
    columns = ", ".join(name_of(f"label_{name}") for name in names)
    rows = engine.rows(f"SELECT split, count(*), {columns} FROM exposures GROUP BY ALL")
    found: dict[tuple[str, str], list[int]] = {}
    for task in tasks:
        for split, n, *values in sorted(rows, key=lambda row: row[0]):
            label = dict(zip(names, values, strict=True))
            if task.given is None or label[task.given] == 1:
                count = found.setdefault((task.name, split), [0, 0])
                count[0] += n * (label[task.name] is not None)
                count[1] += n * (label[task.name] == 1)
    given = {task.name: task.given for task in tasks}
    for (name, split), (known, ones) in found.items():
        yield name, given[name], split, known, ones


def _where(given: str | None) -> str:
    return f" of the exposures with {given}" if given else ""


def one_class_label(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Labels that are all 0 or all 1 in a split."""
    for name, given, split, known, ones in _labels(engine, shop):
        if known and ones in (0, known):
            yield Finding(
                "one_class_label",
                "FAIL" if split == "train" else "WARN",
                known,
                (f"{name} {split}",),
                f"all {known} known {name} labels{_where(given)} in {split} are "
                f"{min(ones, 1)}: nothing can be learnt or measured; check the kind's spelling "
                "and window, give more data, or set "
                f"[tasks.{name}] enabled = false",
            )


def all_labels_missing(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    # A split where the earlier stage never happened has no row in `_labels` either.
    """Splits in which a task has no label."""
    known_in = {(name, split): known for name, _, split, known, _ in _labels(engine, shop)}
    for task in (task for task in shop.of_family("funnel") if not task.is_value):
        for split, n_rows in counts.split.exposures.items():
            if n_rows and not known_in.get((task.name, split)):
                yield Finding(
                    "all_labels_missing",
                    "FAIL" if split == "train" else "WARN",
                    n_rows,
                    (f"{task.name} {split}",),
                    f"no {task.name} label{_where(task.given)} is known in {split}: its window is "
                    f"longer than the split; shorten events.window_h.{task.name} or take more days",
                )


def no_values(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Splits in which no amount is known."""
    for task, split, known, above in _values(engine, shop):
        if not above:
            yield Finding(
                "no_values",
                "FAIL" if split == "train" else "WARN",
                known,
                (f"{task.name} {split}",),
                f"no {task.name} above 0{_where(task.given)} is known in {split}: nothing can be "
                "learnt or measured; check the column that events.value names, or take it out",
            )


def zero_values(engine: Engine, shop: Shop, counts: Counts) -> Iterable[Finding]:
    """Amounts that are 0 in all of a split."""
    for task, split, known, above in _values(engine, shop):
        if split == "train" and above < known and task.loss == "lognormal":
            yield Finding(
                "zero_values",
                "WARN",
                known - above,
                (task.name,),
                f"{known - above} of {known} values{_where(task.given)} in train are 0, which "
                f'"lognormal" leaves out, so that it expects too much; '
                f'set [tasks.{task.name}] loss = "zero_inflated"',
            )


def _values(engine: Engine, shop: Shop) -> Iterable[tuple[Task, str, int, int]]:
    """Of the value's task and each split: the values that are known, and those above 0."""
    for task in shop.of_family("funnel"):
        if task.is_value:
            given = f"WHERE {name_of('label_' + task.given)} = 1" if task.given else ""
            found = {
                str(split): (int(known), int(above))
                for split, known, above in engine.rows(
                    "SELECT split, count(value), count(*) FILTER (WHERE value > 0) "
                    f"FROM exposures {given} GROUP BY split"
                )
            }
            sizes = engine.rows("SELECT DISTINCT split FROM exposures ORDER BY split")
            for (split,) in sizes:
                yield task, str(split), *found.get(str(split), (0, 0))
