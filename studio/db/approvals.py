"""What two persons need: reviews of drafts, holds on a tenant's invoices, and requests for credit."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, InvoiceAmount, RecordedAt, UuidKey


class Review(Base):
    """Somebody has looked at a draft, of an invoice or of a correction. Append-only.

    The database writes the hash of what stood there: a draft that is redone with other content has no review.
    """

    __tablename__ = "reviews"

    id: Mapped[UuidKey]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    correction_id: Mapped[UUID | None] = mapped_column(ForeignKey("corrections.id"))
    gross: Mapped[InvoiceAmount]
    content_sha256: Mapped[str]
    reviewed_by: Mapped[str]
    reviewed_at: Mapped[RecordedAt]

    __table_args__ = (UniqueConstraint("id", "reviewed_by"),)


class InvoiceHold(Base):
    """Nothing of the tenant becomes final until it is released. Set by a person, a red reconciliation, or a jump."""

    __tablename__ = "invoice_holds"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    reason: Mapped[str]
    held_by: Mapped[str]
    held_at: Mapped[RecordedAt]
    reconciliation_id: Mapped[UUID | None] = mapped_column(ForeignKey("reconciliations.id"))
    released_by: Mapped[str | None]
    released_at: Mapped[datetime | None]
    release_reason: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "reconciliation_id"),
        CheckConstraint(
            "(released_by is null) = (released_at is null) and (released_by is null) = (release_reason is null)",
            "released_with_reason",
        ),
    )


class CreditRequest(Base):
    """One person asks for a lot of credit, another grants it or declines. Answered once."""

    __tablename__ = "credit_requests"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    kind: Mapped[str] = mapped_column(CheckConstraint("kind in ('prepaid', 'promotion')", "kind_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount > 0", "positive"))
    expires_on: Mapped[date | None]
    reason: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[RecordedAt]
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    declined_by: Mapped[str | None]
    declined_at: Mapped[datetime | None]
    decline_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("person_of(requested_by) <> person_of(approved_by)", "two_persons"),
        CheckConstraint("(approved_by is null) = (approved_at is null)", "approved_whole"),
        CheckConstraint(
            "(declined_by is null) = (declined_at is null) and (declined_by is null) = (decline_reason is null)",
            "declined_whole",
        ),
        CheckConstraint("approved_by is null or declined_by is null", "one_answer"),
    )
