"""Credit: lots that a tenant paid for or was given. Invoices use them as they become final."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from billing import credit_lots, credit_requests
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

router = APIRouter()


class CreditBody(BaseModel):
    """A new lot in the tenant's currency: `prepaid` has been paid for, `promotion` is a gift."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["prepaid", "promotion"]
    amount: Decimal = Field(gt=0, max_digits=18, decimal_places=2)
    expires_on: date | None = Field(None, description="its last day, in the zone of the legal entity")
    reason: str = Field(min_length=1, max_length=500)


class DeclineBody(BaseModel):
    """Why not."""

    model_config = ConfigDict(extra="forbid")

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


class CreditRequestView(BaseModel):
    """A lot that one person has asked for; another approves it."""

    id: str
    kind: str
    amount: str
    requested_by: str


@router.get("/tenants/{slug}/credits")
def get_credits(slug: str, session: Transaction) -> list[CreditView]:
    """Every lot of the tenant, oldest first."""
    tenant = known_tenant(session, slug)
    return [_view(standing) for standing in credit_lots.lots_of(session, tenant.id)]


@router.post("/tenants/{slug}/credits", status_code=201)
def post_credit(slug: str, body: CreditBody, caller: BillingCaller, session: Transaction) -> CreditView:
    """Grant a lot. It is booked at once, and never taken back: it is used, or it expires.

    A large one is asked for (`credit-requests`) and approved by somebody else: 409 `second_person_needed`.
    """
    tenant = known_tenant(session, slug)
    lot = credit_lots.grant(
        session, tenant_id=tenant.id, kind=body.kind, amount=body.amount, expires_on=body.expires_on, by=caller.actor,
        reason=body.reason, now=clock.now(),
    )  # fmt: skip
    lot_id = ids.to_wire(ids.CREDIT, lot.id)
    details = {"kind": body.kind, "amount": f"{body.amount} {lot.currency}", "reason": body.reason}
    audit(session, caller.actor, "credit.grant", lot_id, tenant.id, details)
    return _view(credit_lots.LotStanding(lot, lot.remaining, caller.actor, body.reason))


@router.post("/tenants/{slug}/credit-requests", status_code=201)
def post_credit_request(slug: str, body: CreditBody, caller: BillingCaller, session: Transaction) -> CreditRequestView:
    """Ask for a lot of any size. Nothing is booked until somebody else approves it."""
    tenant = known_tenant(session, slug)
    request_id = credit_requests.request(
        session, tenant_id=tenant.id, kind=body.kind, amount=body.amount, expires_on=body.expires_on, by=caller.actor,
        reason=body.reason, now=clock.now(),
    )  # fmt: skip
    wire_id = ids.to_wire(ids.CREDIT_REQUEST, request_id)
    details = {"kind": body.kind, "amount": str(body.amount), "reason": body.reason}
    audit(session, caller.actor, "credit.request", wire_id, tenant.id, details)
    return CreditRequestView(id=wire_id, kind=body.kind, amount=f"{body.amount:.2f}", requested_by=caller.actor)


@router.post("/credit-requests/{request_id}/approvals", status_code=201)
def post_credit_approval(request_id: str, caller: BillingCaller, session: Transaction) -> CreditView:
    """Grant a lot that somebody else asked for. It is booked at once."""
    lot = credit_requests.approve(session, _request_id(request_id), by=caller.actor, now=clock.now())
    lot_id = ids.to_wire(ids.CREDIT, lot.id)
    details = {"request": request_id, "amount": f"{lot.remaining} {lot.currency}"}
    audit(session, caller.actor, "credit.grant", lot_id, lot.tenant_id, details)
    (standing,) = (one for one in credit_lots.lots_of(session, lot.tenant_id) if one.lot.id == lot.id)
    return _view(standing)


@router.post("/credit-requests/{request_id}/declines", status_code=201)
def post_credit_decline(
    request_id: str, body: DeclineBody, caller: BillingCaller, session: Transaction
) -> CreditRequestView:
    """Decline a request, or take back one's own. Nothing is booked; a new request may follow."""
    asked = credit_requests.decline(
        session, _request_id(request_id), by=caller.actor, reason=body.reason, now=clock.now()
    )
    audit(session, caller.actor, "credit.decline", request_id, asked.tenant_id, {"reason": body.reason})
    return CreditRequestView(
        id=request_id, kind=asked.kind, amount=f"{asked.amount:.2f}", requested_by=asked.requested_by
    )


def _request_id(wire_id: str) -> UUID:
    try:
        return ids.from_wire(ids.CREDIT_REQUEST, wire_id)
    except ValueError as error:
        raise InvalidRequest(str(error), param="request_id") from error


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
