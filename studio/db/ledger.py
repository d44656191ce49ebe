"""The ledger: accounts, transactions and their entries, lots of credit, and the daily chain of hashes. Append-only."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, CurrencyCode, ExactAmount, InvoiceAmount, RecordedAt, UuidKey


class LedgerAccount(Base):
    """One account of one legal entity in one currency. Created when something is first booked to it."""

    __tablename__ = "ledger_accounts"

    id: Mapped[UuidKey]
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    kind: Mapped[str] = mapped_column(
        CheckConstraint(
            "kind in ('receivable', 'revenue', 'vat_payable', 'rounding', 'prepaid', 'promotion', 'promotion_cost',"
            " 'breakage', 'bank', 'clearing', 'unapplied', 'outside', 'bad_debt')",
            "kind_known",
        )
    )
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"), index=True)
    detail: Mapped[str]  # kind of service, tax rate or lot; '' where there is one account of the kind

    __table_args__ = (
        Index(
            "uq_ledger_accounts_identity",
            "legal_entity_id",
            "kind",
            "currency",
            "tenant_id",
            "detail",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        UniqueConstraint("id", "legal_entity_id", "currency"),
        CheckConstraint(
            "(kind in ('receivable', 'prepaid', 'promotion', 'unapplied')) = (tenant_id is not null)",
            "tenants_own_theirs",
        ),
    )


class LedgerTransaction(Base):
    """What was booked at once, and why. `key` is the promise that it was booked once."""

    __tablename__ = "ledger_transactions"

    id: Mapped[UuidKey]
    key: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(
        CheckConstraint(
            "kind in ('invoice', 'correction', 'credit_grant', 'credit_use', 'credit_expiry', 'payment',"
            " 'payment_match', 'write_off')",
            "kind_known",
        )
    )
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"), index=True)  # None: nobody's money yet
    subject: Mapped[str] = mapped_column(index=True)  # the invoice, the lot or the payment, by its id on the wire
    booked_on: Mapped[date]  # civil day in the entity's zone
    booked_by: Mapped[str]
    description: Mapped[str]
    entries: Mapped[int] = mapped_column(CheckConstraint("entries >= 2", "two_sides"))
    recorded_at: Mapped[datetime]  # set by a trigger, whatever was given
    recorded_on: Mapped[date] = mapped_column(index=True)  # its UTC day: the day of the chain

    __table_args__ = (UniqueConstraint("id", "legal_entity_id"),)


class LedgerEntry(Base):
    """One side. Debit is positive. The entries of a transaction come in one statement and sum to zero (trigger)."""

    __tablename__ = "ledger_entries"

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(index=True)
    legal_entity_id: Mapped[str]
    currency: Mapped[CurrencyCode]
    amount: Mapped[ExactAmount] = mapped_column(CheckConstraint("amount <> 0", "moves_something"))
    line_no: Mapped[int | None]  # the invoice line that it comes from

    __table_args__ = (
        # Entity and currency stand in the keys: an entry cannot mix books, nor put EUR into an account in CNY.
        ForeignKeyConstraint(
            ["transaction_id", "legal_entity_id"], ["ledger_transactions.id", "ledger_transactions.legal_entity_id"]
        ),
        ForeignKeyConstraint(
            ["account_id", "legal_entity_id", "currency"],
            ["ledger_accounts.id", "ledger_accounts.legal_entity_id", "ledger_accounts.currency"],
        ),
    )


class CreditLot(Base):
    """Credit of one origin. What is left of it is the balance of its own account; the row never changes."""

    __tablename__ = "credit_lots"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    kind: Mapped[str] = mapped_column(CheckConstraint("kind in ('prepaid', 'promotion')", "kind_known"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount > 0", "positive"))
    granted_on: Mapped[date]
    expires_on: Mapped[date | None]  # its last day, in the entity's zone
    granted_by: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[RecordedAt]
    request_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_requests.id"), unique=True)  # by two persons


class LedgerDay(Base):
    """A closed UTC day of the ledger and the hash over it, chained to the day before that has any transactions."""

    __tablename__ = "ledger_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    transactions: Mapped[int]
    content_sha256: Mapped[str]
    previous_sha256: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    sealed_at: Mapped[RecordedAt]
