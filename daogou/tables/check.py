"""Prepared tables to findings: what would spoil a model, each with a name, a count and examples."""

from collections.abc import Collection
from typing import Final

from daogou.schema import Shop
from daogou.tables import Counts
from daogou.tables.checks.columns import (
    null_text,
    numbers_as_text,
    profile_one_value,
    spans_out_of_text,
    unknown_attribute,
)
from daogou.tables.checks.finding import Check, Finding
from daogou.tables.checks.labels import all_labels_missing, no_values, one_class_label, zero_values
from daogou.tables.checks.leaks import leaky_context, leaky_profile, truth_as_feature
from daogou.tables.checks.log import (
    duplicate_events,
    few_events,
    few_users,
    future_times,
    late_events,
    later_without_earlier,
    orphan_items,
    orphan_users,
    time_order,
    uncredited_events,
    untimed_events,
)
from daogou.tables.engine import Engine


def check(
    engine: Engine, shop: Shop, counts: Counts, only: Collection[str] | None = None
) -> list[Finding]:
    """Every check of `CHECKS`, or those named, on the relations that `prepare` left, in order.

    A check gives one PASS, or one finding per thing that is wrong. ``[truth]`` is not opened.
    """
    found: list[Finding] = []
    for name, look in CHECKS.items():
        if only is not None and name not in only:
            continue
        found += list(look(engine, shop, counts)) or [Finding(name, "PASS", 0, (), "nothing found")]
    return found


CHECKS: Final[dict[str, Check]] = {
    "orphan_users": orphan_users,
    "orphan_items": orphan_items,
    "duplicate_events": duplicate_events,
    "late_events": late_events,
    "untimed_events": untimed_events,
    "time_order": time_order,
    "future_times": future_times,
    "few_events": few_events,
    "few_users": few_users,
    "later_without_earlier": later_without_earlier,
    "uncredited_events": uncredited_events,
    "one_class_label": one_class_label,
    "all_labels_missing": all_labels_missing,
    "no_values": no_values,
    "zero_values": zero_values,
    "profile_column_one_value": profile_one_value,
    "numbers_as_text": numbers_as_text,
    "null_text": null_text,
    "spans_out_of_text": spans_out_of_text,
    "unknown_attribute_in_spans": unknown_attribute,
    "leaky_context": leaky_context,
    "leaky_profile": leaky_profile,
    "truth_column_as_feature": truth_as_feature,
}

# Those that may FAIL, and so stop a fit; none of them compares a user's events with each other.
STOPPING: Final = frozenset(
    [
        "late_events", "future_times", "one_class_label", "all_labels_missing", "no_values",
        "profile_column_one_value", "spans_out_of_text", "unknown_attribute_in_spans",
        "leaky_context", "leaky_profile", "truth_column_as_feature",
    ]
)  # fmt: skip
