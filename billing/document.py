"""Documents of invoices and their corrections: the PDF, set by Typst from `paper.py` and `correction_paper.py`, stored
once for each that is final.

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

from billing.correction_paper import CorrectionPaper, correction_paper
from billing.paper import Paper, paper
from studio import ids
from studio.db.corrections import Correction, CorrectionDocument
from studio.db.invoices import Invoice, InvoiceDocument
from studio.errors import Conflict

_TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = _TEMPLATES / "invoice.typ"
CORRECTION_TEMPLATE = _TEMPLATES / "correction.typ"


class InvoiceIsDraft(Conflict):
    """Only what is final has documents that are kept."""

    default_code = "invoice_is_draft"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """Where a document lies, and what proves that it is the one."""

    number: str
    object_key: str
    sha256: str
    size_bytes: int


def render(document: Paper | CorrectionPaper, at: datetime) -> bytes:
    """The PDF (PDF/A-3b). `at` is the only time inside it."""
    import typst  # 20 MB that only the rendering process should load

    pdf: bytes = typst.compile(
        TEMPLATE if isinstance(document, Paper) else CORRECTION_TEMPLATE,
        format="pdf",
        sys_inputs={"paper": json.dumps(asdict(document))},
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
        return StoredDocument(invoice.number, stored.object_key, stored.sha256, stored.size_bytes)
    document = _put(put, invoice.tenant_id, invoice.number, render(paper(session, invoice_id), invoice.finalized_at))
    row = insert(InvoiceDocument).values(invoice_id=invoice_id, kind="pdf", rendered_at=now, **_columns(document))
    session.execute(row.on_conflict_do_nothing())  # a racing run rendered the same bytes
    return document


def store_correction_pdf(
    session: Session, put: Callable[[str, bytes], None], correction_id: UUID, now: datetime
) -> StoredDocument:
    """The same for a final correction."""
    correction = session.get_one(Correction, correction_id)
    if correction.number is None or correction.finalized_at is None:
        raise InvoiceIsDraft(f"The correction {ids.to_wire(ids.CORRECTION, correction_id)} is a draft.")
    stored = session.get(CorrectionDocument, (correction_id, "pdf"))
    if stored is not None:
        return StoredDocument(correction.number, stored.object_key, stored.sha256, stored.size_bytes)
    pdf = render(correction_paper(session, correction_id), correction.finalized_at)
    document = _put(put, correction.tenant_id, correction.number, pdf)
    columns = {"correction_id": correction_id, "kind": "pdf", "rendered_at": now, **_columns(document)}
    session.execute(insert(CorrectionDocument).values(**columns).on_conflict_do_nothing())
    return document


def without_pdf(session: Session) -> list[UUID]:
    """Final invoices whose document is still missing."""
    rendered = select(InvoiceDocument.invoice_id)
    return list(session.scalars(select(Invoice.id).where(Invoice.state == "final", Invoice.id.not_in(rendered))))


def corrections_without_pdf(session: Session) -> list[UUID]:
    """Final corrections whose document is still missing."""
    rendered = select(CorrectionDocument.correction_id)
    missing = select(Correction.id).where(Correction.state == "final", Correction.id.not_in(rendered))
    return list(session.scalars(missing))


def _put(put: Callable[[str, bytes], None], tenant_id: UUID, number: str, pdf: bytes) -> StoredDocument:
    document = StoredDocument(
        number=number,
        object_key=f"{ids.to_wire(ids.TENANT, tenant_id)}/{number}.pdf",
        sha256=hashlib.sha256(pdf).hexdigest(),
        size_bytes=len(pdf),
    )
    put(document.object_key, pdf)
    return document


def _columns(document: StoredDocument) -> dict[str, str | int]:
    return {"object_key": document.object_key, "sha256": document.sha256, "size_bytes": document.size_bytes}
