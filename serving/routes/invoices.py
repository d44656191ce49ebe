"""`/v1/invoices`: the caller's own final invoices, and whether they are paid. Documents are `invoice_documents.py`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from billing import customer_account, payment_reference, receivables
from billing.receivables import PaymentState, Standing
from serving.routes.account import today_of_seller
from serving.routes.caller import AccountCaller
from serving.routes.stores import TenantDatabase
from studio import ids
from studio.db.sessions import tenant_scope
from studio.errors import NotFound

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
        data = [_view(one, today, customer_account.has_pdf(session, one.invoice_id)) for one in found[:limit]]
    return TenantInvoices(object="list", data=data, has_more=len(found) > limit)


@router.get("/{invoice_id}")
def get_invoice(invoice_id: str, caller: AccountCaller, database: TenantDatabase) -> TenantInvoice:
    """One invoice."""
    with tenant_scope(database, caller.tenant_id) as session:
        found = receivables.standing(session, _id(invoice_id))
        if found is None:
            raise NotFound(f"There is no invoice `{invoice_id}`.")
        return _view(found, today_of_seller(session), customer_account.has_pdf(session, found.invoice_id))


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.INVOICE, text)
    except ValueError as error:
        raise NotFound(f"There is no invoice `{text}`.") from error


def _view(one: Standing, today: date, has_pdf: bool) -> TenantInvoice:
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
        pdf=f"/v1/invoice-documents/{id}/pdf" if has_pdf else None,
    )
