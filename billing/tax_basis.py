"""How the supply of an invoice is taxed, looked up once, as it is drafted; from then on it is in the invoice's row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from billing import exchange_rate, tax, vat_ids
from billing.vat_ids import BuyerVatIdInvalid
from studio.db.tenancy import LegalEntity, TenantBilling


@dataclass(frozen=True, slots=True)
class TaxBasis:
    """Category, rate (a fraction) and what else the document must say: `invoices.tax_details`."""

    category: str
    rate: Decimal
    details: dict[str, Any]


def basis(
    session: Session, seller: LegalEntity, terms: TenantBilling, currency: str, day: date, now: datetime
) -> TaxBasis:
    """The basis of a supply whose last day is `day`. Conflict where the tables, the buyer or a rate are not ready."""
    buyer_country = str(terms.buyer.get("country") or seller.country)
    treatment = tax.treatment_on(
        session, seller_country=seller.country, buyer_country=buyer_country, day=day, category=terms.tax_category
    )
    details = treatment.details()
    if treatment.category == "AE":
        vat_id = vat_ids.require_form(session, terms.tenant_id, terms.buyer, now)
        if vat_ids.is_refused(session, terms.tenant_id, vat_id):
            raise BuyerVatIdInvalid(f"The EU's register says that {vat_id} is not valid: correct the buyer.")
    if seller.country in tax.EU and currency != "EUR" and treatment.rate:
        month = day.replace(day=1)
        rate = exchange_rate.month_rate(session, currency, month)
        details["euro"] = {
            "units_per_euro": str(rate.rate),
            "month": month.isoformat(),
            "source": rate.source,
            "derivation": rate.derivation,
        }
    return TaxBasis(treatment.category, treatment.rate, details)
