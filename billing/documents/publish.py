"""Publishing: the documents of what is final are made, judged, and only then stored, once and for ever.

A document that fails is not published. Its verdicts stay in the database, where the check in Dagster finds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing.documents import detail, frozen_rows, making, rows_check
from billing.documents.invariants import Broken
from billing.documents.kinds import FORMS, Kind
from billing.documents.making import Verdict
from billing.documents.pdf import CharacterMissing
from billing.documents.schematron import Schematron
from billing.documents.snapshot import Snapshot, from_json, sha256_of, to_json
from studio import ids
from studio.db.corrections import Correction, CorrectionDocument
from studio.db.documents import DocumentSnapshot, DocumentVerdict
from studio.db.invoices import Invoice, InvoiceDocument
from studio.errors import Conflict

_FARTHEST_EAST = timedelta(hours=14)
Put = Callable[[str, bytes, str], None]  # object key, bytes, media type; never overwrites


class InvoiceIsDraft(Conflict):
    """Only what is final has documents that are kept."""

    default_code = "invoice_is_draft"


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of the documents of one number."""

    number: str
    kinds: tuple[Kind, ...]  # what is stored; empty where a rule was broken
    size_bytes: int
    findings: int


def publish_invoice(session: Session, put: Put, schematron: Schematron, invoice_id: UUID, now: datetime) -> Publication:
    """Make, judge and store the documents of a final invoice; one that has them keeps them. InvoiceIsDraft."""
    invoice = session.get_one(Invoice, invoice_id)
    if invoice.number is None or invoice.finalized_at is None:
        raise InvoiceIsDraft(f"The invoice {ids.to_wire(ids.INVOICE, invoice_id)} is a draft.")
    content = _kept(session, invoice_id) or _keep(
        session, frozen_rows.of_invoice(session, invoice_id), invoice.tenant_id, invoice_id, None, now
    )
    snapshot = from_json(content)
    rows = detail.of_invoice(session, invoice_id, snapshot.currency)
    broken = [*rows_check.of_invoice(session, invoice_id, snapshot), *rows_check.of_detail(snapshot, rows)]
    extra: dict[Kind, bytes] = {"csv": detail.as_csv(rows), "json": detail.as_json(snapshot, content, rows)}
    documents = _judged(session, schematron, snapshot, invoice_id, broken, now)
    return _stored(session, put, InvoiceDocument, {"invoice_id": invoice_id}, snapshot, documents, extra, now)


def publish_correction(
    session: Session, put: Put, schematron: Schematron, correction_id: UUID, now: datetime
) -> Publication:
    """The same for a final correction."""
    row = session.get_one(Correction, correction_id)
    if row.number is None or row.finalized_at is None:
        raise InvoiceIsDraft(f"The correction {ids.to_wire(ids.CORRECTION, correction_id)} is a draft.")
    content = _kept(session, correction_id) or _keep(
        session, frozen_rows.of_correction(session, correction_id), row.tenant_id, row.invoice_id, correction_id, now
    )
    snapshot = from_json(content)
    broken = rows_check.of_correction(session, correction_id, snapshot)
    extra: dict[Kind, bytes] = {
        "csv": detail.corrected_lines(snapshot),
        "json": detail.as_json(snapshot, content, ()),
    }
    documents = _judged(session, schematron, snapshot, correction_id, broken, now)
    key = {"correction_id": correction_id}
    return _stored(session, put, CorrectionDocument, key, snapshot, documents, extra, now)


def unpublished_invoices(session: Session) -> list[UUID]:
    """Final invoices without documents."""
    published = select(InvoiceDocument.invoice_id)
    query = select(Invoice.id).where(Invoice.state == "final", Invoice.id.not_in(published))
    return list(session.scalars(query.order_by(Invoice.number)))


def unpublished_corrections(session: Session) -> list[UUID]:
    """Final corrections without documents."""
    published = select(CorrectionDocument.correction_id)
    query = select(Correction.id).where(Correction.state == "final", Correction.id.not_in(published))
    return list(session.scalars(query.order_by(Correction.number)))


def _kept(session: Session, subject: UUID) -> str | None:
    return session.scalar(select(DocumentSnapshot.content).where(DocumentSnapshot.id == subject))


def _keep(
    session: Session,
    snapshot: Snapshot,
    tenant_id: UUID,
    invoice_id: UUID,
    correction_id: UUID | None,
    now: datetime,
) -> str:
    """Write the snapshot down; a racing run wrote the same one."""
    content = to_json(snapshot)
    subject = correction_id or invoice_id
    row = insert(DocumentSnapshot).values(
        id=subject, tenant_id=tenant_id, invoice_id=invoice_id, correction_id=correction_id, content=content,
        sha256=sha256_of(content), made_at=now,
    )  # fmt: skip
    session.execute(row.on_conflict_do_nothing())
    kept = _kept(session, subject)
    assert kept is not None
    return kept


def _judged(
    session: Session,
    schematron: Schematron,
    snapshot: Snapshot,
    subject: UUID,
    broken: list[Broken],
    now: datetime,
) -> dict[Kind, bytes] | None:
    """The documents, None where a rule is broken. All verdicts are written down."""
    today = (now + _FARTHEST_EAST).date()  # issue dates are days of the seller's zone
    documents: dict[Kind, bytes] = {}
    try:
        documents = making.make(snapshot)
        verdicts = making.judge_by_own_rules(snapshot, documents, broken, today)
        verdicts += making.judge_by_official_rules(documents, schematron)
    except (CharacterMissing, KeyError, ValueError) as error:
        rule = error.default_code if isinstance(error, CharacterMissing) else "DOCUMENT-CAN-BE-MADE"
        verdicts = [making.own_verdict("pdf", b"", [*broken, Broken(rule, snapshot.number, str(error))])]
    for verdict in verdicts:
        session.add(_row_of(verdict, subject, now))
    session.flush()
    return documents if all(verdict.is_valid for verdict in verdicts) else None


def _row_of(verdict: Verdict, subject: UUID, now: datetime) -> DocumentVerdict:
    values = asdict(verdict) | {"findings": [dict(finding) for finding in verdict.findings]}
    return DocumentVerdict(id=ids.uuid7(), snapshot_id=subject, checked_at=now, **values)


def _stored(
    session: Session,
    put: Put,
    table: type[InvoiceDocument | CorrectionDocument],
    key: Mapping[str, Any],
    snapshot: Snapshot,
    documents: dict[Kind, bytes] | None,
    extra: dict[Kind, bytes],
    now: datetime,
) -> Publication:
    if documents is None:
        subject = next(iter(key.values()))
        count = len([one for one in invalid_verdicts(session, [subject]) for _ in one.findings])
        return Publication(snapshot.number, (), 0, count)
    whole = documents | extra
    for kind, body in whole.items():
        sha256 = hashlib.sha256(body).hexdigest()
        object_key = f"{snapshot.tenant}/{snapshot.number}/{sha256}.{FORMS[kind].suffix}"
        put(object_key, body, FORMS[kind].media_type)
        row = insert(table).values(
            kind=kind, object_key=object_key, sha256=sha256, size_bytes=len(body), rendered_at=now, **key
        )
        session.execute(row.on_conflict_do_nothing())  # a racing run made the same bytes
    return Publication(snapshot.number, tuple(whole), sum(map(len, whole.values())), 0)


def invalid_verdicts(session: Session, subjects: list[UUID]) -> list[DocumentVerdict]:
    """The newest verdict of each rule set over each document of the subjects, where it was no."""
    latest = (
        select(DocumentVerdict)
        .where(DocumentVerdict.snapshot_id.in_(subjects))
        .distinct(DocumentVerdict.snapshot_id, DocumentVerdict.kind, DocumentVerdict.rule_set)
        .order_by(
            DocumentVerdict.snapshot_id,
            DocumentVerdict.kind,
            DocumentVerdict.rule_set,
            DocumentVerdict.checked_at.desc(),
            DocumentVerdict.id.desc(),
        )
    )
    return [verdict for verdict in session.scalars(latest) if not verdict.is_valid]
