"""What two persons do: review drafts, hold a tenant's invoices and release them, drop drafts; and the list of all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from billing import holds, open_invoices, review
from serving.admin.access import BillingCaller, Transaction
from serving.admin.invoices import ApprovalBody
from studio import clock, ids
from studio.db.corrections import Correction
from studio.db.invoices import Invoice
from studio.db.tenancy import Tenant
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

router = APIRouter()

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class ReviewView(BaseModel):
    """A review, by its id. It counts for the draft as it stood; somebody else approves."""

    id: str
    reviewed_by: str


class ReasonBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class HoldView(BaseModel):
    """A hold: nothing of the tenant becomes final while it is open."""

    id: str
    tenant: str
    reason: str
    held_by: str
    held_at: datetime
    released_by: str | None
    release_reason: str | None


class OpenInvoiceView(BaseModel):
    """One thing that is not final, what it waits for and who must act."""

    id: str
    kind: str
    tenant: str
    month: str
    gross: str | None
    currency: str
    waits_for: open_invoices.WaitsFor
    who: str
    since: datetime
    asked_by: str
    reviewed_by: list[str]  # persons, of what it says now
    approved_by: list[str]
    content_sha256: str | None  # what reviews and approvals are of


@router.get("/invoices/open")
def get_open_invoices(session: Transaction) -> list[OpenInvoiceView]:
    """Requests, drafts, corrections, requests for credit and write-offs that are not final, oldest first: what each
    waits for, who has asked, reviewed and approved, and the hash of what they saw."""
    return [
        OpenInvoiceView(
            id=row.id, kind=row.kind, tenant=row.tenant, month=row.month,
            gross=None if row.gross is None else f"{row.gross:.2f}", currency=row.currency, waits_for=row.waits_for,
            who=row.who, since=row.since, asked_by=row.asked_by, reviewed_by=list(row.reviewed_by),
            approved_by=list(row.approved_by), content_sha256=row.content_sha256,
        )
        for row in open_invoices.open_invoices(session)
    ]  # fmt: skip


@router.post("/invoices/{invoice_id}/reviews", status_code=201)
def post_review(invoice_id: str, body: ApprovalBody, caller: BillingCaller, session: Transaction) -> ReviewView:
    """Review a draft at the total you saw. Another person approves it then; a draft that changes has no review."""
    id = _id(ids.INVOICE, invoice_id, "invoice_id")
    review_id = review.review(
        session, invoice_id=id, expected_gross=body.expected_gross, by=caller.actor, now=clock.now()
    )
    tenant_id = session.get_one(Invoice, id).tenant_id
    audit(session, caller.actor, "invoice.review", invoice_id, tenant_id, {"gross": str(body.expected_gross)})
    return ReviewView(id=ids.to_wire(ids.REVIEW, review_id), reviewed_by=caller.actor)


@router.post("/corrections/{correction_id}/reviews", status_code=201)
def post_correction_review(
    correction_id: str, body: ApprovalBody, caller: BillingCaller, session: Transaction
) -> ReviewView:
    """Review the draft of a correction at the total you saw."""
    id = _id(ids.CORRECTION, correction_id, "correction_id")
    review_id = review.review_correction(
        session, correction_id=id, expected_gross=body.expected_gross, by=caller.actor, now=clock.now()
    )
    tenant_id = session.get_one(Correction, id).tenant_id
    audit(session, caller.actor, "correction.review", correction_id, tenant_id, {"gross": str(body.expected_gross)})
    return ReviewView(id=ids.to_wire(ids.REVIEW, review_id), reviewed_by=caller.actor)


@router.post("/corrections/{correction_id}/void", status_code=204)
def post_correction_void(correction_id: str, body: ReasonBody, caller: BillingCaller, session: Transaction) -> None:
    """Drop a correction's draft. It never has a number."""
    id = _id(ids.CORRECTION, correction_id, "correction_id")
    review.drop_correction(session, id)
    tenant_id = session.get_one(Correction, id).tenant_id
    audit(session, caller.actor, "correction.void", correction_id, tenant_id, {"reason": body.reason})


@router.post("/invoices/{invoice_id}/void", status_code=204)
def post_void(invoice_id: str, body: ReasonBody, caller: BillingCaller, session: Transaction) -> None:
    """Drop a draft. It never has a number, and its usage is free for another draft."""
    id = _id(ids.INVOICE, invoice_id, "invoice_id")
    review.drop(session, id)
    tenant_id = session.get_one(Invoice, id).tenant_id
    audit(session, caller.actor, "invoice.void", invoice_id, tenant_id, {"reason": body.reason})


@router.get("/holds")
def get_holds(session: Transaction, tenant: str | None = None, released: bool = False) -> list[HoldView]:
    """Open holds of one tenant or of all, oldest first; with `released` those that are over, too."""
    tenant_id = known_tenant(session, tenant).id if tenant is not None else None
    return [_view(session, hold) for hold in holds.holds(session, tenant_id, is_open=not released)]


@router.post("/tenants/{slug}/holds", status_code=201)
def post_hold(slug: str, body: ReasonBody, caller: BillingCaller, session: Transaction) -> HoldView:
    """Hold a tenant's invoices: nothing of it becomes final until somebody releases it."""
    tenant = known_tenant(session, slug)
    now = clock.now()
    hold_id = holds.hold(session, tenant_id=tenant.id, reason=body.reason, by=caller.actor, now=now)
    audit(session, caller.actor, "invoices.hold", ids.to_wire(ids.HOLD, hold_id), tenant.id, {"reason": body.reason})
    return _view(session, holds.Hold(hold_id, tenant.id, body.reason, caller.actor, now, None, None))


@router.post("/holds/{hold_id}/release")
def post_release(hold_id: str, body: ReasonBody, caller: BillingCaller, session: Transaction) -> HoldView:
    """Release a hold, with the reason why it is in order now."""
    id = _id(ids.HOLD, hold_id, "hold_id")
    released = holds.release(session, hold_id=id, reason=body.reason, by=caller.actor, now=clock.now())
    audit(session, caller.actor, "invoices.release", hold_id, released.tenant_id, {"reason": body.reason})
    return _view(session, released)


def _view(session: Transaction, hold: holds.Hold) -> HoldView:
    return HoldView(
        id=ids.to_wire(ids.HOLD, hold.id), tenant=session.get_one(Tenant, hold.tenant_id).slug, reason=hold.reason,
        held_by=hold.held_by, held_at=hold.held_at, released_by=hold.released_by, release_reason=hold.release_reason,
    )  # fmt: skip


def _id(prefix: str, text: str, param: str) -> UUID:
    try:
        return ids.from_wire(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error
