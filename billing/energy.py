"""Energy of the cards, hour by hour: the exporter's counter at both ends of each hour, for whoever held the card.

The counter only rises and survives restarts, so the difference of two readings is what was drawn. An hour that lacks a
reading at one of its ends is kept as not measured. Nothing is estimated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from studio.db.catalog import ModelVariant
from studio.db.observation import CardEnergy
from studio.prometheus import Prometheus

HOUR = timedelta(hours=1)
_JOULES = "max by (uuid, host) (studio_gpu_energy_joules_total)"
_UNMEASURED = "max by (uuid, host) (studio_gpu_energy_unmeasured_seconds_total)"
_HELD = 'sum by (uuid, variant) (count_over_time(studio_gpu_workload_info{variant!=""}[1h]))'
# Pods of `training/job_manifest.py`: the job's id is in their names.
_TRAINS = 'sum by (uuid, pod) (count_over_time(studio_gpu_workload_info{pod=~"fine-tune-[0-9a-f]{32}-.+"}[1h]))'
_JOB_ID = slice(len("fine-tune-"), len("fine-tune-") + 32)
_SAMPLES = "max by (uuid) (count_over_time(studio_gpu_up[1h]))"


Holder = tuple[str | None, UUID | None]  # a variant, or a fine-tune's trainer
NOBODY: Holder = (None, None)


@dataclass(frozen=True, slots=True)
class CardHour:
    """What one card drew in one hour for one holder; both None: for nobody. None of `joules`: not measured."""

    hour: datetime
    card: str
    host: str
    variant_id: str | None
    joules: Decimal | None
    unmeasured_seconds: Decimal | None
    fine_tune_id: UUID | None = None


def read_hour(prometheus: Prometheus, hour: datetime, known_variants: Collection[str]) -> list[CardHour]:
    """What Prometheus knows of [hour, hour + 1 h). PrometheusUnanswered."""
    end = hour + HOUR
    joules = _risen(prometheus, _JOULES, hour, end)
    unmeasured = _risen(prometheus, _UNMEASURED, hour, end)
    samples = {one.labels["uuid"]: one.value for one in prometheus.query(_SAMPLES, end)}
    held: dict[str, dict[Holder, Decimal]] = defaultdict(dict)
    for one in prometheus.query(_HELD, end):
        if one.labels["variant"] in known_variants:
            held[one.labels["uuid"]][one.labels["variant"], None] = one.value
    for one in prometheus.query(_TRAINS, end):
        trainer: Holder = (None, UUID(one.labels["pod"][_JOB_ID]))
        seen = held[one.labels["uuid"]]
        seen[trainer] = seen.get(trainer, Decimal(0)) + one.value  # a pod that was lost, and the one after it
    return [
        CardHour(hour, card, host, variant_id, _part(drawn, share), unmeasured.get((card, host)), fine_tune_id)
        for (card, host), drawn in joules.items()
        for (variant_id, fine_tune_id), share in _shares(held[card], samples.get(card, Decimal(0)))
    ]


def store_hour(session: Session, hour: datetime, cards: list[CardHour]) -> None:
    """In place of what was known of that hour."""
    session.execute(delete(CardEnergy).where(CardEnergy.hour == hour))
    if cards:
        session.execute(insert(CardEnergy), [asdict(card) for card in cards])


def known_variants(session: Session) -> set[str]:
    """Names that a workload may have."""
    return set(session.scalars(select(ModelVariant.id)))


def _risen(
    prometheus: Prometheus, counter: str, start: datetime, end: datetime
) -> Mapping[tuple[str, str], Decimal | None]:
    """By how much a counter has risen, of every card that either end knows; None where one end is missing."""
    before, after = (
        {(one.labels["uuid"], one.labels["host"]): one.value for one in prometheus.query(counter, at)}
        for at in (start, end)
    )
    # A counter that fell was set back by a lost disk: what was drawn since then is not the whole hour.
    return {
        card: after[card] - before[card] if card in before and card in after and after[card] >= before[card] else None
        for card in sorted(before.keys() | after.keys())
    }


def _shares(held: Mapping[Holder, Decimal], samples: Decimal) -> Iterator[tuple[Holder, Decimal]]:
    """Who held the card for which part of the hour. Several at once share it evenly, as in the recording rule."""
    whole = max(samples, sum(held.values(), Decimal(0)))
    rest = Decimal(1)
    for holder, seen in sorted(held.items(), key=lambda one: str(one[0])):
        share = seen / whole
        rest -= share
        yield holder, share
    if rest > 0 or not held:
        yield NOBODY, max(rest, Decimal(0))


def _part(drawn: Decimal | None, share: Decimal) -> Decimal | None:
    return None if drawn is None else round(drawn * share, 3)
