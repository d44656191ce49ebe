"""The newest rows of what has no partition, for the borders of `assets/`. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

NEWEST = 1_000


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """Some events of one UTC day, source and product."""

    usage_day_utc: date
    source_id: UUID
    endpoint: str
    model_id: str
    end_reason: str
    events: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    lowest_seq: int


@dataclass(frozen=True, slots=True)
class FinalInvoice:
    """A final invoice by its figures, and the sum of its lines."""

    invoice_id: UUID
    number: str
    issued_on: date
    currency: str
    rounding_mode: str
    lines_net: Decimal
    net: Decimal
    tax: Decimal
    gross: Decimal
    prepaid: Decimal


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One document of a final invoice."""

    invoice_id: UUID
    kind: str
    object_key: str
    sha256: str
    size_bytes: int


def newest_usage(session: Session, now: datetime) -> list[UsageGroup]:
    """The NEWEST events of each source that was heard of since yesterday."""
    rows = session.execute(_USAGE, {"today": now.date(), "newest": NEWEST}).mappings()
    return [UsageGroup(**row) for row in rows]


def newest_invoices(session: Session) -> list[FinalInvoice]:
    """The NEWEST final invoices."""
    return [FinalInvoice(**row) for row in session.execute(_INVOICES, {"newest": NEWEST}).mappings()]


def newest_documents(session: Session) -> list[StoredDocument]:
    """The documents that were stored last, of as many invoices or so."""
    return [StoredDocument(**row) for row in session.execute(_DOCUMENTS, {"newest": 6 * NEWEST}).mappings()]


# The last numbers of each source that was heard of lately: as many rows however large a day is.
_USAGE = text("""
    select e.usage_day_utc, e.source_id, e.endpoint, e.model_id, e.end_reason, count(*) as events,
           sum(e.prompt_tokens)::bigint as prompt_tokens, sum(e.cached_tokens)::bigint as cached_tokens,
           sum(e.completion_tokens)::bigint as completion_tokens, min(e.source_seq) as lowest_seq
    from usage_sources s
    cross join lateral (
        select * from usage_events u
        where u.source_id = s.id and u.usage_day_utc between cast(:today as date) - 2 and cast(:today as date) + 1
        order by u.source_seq desc limit :newest) e
    where s.heartbeat_at >= cast(:today as date) - 1
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
""")
_INVOICES = text("""
    select i.id as invoice_id, i.number, i.issued_on, i.currency, i.rounding_mode,
           (select coalesce(sum(l.amount), 0) from invoice_lines l where l.invoice_id = i.id) as lines_net,
           i.net, i.tax, i.gross, i.prepaid
    from invoices i where i.state = 'final'
    order by i.finalized_at desc limit :newest
""")
_DOCUMENTS = text("""
    select invoice_id, kind, object_key, sha256, size_bytes from invoice_documents
    order by rendered_at desc limit :newest
""")
