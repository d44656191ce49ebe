"""Documents of invoices: the PDF, set by Typst from `paper.py`, stored once per final invoice.

The same frozen row gives the same bytes: the time inside the file is the invoice's own, and only fonts that come with
Typst are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing.paper import Paper, paper
from studio import ids
from studio.db.invoices import Invoice, InvoiceDocument
from studio.errors import Conflict

TEMPLATE = Path(__file__).parent / "templates" / "invoice.typ"


class InvoiceIsDraft(Conflict):
    """Only a final invoice has documents that are kept."""

    default_code = "invoice_is_draft"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """Where a document lies, and what proves that it is the one."""

    invoice_id: UUID
    number: str
    object_key: str
    sha256: str
    size_bytes: int


def render(document: Paper, at: datetime) -> bytes:
    """The PDF (PDF/A-3b). `at` is the only time inside it."""
    import typst  # 20 MB that only the rendering process should load

    pdf: bytes = typst.compile(
        TEMPLATE,
        format="pdf",
        sys_inputs={"invoice": json.dumps(asdict(document))},
        timestamp=int(at.timestamp()),
        pdf_standards=["a-3b"],
        ignore_system_fonts=True,
    )
    return pdf


def store_pdf(session: Session, put: Callable[[str, bytes], None], invoice_id: UUID, now: datetime) -> StoredDocument:
    """Render a final invoice and `put(object_key, bytes)`; an invoice that has its document keeps that one."""
    invoice = session.get_one(Invoice, invoice_id)
    if invoice.number is None or invoice.finalized_at is None:
        raise InvoiceIsDraft(f"The invoice {ids.to_wire(ids.INVOICE, invoice_id)} is a draft.")
    stored = session.get(InvoiceDocument, (invoice_id, "pdf"))
    if stored is not None:
        return StoredDocument(invoice_id, invoice.number, stored.object_key, stored.sha256, stored.size_bytes)
    pdf = render(paper(session, invoice_id), invoice.finalized_at)
    document = StoredDocument(
        invoice_id=invoice_id,
        number=invoice.number,
        object_key=f"{ids.to_wire(ids.TENANT, invoice.tenant_id)}/{invoice.number}.pdf",
        sha256=hashlib.sha256(pdf).hexdigest(),
        size_bytes=len(pdf),
    )
    put(document.object_key, pdf)
    columns = {"object_key": document.object_key, "sha256": document.sha256, "size_bytes": document.size_bytes}
    row = insert(InvoiceDocument).values(invoice_id=invoice_id, kind="pdf", rendered_at=now, **columns)
    session.execute(row.on_conflict_do_nothing())  # a racing run rendered the same bytes
    return document


def without_pdf(session: Session) -> list[UUID]:
    """Final invoices whose document is still missing."""
    rendered = select(InvoiceDocument.invoice_id)
    return list(session.scalars(select(Invoice.id).where(Invoice.state == "final", Invoice.id.not_in(rendered))))
