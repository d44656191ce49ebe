"""What is owed: rated lines, statements, invoices with their lines and documents, approvals and reconciliations."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Numeric, UniqueConstraint, text
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
    PricePerMillion,
    RecordedAt,
    Tokens,
    UuidKey,
)


class RatedLine(Base):
    """One row of `usage_daily` multiplied once with its price. Exact, append-only."""

    __tablename__ = "rated_lines"

    id: Mapped[UuidKey]
    window_day: Mapped[date]
    tenant_id: Mapped[UUID]
    seal_no: Mapped[int]
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))
    unit: Mapped[str]
    price_id: Mapped[UUID] = mapped_column(ForeignKey("prices.id"))
    billing_day: Mapped[date]
    basis: Mapped[str] = mapped_column(server_default="")  # as in `usage_daily`
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    tokens: Mapped[Tokens]
    per_million: Mapped[PricePerMillion]
    amount: Mapped[ExactAmount]
    code_version: Mapped[str]
    rated_at: Mapped[RecordedAt]

    __table_args__ = (
        UniqueConstraint(
            "window_day",
            "tenant_id",
            "seal_no",
            "variant_id",
            "unit",
            "price_id",
            "billing_day",
            "basis",
            name="uq_rated_lines",
        ),
        ForeignKeyConstraint(
            ["window_day", "tenant_id", "seal_no"],
            ["usage_windows.window_day", "usage_windows.tenant_id", "usage_windows.seal_no"],
        ),
        CheckConstraint("amount * 1000000 = tokens * per_million", "amount_is_tokens_times_price"),
    )


class AccountStatement(Base):
    """A tenant's month so far, exact. `open_windows` counts what is not reconciled yet."""

    __tablename__ = "account_statements"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)  # its first day
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"), primary_key=True)
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    tokens: Mapped[Tokens]
    amount: Mapped[ExactAmount]
    invoiced: Mapped[ExactAmount]
    open_windows: Mapped[int]
    computed_at: Mapped[RecordedAt]


class InvoiceRequest(Base):
    """Somebody, or the calendar, asks for an invoice over what a tenant's month has and no invoice holds yet."""

    __tablename__ = "invoice_requests"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    month: Mapped[date]
    requested_by: Mapped[str]
    reason: Mapped[str]
    requested_at: Mapped[RecordedAt]
    answered_at: Mapped[datetime | None]
    answer: Mapped[str | None]  # the drafted invoice's id, or why there is none
    # The cancelled invoice whose usage is to be invoiced again. `use_alter`: an invoice names its request, too.
    again_of: Mapped[UUID | None] = mapped_column(
        ForeignKey("invoices.id", name="fk_invoice_requests_again_of_invoices", use_alter=True), unique=True
    )


class Invoice(Base):
    """Draft, then final or void. A final row and its lines are immutable (triggers, and no role may update them)."""

    __tablename__ = "invoices"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    request_id: Mapped[UUID] = mapped_column(ForeignKey("invoice_requests.id"), unique=True)
    month: Mapped[date]
    period_from: Mapped[date]
    period_until: Mapped[date]  # last billing day, inclusive, as printed
    time_zone: Mapped[str]
    state: Mapped[str] = mapped_column(CheckConstraint("state in ('draft', 'final', 'void')", "state_known"))
    number: Mapped[str | None] = mapped_column(unique=True)
    issued_on: Mapped[date | None]
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    rounding_mode: Mapped[str] = mapped_column(
        CheckConstraint("rounding_mode in ('half_up', 'half_even')", "rounding_mode_known")
    )
    tax_category: Mapped[str]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(6, 4))
    tax_details: Mapped[Document] = mapped_column(server_default="{}")  # exemption, euro rate: `billing/tax.py`
    net: Mapped[InvoiceAmount]
    tax: Mapped[InvoiceAmount]
    gross: Mapped[InvoiceAmount]
    prepaid: Mapped[InvoiceAmount] = mapped_column(server_default="0")  # paid from credit, as it became final
    seller: Mapped[Document]
    buyer: Mapped[Document]
    drafted_at: Mapped[RecordedAt]
    finalized_at: Mapped[datetime | None]
    approval_id: Mapped[UUID | None]
    payment_days: Mapped[int] = mapped_column(server_default="14")  # due so long after it was issued

    __table_args__ = (
        CheckConstraint("gross = net + tax", "gross_is_net_plus_tax"),
        CheckConstraint("prepaid between 0 and gross", "prepaid_within_gross"),
        CheckConstraint("number is null or state = 'final'", "only_final_has_number"),
        CheckConstraint(
            "(state = 'final') = (number is not null and issued_on is not null and approval_id is not null)",
            "final_has_number_and_approval",
        ),
    )


class InvoiceLine(Base):
    """One product, unit, price row and volume tier. `amount` is the only rounding of the whole chain.

    An adjustment (a minimum commitment, the limit of a quote) has no price row: its amount is `per_million` for
    1,000,000, its sign that of `tokens`.
    """

    __tablename__ = "invoice_lines"

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True)
    variant_id: Mapped[str | None] = mapped_column(ForeignKey("model_variants.id"))
    unit: Mapped[str]
    price_id: Mapped[UUID | None] = mapped_column(ForeignKey("prices.id"))
    basis: Mapped[str] = mapped_column(server_default="")
    tier_from_tokens: Mapped[Tokens] = mapped_column(server_default="0")  # 0: the price row's own price
    tokens: Mapped[Tokens]
    per_million: Mapped[PricePerMillion]
    exact: Mapped[ExactAmount]
    amount: Mapped[InvoiceAmount]
    explanation: Mapped[str]

    __table_args__ = (
        CheckConstraint("exact = tokens * per_million / 1000000", "exact_is_tokens_times_price"),
        CheckConstraint(
            "case when unit in ('minimum_commitment', 'quote_limit') then price_id is null"
            " else price_id is not null and variant_id is not null and tokens >= 0 end",
            "adjusts_or_has_price",
        ),
    )


class InvoicedLine(Base):
    """Which rated lines an invoice line sums. The unique index is the promise: a rated line is invoiced once.

    In a cancelled invoice it stays, for the invoice's documents, and names the request that freed it for another.
    """

    __tablename__ = "invoiced_lines"

    rated_line_id: Mapped[UUID] = mapped_column(ForeignKey("rated_lines.id"), primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    line_no: Mapped[int]
    freed_by: Mapped[UUID | None] = mapped_column(ForeignKey("invoice_requests.id"))

    __table_args__ = (
        ForeignKeyConstraint(["invoice_id", "line_no"], ["invoice_lines.invoice_id", "invoice_lines.line_no"]),
        Index("ix_invoiced_lines_held_once", "rated_line_id", unique=True, postgresql_where=text("freed_by is null")),
    )


class NumberSeries(Base):
    """The counter behind invoice numbers, gapless per entity, year and kind. Locked last (`billing/numbers.py`)."""

    __tablename__ = "number_series"

    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"), primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int]


class Approval(Base):
    """A deliberate act of a person, given through the gateway. The finalising job refuses without one."""

    __tablename__ = "approvals"

    id: Mapped[UuidKey]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    action: Mapped[str] = mapped_column(CheckConstraint("action in ('finalize', 'correct')", "action_known"))
    correction_id: Mapped[UUID | None] = mapped_column(ForeignKey("corrections.id"))
    expected_gross: Mapped[InvoiceAmount]  # what the person saw; another total voids the approval
    approved_by: Mapped[str]
    approved_at: Mapped[RecordedAt]
    executed_at: Mapped[datetime | None]
    # Written by the database: what stood there, and whose review of just that it found.
    content_sha256: Mapped[str | None]
    review_id: Mapped[UUID | None]
    reviewed_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(action = 'correct') = (correction_id is not null)", "correction_named"),
        CheckConstraint("person_of(reviewed_by) <> person_of(approved_by)", "two_persons"),
        CheckConstraint("(review_id is null) = (reviewed_by is null)", "review_named"),
        ForeignKeyConstraint(
            ["review_id", "reviewed_by"], ["reviews.id", "reviews.reviewed_by"], name="fk_approvals_review_id_reviews"
        ),
    )


class InvoiceDocument(Base):
    """A rendered document of a final invoice, by content hash."""

    __tablename__ = "invoice_documents"

    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(CheckConstraint(DOCUMENT_KINDS, "kind_known"), primary_key=True)
    object_key: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[Bytes]
    rendered_at: Mapped[RecordedAt]


class Reconciliation(Base):
    """One comparison of two counts that must agree. Append-only."""

    __tablename__ = "reconciliations"

    id: Mapped[UuidKey]
    at: Mapped[RecordedAt]
    kind: Mapped[str]
    subject: Mapped[str]
    expected: Mapped[Tokens]
    observed: Mapped[Tokens]
    agrees: Mapped[bool]
    details: Mapped[Document]

    __table_args__ = (Index(None, "kind", "subject"),)
