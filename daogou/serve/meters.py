"""What a server counts, for Prometheus."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from daogou.serve.lineup import Lineup

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
log = logging.getLogger("daogou.serve")

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meters:
    """The counters of one server, in a registry of their own.

    ``shared`` is the folder where the processes of one server count together; None = one process.
    """

    def __init__(self, shared: str | None = None) -> None:
        self.registry = CollectorRegistry()
        self._shared, self._asked = shared, list[Collector]()
        self.requests = Histogram(
            "daogou_request_seconds", "Time of a request, by route.",
            ("method", "route", "status"), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.answers = Histogram(
            "daogou_answer_seconds", "Time of an answer in its thread, the store's part among it.",
            ("kind",), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.events = Counter(
            "daogou_events", "Rows sent as events, by what became of them.",
            ("outcome",), registry=self.registry,
        )  # fmt: skip
        self.degraded = Counter(
            "daogou_degraded", "Answers from less than the model and the store.",
            ("cause",), registry=self.registry,
        )  # fmt: skip
        self.reloads = Counter(
            "daogou_reloads", "Runs asked for, by what became of it.",
            ("outcome",), registry=self.registry,
        )  # fmt: skip
        self.shown = Counter(
            "daogou_shown", "Answers that showed products, by the run that gave them.",
            ("variant",), registry=self.registry,
        )  # fmt: skip
        self.shadow = Counter(
            "daogou_shadow", "Questions to the run in the shadow, by what became of them.",
            ("kind", "outcome"), registry=self.registry,
        )  # fmt: skip
        self.shadow_overlap = Summary(
            "daogou_shadow_overlap", "Share of the shown products that the shadow has too.",
            ("kind",), registry=self.registry,
        )  # fmt: skip
        self.shadow_difference = Summary(
            "daogou_shadow_score_difference", "Mean absolute difference of both runs' scores.",
            ("kind",), registry=self.registry,
        )  # fmt: skip

    def watch(self, lineup: Callable[[], Lineup]) -> None:
        """Tell the runs that answer with every scrape."""
        self._asked.append(_Runs(lineup))

    def count_rows(self, counts: Callable[[], Mapping[str, int] | None]) -> None:
        """Tell the store's rows with every scrape; ``counts`` gives None while it is away."""
        self._asked.append(_Rows(counts))

    def degrade(self, cause: str, error: BaseException) -> None:
        """Count and log that an answer is made from less than it should be."""
        self.degraded.labels(cause).inc()
        log.warning("degraded: %s: %s: %s", cause, type(error).__name__, error)

    def page(self) -> bytes:
        """All of it in Prometheus' text form; of several processes the sums."""
        counted = self.registry
        if self._shared is not None:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, path=self._shared)  # type: ignore[no-untyped-call]
        told = CollectorRegistry()
        for each in self._asked:
            told.register(each)
        return generate_latest(counted) + generate_latest(told)


class _Runs(Collector):
    def __init__(self, lineup: Callable[[], Lineup]) -> None:
        self._lineup = lineup

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # so that registering asks nothing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        lineup = self._lineup()
        info = GaugeMetricFamily(
            "daogou_model_info", "The runs that answer; always 1.",
            labels=["run", "digest", "role"],
        )  # fmt: skip
        share = GaugeMetricFamily(
            "daogou_model_share", "Of the users whom a run answers.", labels=["variant"]
        )
        for each in lineup.described():
            info.add_metric([Path(each["run"]).name, each["digest"], each["role"]], 1.0)
            if each["share"]:
                share.add_metric([each["variant"]], each["share"])
        loaded = GaugeMetricFamily(
            "daogou_model_loaded_timestamp_seconds", "When the main run was loaded."
        )
        loaded.add_metric([], lineup.main.since_us / 1e6)
        losses = GaugeMetricFamily(
            "daogou_model_validation_loss",
            "Of the main run, validation loss over that of the best constant.", labels=["task"],
        )  # fmt: skip
        manifest = lineup.main.guide.artifact.manifest
        for task, found in manifest.get("fit", {}).get("validation", {}).items():
            loss, constant = found.get("loss"), found.get("constant")
            if loss is not None and constant:
                losses.add_metric([task], loss / constant)
        yield from (info, share, loaded, losses)


class _Rows(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, int] | None]) -> None:
        self._counts = counts

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # so that registering asks no database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._counts()
        up = GaugeMetricFamily("daogou_store_up", "Whether the database answers.")
        up.add_metric([], float(found is not None))
        yield up
        rows = GaugeMetricFamily("daogou_store_rows", "Rows of each table.", labels=["table"])
        for table, count in (found or {}).items():
            rows.add_metric([table], count)
        yield rows
