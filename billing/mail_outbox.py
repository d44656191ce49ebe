"""The outbox: mails as rows, written once by what they are about, and their attempts. Who sends is `mail_sending.py`.

Anything may write a mail (`write`), such as a reminder of an unpaid invoice with a key of its own: the same key again
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import mail_texts
from billing.alerts import RaisedAlert
from billing.mail_texts import Kind
from studio import ids
from studio.db.corrections import Correction, CorrectionDocument
from studio.db.invoices import Invoice, InvoiceDocument
from studio.db.notices import Mail
from studio.db.tenancy import LegalEntity, TenantBilling

NEWS = timedelta(days=7)  # a document that is older is no news: whoever sets up mail does not mail years of invoices
UNCERTAIN_AFTER = timedelta(minutes=10)  # no dialogue lasts so long: whoever led it is dead


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document in the bucket `invoices`."""

    object_key: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """A mail without a final outcome. `state`: due, waiting for its next attempt, or uncertain for ever."""

    id: UUID
    kind: str
    tenant_id: UUID
    state: str
    attempts: int
    answer: str | None


def write(
    session: Session,
    kind: Kind,
    key: str,
    tenant_id: UUID,
    buyer: Mapping[str, Any],
    facts: Mapping[str, object],
    now: datetime,
    attachment: Attachment | None = None,
) -> UUID | None:
    """A new mail to the buyer's address; None where there is no address, or this was written already."""
    recipient = str(buyer.get("email") or "").strip()
    if not recipient:
        return None
    subject, body = mail_texts.compose(kind, mail_texts.language_of(buyer), **facts)
    row: dict[str, object] = {
        "id": ids.uuid7(), "kind": kind, "key": key, "tenant_id": tenant_id, "recipient": recipient,
        "subject": subject, "body": body, "created_at": now,
    }  # fmt: skip
    if attachment is not None:
        row |= {
            "attachment_key": attachment.object_key, "attachment_name": attachment.name,
            "attachment_sha256": attachment.sha256,
        }  # fmt: skip
    return session.scalar(insert(Mail).values(**row).on_conflict_do_nothing().returning(Mail.id))


def write_documents(session: Session, now: datetime) -> list[UUID]:
    """A mail for each new document of an invoice or a correction that has none yet."""
    written: list[UUID | None] = []
    invoices = (
        select(Invoice, InvoiceDocument)
        .join(InvoiceDocument, InvoiceDocument.invoice_id == Invoice.id)
        .where(InvoiceDocument.kind == "pdf", InvoiceDocument.rendered_at > now - NEWS)
    )
    for invoice, document in session.execute(invoices).all():
        facts = {
            "number": invoice.number, "amount": invoice.gross, "currency": invoice.currency,
            "seller": invoice.seller["name"],
        }  # fmt: skip
        attachment = Attachment(document.object_key, f"{invoice.number}.pdf", document.sha256)
        key = f"invoice {invoice.id}"
        written.append(write(session, "invoice", key, invoice.tenant_id, invoice.buyer, facts, now, attachment))
    corrections = (
        select(Correction, CorrectionDocument, Invoice)
        .join(CorrectionDocument, CorrectionDocument.correction_id == Correction.id)
        .join(Invoice, Invoice.id == Correction.invoice_id)
        .where(CorrectionDocument.kind == "pdf", CorrectionDocument.rendered_at > now - NEWS)
    )
    for correction, correction_document, invoice in session.execute(corrections).all():
        facts = {
            "number": correction.number, "invoice": invoice.number, "amount": correction.gross,
            "currency": correction.currency, "reason": correction.reason, "seller": invoice.seller["name"],
        }  # fmt: skip
        attachment = Attachment(correction_document.object_key, f"{correction.number}.pdf", correction_document.sha256)
        key = f"correction {correction.id}"
        written.append(write(session, "correction", key, correction.tenant_id, invoice.buyer, facts, now, attachment))
    return [mail_id for mail_id in written if mail_id is not None]


def write_alert(session: Session, alert: RaisedAlert, now: datetime) -> UUID | None:
    """The mail of an alert that has just been raised."""
    today = now.date()
    terms = session.execute(
        select(TenantBilling.buyer, LegalEntity.name)
        .join(LegalEntity, LegalEntity.id == TenantBilling.legal_entity_id)
        .where(
            TenantBilling.tenant_id == alert.tenant_id,
            TenantBilling.valid_from <= today,
            TenantBilling.valid_until.is_(None) | (TenantBilling.valid_until > today),
        )
    ).one()
    facts = {**alert.as_data(), "seller": terms.name}
    return write(session, "alert", f"alert {alert.id}", alert.tenant_id, terms.buyer, facts, now)


def waiting(session: Session, now: datetime) -> list[WaitingMail]:
    """Every mail that is neither sent nor refused, oldest first."""
    rows = session.execute(_WAITING, {"now": now, "uncertain_after": UNCERTAIN_AFTER})
    return [WaitingMail(**row) for row in rows.mappings()]


# After attempts that the server put off: 5 minutes, then twice as long each time, at most six hours; ten attempts.
_WAITING = text("""
    select m.id, m.kind, m.tenant_id, coalesce(a.n, 0) as attempts, a.answer,
           case when a.n is null then 'due'
                when a.outcome = 'uncertain' then 'uncertain'
                when a.outcome is null and a.began_at < cast(:now as timestamptz) - :uncertain_after then 'uncertain'
                when a.outcome is null then 'being sent'
                when a.n >= 10 then 'given up'
                when a.began_at + least(interval '5 minutes' * 2 ^ (a.n - 1), interval '6 hours') <= :now then 'due'
                else 'put off' end as state
    from mails m
    left join lateral (select * from mail_attempts a where a.mail_id = m.id order by a.n desc limit 1) a on true
    where a.outcome is null or a.outcome not in ('sent', 'refused')
    order by m.created_at, m.id
""")
