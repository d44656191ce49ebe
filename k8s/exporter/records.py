"""What outlives the exporter: cards once seen, their joules and counters. One small JSON file, replaced at each sample.

It is on disk before a sample is shown. A counter that fell back by one joule after a crash would look to Prometheus
like a counter that began again, and `increase()` would add all the joules of the card's life.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from k8s.exporter.cards import Card
from k8s.exporter.meters import Energy, Tally
from k8s.exporter.metrics import Metric

log = structlog.get_logger()

_VERSION = 1

Key = tuple[str, tuple[str, ...]]  # of a counter: name and labels


@dataclass(slots=True)
class CardRecord:
    """One card. Instants are seconds of the wall clock."""

    card: Card
    seen_at: float
    energy: Energy = field(default_factory=Energy)
    tallies: dict[Key, Tally] = field(default_factory=dict)

    def count(self, metric: Metric, labels: tuple[str, ...], raw: int) -> None:
        """Bring a counter up to what the hardware says."""
        if metric.raw_bits is None:
            raise ValueError(f"{metric.name} is not a counter of the hardware")
        key = (metric.name, labels)
        self.tallies[key] = self.tallies.get(key, Tally()).counted(raw, metric.raw_bits)


class Records:
    """All cards of this node, by uuid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saving_fails = False
        self.cards: dict[str, CardRecord] = {}
        try:
            self.cards = _parse(path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Beginning again at 0 is what Prometheus expects of a counter; half a file is not.
            log.warning("records_unreadable", path=str(path), error=str(error))

    def seen(self, card: Card, at_seconds: float) -> CardRecord:
        """The record of a card that answered now, made at its first time."""
        # The command line knows a card by its address, until the library has said its uuid: the same card.
        by_address = self.cards.pop(card.bdf, None)
        record = self.cards[card.uuid] = self.cards.get(card.uuid) or by_address or CardRecord(card, at_seconds)
        record.card, record.seen_at = card, at_seconds
        return record

    def forget_before(self, at_seconds: float) -> None:
        """Drop cards not seen since: somebody has taken them out."""
        for uuid in [uuid for uuid, record in self.cards.items() if record.seen_at < at_seconds]:
            log.info("card_forgotten", uuid=uuid)
            del self.cards[uuid]

    def save(self) -> bool:
        """Whether it is on disk. A disk that fails is logged once."""
        temporary = self._path.with_name(f"{self._path.name}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump({"version": _VERSION, "cards": [_plain(record) for record in self.cards.values()]}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            if not self._saving_fails:
                log.warning("records_not_saved", path=str(self._path), error=str(error))
            self._saving_fails = True
            return False
        self._saving_fails = False
        return True


def _plain(record: CardRecord) -> dict[str, Any]:
    return {
        "card": asdict(record.card),
        "seen_at": record.seen_at,
        "energy": asdict(record.energy),
        "tallies": [[name, labels, tally.total, tally.raw] for (name, labels), tally in record.tallies.items()],
    }


def _parse(content: bytes) -> dict[str, CardRecord]:
    document = json.loads(content)
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']} is not {_VERSION}")
    records = (
        CardRecord(
            Card(**plain["card"]),
            plain["seen_at"],
            Energy(**plain["energy"]),
            {(name, tuple(labels)): Tally(total, raw) for name, labels, total, raw in plain["tallies"]},
        )
        for plain in document["cards"]
    )
    return {record.card.uuid: record for record in records}
