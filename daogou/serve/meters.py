"""What a server counts, for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meters:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "daogou_request_seconds", "Time of a request, by route.",
            ("method", "route", "status"), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.answers = Histogram(
            "daogou_answer_seconds", "Time that the model took for an answer.",
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
        self.loaded = Gauge(
            "daogou_model_loaded_timestamp_seconds", "When the run was loaded.",
            registry=self.registry,
        )  # fmt: skip
        self.model = Gauge(
            "daogou_model_info", "The run that answers; always 1.",
            ("run", "digest"), registry=self.registry,
        )  # fmt: skip
        self.losses = Gauge(
            "daogou_model_validation_loss", "Validation loss over that of the best constant.",
            ("task",), registry=self.registry,
        )  # fmt: skip

    def tell_model(
        self, run: str, digest: str, manifest: Mapping[str, Any], loaded_s: float
    ) -> None:
        """Take note of the run that answers from now on."""
        self.loaded.set(loaded_s)
        self.model.clear()
        self.model.labels(run, digest).set(1)
        self.losses.clear()
        for task, found in manifest.get("fit", {}).get("validation", {}).items():
            loss, constant = found.get("loss"), found.get("constant")
            if loss is not None and constant:
                self.losses.labels(task).set(loss / constant)

    def count_rows(self, counts: Callable[[], Mapping[str, int] | None]) -> None:
        """Tell the store's rows with every scrape; ``counts`` gives None while it is away."""
        self.registry.register(_Rows(counts))

    def page(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)


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
