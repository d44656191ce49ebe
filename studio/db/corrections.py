"""Corrections of final invoices, with their lines and documents. Drafted, approved, then as immutable as an invoice."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import (
    CURRENCIES,
    DOCUMENT_KINDS,
    Base,
    Bytes,
    CurrencyCode,
    Document,
    ExactAmount,
    InvoiceAmount,
    RecordedAt,
    UuidKey,
)


class Correction(Base):
    """One correction of one invoice. Amounts are positive; the type carries the sign."""

    __tablename__ = "corrections"

    id: Mapped[UuidKey]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    type: Mapped[str] = mapped_column(CheckConstraint("type in ('380', '381', '384')", "type_known"))
    state: Mapped[str] = mapped_column(CheckConstraint("state in ('draft', 'final', 'void')", "state_known"))
    number: Mapped[str | None] = mapped_column(unique=True)
    issued_on: Mapped[date | None]
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    tax_category: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(6, 4))
    net: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("net >= 0", "net_not_negative"))
    tax: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("tax >= 0", "tax_not_negative"))
    gross: Mapped[InvoiceAmount]
    reason: Mapped[str]  # printed
    ordered_by: Mapped[str]
    ordered_at: Mapped[RecordedAt]
    finalized_at: Mapped[datetime | None]
    approval_id: Mapped[UUID | None]
    rerate_no: Mapped[int | None] = mapped_column(  # the how-manieth re-rating of its invoice; None: ordered by hand
        CheckConstraint("rerate_no is null or (rerate_no > 0 and type <> '384')", "rerate_no_counts")
    )

    __table_args__ = (
        Index(
            "ix_corrections_rerated_once",
            "invoice_id",
            "rerate_no",
            "type",
            unique=True,
            postgresql_where=text("state = 'final'"),
        ),
        CheckConstraint("gross = net + tax", "gross_is_net_plus_tax"),
        CheckConstraint(
            "(state = 'final') = (number is not null and issued_on is not null and approval_id is not null)",
            "final_has_number_and_approval",
        ),
    )


class CorrectionLine(Base):
    """What a correction takes back of, or adds to, one line of the invoice."""

    __tablename__ = "correction_lines"

    correction_id: Mapped[UUID] = mapped_column(ForeignKey("corrections.id"), primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True)  # of the invoice
    exact: Mapped[ExactAmount]  # negative only where a cancellation takes back an adjustment in the customer's favour
    amount: Mapped[InvoiceAmount]
    explanation: Mapped[str] = mapped_column(server_default="")  # printed; empty where a person gave the amount
    prices: Mapped[Document] = mapped_column(server_default="{}")  # of a re-rating: rows "rated" and "now"


class CorrectionDocument(Base):
    """A rendered document of a final correction, by content hash."""

    __tablename__ = "correction_documents"

    correction_id: Mapped[UUID] = mapped_column(ForeignKey("corrections.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(CheckConstraint(DOCUMENT_KINDS, "kind_known"), primary_key=True)
    object_key: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[Bytes]
    rendered_at: Mapped[RecordedAt]
