"""Corrections of final invoices: order one, look at it, approve it, fetch its PDF."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from billing import correction_order
from billing.approval import approve_correction
from billing.correction import CorrectionType
from billing.documents import kinds
from serving.admin.access import BillingCaller, Transaction
from serving.admin.invoices import ApprovalBody
from serving.documents import download
from serving.routes.stores import Objects
from studio import clock, ids
from studio.db.corrections import Correction, CorrectionDocument, CorrectionLine
from studio.db.invoices import Invoice
from studio.errors import InvalidRequest, NotFound
from studio.tenants import audit

router = APIRouter()

Kind = Literal["credit_note", "cancellation", "additional_invoice"]
_TYPES: dict[Kind, CorrectionType] = {
    "credit_note": CorrectionType.CREDIT_NOTE,
    "cancellation": CorrectionType.CANCELLATION,
    "additional_invoice": CorrectionType.ADDITIONAL_INVOICE,
}
_KINDS = {type: kind for kind, type in _TYPES.items()}


class CorrectedLine(BaseModel):
    """How much, net, is taken back of a line of the invoice, or added to it."""

    model_config = ConfigDict(extra="forbid")

    line_no: int = Field(ge=1, le=2**31 - 1)
    amount: Decimal = Field(gt=0, max_digits=18, decimal_places=2)


class CorrectionBody(BaseModel):
    """A correction. A cancellation takes back all that is left and names no lines."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    lines: Annotated[list[CorrectedLine], Field(max_length=1_000)] = []
    reason: str = Field(min_length=1, max_length=500, description="printed on the document")


class PriceRowView(BaseModel):
    """Tokens at one price row, as a re-rating found them."""

    price_id: str | None
    basis: str
    tier_from_tokens: int
    tokens: int
    per_million: str
    amount: str


class CorrectionLineView(BaseModel):
    """One corrected line; amounts are exact decimal text. What a re-rating came to says why, and by which prices."""

    line_no: int
    exact: str
    amount: str
    explanation: str
    rated: list[PriceRowView]
    now: list[PriceRowView]


class CorrectionView(BaseModel):
    """A correction. Amounts are positive: what it takes back, or for an `additional_invoice` adds."""

    id: str
    invoice_id: str
    invoice_number: str
    kind: Kind
    type_code: str
    state: str
    number: str | None
    issued_on: date | None
    currency: str
    net: str
    tax: str
    gross: str
    reason: str
    ordered_by: str
    of_rerating: bool
    has_document: bool
    lines: list[CorrectionLineView]


class CorrectionApproval(BaseModel):
    """The act, by its id: what the correcting job needs."""

    id: str
    correction_id: str
    approved_by: str


@router.post("/invoices/{invoice_id}/corrections", status_code=201)
def post_correction(
    invoice_id: str, body: CorrectionBody, caller: BillingCaller, session: Transaction
) -> CorrectionView:
    """Order a correction: a draft, which binds nobody until it is approved at its total."""
    wanted = {line.line_no: line.amount for line in body.lines}
    if len(wanted) != len(body.lines):
        raise InvalidRequest("Name each line once.", param="lines")
    correction_id = correction_order.order(
        session, invoice_id=_id(ids.INVOICE, invoice_id, "invoice_id"), type=_TYPES[body.kind], wanted=wanted,
        reason=body.reason, by=caller.actor, now=clock.now(),
    )  # fmt: skip
    row = session.get_one(Correction, correction_id)
    details = {"kind": body.kind, "gross": f"{row.gross} {row.currency}", "reason": body.reason}
    audit(session, caller.actor, "invoice.correct", invoice_id, row.tenant_id, details)
    return correction_view(session, row)


@router.get("/invoices/{invoice_id}/corrections")
def get_corrections(invoice_id: str, session: Transaction) -> list[CorrectionView]:
    """The corrections of an invoice, drafts too, oldest first."""
    of_invoice = Correction.invoice_id == _id(ids.INVOICE, invoice_id, "invoice_id")
    query = select(Correction).where(of_invoice).order_by(Correction.ordered_at, Correction.id)
    return [correction_view(session, row) for row in session.scalars(query).all()]


@router.get("/corrections/{correction_id}")
def get_correction(correction_id: str, session: Transaction) -> CorrectionView:
    """One correction with its lines."""
    return correction_view(session, _find(session, correction_id))


@router.post("/corrections/{correction_id}/approvals", status_code=201)
def post_correction_approval(
    correction_id: str, body: ApprovalBody, caller: BillingCaller, session: Transaction
) -> CorrectionApproval:
    """Approve a correction at the total you saw; the job then gives it a number, books it and renders it."""
    row = _find(session, correction_id)
    approval_id = approve_correction(
        session, correction_id=row.id, expected_gross=body.expected_gross, by=caller.actor, now=clock.now()
    )
    details = {"gross": str(body.expected_gross)}
    audit(session, caller.actor, "correction.approve", correction_id, row.tenant_id, details)
    wire_id = ids.to_wire(ids.APPROVAL, approval_id)
    return CorrectionApproval(id=wire_id, correction_id=correction_id, approved_by=caller.actor)


@router.get("/corrections/{correction_id}/document", response_class=Response)
def get_correction_document(
    correction_id: str, session: Transaction, store: Objects, format: kinds.Kind = "pdf"
) -> Response:
    """A document of a final correction, as of an invoice."""
    row = _find(session, correction_id)
    return download(store, session.get(CorrectionDocument, (row.id, format)), row.number, format)


def _id(prefix: str, text: str, param: str) -> UUID:
    try:
        return ids.from_wire(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error


def _find(session: Transaction, correction_id: str) -> Correction:
    row = session.get(Correction, _id(ids.CORRECTION, correction_id, "correction_id"))
    if row is None:
        raise NotFound(f"there is no correction {correction_id}")
    return row


def correction_view(session: Transaction, row: Correction) -> CorrectionView:
    """A correction as the API shows it."""
    invoice_number = session.get_one(Invoice, row.invoice_id).number
    assert invoice_number is not None
    return CorrectionView(
        id=ids.to_wire(ids.CORRECTION, row.id),
        invoice_id=ids.to_wire(ids.INVOICE, row.invoice_id),
        invoice_number=invoice_number,
        kind=_KINDS[CorrectionType(row.type)],
        type_code=row.type,
        state=row.state,
        number=row.number,
        issued_on=row.issued_on,
        currency=row.currency,
        net=str(row.net),
        tax=str(row.tax),
        gross=str(row.gross),
        reason=row.reason,
        ordered_by=row.ordered_by,
        of_rerating=row.rerate_no is not None,
        has_document=session.get(CorrectionDocument, (row.id, "pdf")) is not None,
        lines=[_line_view(line) for line in correction_order.lines_of(session, row.id)],
    )


def _line_view(line: CorrectionLine) -> CorrectionLineView:
    return CorrectionLineView(
        line_no=line.line_no,
        exact=f"{line.exact:f}",
        amount=str(line.amount),
        explanation=line.explanation,
        rated=[PriceRowView(**row) for row in line.prices.get("rated", [])],
        now=[PriceRowView(**row) for row in line.prices.get("now", [])],
    )
