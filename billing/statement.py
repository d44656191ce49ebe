"""Statements: a tenant's month so far, exact, beside what is invoiced of it and how many windows are still open.

Both amounts are those of the rated lines: at the first tier of each price, before volume tiers and adjustments. What a
cancelled invoice held is not invoiced, until another one holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from studio import clock
from studio.db.invoices import AccountStatement


@dataclass(frozen=True, slots=True)
class Statement:
    """One tenant, month and currency."""

    tenant_id: UUID
    currency: str
    legal_entity_id: str
    tokens: int
    amount: Decimal
    invoiced: Decimal
    open_windows: int


def refresh(session: Session, month: date, now: datetime) -> list[Statement]:
    """Compute the statements of a month anew from its rated lines."""
    session.execute(delete(AccountStatement).where(AccountStatement.month == month))
    session.execute(_COMPUTE, {"month": month, "next_month": clock.next_month(month), "now": now})
    return statements(session, month)


def statements(session: Session, month: date) -> list[Statement]:
    """The statements of a month."""
    columns = [AccountStatement.__table__.c[field.name] for field in fields(Statement)]
    query = select(*columns).where(AccountStatement.month == month).order_by(*columns[:2])
    return [Statement(**row) for row in session.execute(query).mappings()]


_COMPUTE = text("""
    insert into account_statements
        (tenant_id, month, currency, legal_entity_id, tokens, amount, invoiced, open_windows, computed_at)
    select r.tenant_id, :month, r.currency, max(r.legal_entity_id), sum(r.tokens), sum(r.amount),
           coalesce(sum(r.amount) filter (where i.state = 'final'), 0),
           (select count(*) from usage_windows o
            where o.tenant_id = r.tenant_id and o.state <> 'reconciled'
              and o.window_day between cast(:month as date) - 1 and :next_month),
           :now
    from rated_lines r
    left join invoiced_lines l on l.rated_line_id = r.id and l.freed_by is null
    left join invoices i on i.id = l.invoice_id
         and not exists (select 1 from corrections c
                         where c.invoice_id = i.id and c.type = '384' and c.state = 'final')
    where r.billing_day >= :month and r.billing_day < :next_month
    group by r.tenant_id, r.currency
""")
