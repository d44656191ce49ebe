"""Requests for invoices: asked by a person, or by the calendar when a month is over and all its usage is reconciled.

A request is answered once, by `draft.py`: with an invoice, or with why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from billing import complete_months
from billing.complete_months import TenantMonth
from studio import clock, ids
from studio.db.catalog import CatalogSync
from studio.db.invoices import InvoiceRequest
from studio.errors import InvalidRequest

CALENDAR = "calendar"


@dataclass(frozen=True, slots=True)
class UnansweredRequest:
    """A request that waits for its draft."""

    id: UUID
    tenant_id: UUID
    month: date
    requested_at: datetime


def request_invoice(
    session: Session, *, tenant_id: UUID, month: date, by: str, reason: str, now: datetime
) -> UnansweredRequest:
    """Ask for an invoice over what a tenant's month has and no invoice holds yet."""
    if month != clock.month_start(month):
        raise InvalidRequest(f"A month is written as its first day, not {month}.", param="month")
    request = UnansweredRequest(ids.uuid7(), tenant_id, month, now)
    session.execute(
        insert(InvoiceRequest).values(
            id=request.id, tenant_id=tenant_id, month=month, requested_by=by, reason=reason, requested_at=now
        )
    )
    return request


def request_closed_months(session: Session, now: datetime) -> list[UnansweredRequest]:
    """Ask for every month that is over and wholly reconciled; asking again in the same calendar month adds nothing.

    One of which a day could not be sealed, or is not reconciled, is asked for on a later morning: `complete_months.py`.
    Usage that arrived after a month's invoice is asked for when the next month closes.
    """
    this_month = clock.month_start(now.astimezone(clock.BERLIN).date())
    asked_since, _ = clock.day_window(this_month, clock.BERLIN)
    asked = {"this_month": this_month, "asked_since": asked_since, "calendar": CALENDAR}
    due = {TenantMonth(row.tenant_id, row.month) for row in session.execute(_DUE, asked)}
    return [
        request_invoice(
            session,
            tenant_id=one.tenant_id,
            month=one.month,
            by=CALENDAR,
            reason=f"{one.month:%B %Y} is closed",
            now=now,
        )
        for one in sorted(complete_months.complete(session, due, now))
    ]


def unanswered(session: Session) -> list[UnansweredRequest]:
    """Requests without an answer, oldest first."""
    columns = (InvoiceRequest.id, InvoiceRequest.tenant_id, InvoiceRequest.month, InvoiceRequest.requested_at)
    query = select(*columns).where(InvoiceRequest.answered_at.is_(None)).order_by(InvoiceRequest.requested_at)
    return [UnansweredRequest(*row) for row in session.execute(query)]


def ready_for(session: Session) -> str:
    """Another text whenever something has come that drafts may have waited for: a rate of exchange or of tax, a seller,
    all of which the catalog brings, or newer days of the ECB, which come with their package.
    """
    syncs = session.scalars(select(func.count()).select_from(CatalogSync)).one()
    return f"catalog {syncs}, rates {version('CurrencyConverter')}"


_DUE = text("""
    select r.tenant_id, date_trunc('month', r.billing_day)::date as month
    from rated_lines r
    join usage_windows w using (window_day, tenant_id, seal_no)
    where w.state = 'reconciled' and r.billing_day < :this_month
      and not exists (select 1 from invoiced_lines i where i.rated_line_id = r.id and i.freed_by is null)
    union
    -- A minimum commitment is due for last month even if nothing was used.
    select c.tenant_id, (cast(:this_month as date) - interval '1 month')::date as month
    from commitments c
    where c.valid_from < :this_month and (c.valid_until is null or c.valid_until >= :this_month)
    except
    select q.tenant_id, q.month from invoice_requests q
    where q.answered_at is null or (q.requested_by = :calendar and q.requested_at >= :asked_since)
""")
