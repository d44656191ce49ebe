"""Money in: imported files, payments, what each pays, dunning, and write-offs. Append-only, all of it."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, CurrencyCode, InvoiceAmount, RecordedAt, UuidKey


class StatementFile(Base):
    """A bank statement that was imported, by its content. `entries` = booked + known (from another file) + ignored."""

    __tablename__ = "statement_files"

    id: Mapped[UuidKey]
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    format: Mapped[str] = mapped_column(CheckConstraint("format in ('camt.053', 'csv')", "format_known"))
    entries: Mapped[int]
    booked: Mapped[int]
    known: Mapped[int]
    ignored: Mapped[int]
    imported_by: Mapped[str]
    imported_at: Mapped[RecordedAt]


class Payment(Base):
    """What a bank or a provider has booked: positive came in, negative went out. `entry_key`: it is booked once."""

    __tablename__ = "payments"

    id: Mapped[UuidKey]
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount <> 0", "moves_something"))
    account: Mapped[str]  # ours: IBAN or number, or the provider's name
    source: Mapped[str] = mapped_column(
        CheckConstraint("source in ('camt.053', 'csv', 'manual', 'stripe')", "source_known")
    )
    entry_key: Mapped[str] = mapped_column(unique=True)
    booked_on: Mapped[date]  # by the bank
    payer: Mapped[str | None]
    payer_account: Mapped[str | None]
    remittance: Mapped[str]
    end_to_end_id: Mapped[str | None] = mapped_column(index=True)
    is_return: Mapped[bool]  # says the bank
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("statement_files.id"), index=True)
    recorded_by: Mapped[str]
    recorded_at: Mapped[RecordedAt]
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transactions.id"), unique=True)


class PaymentMatch(Base):
    """What a part of a payment is for. A match is taken back by another one with `reverses_id`, never deleted."""

    __tablename__ = "payment_matches"

    id: Mapped[UuidKey]
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), index=True)
    target: Mapped[str] = mapped_column(
        CheckConstraint("target in ('invoice', 'unapplied', 'credit', 'outside')", "target_known")
    )
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"), index=True)
    lot_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_lots.id"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount <> 0", "moves_something"))
    reverses_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_matches.id"), index=True)
    matched_by: Mapped[str]
    reason: Mapped[str]
    booked_on: Mapped[date]
    matched_at: Mapped[RecordedAt]
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transactions.id"), unique=True)

    __table_args__ = (
        CheckConstraint("(target = 'invoice') = (invoice_id is not null)", "invoice_named"),
        CheckConstraint("(target = 'credit') = (lot_id is not null)", "lot_named"),
        CheckConstraint("(target = 'outside') = (tenant_id is null)", "tenant_named"),
    )


class DunningLevel(Base):
    """From how many days after the due date an invoice is dunned at a level."""

    __tablename__ = "dunning_levels"

    level: Mapped[int] = mapped_column(CheckConstraint("level > 0", "positive"), primary_key=True, autoincrement=False)
    days_overdue: Mapped[int] = mapped_column(CheckConstraint("days_overdue > 0", "days_positive"), unique=True)
    name: Mapped[str]


class DunningNotice(Base):
    """A reminder that is to be sent. Once for each invoice and level."""

    __tablename__ = "dunning_notices"

    id: Mapped[UuidKey]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"))
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    level: Mapped[int] = mapped_column(ForeignKey("dunning_levels.level"))
    state: Mapped[str] = mapped_column(CheckConstraint("state in ('to_send')", "state_known"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount > 0", "positive"))
    due_on: Mapped[date]
    proposed_on: Mapped[date]
    recorded_at: Mapped[RecordedAt]

    __table_args__ = (UniqueConstraint("invoice_id", "level", "state", name="uq_dunning_notices_invoice_id"),)


class WriteOff(Base):
    """Somebody proposes to give up (a part of) what an invoice still owes."""

    __tablename__ = "write_offs"

    id: Mapped[UuidKey]
    invoice_id: Mapped[UUID] = mapped_column(ForeignKey("invoices.id"), index=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount > 0", "positive"))
    reason: Mapped[str]
    proposed_by: Mapped[str]
    proposed_at: Mapped[RecordedAt]

    __table_args__ = (UniqueConstraint("id", "proposed_by", name="uq_write_offs_id_proposed_by"),)


class WriteOffDecision(Base):
    """Yes or no to a write-off; a yes is another person's, and is booked with it."""

    __tablename__ = "write_off_decisions"

    write_off_id: Mapped[UUID] = mapped_column(primary_key=True)
    proposed_by: Mapped[str]
    is_approved: Mapped[bool]
    decided_by: Mapped[str]
    decided_at: Mapped[RecordedAt]
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transactions.id"), unique=True)

    __table_args__ = (
        ForeignKeyConstraint(
            ["write_off_id", "proposed_by"],
            ["write_offs.id", "write_offs.proposed_by"],
            name="fk_write_off_decisions_write_off_id_write_offs",
        ),
        CheckConstraint("not is_approved or person_of(decided_by) <> person_of(proposed_by)", "two_persons"),
        CheckConstraint("is_approved = (transaction_id is not null)", "booked_if_approved"),
    )
