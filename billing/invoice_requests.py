"""Requests for invoices: asked by a person, or by the calendar when a month is over and all its usage is reconciled.

A request is answered once, by `draft.py`: with an invoice, or with why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from billing import windows
from studio import clock, ids
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

    A month is over when it is so in the seller's zone and in the buyer's, and the last window that can hold usage of it
    has closed. One with an open window is asked for on a later morning. Usage that arrived after a month's invoice is
    asked for when the next month closes.
    """
    this_month = clock.month_start(now.astimezone(clock.BERLIN).date())
    asked_since, _ = clock.day_window(this_month, clock.BERLIN)
    asked = {"this_month": this_month, "asked_since": asked_since, "calendar": CALENDAR}
    closed = {"at": now, "grace": windows.GRACE}
    due = session.execute(_DUE, asked | closed).all()
    return [
        request_invoice(
            session,
            tenant_id=row.tenant_id,
            month=row.month,
            by=CALENDAR,
            reason=f"{row.month:%B %Y} is closed",
            now=now,
        )
        for row in due
    ]


def unanswered(session: Session) -> list[UnansweredRequest]:
    """Requests without an answer, oldest first."""
    columns = (InvoiceRequest.id, InvoiceRequest.tenant_id, InvoiceRequest.month, InvoiceRequest.requested_at)
    query = select(*columns).where(InvoiceRequest.answered_at.is_(None)).order_by(InvoiceRequest.requested_at)
    return [UnansweredRequest(*row) for row in session.execute(query)]


# A window of the first or last day of a month can hold usage of the month beside it, in the tenant's own zone.
_DUE = text("""
    with due as (
        select r.tenant_id, date_trunc('month', r.billing_day)::date as month
        from rated_lines r
        join usage_windows w using (window_day, tenant_id, seal_no)
        where w.state = 'reconciled' and r.billing_day < :this_month
          and not exists (select 1 from invoiced_lines i where i.rated_line_id = r.id and i.freed_by is null)
        group by r.tenant_id, month
        having not exists (
                select 1 from usage_windows o
                where o.tenant_id = r.tenant_id and o.state <> 'reconciled'
                  and o.window_day >= date_trunc('month', min(r.billing_day))::date - 1
                  and o.window_day <= (date_trunc('month', min(r.billing_day)) + interval '1 month')::date)
           and not exists (
                select 1 from invoice_requests q
                where q.tenant_id = r.tenant_id and q.month = date_trunc('month', min(r.billing_day))::date
                  and (q.answered_at is null or (q.requested_by = :calendar and q.requested_at >= :asked_since)))
        union
        -- A minimum commitment is due for last month even if nothing was used.
        select c.tenant_id, (cast(:this_month as date) - interval '1 month')::date as month
        from commitments c
        where c.valid_from < :this_month
          and (c.valid_until is null or c.valid_until >= :this_month)
          and not exists (
                select 1 from usage_windows o
                where o.tenant_id = c.tenant_id and o.state <> 'reconciled'
                  and o.window_day >= (cast(:this_month as date) - interval '1 month')::date - 1
                  and o.window_day <= :this_month)
          and not exists (
                select 1 from invoice_requests q
                where q.tenant_id = c.tenant_id and q.month = (cast(:this_month as date) - interval '1 month')::date
                  and (q.answered_at is null or (q.requested_by = :calendar and q.requested_at >= :asked_since)))
    )
    select d.tenant_id, d.month
    from due d
    join tenant_billing t on t.tenant_id = d.tenant_id and t.valid_from <= (d.month + interval '1 month - 1 day')::date
         and (t.valid_until is null or t.valid_until > (d.month + interval '1 month - 1 day')::date)
    join legal_entities l on l.id = t.legal_entity_id
    cross join lateral (
        select (d.month + interval '1 month') at time zone t.time_zone as buyers,
               (d.month + interval '1 month') at time zone l.time_zone as sellers) e
    cross join lateral (
        select date_trunc('day', e.buyers at time zone 'Europe/Berlin' - interval '1 microsecond') + interval '1 day'
            as last) w
    where greatest(e.buyers, e.sellers, (w.last at time zone 'Europe/Berlin') + cast(:grace as interval)) <= :at
    order by d.tenant_id, d.month
""")
