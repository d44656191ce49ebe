"""What is on its way to a final invoice, and what it waits for: the one list that finance works through. Only reads."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing import credit_requests, four_eyes, holds, invoice_requests, write_offs
from studio import ids
from studio.db.approvals import Review
from studio.db.corrections import Correction
from studio.db.invoices import Approval, Invoice, InvoiceRequest
from studio.db.tenancy import LegalEntity, Tenant

WaitsFor = Literal["draft", "hold", "review", "approval", "numbering"]
WAITS: tuple[WaitsFor, ...] = get_args(WaitsFor)


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """A request, a draft, a correction, a request for credit or a write-off. Amounts are None before there is a draft.

    `content_sha256` is what reviews and approvals are of: it changes with all that a draft says.
    """

    id: str
    kind: str
    tenant: str
    month: str
    gross: Decimal | None
    currency: str
    waits_for: WaitsFor
    who: str  # what has to happen, and by whom
    since: datetime
    asked_by: str = ""  # a draft's: who asked for it
    reviewed_by: tuple[str, ...] = ()  # of what it says now
    approved_by: tuple[str, ...] = ()
    content_sha256: str | None = None


def open_invoices(session: Session) -> list[OpenInvoice]:
    """Everything that is not final, oldest first, in a fixed number of queries: on the 1st all tenants have drafts."""
    slugs = {row.id: row.slug for row in session.execute(select(Tenant.id, Tenant.slug))}
    standing = _Standing(session)
    rows = [
        OpenInvoice(
            str(request.id), "request", slugs[request.tenant_id], f"{request.month:%Y-%m}", None, "", "draft",
            "Dagster drafts it; see the checks of `invoice_drafts` if it does not", request.requested_at,
        )
        for request in invoice_requests.unanswered(session)
    ]  # fmt: skip
    drafts = select(Invoice, InvoiceRequest.requested_by).join(InvoiceRequest, InvoiceRequest.id == Invoice.request_id)
    for draft, asked_by in session.execute(drafts.where(Invoice.state == "draft")).tuples():
        figures = (ids.to_wire(ids.INVOICE, draft.id), "invoice", slugs[draft.tenant_id], f"{draft.month:%Y-%m}")
        rows.append(
            OpenInvoice(
                *figures, draft.gross, draft.currency, *standing.waits(draft), draft.drafted_at, asked_by,
                standing.reviewers(draft), standing.approvers(draft), standing.content(draft),
            )
        )  # fmt: skip
    for row in session.scalars(select(Correction).where(Correction.state == "draft")):
        figures = (ids.to_wire(ids.CORRECTION, row.id), "correction", slugs[row.tenant_id], "")
        rows.append(
            OpenInvoice(
                *figures, row.gross, row.currency, *standing.waits(row), row.ordered_at, row.ordered_by,
                standing.reviewers(row), standing.approvers(row), standing.content(row),
            )
        )  # fmt: skip
    rows += [
        OpenInvoice(
            ids.to_wire(ids.CREDIT_REQUEST, asked.id), "credit", slugs[asked.tenant_id], "", asked.amount, "",
            "approval", f"anybody but {asked.requested_by}", asked.requested_at, asked.requested_by,
        )
        for asked in credit_requests.open_requests(session)
    ]  # fmt: skip
    rows += [
        OpenInvoice(
            ids.to_wire(ids.WRITE_OFF, one.id), "write_off", slugs[one.tenant_id], "", one.amount, one.currency,
            "approval", f"anybody but {four_eyes.person_of(one.proposed_by)}", one.proposed_at, one.proposed_by,
        )
        for one in session.scalars(write_offs.undecided())
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.since, row.id))


class _Standing:
    """What has been said of every draft, read at once. Its hash names a draft: the id is part of what is hashed."""

    def __init__(self, session: Session) -> None:
        self._held = {hold.tenant_id: hold for hold in reversed(holds.holds(session))}
        self._sellers = {seller.id: seller for seller in session.scalars(select(LegalEntity))}
        self._content: dict[UUID, str] = {row.id: row.content for row in session.execute(_CONTENTS)}
        is_present = Review.content_sha256.in_(self._content.values())
        self._reviewers: dict[str, list[str]] = defaultdict(list)
        reviews = select(Review.content_sha256, Review.reviewed_by).where(is_present)
        for content, reviewer in session.execute(reviews.order_by(Review.reviewed_at, Review.id)).tuples():
            self._reviewers[content].append(four_eyes.person_of(reviewer))
        self._approvers: dict[str, list[str]] = defaultdict(list)
        given = select(Approval.content_sha256, Approval.approved_by).order_by(Approval.approved_at, Approval.id)
        for approved, approver in session.execute(given.where(Approval.content_sha256.in_(self._content.values()))):
            if approved is not None:
                self._approvers[approved].append(four_eyes.person_of(approver))

    def waits(self, draft: Invoice | Correction) -> tuple[WaitsFor, str]:
        """What a draft waits for, and who must act."""
        if (held := self._held.get(draft.tenant_id)) is not None:
            return "hold", f"a release of {ids.to_wire(ids.HOLD, held.id)}: {held.reason}"
        content = self._content.get(draft.id, "")  # none: made since, so nobody has said anything of it
        if content in self._approvers:
            return "numbering", "Dagster carries the approval out"
        if not four_eyes.needs_two(self._sellers[draft.legal_entity_id], draft.currency, draft.gross):
            return "approval", "anybody"
        reviewers = list(dict.fromkeys(self._reviewers[content]))
        if not reviewers:
            return "review", "anybody"
        # Two who have both reviewed may each approve by the other's review.
        return "approval", f"anybody but {reviewers[0]}" if len(reviewers) == 1 else "anybody"

    def content(self, draft: Invoice | Correction) -> str | None:
        """The hash of what a draft says now; None of one that was made since."""
        return self._content.get(draft.id)

    def reviewers(self, draft: Invoice | Correction) -> tuple[str, ...]:
        """Who has reviewed that."""
        return tuple(dict.fromkeys(self._reviewers.get(self._content.get(draft.id, ""), ())))

    def approvers(self, draft: Invoice | Correction) -> tuple[str, ...]:
        """Who has approved that."""
        return tuple(dict.fromkeys(self._approvers.get(self._content.get(draft.id, ""), ())))


_CONTENTS = text("""
    select i.id, invoice_content_sha256(i) as content from invoices i where i.state = 'draft'
    union all
    select c.id, correction_content_sha256(c) from corrections c where c.state = 'draft'
""")
