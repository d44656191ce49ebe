"""Costs: what a tenant's civil days have come to, from its rated lines. Exact; nothing is rated here.

A day is complete when every window that touches it is rated, some hours after its end; until then it is what is rated
so far. What is invoiced of it is `statement.py`.

Volume tiers fill day by day: a day costs what it adds to its month, so the days of a month come to what its invoices
do. Adjustments (`adjustments.py`) are of a month, not of a day, and stand on the invoice only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, null, select
from sqlalchemy.orm import Session

from billing.rating import exact_sum, rate
from billing.terms import tiers_of
from billing.tiers import fill
from studio import clock
from studio.db.catalog import PriceTier
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
    reduced = _reductions(session, tenant_id, start, end)
    costs = [
        DayCost(row.billing_day, row.line_item, row.currency, int(row.tokens), row.amount)
        for row in session.execute(query)
    ]
    if not reduced:
        return costs
    wanted = {item: amount for item, amount in reduced.items() if not line_items or item[1] in line_items}
    return [replace(cost, amount=cost.amount - _of(cost, wanted.items())) for cost in costs]


def _of(cost: DayCost, reduced: Iterable[tuple[tuple[date, str, str], Decimal]]) -> Decimal:
    """What volume tiers take off a cost."""
    return exact_sum(
        [
            amount
            for (day, line_item, currency), amount in reduced
            if (day, currency) == (cost.billing_day, cost.currency) and cost.line_item in (None, line_item)
        ]
    )


def _reductions(session: Session, tenant_id: UUID, start: date, end: date) -> dict[tuple[date, str, str], Decimal]:
    """What volume tiers take off, by day, line item and currency: the tiers of a month fill from its first day on."""
    query = (
        select(
            RatedLine.price_id,
            RatedLine.billing_day,
            RatedLine.variant_id,
            RatedLine.unit,
            RatedLine.currency,
            func.sum(RatedLine.tokens).label("tokens"),
        )
        .where(
            RatedLine.tenant_id == tenant_id,
            RatedLine.billing_day >= clock.month_start(start),
            RatedLine.billing_day < end,
            RatedLine.basis == "",
            RatedLine.price_id.in_(select(PriceTier.price_id)),
        )
        .group_by(
            *(RatedLine.price_id, RatedLine.billing_day, RatedLine.variant_id, RatedLine.unit, RatedLine.currency)
        )
        .order_by(RatedLine.billing_day)
    )
    rows = session.execute(query).all()
    tiers = tiers_of(session, {row.price_id for row in rows})
    taken: dict[tuple[UUID, date], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    reduced: dict[tuple[date, str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        steps, held = tiers[row.price_id], taken[row.price_id, clock.month_start(row.billing_day)]
        for part in fill(steps, held, int(row.tokens)):
            held[part.tier.from_tokens] += part.tokens
            less = rate(part.tokens, steps[0].per_million) - rate(part.tokens, part.tier.per_million)
            if row.billing_day >= start:
                reduced[row.billing_day, f"{row.variant_id}, {row.unit}", row.currency] += less
    return dict(reduced)
