"""What the price book says of a tenant's month beyond single prices: volume tiers, the minimum commitment, quotes.

Read from the tables here; the arithmetic is `tiers.py` and `adjustments.py`. All of it looks at the other invoices of
the same month, drafts too, so that together they come to what one invoice would. One that was dropped or cancelled
bills nothing, so it counts for nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from billing import adjustments as rules
from billing import cancelled, complete_months, re_rated
from billing.adjustments import MINIMUM_COMMITMENT, QUOTE_LIMIT
from billing.complete_months import TenantMonth
from billing.invoice import Adjustment, Line, Volume
from billing.tiers import Tier
from studio import ids
from studio.db.catalog import Commitment, Price, PriceTier, Quote
from studio.db.invoices import Invoice, InvoiceLine
from studio.money import Currency


@dataclass(frozen=True, slots=True)
class Month:
    """A tenant's month, and the invoice that is being drafted of it."""

    tenant_id: UUID
    first_day: date
    currency: Currency
    invoice_id: UUID | None
    now: datetime


def volumes(session: Session, month: Month, price_ids: Collection[UUID]) -> dict[UUID, Volume]:
    """The tiers of those prices that have some, and what other invoices of the month hold of them."""
    tiers = tiers_of(session, price_ids)
    taken: dict[UUID, dict[int, int]] = defaultdict(dict)
    if tiers:
        held = session.execute(
            select(InvoiceLine.price_id, InvoiceLine.tier_from_tokens, func.sum(InvoiceLine.tokens))
            .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
            .where(*_others(month), InvoiceLine.price_id.in_(tiers), InvoiceLine.basis == "")
            .group_by(InvoiceLine.price_id, InvoiceLine.tier_from_tokens)
        )
        for held_id, from_tokens, tokens in held:
            assert held_id is not None
            taken[held_id][from_tokens] = int(tokens)
    return {price_id: Volume(steps, taken[price_id]) for price_id, steps in tiers.items()}


def tiers_of(session: Session, price_ids: Collection[UUID]) -> dict[UUID, tuple[Tier, ...]]:
    """The tiers of those prices that have some, the price's own from 0 on first."""
    steps = session.execute(
        select(PriceTier.price_id, PriceTier.from_tokens, PriceTier.per_million, Price.per_million)
        .join(Price, Price.id == PriceTier.price_id)
        .where(PriceTier.price_id.in_(price_ids))
        .order_by(PriceTier.price_id, PriceTier.from_tokens)
    )
    tiers: dict[UUID, tuple[Tier, ...]] = {}
    for price_id, from_tokens, per_million, first in steps:
        tiers[price_id] = (*tiers.get(price_id, (Tier(0, first),)), Tier(from_tokens, per_million))
    return tiers


def adjustments(session: Session, month: Month, usage: Sequence[Line]) -> list[Adjustment]:
    """What is given back for quotes, then what the month lacks to the minimum commitment."""
    quotes = sorted({line.basis for line in usage if line.basis.startswith(ids.QUOTE)})
    found = [_above_limit(session, month, usage, quote) for quote in quotes]
    limits = [one for one in found if one is not None]
    own = sum((line.amount for line in usage), Decimal(0)) + sum((one.amount for one in limits), Decimal(0))
    lacking = _shortfall(session, month, own)
    return [*limits, *([] if lacking is None else [lacking])]


def lacks_commitment(session: Session, tenant_id: UUID, first_day: date, now: datetime) -> bool:
    """Whether a month without any usage to invoice still lacks something to its minimum commitment."""
    commitment = commitment_of(session, tenant_id, first_day)
    if commitment is None:
        return False
    month = Month(tenant_id, first_day, Currency.parse(commitment.currency), None, now)
    lacking = _shortfall(session, month, Decimal(0))
    return lacking is not None and lacking.amount > 0


def _above_limit(session: Session, month: Month, usage: Sequence[Line], quote: str) -> Adjustment | None:
    """None where the tenant has moved to another currency since: nothing is converted, so there is no limit in it."""
    row = session.get_one(Quote, ids.from_wire(ids.QUOTE, quote))
    if row.currency != month.currency:
        return None
    # A batch may run over the end of a month, so its lines may stand in invoices of two.
    others = _amounts(
        session,
        cancelled.still_bills(),
        Invoice.id != month.invoice_id,
        Invoice.currency == row.currency,
        InvoiceLine.basis == quote,
    )
    adjusted = others.pop(QUOTE_LIMIT, Decimal(0))
    billed = sum((line.amount for line in usage if line.basis == quote), Decimal(0)) + sum(others.values())
    return Adjustment(
        unit=QUOTE_LIMIT,
        variant_id=row.variant_id,
        basis=quote,
        amount=rules.above_limit(row.max_cost, billed, adjusted),
        explanation=rules.explain_limit(quote, row.max_cost, billed, month.currency),
    )


def _shortfall(session: Session, month: Month, own: Decimal) -> Adjustment | None:
    """None for a month without a commitment, or one that is expected to see more usage."""
    commitment = commitment_of(session, month.tenant_id, month.first_day)
    if commitment is None or commitment.currency != month.currency:
        return None
    others = _amounts(session, *_others(month))
    changed, changed_adjusted = re_rated.changes(session, *_others(month))
    adjusted = others.pop(MINIMUM_COMMITMENT, Decimal(0)) + changed_adjusted
    used = own + sum(others.values()) + changed
    own_month = TenantMonth(month.tenant_id, month.first_day)
    if not adjusted and not complete_months.complete(session, [own_month], month.now):
        return None
    return Adjustment(
        unit=MINIMUM_COMMITMENT,
        variant_id=None,
        basis="",
        amount=rules.shortfall(commitment.amount, used, adjusted),
        explanation=rules.explain_shortfall(commitment.amount, used, month.currency),
    )


def _amounts(session: Session, *which: ColumnElement[bool]) -> dict[str, Decimal]:
    """What lines of invoices come to as printed, by unit."""
    query = (
        select(InvoiceLine.unit, func.sum(InvoiceLine.amount))
        .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
        .where(*which)
        .group_by(InvoiceLine.unit)
    )
    return dict(session.execute(query).tuples().all())


def commitment_of(session: Session, tenant_id: UUID, first_day: date) -> Commitment | None:
    """The minimum that a tenant has committed itself to in a month."""
    query = select(Commitment).where(
        Commitment.tenant_id == tenant_id,
        Commitment.valid_from <= first_day,
        Commitment.valid_until.is_(None) | (Commitment.valid_until > first_day),
    )
    return session.scalars(query).one_or_none()


def _others(month: Month) -> tuple[ColumnElement[bool], ...]:
    return (
        Invoice.tenant_id == month.tenant_id,
        Invoice.month == month.first_day,
        cancelled.still_bills(),
        *((Invoice.id != month.invoice_id,) if month.invoice_id is not None else ()),
    )
