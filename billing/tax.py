"""Tax: the dated rate of a category, and the tax on a net amount. The code looks up; the table knows the law."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from studio.db.tenancy import TaxRate
from studio.errors import Conflict
from studio.money import Money, RoundingMode


class TaxRateMissing(Conflict):
    """The table has no rate for the country, category and day."""

    default_code = "tax_rate_missing"


def rate_on(session: Session, *, country: str, category: str, day: date) -> Decimal:
    """The rate on the day of supply, as a fraction (0.1900); TaxRateMissing rather than a guess."""
    query = select(TaxRate.rate).where(
        TaxRate.country == country,
        TaxRate.category == category,
        TaxRate.valid_from <= day,
        or_(TaxRate.valid_until.is_(None), TaxRate.valid_until > day),
    )
    rate = session.scalars(query).one_or_none()
    if rate is None:
        raise TaxRateMissing(f"There is no tax rate for category {category} in {country} on {day}.")
    return rate


def tax_on(net: Money, rate: Decimal, mode: RoundingMode) -> Money:
    """Tax on the sum of rounded lines, rounded once: never the sum of taxes on lines."""
    return Money(net.amount * rate, net.currency).rounded(mode)
