"""`/v1/invoice-documents`: what was issued to the caller, invoices and corrections, as PDF, e-invoice and detail."""

from __future__ import annotations

from datetime import date
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.documents.kinds import Kind
from billing.documents.snapshot import Snapshot, from_json
from serving.documents import download
from serving.routes.caller import AccountCaller
from serving.routes.stores import Objects, TenantDatabase
from studio import ids
from studio.db.corrections import CorrectionDocument
from studio.db.documents import DocumentSnapshot
from studio.db.invoices import InvoiceDocument
from studio.db.sessions import tenant_scope
from studio.errors import NotFound

router = APIRouter(prefix="/v1/invoice-documents", tags=["account"])
_MOST = 200


class IssuedDocument(BaseModel):
    """An invoice (`inv_`) or a correction (`cor_`). Amounts are decimal text; a cancellation's are negative."""

    id: str
    object: Literal["invoice_document"]
    type: str  # UNTDID 1001: 380 invoice, 381 credit note, 384 cancellation
    number: str
    issued_on: date
    due_on: date | None
    period_from: date
    period_until: date
    currency: str
    net: str
    tax: str
    gross: str
    due: str
    corrects: str | None  # number of the corrected invoice
    documents: list[Kind]


class IssuedDocuments(BaseModel):
    """OpenAI's list object, newest first."""

    object: Literal["list"]
    data: list[IssuedDocument]


@router.get("")
def list_documents(caller: AccountCaller, database: TenantDatabase) -> IssuedDocuments:
    """The newest invoices and corrections that are final."""
    with tenant_scope(database, caller.tenant_id) as session:
        kept = session.scalars(
            select(DocumentSnapshot)
            .where(DocumentSnapshot.tenant_id == caller.tenant_id)
            .order_by(DocumentSnapshot.made_at.desc(), DocumentSnapshot.id)
            .limit(_MOST)
        ).all()
        kinds = _kinds(session, [row.id for row in kept])
    data = [_summary(from_json(row.content), kinds[row.id]) for row in kept if row.id in kinds]
    return IssuedDocuments(object="list", data=data)


@router.get("/{invoice_id}/{format}", response_class=Response)
def get_document(
    invoice_id: str, format: Kind, caller: AccountCaller, database: TenantDatabase, store: Objects
) -> Response:
    """One document: PDF, e-invoice (`cii`, `ubl`), detail by day, model, tier and key (`csv`, `json`), or `fapiao`."""
    is_correction = invoice_id.startswith(ids.CORRECTION)
    try:
        subject = ids.from_wire(ids.CORRECTION if is_correction else ids.INVOICE, invoice_id)
    except ValueError as error:
        raise NotFound("there is no such invoice", param="invoice_id") from error
    with tenant_scope(database, caller.tenant_id) as session:
        kept = session.get(DocumentSnapshot, subject)
        row: InvoiceDocument | CorrectionDocument | None
        if is_correction:
            row = session.get(CorrectionDocument, (subject, format))
        else:
            row = session.get(InvoiceDocument, (subject, format))
    if kept is None or kept.tenant_id != caller.tenant_id:
        raise NotFound("there is no such invoice", param="invoice_id")
    return download(store, row, from_json(kept.content).number, format)


def _kinds(session: Session, subjects: list[UUID]) -> dict[UUID, list[Kind]]:
    """What is stored of each, nothing of what broke a rule: those are not shown."""
    found: dict[UUID, list[Kind]] = {}
    of_invoices = select(InvoiceDocument.invoice_id, InvoiceDocument.kind).where(
        InvoiceDocument.invoice_id.in_(subjects)
    )
    of_corrections = select(CorrectionDocument.correction_id, CorrectionDocument.kind).where(
        CorrectionDocument.correction_id.in_(subjects)
    )
    for subject, kind in (*session.execute(of_invoices), *session.execute(of_corrections)):
        found.setdefault(subject, []).append(kind)
    return {subject: sorted(kinds) for subject, kinds in found.items()}


def _summary(snapshot: Snapshot, documents: list[Kind]) -> IssuedDocument:
    return IssuedDocument(
        id=snapshot.id,
        object="invoice_document",
        type=snapshot.type,
        number=snapshot.number,
        issued_on=snapshot.issued_on,
        due_on=snapshot.due_on,
        period_from=snapshot.period_from,
        period_until=snapshot.period_until,
        currency=snapshot.currency,
        net=str(snapshot.net),
        tax=str(snapshot.tax),
        gross=str(snapshot.gross),
        due=str(snapshot.due),
        corrects=snapshot.original.number if snapshot.original else None,
        documents=documents,
    )
