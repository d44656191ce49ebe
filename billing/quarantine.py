"""Quarantine: usage that could not be accepted or rated, and what a person decides about it.

An impossible event (negative tokens, cached above prompt, more tokens than an event can have) never came into
`usage_events`; one that did before there was that bound holds its seal. An event without exactly one price is there and
waits for a price. Of two versions of one event the first is there, and neither wins by itself. Releasing bills an event
as it stands there, discarding bills it to nobody; both name who and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing.usage import UNPRICED
from billing.windows import SealKey
from studio.db.usage import Quarantined
from studio.errors import Conflict, NotFound
from studio.tenants import audit

CONFLICT = "same id, other content"

Decision = Literal["released", "discarded"]


class CannotBeDecidedSo(Conflict):
    """The entry is settled already, or what was asked for would bill something that nobody can vouch for."""

    default_code = "quarantine_decision_refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `payload`: the event, or of a conflict both of its versions."""

    id: UUID
    at: datetime
    reason: str
    event_id: UUID | None
    tenant_id: UUID | None
    payload: Mapping[str, Any]
    resolved_at: datetime | None
    decision: str | None
    decided_by: str | None
    decision_reason: str | None


def entries(session: Session, *, tenant_id: UUID | None = None, settled: bool = False, limit: int = 200) -> list[Entry]:
    """What waits for somebody, oldest first; with `settled` also what does not any more."""
    columns = [Quarantined.__table__.c[field.name] for field in fields(Entry)]
    query = select(*columns).order_by(Quarantined.at, Quarantined.id).limit(limit)
    if tenant_id is not None:
        query = query.where(Quarantined.tenant_id == tenant_id)
    if not settled:
        query = query.where(Quarantined.resolved_at.is_(None))
    return [Entry(**row) for row in session.execute(query).mappings()]


def decide(session: Session, id: UUID, decision: Decision, *, by: str, reason: str, now: datetime) -> Entry:
    """Settle an entry, with a line in the audit log. CannotBeDecidedSo where that is not a person's to say."""
    query = select(Quarantined).where(Quarantined.id == id).with_for_update(of=Quarantined)
    entry = session.scalars(query).one_or_none()
    if entry is None:
        raise NotFound(f"There is no entry {id} in quarantine.")
    if entry.resolved_at is not None:
        raise CannotBeDecidedSo(f"The entry {id} was settled at {entry.resolved_at:%Y-%m-%d %H:%M:%S} UTC.")
    if decision == "released" and entry.reason == UNPRICED:
        raise CannotBeDecidedSo("An event without a price cannot be billed: add the price, and the day is counted.")
    if decision == "released" and entry.reason != CONFLICT:
        raise CannotBeDecidedSo(f"There is no event to bill ({entry.reason}); the entry can only be discarded.")
    if decision == "discarded" and session.execute(_RATED, {"event_id": entry.event_id}).first() is not None:
        raise CannotBeDecidedSo("The event is rated already: release the entry, and correct the invoice.")
    entry.resolved_at, entry.decision, entry.decided_by, entry.decision_reason = now, decision, by, reason
    details = {"event_id": str(entry.event_id), "why_quarantined": entry.reason, "reason": reason}
    audit(session, by, f"quarantine.{decision}", str(id), entry.tenant_id, details)
    session.flush()
    return Entry(**{field.name: getattr(entry, field.name) for field in fields(Entry)})


def may_go_on(session: Session) -> list[tuple[SealKey, datetime]]:
    """Held seals of tenants of whom something was settled, or the catalog changed, since their last entry; and when."""
    rows = session.execute(_MAY_GO_ON)
    return [(SealKey(row.window_day, row.tenant_id, row.seal_no), row.changed_at) for row in rows]


_RATED = text("""
    select 1
    from usage_events e
    join usage_windows w on w.tenant_id = e.tenant_id and w.state in ('rated', 'reconciled')
         and w.window_day = (e.started_at at time zone 'Europe/Berlin')::date
    cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
    where e.id = :event_id and r.source_id = e.source_id and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
""")

_MAY_GO_ON = text("""
    select w.window_day, w.tenant_id, w.seal_no, greatest(q.settled_at, c.synced_at) as changed_at
    from usage_windows w
    cross join lateral (
        select max(at) as at, max(resolved_at) as settled_at from quarantine q where q.tenant_id = w.tenant_id) q
    cross join (select max(synced_at) as synced_at from catalog_syncs) c
    where w.state = 'held' and greatest(q.settled_at, c.synced_at) > q.at
    order by 1, 2, 3
""")
