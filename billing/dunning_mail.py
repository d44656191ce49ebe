"""Reminders by mail: each notice once, with the invoice, and only while it still is true.

What has been paid, written off or corrected since it was proposed is not mailed, nor anything of a tenant whose
invoices are held, nor a level that a later one has overtaken. Reminders that are older than NEWS are for a person.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from billing import holds, mail_outbox, receivables
from billing.dunning import MAIL_KEY
from billing.mail_outbox import Attachment
from studio.db.invoices import Invoice, InvoiceDocument
from studio.db.notices import Mail
from studio.db.payments import DunningNotice


def write(session: Session, now: datetime) -> list[UUID]:
    """A mail for each notice that has none yet and is still owed; the mails. The amount is what is open now."""
    other = aliased(DunningNotice)
    newest = select(func.max(other.level)).where(other.invoice_id == DunningNotice.invoice_id).scalar_subquery()
    written_already = select(Mail.id).where(Mail.key == MAIL_KEY).exists()
    query = (
        select(DunningNotice, Invoice, InvoiceDocument, MAIL_KEY)
        .join(Invoice, Invoice.id == DunningNotice.invoice_id)
        .outerjoin(InvoiceDocument, (InvoiceDocument.invoice_id == Invoice.id) & (InvoiceDocument.kind == "pdf"))
        .where(DunningNotice.recorded_at > now - mail_outbox.NEWS, DunningNotice.level == newest, ~written_already)
        .order_by(DunningNotice.id)
    )
    found = session.execute(query).all()
    held = {hold.tenant_id for hold in holds.holds(session)} if found else set()
    owed = {
        one.invoice_id: one.open
        for one in receivables.standings(session, invoice_ids=[invoice.id for _, invoice, _, _ in found])
        if one.open > 0
    }
    written = []
    for notice, invoice, document, key in found:
        if notice.invoice_id not in owed or notice.tenant_id in held:
            continue
        facts = {
            "number": invoice.number, "amount": owed[invoice.id], "currency": notice.currency, "due_on": notice.due_on,
            "level": notice.level, "seller": invoice.seller["name"],
        }  # fmt: skip
        attachment = None
        if document is not None:
            attachment = Attachment(document.object_key, f"{invoice.number}.pdf", document.sha256)
        written.append(
            mail_outbox.write(session, "dunning", key, notice.tenant_id, invoice.buyer, facts, now, attachment)
        )
    return [mail_id for mail_id in written if mail_id is not None]
