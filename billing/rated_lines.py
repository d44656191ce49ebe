"""Rated lines: each row of `usage_daily` multiplied once with its price and kept for ever.

The multiplication itself is `rating.py`. Rating a seal again finds its lines there and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import rating, windows
from billing.windows import SealKey
from studio.db.catalog import Price
from studio.db.invoices import RatedLine
from studio.db.usage import UsageDaily


@dataclass(frozen=True, slots=True)
class Line:
    """A rated line as reports show it."""

    tenant_id: UUID
    seal_no: int
    variant_id: str
    unit: str
    billing_day: date
    basis: str
    currency: str
    tokens: int
    per_million: Decimal
    amount: Decimal

    @property
    def explanation(self) -> str:
        """The line in words."""
        return rating.explain(self.tokens, self.unit, self.per_million, self.currency)


def rate_seal(session: Session, key: SealKey) -> int:
    """Rate a counted seal; how many lines it has. The seal becomes `rated`."""
    seal = windows.lock(session, key)
    windows.require_state(seal, ("counted", "rated"), "Rating")
    query = (
        select(UsageDaily, Price.per_million)
        .join(Price, Price.id == UsageDaily.price_id)
        .where(
            UsageDaily.window_day == key.window_day,
            UsageDaily.tenant_id == key.tenant_id,
            UsageDaily.seal_no == key.seal_no,
        )
    )
    lines = [_rated(daily, per_million) for daily, per_million in session.execute(query)]
    if lines:
        session.execute(insert(RatedLine).on_conflict_do_nothing(constraint="uq_rated_lines"), lines)
    windows.move(session, seal, "rated")
    return len(lines)


def rated_tokens(session: Session, key: SealKey) -> int:
    """All tokens rated for a seal."""
    query = select(func.coalesce(func.sum(RatedLine.tokens), 0)).where(
        RatedLine.window_day == key.window_day,
        RatedLine.tenant_id == key.tenant_id,
        RatedLine.seal_no == key.seal_no,
    )
    return int(session.scalars(query).one())


def lines_of(session: Session, window_day: date) -> list[Line]:
    """The rated lines of a window day, over all tenants and seals."""
    columns = [RatedLine.__table__.c[field.name] for field in fields(Line)]
    query = select(*columns).where(RatedLine.window_day == window_day).order_by(*columns[:6])
    return [Line(**row) for row in session.execute(query).mappings()]


def _rated(daily: UsageDaily, per_million: Decimal) -> dict[str, object]:
    return {
        "window_day": daily.window_day,
        "tenant_id": daily.tenant_id,
        "seal_no": daily.seal_no,
        "variant_id": daily.variant_id,
        "unit": daily.unit,
        "price_id": daily.price_id,
        "billing_day": daily.billing_day,
        "basis": daily.basis,
        "legal_entity_id": daily.legal_entity_id,
        "currency": daily.currency,
        "tokens": daily.tokens,
        "per_million": per_million,
        "amount": rating.rate(daily.tokens, per_million),
        "code_version": rating.CODE_VERSION,
    }
