"""What is owed: invoices with their payment state, ageing, reminders, and write-offs by two persons."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import dunning, payment_orders, payment_reference, receivables, write_offs
from billing.receivables import PaymentState
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.db.tenancy import LegalEntity
from studio.errors import InvalidRequest, NotFound
from studio.tenants import audit, known_tenant

router = APIRouter()


class ReceivableView(BaseModel):
    """A final invoice with what is open of it. `corrected` is negative where corrections took back."""

    invoice_id: str
    tenant: str
    number: str
    reference: str
    state: PaymentState
    currency: str
    issued_on: date
    due_on: date
    days_overdue: int
    gross: str
    corrected: str
    credit: str
    paid: str
    written_off: str
    open: str


class AgeView(BaseModel):
    """What a tenant owes in one currency, by days after the due date; exact decimal text."""

    tenant: str
    legal_entity: str
    currency: str
    not_due: str
    days_1_30: str
    days_31_60: str
    days_61_90: str
    days_over_90: str
    total: str
    owed_by_us: str


class NoticeView(BaseModel):
    """A reminder. `mailed_at` is null until the mail server took it; without mail a person sends it."""

    id: str
    invoice_id: str
    tenant: str
    number: str
    level: int
    name: str
    currency: str
    amount: str
    due_on: date
    proposed_on: date
    mailed_at: datetime | None


class WriteOffBody(BaseModel):
    """What is given up; absent: all that is open."""

    model_config = ConfigDict(extra="forbid")

    amount: Decimal | None = Field(None, gt=0, max_digits=18, decimal_places=2)
    reason: str = Field(min_length=1, max_length=500)


class WriteOffView(BaseModel):
    """A write-off; `is_approved` is null as long as nobody has decided."""

    id: str
    invoice_id: str
    number: str
    amount: str
    currency: str
    reason: str
    proposed_by: str
    is_approved: bool | None
    decided_by: str | None


@router.get("/receivables")
def get_receivables(
    session: Transaction,
    tenant: str | None = None,
    unsettled: Annotated[bool, Query(description="only those of which something is open, or that we owe")] = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[ReceivableView]:
    """Final invoices with their payment state, newest first."""
    tenant_id = known_tenant(session, tenant).id if tenant is not None else None
    found = receivables.standings(session, tenant_id=tenant_id, only_unsettled=unsettled, limit=limit)
    today = _today(session)
    return [
        ReceivableView(
            invoice_id=ids.to_wire(ids.INVOICE, one.invoice_id),
            tenant=one.tenant,
            number=one.number,
            reference=payment_reference.of_invoice(one.number),
            state=one.state(today[one.legal_entity_id]),
            currency=one.currency,
            issued_on=one.issued_on,
            due_on=one.due_on,
            days_overdue=one.days_overdue(today[one.legal_entity_id]) if one.open > 0 else 0,
            gross=str(one.gross),
            corrected=str(one.corrected),
            credit=str(one.credit),
            paid=str(one.paid),
            written_off=str(one.written_off),
            open=str(one.open),
        )
        for one in found
    ]


@router.get("/receivables/ageing")
def get_ageing(session: Transaction) -> list[AgeView]:
    """Open amounts of each tenant by days after the due date."""
    today = max(_today(session).values(), default=clock.now().date())
    return [
        AgeView(
            tenant=one.tenant,
            legal_entity=one.legal_entity_id,
            currency=one.currency,
            **{name: str(getattr(one, name)) for name in (*receivables.BUCKETS, "total", "owed_by_us")},
        )
        for one in receivables.ageing(receivables.standings(session, only_unsettled=True), today)
    ]


@router.get("/receivables/reminders")
def get_reminders(session: Transaction, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> list[NoticeView]:
    """Reminders that were proposed, newest first."""
    return [
        NoticeView(
            id=ids.to_wire(ids.DUNNING_NOTICE, one.id),
            invoice_id=ids.to_wire(ids.INVOICE, one.invoice_id),
            tenant=one.tenant,
            number=one.number,
            level=one.level,
            name=one.name,
            currency=one.currency,
            amount=str(one.amount),
            due_on=one.due_on,
            proposed_on=one.proposed_on,
            mailed_at=one.mailed_at,
        )
        for one in dunning.notices(session, limit)
    ]


@router.post("/invoices/{invoice_id}/write-offs", status_code=201)
def post_write_off(invoice_id: str, body: WriteOffBody, caller: BillingCaller, session: Transaction) -> WriteOffView:
    """Propose to give up what an invoice owes. It books nothing: another person has to approve."""
    write_off_id = write_offs.propose(
        session, _id(ids.INVOICE, invoice_id, "invoice_id"), body.amount, caller.actor, body.reason, clock.now()
    )
    return _decided(session, caller.actor, "write_off.propose", write_off_id)


@router.get("/write-offs")
def get_write_offs(session: Transaction, undecided: bool = False) -> list[WriteOffView]:
    """Write-offs, newest first."""
    return [_view(one) for one in write_offs.proposals(session, only_open=undecided)]


@router.post("/write-offs/{write_off_id}/approval", status_code=201)
def post_approval(write_off_id: str, caller: BillingCaller, session: Transaction) -> WriteOffView:
    """Another person's yes; it is booked at once."""
    id = _id(ids.WRITE_OFF, write_off_id, "write_off_id")
    write_offs.approve(session, id, caller.actor, clock.now())
    return _decided(session, caller.actor, "write_off.approve", id)


@router.post("/write-offs/{write_off_id}/rejection", status_code=201)
def post_rejection(write_off_id: str, caller: BillingCaller, session: Transaction) -> WriteOffView:
    """A no; who proposed it may take it back so."""
    id = _id(ids.WRITE_OFF, write_off_id, "write_off_id")
    write_offs.reject(session, id, caller.actor, clock.now())
    return _decided(session, caller.actor, "write_off.reject", id)


def _today(session: Session) -> dict[str, date]:
    now = clock.now()
    return {seller.id: payment_orders.today(seller, now) for seller in session.scalars(select(LegalEntity)).all()}


def _id(prefix: str, text: str, param: str) -> UUID:
    try:
        return ids.from_wire(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error


def _decided(session: Session, actor: str, action: str, write_off_id: UUID) -> WriteOffView:
    found = [one for one in write_offs.proposals(session) if one.id == write_off_id]
    if not found:
        raise NotFound("there is no such write-off")
    view = _view(found[0])
    audit(session, actor, action, view.id, None, {"amount": f"{view.amount} {view.currency}", "invoice": view.number})
    return view


def _view(one: write_offs.Proposal) -> WriteOffView:
    return WriteOffView(
        id=ids.to_wire(ids.WRITE_OFF, one.id),
        invoice_id=ids.to_wire(ids.INVOICE, one.invoice_id),
        number=one.number,
        amount=str(one.amount),
        currency=one.currency,
        reason=one.reason,
        proposed_by=one.proposed_by,
        is_approved=one.is_approved,
        decided_by=one.decided_by,
    )
