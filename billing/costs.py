"""Costs: what a tenant's civil days have come to, from its rated lines. Exact; nothing is rated here.

A day is complete when every window that touches it is rated, some hours after its end; until then it is what is rated
so far. What is invoiced of it is `statement.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, null, select
from sqlalchemy.orm import Session

from studio import clock
from studio.db.invoices import RatedLine
from studio.db.tenancy import TenantBilling


@dataclass(frozen=True, slots=True)
class DayCost:
    """One currency of one civil day; of one line item, or of all."""

    billing_day: date
    line_item: str | None  # "smollm2-135m-instruct, prompt"
    currency: str
    tokens: int
    amount: Decimal


def zone_of_days(session: Session, tenant_id: UUID, now: datetime) -> ZoneInfo:
    """In which zone the tenant's days begin; UTC for one that is never billed.

    Known limit: days from before a change of the zone are shown as if they had been in the new one.
    """
    today = now.date()
    query = select(TenantBilling.time_zone).where(
        TenantBilling.tenant_id == tenant_id,
        TenantBilling.valid_from <= today,
        (TenantBilling.valid_until.is_(None)) | (TenantBilling.valid_until > today),
    )
    name = session.scalars(query).one_or_none()
    return clock.zone(name or "UTC")


def day_costs(
    session: Session, tenant_id: UUID, start: date, end: date, *, by_line_item: bool, line_items: Collection[str]
) -> list[DayCost]:
    """The days of [start, end) that cost something; `line_items`: only these, if any are named."""
    name = func.concat(RatedLine.variant_id, ", ", RatedLine.unit)
    line_item = name if by_line_item else null()
    query = (
        select(
            RatedLine.billing_day,
            line_item.label("line_item"),
            RatedLine.currency,
            func.sum(RatedLine.tokens).label("tokens"),
            func.sum(RatedLine.amount).label("amount"),
        )
        .where(RatedLine.tenant_id == tenant_id, RatedLine.billing_day >= start, RatedLine.billing_day < end)
        .group_by(RatedLine.billing_day, RatedLine.currency, *((RatedLine.variant_id, RatedLine.unit) * by_line_item))
        .order_by(RatedLine.billing_day, RatedLine.currency, "line_item")
    )
    if line_items:
        query = query.where(name.in_(line_items))
    return [
        DayCost(row.billing_day, row.line_item, row.currency, int(row.tokens), row.amount)
        for row in session.execute(query)
    ]
