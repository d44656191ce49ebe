"""Readings as Prometheus takes them, read again at most every few seconds however often somebody scrapes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from serving.state_metrics.readings import METRICS, READERS, Sample
from studio import clock
from studio.db.sessions import unit_of_work

log = structlog.get_logger()


class StateCollector(Collector):
    """While the database is away it shows `studio_state_up 0` and no more: old figures would look like new ones."""

    def __init__(self, auditor: Engine, keep_for: timedelta) -> None:
        self._auditor = auditor
        self._keep_seconds = keep_for.total_seconds()
        self._lock = threading.Lock()
        self._read_at: float | None = None  # monotonic
        self._samples: list[Sample] = []
        self._seconds = 0.0
        self._is_up = False

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry would otherwise read everything to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All families. Scrapes at the same time wait for one reading."""
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at >= self._keep_seconds:
                self._read()
            samples, seconds, is_up = self._samples, self._seconds, self._is_up
        families = {name: GaugeMetricFamily(name, words, labels=labels) for name, (words, labels) in METRICS.items()}
        for name, labels, value in samples:
            families[name].add_metric(labels, value)
        yield GaugeMetricFamily("studio_state_up", "Whether the database could be read", is_up)
        yield GaugeMetricFamily("studio_state_read_seconds", "How long the last reading took", seconds)
        yield from (family for family in families.values() if family.samples)

    def _read(self) -> None:
        began = time.monotonic()
        try:
            with unit_of_work(self._auditor) as session:
                self._samples = [sample for reader in READERS for sample in reader(session, clock.now())]
        except DBAPIError as error:
            if self._is_up or self._read_at is None:
                log.warning("state_unreadable", error=str(error.orig))
            self._samples, self._is_up = [], False
        else:
            self._is_up = True
        self._read_at = time.monotonic()
        self._seconds = self._read_at - began
