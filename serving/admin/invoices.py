"""Invoices: ask for one, look at it, approve it, fetch its PDF. Dagster does the work in between."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from billing import invoice_again, invoice_requests
from billing.approval import approve
from billing.documents.kinds import Kind
from serving.admin.access import BillingCaller, Transaction
from serving.documents import download
from serving.routes.stores import Objects
from studio import clock, ids
from studio.db.invoices import Invoice, InvoiceDocument, InvoiceLine, InvoiceRequest
from studio.db.tenancy import Tenant
from studio.errors import InvalidRequest, NotFound
from studio.tenants import audit, known_tenant

router = APIRouter(prefix="/invoices")


class InvoiceOrder(BaseModel):
    """Ask for an invoice over what a tenant's month has and no invoice holds yet."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    month: str = Field(pattern=r"^\d{4}-\d{2}$")
    reason: str = Field(min_length=1)


class InvoiceAgain(BaseModel):
    """Ask for a new invoice over the usage of a cancelled one."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1)


class InvoiceOrderView(BaseModel):
    """An order and what became of it."""

    id: str
    month: str
    answer: str | None
    invoice_id: str | None


class LineView(BaseModel):
    """One line; amounts are exact decimal text."""

    line_no: int
    model: str  # empty for a minimum commitment
    unit: str
    tokens: int
    per_million: str
    exact: str
    amount: str
    explanation: str


class InvoiceView(BaseModel):
    """An invoice with its lines."""

    id: str
    tenant: str
    legal_entity: str
    state: str
    number: str | None
    month: str
    period_from: date
    period_until: date
    currency: str
    net: str
    tax_rate: str
    tax: str
    gross: str
    prepaid: str  # paid from credit as it became final
    has_document: bool
    lines: list[LineView]


class ApprovalBody(BaseModel):
    """A person's yes to exactly this total."""

    model_config = ConfigDict(extra="forbid")

    expected_gross: Decimal


class ApprovalView(BaseModel):
    """The act, by its id: what the finalising job needs."""

    id: str
    invoice_id: str
    approved_by: str


@router.post("/orders", status_code=201)
def post_order(body: InvoiceOrder, caller: BillingCaller, session: Transaction) -> InvoiceOrderView:
    """Order an invoice. Drafting takes some seconds; read the order again for its answer."""
    tenant = known_tenant(session, body.tenant)
    try:
        month = date.fromisoformat(f"{body.month}-01")
    except ValueError as error:
        raise InvalidRequest(f"{body.month!r} is no month", param="month") from error
    order = invoice_requests.request_invoice(
        session, tenant_id=tenant.id, month=month, by=caller.actor, reason=body.reason, now=clock.now()
    )
    audit(session, caller.actor, "invoice.order", body.month, tenant.id, {"reason": body.reason})
    return InvoiceOrderView(id=str(order.id), month=body.month, answer=None, invoice_id=None)


@router.post("/{invoice_id}/again", status_code=201)
def post_again(invoice_id: str, body: InvoiceAgain, caller: BillingCaller, session: Transaction) -> InvoiceOrderView:
    """Order a new invoice over the usage of a cancelled one, once, by the terms of now."""
    invoice = _find(session, invoice_id)
    order = invoice_again.request_again(
        session, invoice_id=invoice.id, by=caller.actor, reason=body.reason, now=clock.now()
    )
    audit(session, caller.actor, "invoice.again", invoice_id, invoice.tenant_id, {"reason": body.reason})
    return InvoiceOrderView(id=str(order.id), month=f"{order.month:%Y-%m}", answer=None, invoice_id=None)


@router.get("/orders/{order_id}")
def get_order(order_id: UUID, session: Transaction) -> InvoiceOrderView:
    """The order and, once drafted, its invoice."""
    order = session.get(InvoiceRequest, order_id)
    if order is None:
        raise NotFound("there is no such order")
    invoice_id = session.scalar(select(Invoice.id).where(Invoice.request_id == order_id))
    return InvoiceOrderView(
        id=str(order.id),
        month=f"{order.month:%Y-%m}",
        answer=order.answer,
        invoice_id=ids.to_wire(ids.INVOICE, invoice_id) if invoice_id else None,
    )


@router.get("")
def get_invoices(session: Transaction, tenant: str | None = None) -> list[InvoiceView]:
    """Invoices of one tenant or of all, newest first."""
    query = select(Invoice).order_by(Invoice.drafted_at.desc()).limit(200)
    if tenant is not None:
        query = query.where(Invoice.tenant_id == known_tenant(session, tenant).id)
    return [_view(session, invoice) for invoice in session.scalars(query)]


@router.get("/{invoice_id}")
def get_invoice(invoice_id: str, session: Transaction) -> InvoiceView:
    """One invoice with its lines."""
    return _view(session, _find(session, invoice_id))


@router.post("/{invoice_id}/approvals", status_code=201)
def post_approval(invoice_id: str, body: ApprovalBody, caller: BillingCaller, session: Transaction) -> ApprovalView:
    """Approve a draft at the total you saw; the job then gives it a number and renders it."""
    invoice = _find(session, invoice_id)
    approval_id = approve(
        session, invoice_id=invoice.id, expected_gross=body.expected_gross, by=caller.actor, now=clock.now()
    )
    audit(session, caller.actor, "invoice.approve", invoice_id, invoice.tenant_id, {"gross": str(body.expected_gross)})
    return ApprovalView(id=ids.to_wire(ids.APPROVAL, approval_id), invoice_id=invoice_id, approved_by=caller.actor)


@router.get("/{invoice_id}/document", response_class=Response)
def get_document(invoice_id: str, session: Transaction, store: Objects, format: Kind = "pdf") -> Response:
    """A document of a final invoice: PDF, e-invoice (`cii`, `ubl`), detail (`csv`, `json`) or request for a fapiao."""
    invoice = _find(session, invoice_id)
    return download(store, session.get(InvoiceDocument, (invoice.id, format)), invoice.number, format)


def _find(session: Transaction, invoice_id: str) -> Invoice:
    try:
        invoice = session.get(Invoice, ids.from_wire(ids.INVOICE, invoice_id))
    except ValueError as error:
        raise InvalidRequest(str(error), param="invoice_id") from error
    if invoice is None:
        raise NotFound(f"there is no invoice {invoice_id}")
    return invoice


def _view(session: Transaction, invoice: Invoice) -> InvoiceView:
    lines = session.scalars(
        select(InvoiceLine).where(InvoiceLine.invoice_id == invoice.id).order_by(InvoiceLine.line_no)
    )
    return InvoiceView(
        id=ids.to_wire(ids.INVOICE, invoice.id),
        tenant=session.get_one(Tenant, invoice.tenant_id).slug,
        legal_entity=invoice.legal_entity_id,
        state=invoice.state,
        number=invoice.number,
        month=f"{invoice.month:%Y-%m}",
        period_from=invoice.period_from,
        period_until=invoice.period_until,
        currency=invoice.currency,
        net=str(invoice.net),
        tax_rate=str(invoice.tax_rate),
        tax=str(invoice.tax),
        gross=str(invoice.gross),
        prepaid=str(invoice.prepaid),
        has_document=session.get(InvoiceDocument, (invoice.id, "pdf")) is not None,
        lines=[
            LineView(
                line_no=line.line_no,
                model=line.variant_id or "",
                unit=line.unit,
                tokens=line.tokens,
                per_million=str(line.per_million),
                exact=str(line.exact),
                amount=str(line.amount),
                explanation=line.explanation,
            )
            for line in lines
        ],
    )
