"""A snapshot in Prometheus' words. Values of a pass that is too old are left out; counters stay."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from k8s.exporter import metrics
from k8s.exporter.metrics import CARD_LABELS, Metric
from k8s.exporter.sampler import CardState, Sampler, Snapshot

Sample = tuple[Metric, Sequence[str], float]

_SOURCES = ("library", "mx_smi", "none")


@dataclass(slots=True)
class ScrapeCost:
    """What answering has cost so far. Threads of the server add to it."""

    scrapes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def add(self, seconds: float, cpu_seconds: float) -> None:
        """One answer."""
        with self._lock:
            self.scrapes += 1
            self.seconds += seconds
            self.cpu_seconds += cpu_seconds


class CardCollector(Collector):
    """Shows what the sampler last saw."""

    def __init__(self, sampler: Sampler, host: str, stale_after_seconds: float, cost: ScrapeCost) -> None:
        self._sampler = sampler
        self._host = host
        self._stale_after = stale_after_seconds
        self._cost = cost

    def collect(self) -> Iterable[Family]:
        """All metrics of the table that have a value now."""
        snapshot = self._sampler.snapshot
        samples: dict[Metric, list[tuple[Sequence[str], float]]] = {}
        for metric, labels, value in self._samples(snapshot):
            samples.setdefault(metric, []).append((labels, value))
        for metric in (*metrics.OF_A_CARD, *metrics.OF_THE_EXPORTER):
            if metric in samples:
                family = _family(metric)
                for labels, value in samples[metric]:
                    family.add_metric(labels, value)
                yield family

    def _samples(self, snapshot: Snapshot | None) -> Iterator[Sample]:
        yield metrics.SCRAPES, (), self._cost.scrapes
        yield metrics.SCRAPE_SECONDS, (), self._cost.seconds
        yield metrics.SCRAPE_CPU_SECONDS, (), self._cost.cpu_seconds
        if snapshot is None:
            return
        yield from _of_the_pass(snapshot)
        is_fresh = time.monotonic() - snapshot.ended_monotonic < self._stale_after
        for state in snapshot.cards:
            card = state.card
            labels = (card.uuid, str(card.index), card.model, self._host)
            yield from ((metric, (*labels, *own), value) for metric, own, value in _counters(state))
            if is_fresh:
                yield from ((metric, (*labels, *own), value) for metric, own, value in _gauges(state, snapshot))


def _of_the_pass(snapshot: Snapshot) -> Iterator[Sample]:
    for source in _SOURCES:
        yield metrics.SOURCE, (source,), source == snapshot.source
    yield metrics.SAMPLED_AT, (), snapshot.ended_at
    yield metrics.SAMPLE_SECONDS, (), snapshot.took_seconds
    yield metrics.RECORDS_SAVED, (), snapshot.is_saved
    yield metrics.POD_RESOURCES_UP, (), snapshot.workloads is not None
    yield metrics.UNKNOWN_DEVICES, (), snapshot.unknown_devices
    yield metrics.UNNAMED_WORKLOADS, (), snapshot.unnamed_workloads
    for (function, result), count in snapshot.call_errors.items():
        yield metrics.CALL_ERRORS, (function, str(result)), count


def _counters(state: CardState) -> Iterator[Sample]:
    yield metrics.ENERGY, (), state.energy.joules
    yield metrics.UNMEASURED, (), state.energy.unmeasured_seconds
    by_name = {metric.name: metric for metric in (metrics.ECC_ERRORS, metrics.LINK_TRAFFIC)}
    for (name, labels), tally in state.tallies.items():
        if name in by_name:
            yield by_name[name], labels, tally.total


def _gauges(state: CardState, snapshot: Snapshot) -> Iterator[Sample]:
    yield metrics.UP, (), state.cause is None
    if state.cause is not None:
        yield metrics.LOST, (state.cause,), 1
    for (metric, labels), value in state.values.items():
        yield metric, labels, value
    for work in (snapshot.workloads or {}).get(state.card.uuid, ()):
        labels = (work.namespace, work.pod, work.container, work.model, work.variant, work.tenant)
        yield metrics.WORKLOAD, labels, 1


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    labels = (*CARD_LABELS, *metric.labels) if metric in metrics.OF_A_CARD else metric.labels
    if metric.kind == "counter":
        return CounterMetricFamily(metric.name, metric.help, labels=labels)
    return GaugeMetricFamily(metric.name, metric.help, labels=labels)
