"""Invoicing again what a cancelled invoice held: by a person's request, never by itself, and once.

The request frees the usage as it is drafted (`draft.py`); the new draft then holds it, with what else of the month no
invoice holds, for the buyer and by the terms of now.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import cancelled
from billing.invoice_requests import UnansweredRequest
from studio import ids
from studio.db.invoices import Invoice, InvoiceRequest
from studio.errors import Conflict, NotFound


class NotCancelled(Conflict):
    """What an invoice bills is not billed a second time."""

    default_code = "invoice_not_cancelled"


class InvoicedAgain(Conflict):
    """Somebody has asked for it already."""

    default_code = "invoiced_again_already"


def request_again(session: Session, *, invoice_id: UUID, by: str, reason: str, now: datetime) -> UnansweredRequest:
    """Ask for a new invoice over the usage of a cancelled one. NotCancelled or InvoicedAgain otherwise."""
    invoice = session.get(Invoice, invoice_id)
    wire_id = ids.to_wire(ids.INVOICE, invoice_id)
    if invoice is None:
        raise NotFound(f"There is no invoice {wire_id}.")
    if not cancelled.was_cancelled(session, invoice_id):
        raise NotCancelled(
            f"The invoice {invoice.number or wire_id} still bills its usage. Cancel it first"
            f" (`studio invoice correct {wire_id} --cancel --reason ...`); a draft is dropped and ordered anew."
        )
    request = UnansweredRequest(ids.uuid7(), invoice.tenant_id, invoice.month, now)
    try:
        with session.begin_nested():
            session.execute(
                insert(InvoiceRequest).values(
                    id=request.id, tenant_id=request.tenant_id, month=request.month, requested_by=by, reason=reason,
                    requested_at=now, again_of=invoice_id,
                )
            )  # fmt: skip
    except IntegrityError as error:
        raise InvoicedAgain(
            f"The usage of {invoice.number} has been asked for again already: `studio invoice list` shows its draft or"
            " invoice. If that draft was dropped, order the month: its usage is free."
        ) from error
    return request
