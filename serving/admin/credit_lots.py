"""Credit: lots that a tenant paid for or was given. Invoices use them as they become final."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from billing import credit_lots
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.tenants import audit, find_tenant

router = APIRouter(prefix="/tenants/{slug}/credits")


class CreditBody(BaseModel):
    """A new lot in the tenant's currency: `prepaid` has been paid for, `promotion` is a gift."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["prepaid", "promotion"]
    amount: Decimal = Field(gt=0, max_digits=18, decimal_places=2)
    expires_on: date | None = Field(None, description="its last day, in the zone of the legal entity")
    reason: str = Field(min_length=1, max_length=500)


class CreditView(BaseModel):
    """A lot and what is left of it."""

    id: str
    kind: str
    currency: str
    amount: str
    remaining: str
    granted_on: date
    expires_on: date | None
    granted_by: str
    reason: str


@router.get("")
def get_credits(slug: str, session: Transaction) -> list[CreditView]:
    """Every lot of the tenant, oldest first."""
    tenant = find_tenant(session, slug)
    return [_view(standing) for standing in credit_lots.lots_of(session, tenant.id)]


@router.post("", status_code=201)
def post_credit(slug: str, body: CreditBody, caller: BillingCaller, session: Transaction) -> CreditView:
    """Grant a lot. It is booked at once, and never taken back: it is used, or it expires."""
    tenant = find_tenant(session, slug)
    lot = credit_lots.grant(
        session, tenant_id=tenant.id, kind=body.kind, amount=body.amount, expires_on=body.expires_on, by=caller.actor,
        reason=body.reason, now=clock.now(),
    )  # fmt: skip
    lot_id = ids.to_wire(ids.CREDIT, lot.id)
    details = {"kind": body.kind, "amount": f"{body.amount} {lot.currency}", "reason": body.reason}
    audit(session, caller.actor, "credit.grant", lot_id, tenant.id, details)
    return _view(credit_lots.LotStanding(lot, lot.remaining, caller.actor, body.reason))


def _view(standing: credit_lots.LotStanding) -> CreditView:
    lot = standing.lot
    return CreditView(
        id=ids.to_wire(ids.CREDIT, lot.id),
        kind=lot.kind,
        currency=lot.currency,
        amount=f"{standing.amount:.2f}",
        remaining=f"{lot.remaining:.2f}",
        granted_on=lot.granted_on,
        expires_on=lot.expires_on,
        granted_by=standing.granted_by,
        reason=standing.reason,
    )
