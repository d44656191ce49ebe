"""What a day comes to as usage: one event for each tenant, in a source that numbers them, and spent of budgets at once.

For what no request asks for: storage and reserved cards. The event stands at the last instant of the tenant's civil
day, so it is there before the day's window is sealed and has that instant's price. A budget holds a request before it
is answered; a day was used when it is known, so it is spent above the amount, too, and then nothing is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.dialects.postgresql import insert as insert_once
from sqlalchemy.orm import Session

from studio import clock, ids, storage_usage
from studio.db.usage import UsageSource, UsageStaging

LOOK_BACK_DAYS = 35  # as late usage of a month: what is older needs a person
_LAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Source:
    """Whose numbers these events have. `endpoint` is its events', `product` what they name as model and variant."""

    id: UUID
    name: str
    endpoint: str
    product: str


@dataclass(frozen=True, slots=True)
class DayUsage:
    """A tenant's civil day: so much of the source's unit."""

    event_id: UUID
    tenant_id: UUID
    day: date
    time_zone: str
    quantity: int


def last_instant(day: date, time_zone: str) -> datetime:
    """Where a day's event stands."""
    return clock.day_window(day, clock.zone(time_zone))[1] - _LAST


def look_back(day: date, now: datetime) -> int:
    """How many days back to look for a day that a person names: at least as far as a machine does by itself."""
    return max(LOOK_BACK_DAYS, (now.date() - day).days + 2)  # two, since a zone's today may be tomorrow


def lock(session: Session, source: Source, now: datetime) -> int:
    """The source's last number. Whoever measures beside this waits until the transaction ends."""
    row = {
        "id": source.id, "kind": "transaction", "name": source.name, "opened_at": now, "last_seq": 0, "pending": 0,
        "heartbeat_at": now,
    }  # fmt: skip
    session.execute(insert_once(UsageSource).values(row).on_conflict_do_nothing())
    return session.scalars(select(UsageSource.last_seq).where(UsageSource.id == source.id).with_for_update()).one()


def meter(session: Session, source: Source, last_seq: int, days: Sequence[DayUsage]) -> None:
    """Insert the events of days that are metered for the first time, and spend them. The source is locked."""
    if not days:
        return
    shipment_id = ids.uuid7()
    rows = [
        _event(source, one) | {"shipment_id": shipment_id, "row": number, "source_seq": last_seq + number}
        for number, one in enumerate(days, start=1)
    ]
    session.execute(insert(UsageStaging), rows)
    session.execute(text("select accept_usage(:shipment)"), {"shipment": shipment_id})
    events = {"events": [one.event_id for one in days]}
    session.execute(text("select spend_days(cast(:events as uuid[]))"), events)


def _event(source: Source, one: DayUsage) -> dict[str, object]:
    instant = last_instant(one.day, one.time_zone)
    return {
        "usage_day_utc": ids.day_utc_of(one.event_id), "id": one.event_id, "source_id": source.id,
        "tenant_id": one.tenant_id, "api_key_id": storage_usage.NO_KEY, "request_id": f"{source.name} {one.day}",
        "endpoint": source.endpoint, "model_id": source.product, "variant_id": source.product,
        "tier_requested": "base", "tier_served": "base", "started_at": instant, "ended_at": instant,
        "prompt_tokens": one.quantity, "cached_tokens": 0, "completion_tokens": 0, "reasoning_tokens": 0,
        "http_status": 200, "end_reason": "complete", "usage_origin": "count",
    }  # fmt: skip
