"""Tax: how a supply is treated, the dated rate of a category, and the tax on a net amount.

The code looks up; the tables know the law (`tax_treatments`, `tax_rates`, `fx_rates`, each row with its source).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from studio.db.documents import TaxTreatment
from studio.db.tenancy import TaxRate
from studio.errors import Conflict
from studio.money import CENT, Money, RoundingMode

# ISO 3166 codes of the member states. The prefix of a VAT id is the code, but for Greece (EL).
EU = frozenset(
    (
        *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU"),
        *("IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
    )
)
_LANGUAGES = ("en", "de", "zh")


class TaxRateMissing(Conflict):
    """The table has no rate for the country, category and day."""

    default_code = "tax_rate_missing"


class TaxTreatmentMissing(Conflict):
    """The table does not say how a supply of this seller to this buyer is taxed."""

    default_code = "tax_treatment_missing"


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a supply is taxed, and the words that the invoice must carry for it."""

    category: str  # EN 16931: S, AE, G or O
    rate: Decimal
    exemption_code: str | None
    wording: MappingProxyType[str, str]  # by language

    @property
    def reason(self) -> str | None:
        """The wording as one text, None where no reason is needed."""
        words = [self.wording[language] for language in _LANGUAGES if language in self.wording]
        return " / ".join(words) or None

    def details(self) -> dict[str, Any]:
        """What an invoice keeps of it beside category and rate."""
        return {"exemption_code": self.exemption_code, "reason": self.reason} if self.category != "S" else {}


def treatment_on(
    session: Session, *, seller_country: str, buyer_country: str, day: date, category: str | None = None
) -> Treatment:
    """How a supply on that day is taxed; TaxTreatmentMissing rather than a guess.

    A `category` that an operator has written into the tenant's terms counts before what seller and buyer suggest.
    """
    rows = session.scalars(_treatments(seller_country, day)).all()
    if category is None:
        areas = [buyer_country, *(["EU"] if {seller_country, buyer_country} <= EU else []), "*"]
        found = sorted((row for row in rows if row.buyer_area in areas), key=lambda row: areas.index(row.buyer_area))
    else:
        found = [row for row in rows if row.category == category]
    if not found:
        wanted = f"category {category}" if category else f"a buyer in {buyer_country}"
        raise TaxTreatmentMissing(
            f"There is no tax treatment for a seller in {seller_country} and {wanted} on {day}: add a row to"
            " tax_treatments in catalog/legal_entities.yaml."
        )
    row = found[0]
    rate = rate_on(session, country=seller_country, category=row.category, day=day)
    return Treatment(row.category, rate, row.exemption_code, MappingProxyType(dict(row.wording)))


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


def in_euro(tax: Decimal, units_per_euro: Decimal) -> Decimal:
    """A tax amount of another currency in EUR, rounded half up: what the return to the tax office says."""
    return (tax / units_per_euro).quantize(CENT, ROUND_HALF_UP)


def _treatments(seller_country: str, day: date) -> Select[TaxTreatment]:
    return select(TaxTreatment).where(
        TaxTreatment.seller_country == seller_country,
        TaxTreatment.valid_from <= day,
        or_(TaxTreatment.valid_until.is_(None), TaxTreatment.valid_until > day),
    )
