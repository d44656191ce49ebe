"""Balances: what stands in the accounts of the ledger, and the transactions behind it. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from studio.db.ledger import LedgerAccount, LedgerEntry, LedgerTransaction


@dataclass(frozen=True, slots=True)
class Balance:
    """All accounts of one kind and detail in one entity's books. Debit is positive."""

    legal_entity_id: str
    currency: str
    kind: str
    detail: str
    tenants: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class BookedSide:
    """An entry of a transaction, with its account."""

    account: str
    detail: str
    currency: str
    amount: Decimal
    line_no: int | None


@dataclass(frozen=True, slots=True)
class Booked:
    """A transaction with its entries."""

    id: UUID
    key: str
    kind: str
    tenant_id: UUID | None
    subject: str
    booked_on: date
    booked_by: str
    description: str
    recorded_at: datetime
    entries: tuple[BookedSide, ...]


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A transaction that does not sum to zero, or lost entries."""

    transaction_id: UUID
    key: str
    currency: str | None
    off_by: Decimal
    entries: int
    expected_entries: int


def balances(session: Session) -> list[Balance]:
    """Every kind of account; the lots of credit of one kind are one row."""
    return [Balance(**row) for row in session.execute(_BALANCES).mappings()]


def imbalances(session: Session) -> list[Imbalance]:
    """What a trigger refuses and only somebody who switches triggers off can have left behind."""
    return [Imbalance(**row) for row in session.execute(_IMBALANCES).mappings()]


def transactions(session: Session, *, tenant_id: UUID | None, subject: str | None, limit: int) -> list[Booked]:
    """The newest transactions, of one tenant or about one thing if named."""
    newest = select(LedgerTransaction).order_by(LedgerTransaction.recorded_at.desc(), LedgerTransaction.id).limit(limit)
    if tenant_id is not None:
        newest = newest.where(LedgerTransaction.tenant_id == tenant_id)
    if subject is not None:
        newest = newest.where(LedgerTransaction.subject == subject)
    found = session.scalars(newest).all()
    sides = (
        select(LedgerEntry, LedgerAccount)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(LedgerEntry.transaction_id.in_([row.id for row in found]))
        .order_by(LedgerEntry.transaction_id, LedgerEntry.n)
    )
    entries: dict[UUID, list[BookedSide]] = {row.id: [] for row in found}
    for entry, account in session.execute(sides):
        side = BookedSide(account.kind, account.detail, entry.currency, entry.amount, entry.line_no)
        entries[entry.transaction_id].append(side)
    return [
        Booked(
            row.id, row.key, row.kind, row.tenant_id, row.subject, row.booked_on, row.booked_by, row.description,
            row.recorded_at, tuple(entries[row.id]),
        )
        for row in found
    ]  # fmt: skip


_BALANCES = text("""
    select a.legal_entity_id, a.currency, a.kind, case when a.tenant_id is null then a.detail else '' end as detail,
           count(distinct a.tenant_id) as tenants, sum(e.amount) as amount
    from ledger_entries e join ledger_accounts a on a.id = e.account_id
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
""")

_IMBALANCES = text("""
    select t.id as transaction_id, t.key, e.currency, coalesce(sum(e.amount), 0) as off_by, count(e.n) as entries,
           t.entries as expected_entries
    from ledger_transactions t left join ledger_entries e on e.transaction_id = t.id
    group by t.id, e.currency
    having coalesce(sum(e.amount), 0) <> 0
        or (select count(*) from ledger_entries all_of where all_of.transaction_id = t.id) <> t.entries
    order by t.id
""")
