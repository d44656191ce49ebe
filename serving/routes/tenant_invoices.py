"""`/v1/invoices`: the caller's own final invoices, whether they are paid, and their PDFs."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from billing import customer_account, payment_reference, receivables
from billing.receivables import PaymentState, Standing
from serving.routes.account import today_of_seller
from serving.routes.caller import AccountCaller
from serving.routes.stores import Objects, TenantDatabase
from studio import ids
from studio.db.sessions import tenant_scope
from studio.errors import NotFound
from studio.objects import Bucket

router = APIRouter(prefix="/v1/invoices", tags=["account"])


class TenantInvoice(BaseModel):
    """A final invoice; amounts are exact decimal text. open = gross + corrected - credit - paid - written_off.

    Put `reference` on the transfer: the money then finds the invoice by itself.
    """

    id: str
    object: Literal["invoice"]
    number: str
    month: str
    issued_on: date
    due_on: date
    state: PaymentState
    reference: str
    currency: Literal["EUR", "CNY"]
    gross: str
    corrected: str
    credit: str
    paid: str
    written_off: str
    open: str
    pdf: str | None  # its path; null until it is rendered


class TenantInvoices(BaseModel):
    """OpenAI's list object, newest first."""

    object: Literal["list"]
    data: list[TenantInvoice]
    has_more: bool


@router.get("")
def list_invoices(
    caller: AccountCaller,
    database: TenantDatabase,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="the last id of the page before")] = None,
) -> TenantInvoices:
    """Final invoices, newest first."""
    before = _id(after) if after is not None else None
    with tenant_scope(database, caller.tenant_id) as session:
        found = receivables.standings(session, before=before, limit=limit + 1)
        today = today_of_seller(session)
        data = [_view(one, today, customer_account.document_key(session, one.invoice_id)) for one in found[:limit]]
    return TenantInvoices(object="list", data=data, has_more=len(found) > limit)


@router.get("/{invoice_id}")
def get_invoice(invoice_id: str, caller: AccountCaller, database: TenantDatabase) -> TenantInvoice:
    """One invoice."""
    with tenant_scope(database, caller.tenant_id) as session:
        found = receivables.standing(session, _id(invoice_id))
        if found is None:
            raise NotFound(f"There is no invoice `{invoice_id}`.")
        return _view(found, today_of_seller(session), customer_account.document_key(session, found.invoice_id))


@router.get("/{invoice_id}/pdf", response_class=Response)
def get_pdf(invoice_id: str, caller: AccountCaller, database: TenantDatabase, store: Objects) -> Response:
    """The PDF, as it was issued."""
    with tenant_scope(database, caller.tenant_id) as session:
        found = receivables.standing(session, _id(invoice_id))
        key = customer_account.document_key(session, found.invoice_id) if found else None
    body = store.get(Bucket.INVOICES, key) if key else None
    if found is None or body is None:
        raise NotFound(f"There is no PDF of an invoice `{invoice_id}`.")
    headers = {"content-disposition": f'attachment; filename="{found.number}.pdf"'}
    return Response(body, media_type="application/pdf", headers=headers)


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.INVOICE, text)
    except ValueError as error:
        raise NotFound(f"There is no invoice `{text}`.") from error


def _view(one: Standing, today: date, document_key: str | None) -> TenantInvoice:
    id = ids.to_wire(ids.INVOICE, one.invoice_id)
    return TenantInvoice(
        id=id,
        object="invoice",
        number=one.number,
        month=f"{one.month:%Y-%m}",
        issued_on=one.issued_on,
        due_on=one.due_on,
        state=one.state(today),
        reference=payment_reference.of_invoice(one.number),
        currency=one.currency,
        gross=str(one.gross),
        corrected=str(one.corrected),
        credit=str(one.credit),
        paid=str(one.paid),
        written_off=str(one.written_off),
        open=str(one.open),
        pdf=f"/v1/invoices/{id}/pdf" if document_key else None,
    )
