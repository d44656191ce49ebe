"""In which mode the invoices of a price list are rounded. Named by the catalog's price lists, dated by month."""

from __future__ import annotations

from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from studio.db.catalog import RoundingOfList
from studio.money import Currency, RoundingMode

UNLESS_NAMED = RoundingMode.HALF_UP  # what German accountants and recipients recompute


def mode_of(session: Session, currency: Currency, month: date) -> RoundingMode:
    """That of the newest row that holds in the month; whatever day its invoice is made on."""
    newest = (
        select(RoundingOfList.mode)
        .where(RoundingOfList.currency == currency, RoundingOfList.valid_from <= month)
        .order_by(RoundingOfList.valid_from.desc())
        .limit(1)
    )
    named = session.scalar(newest)
    return UNLESS_NAMED if named is None else RoundingMode(named)
