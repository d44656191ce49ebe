"""Cancelled invoices: a correction of type 384 took back all that was left. They stay, with their documents, and bill
nothing. Their usage is invoiced again by `invoice_again.py`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from billing.correction import CorrectionType
from studio.db.corrections import Correction
from studio.db.invoices import Invoice


def is_cancelled() -> ColumnElement[bool]:
    """Whether an invoice of the enclosing query is."""
    final = select(Correction.id).where(
        Correction.invoice_id == Invoice.id,
        Correction.type == CorrectionType.CANCELLATION,
        Correction.state == "final",
    )
    return final.correlate(Invoice).exists()  # a query may look at other corrections itself


def still_bills() -> ColumnElement[bool]:
    """Whether an invoice of the enclosing query, or a draft, bills what it says: it is not dropped or cancelled."""
    return (Invoice.state != "void") & ~is_cancelled()


def was_cancelled(session: Session, invoice_id: UUID) -> bool:
    """Whether this invoice is."""
    return bool(session.scalar(select(is_cancelled()).where(Invoice.id == invoice_id)))
