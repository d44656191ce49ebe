"""Rates of exchange: units of a currency for one EUR, as the average of a month (§ 16 (6) UStG).

The ministry's published average counts first; until somebody enters it (`catalog/legal_entities.yaml`), the mean of
the month's ECB reference rates stands in, which has the same value. A rate that nobody published is never invented.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio import clock
from studio.db.documents import FxRate
from studio.errors import Conflict

if TYPE_CHECKING:
    from currency_converter import CurrencyConverter

_PLACES = Decimal("0.0001")  # as the ministry publishes


class ExchangeRateMissing(Conflict):
    """Neither published nor derivable yet: the draft waits."""

    default_code = "exchange_rate_missing"


def month_rate(session: Session, quote: str, month: date) -> FxRate:
    """The month's average of `quote`; derived and kept where only the ECB's days are known. ExchangeRateMissing."""
    query = select(FxRate).where(FxRate.quote == quote, FxRate.month == month)
    rows = {row.source: row for row in session.scalars(query)}
    if "BMF" in rows or "ECB" in rows:
        return rows.get("BMF") or rows["ECB"]
    days = ecb_days(quote, month)
    if not days:
        raise ExchangeRateMissing(
            f"The average rate of EUR/{quote} for {month:%B %Y} is not known yet, so the VAT in EUR cannot be printed."
            " Enter the published one under fx_rates in catalog/legal_entities.yaml, or update the package"
            " CurrencyConverter when the month is over; then order the invoice again."
        )
    derivation = f"mean of {len(days)} ECB reference rates, {min(days)} to {max(days)}, from CurrencyConverter"
    values = {"quote": quote, "month": month, "rate": mean(days), "source": "ECB", "derivation": derivation}
    session.execute(insert(FxRate).values(**values).on_conflict_do_nothing())
    return session.scalars(query.where(FxRate.source == "ECB")).one()


def mean(days: dict[date, Decimal]) -> Decimal:
    """The average of daily rates with four decimals."""
    return (sum(days.values(), Decimal(0)) / len(days)).quantize(_PLACES, ROUND_HALF_UP)


def ecb_days(quote: str, month: date) -> dict[date, Decimal]:
    """The ECB's rates of a whole month by day; empty while the month is not complete in the data."""
    from currency_converter import RateNotFoundError

    converter = _converter()
    if quote not in converter.currencies:
        return {}
    end = clock.next_month(month)
    last_weekday = max(day for back in (1, 2, 3) if (day := end - timedelta(days=back)).weekday() < 5)
    if not converter.bounds[quote].first_date <= month <= last_weekday <= converter.bounds[quote].last_date:
        return {}
    days = {}
    for offset in range((end - month).days):
        day = month + timedelta(days=offset)
        try:
            days[day] = Decimal(converter.convert(1, "EUR", quote, date=day))
        except RateNotFoundError:  # a week-end or a holiday
            continue
    return days


@cache
def _converter() -> CurrencyConverter:
    """0.6 s of reading, so once. Its own fallback draws a line between two days: an invented rate, never used."""
    from currency_converter import CurrencyConverter

    return CurrencyConverter(decimal=True, fallback_on_missing_rate=False, fallback_on_wrong_date=False)
