"""What documents are made from and judged by: snapshots, verdicts of rule sets; tax treatments, rates of exchange,
checked VAT ids. All append-only but the treatments, which the catalog declares."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, Document, RecordedAt, UuidKey


class DocumentSnapshot(Base):
    """The frozen content of a final invoice or correction: everything that its documents say, as canonical JSON."""

    __tablename__ = "document_snapshots"

    id: Mapped[UUID] = mapped_column(primary_key=True)  # of the invoice, or of the correction
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)  # the corrected one of a correction
    correction_id: Mapped[UUID | None] = mapped_column(ForeignKey("corrections.id"))
    content: Mapped[str]
    sha256: Mapped[str]
    made_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("id = coalesce(correction_id, invoice_id)", "id_is_the_subjects"),
        CheckConstraint("sha256 = encode(sha256(convert_to(content, 'UTF8')), 'hex')", "hash_is_of_content"),
    )


class DocumentVerdict(Base):
    """What one rule set said of one document. `findings` holds rule, place and words; none of them: it was clean."""

    __tablename__ = "document_verdicts"

    id: Mapped[UuidKey]
    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("document_snapshots.id"), index=True)
    kind: Mapped[str]  # which document: pdf, cii, ubl, fapiao
    document_sha256: Mapped[str]
    rule_set: Mapped[str]
    version: Mapped[str]
    rules_sha256: Mapped[str]
    is_valid: Mapped[bool]  # warnings alone leave it true
    findings: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    checked_at: Mapped[RecordedAt]


class TaxTreatment(Base):
    """Which category a supply has, by the seller's country and the buyer's area, and the words that it needs.

    `buyer_area`: a country, `EU` for its other members, `*` for the rest; the most exact one counts.
    """

    __tablename__ = "tax_treatments"

    id: Mapped[UuidKey]
    seller_country: Mapped[str]
    buyer_area: Mapped[str]
    category: Mapped[str] = mapped_column(CheckConstraint("category in ('S', 'AE', 'G', 'O')", "category_known"))
    exemption_code: Mapped[str | None]  # VATEX
    wording: Mapped[Document]  # by language
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    source: Mapped[str]


class FxRate(Base):
    """Units of `quote` for one EUR, as the month's average. A published one counts before a derived one."""

    __tablename__ = "fx_rates"

    id: Mapped[UuidKey]
    quote: Mapped[str]
    month: Mapped[date] = mapped_column(CheckConstraint("extract(day from month) = 1", "month_is_its_first_day"))
    rate: Mapped[Decimal] = mapped_column(Numeric(18, 4))
    source: Mapped[str] = mapped_column(CheckConstraint("source in ('BMF', 'ECB')", "source_known"))
    derivation: Mapped[str]
    recorded_at: Mapped[RecordedAt]

    __table_args__ = (
        UniqueConstraint("quote", "month", "source"),
        CheckConstraint("rate > 0", "rate_positive"),
    )


class VatIdCheck(Base):
    """Evidence that a VAT id was checked, how, and with what answer."""

    __tablename__ = "vat_id_checks"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    vat_id: Mapped[str]
    method: Mapped[str] = mapped_column(CheckConstraint("method in ('format', 'vies')", "method_known"))
    is_valid: Mapped[bool]
    evidence: Mapped[Document]
    checked_at: Mapped[datetime]
