"""What is on its way to a final invoice, and what it waits for: the one list that finance works through. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import credit_requests, four_eyes, holds, invoice_requests
from billing.holds import Hold
from studio import ids
from studio.db.corrections import Correction
from studio.db.invoices import Approval, Invoice
from studio.db.tenancy import LegalEntity, Tenant

WaitsFor = Literal["draft", "hold", "review", "approval", "numbering"]
WAITS: tuple[WaitsFor, ...] = get_args(WaitsFor)


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """A request, a draft, a correction or a request for credit. Amounts are None before there is a draft."""

    id: str
    kind: str
    tenant: str
    month: str
    gross: Decimal | None
    currency: str
    waits_for: WaitsFor
    who: str  # what has to happen, and by whom
    since: datetime


def open_invoices(session: Session) -> list[OpenInvoice]:
    """Everything that is not final, oldest first."""
    slugs = {row.id: row.slug for row in session.execute(select(Tenant.id, Tenant.slug))}
    held = {hold.tenant_id: hold for hold in reversed(holds.holds(session))}
    sellers = {seller.id: seller for seller in session.scalars(select(LegalEntity))}
    rows = [
        OpenInvoice(
            str(request.id), "request", slugs[request.tenant_id], f"{request.month:%Y-%m}", None, "", "draft",
            "Dagster drafts it; see the checks of `invoice_drafts` if it does not", request.requested_at,
        )
        for request in invoice_requests.unanswered(session)
    ]  # fmt: skip
    for draft in session.scalars(select(Invoice).where(Invoice.state == "draft")):
        wire_id = ids.to_wire(ids.INVOICE, draft.id)
        waits = _waits(session, draft, sellers[draft.legal_entity_id], held.get(draft.tenant_id))
        month = f"{draft.month:%Y-%m}"
        figures = (draft.gross, draft.currency)
        rows.append(OpenInvoice(wire_id, "invoice", slugs[draft.tenant_id], month, *figures, *waits, draft.drafted_at))
    for row in session.scalars(select(Correction).where(Correction.state == "draft")):
        wire_id = ids.to_wire(ids.CORRECTION, row.id)
        waits = _waits(session, row, sellers[row.legal_entity_id], held.get(row.tenant_id))
        figures = (row.gross, row.currency)
        rows.append(OpenInvoice(wire_id, "correction", slugs[row.tenant_id], "", *figures, *waits, row.ordered_at))
    rows += [
        OpenInvoice(
            ids.to_wire(ids.CREDIT_REQUEST, asked.id), "credit", slugs[asked.tenant_id], "", asked.amount, "",
            "approval", f"anybody but {asked.requested_by}", asked.requested_at,
        )
        for asked in credit_requests.open_requests(session)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.since, row.id))


def _waits(
    session: Session, draft: Invoice | Correction, seller: LegalEntity, held: Hold | None
) -> tuple[WaitsFor, str]:
    if held is not None:
        return "hold", f"a release of {ids.to_wire(ids.HOLD, held.id)}: {held.reason}"
    if _is_approved(session, draft):
        return "numbering", "Dagster carries the approval out"
    if not four_eyes.needs_two(seller, draft.currency, draft.gross):
        return "approval", "anybody"
    reviewers = list(dict.fromkeys(four_eyes.person_of(name) for name in four_eyes.reviewers(session, draft)))
    if not reviewers:
        return "review", "anybody"
    # Two who have both reviewed may each approve by the other's review.
    return "approval", f"anybody but {reviewers[0]}" if len(reviewers) == 1 else "anybody"


def _is_approved(session: Session, draft: Invoice | Correction) -> bool:
    of_draft = (
        Approval.correction_id == draft.id
        if isinstance(draft, Correction)
        else (Approval.invoice_id == draft.id) & Approval.correction_id.is_(None)
    )
    given = select(Approval.id).where(of_draft, Approval.content_sha256 == four_eyes.content_of(session, draft))
    return session.scalars(given.limit(1)).first() is not None
