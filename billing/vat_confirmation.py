"""Before a draft with reverse charge: ask the EU's register for the buyer's VAT id, where a register is configured.

The answer is kept in a transaction of its own: evidence stays, whatever becomes of the draft.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from billing import tax, vat_ids
from billing.vat_ids import Registry
from studio import clock
from studio.db.tenancy import LegalEntity, TenantBilling


@dataclass(frozen=True, slots=True)
class Register:
    """The register of this installation; None: only the form of VAT ids is checked."""

    vies: Registry | None = None


def confirm_buyer(session: Session, register: Register, tenant_id: UUID, month: date, now: datetime) -> bool | None:
    """What the register says of a tenant's VAT id; None where there is nothing to ask. RegistryUnavailable."""
    terms = session.scalars(
        select(TenantBilling)
        .where(
            TenantBilling.tenant_id == tenant_id,
            TenantBilling.valid_from < clock.next_month(month),
            or_(TenantBilling.valid_until.is_(None), TenantBilling.valid_until >= clock.next_month(month)),
        )
        .limit(1)
    ).one_or_none()
    if register.vies is None or terms is None:
        return None
    seller = session.get_one(LegalEntity, terms.legal_entity_id)
    buyer_country, given = terms.buyer.get("country"), str(terms.buyer.get("vat_id") or "")
    if seller.country not in tax.EU or buyer_country not in tax.EU or buyer_country == seller.country:
        return None
    try:
        vat_id = vat_ids.normalized(given)
    except ValueError:
        return None  # drafting refuses it with a sentence of its own
    return vat_ids.confirm(session, register.vies, tenant_id, vat_id, seller.details.get("vat_id"), now)
