"""One pass over the cards, every few seconds: read, integrate, put on disk, show. Scrapes never touch the driver."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import structlog

from k8s.exporter import metrics
from k8s.exporter.cards import Card, Seen, SourceName, Values
from k8s.exporter.library import LibraryCards
from k8s.exporter.meters import Energy, Tally
from k8s.exporter.mx_smi import MxSmiCards
from k8s.exporter.records import CardRecord, Key, Records
from k8s.exporter.settings import Settings
from k8s.exporter.workloads import PodResources, Workload, WorkloadRules, assign
from studio import clock

log = structlog.get_logger()

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class CardState:
    """A card after a pass. `cause` says why it is not up; then it has no values, and its counters stay."""

    card: Card
    cause: str | None
    values: Values
    energy: Energy
    tallies: Mapping[Key, Tally]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one pass found out. `workloads` is None while the kubelet does not say."""

    source: SourceName
    cards: tuple[CardState, ...]
    workloads: Mapping[str, Sequence[Workload]] | None
    unknown_devices: int
    unnamed_workloads: int
    call_errors: Mapping[tuple[str, int], int]
    is_saved: bool
    ended_at: float  # wall clock
    ended_monotonic: float
    took_seconds: float


class Sampler:
    """Owns the sources and the records; `snapshot` is replaced as a whole, so that other threads may read it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._library = LibraryCards(settings.library, settings.period_seconds)
        self._mx_smi = MxSmiCards(settings.mx_smi) if settings.mx_smi else None
        self._records = Records(settings.records)
        self._pod_resources = PodResources(
            settings.pod_resources, [name.strip() for name in settings.resources.split(",")]
        )
        self._rules = WorkloadRules(Path(settings.workloads) if settings.workloads else None)
        # A wall clock that is set must not make energy: within one life of the process time is monotonic.
        self._clock_offset = clock.now().timestamp() - time.monotonic()
        self._lost: Mapping[str, str] = {}
        self.snapshot: Snapshot | None = None

    def run(self, stop: Event) -> None:
        """Until stopped. A bug ends the process, which is then started again."""
        due = time.monotonic()
        while not stop.is_set():
            self.sample()
            due = max(due + self._settings.period_seconds, time.monotonic())
            stop.wait(due - time.monotonic())

    def sample(self) -> Snapshot:
        """One pass."""
        began = time.monotonic()
        seen = self._see()
        at = self._clock_offset + time.monotonic()
        for card, values in seen.values.items():
            self._record(self._records.seen(card, at), values)
        for record in self._records.cards.values():
            watts = seen.values.get(record.card, {}).get((metrics.POWER, ()))
            record.energy = record.energy.sampled(watts, at, self._settings.longest_gap_seconds)
        self._records.forget_before(at - self._settings.forget_after_days * _DAY_SECONDS)
        is_saved = self._records.save()
        holders = self._pod_resources.holders()
        held = assign(holders or (), self._cards(), self._rules.current())
        cards = tuple(self._state(record, seen) for record in self._records.cards.values())
        self._tell({state.card.uuid: state.cause for state in cards if state.cause is not None})
        ended = time.monotonic()
        self.snapshot = Snapshot(
            source=seen.source,
            cards=cards,
            workloads=None if holders is None else held.workloads,
            unknown_devices=held.unknown_devices,
            unnamed_workloads=held.unnamed if self._rules.is_wanted else 0,
            call_errors=dict(self._library.errors),
            is_saved=is_saved,
            ended_at=clock.now().timestamp(),
            ended_monotonic=ended,
            took_seconds=ended - began,
        )
        return self.snapshot

    def _see(self) -> Seen:
        seen = self._library.read(self._records.cards.keys())
        if seen is None and self._mx_smi is not None:
            seen = self._mx_smi.read(self._cards())
        return seen or Seen("none", cause="driver_down")

    def _tell(self, lost: Mapping[str, str]) -> None:
        """Log cards that went and came."""
        for uuid in lost.keys() - self._lost.keys():
            log.warning("card_lost", uuid=uuid, cause=lost[uuid])
        for uuid in (self._lost.keys() - lost.keys()) & self._records.cards.keys():
            log.info("card_back", uuid=uuid)
        self._lost = lost

    def _cards(self) -> list[Card]:
        return [record.card for record in self._records.cards.values()]

    @staticmethod
    def _record(record: CardRecord, values: Values) -> None:
        for (metric, labels), value in values.items():
            if metric.kind == "counter":
                record.count(metric, labels, int(value))

    @staticmethod
    def _state(record: CardRecord, seen: Seen) -> CardState:
        values = seen.values.get(record.card)
        cause = None if values is not None else seen.lost.get(record.card.uuid, seen.cause)
        gauges = {key: value for key, value in (values or {}).items() if key[0].kind == "gauge"}
        return CardState(record.card, cause, gauges, record.energy, dict(record.tallies))
