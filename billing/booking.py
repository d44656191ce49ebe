"""Booking: a posting becomes rows of the ledger, once. What it says is `postings.py`."""

from __future__ import annotations

import json
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing.ledger import Account, Posting
from studio import ids
from studio.db.ledger import LedgerAccount, LedgerEntry, LedgerTransaction
from studio.errors import Conflict


class BookedDifferently(Conflict):
    """The key was booked before, with other entries. Neither is changed."""

    default_code = "booked_differently"


def post(session: Session, posting: Posting) -> UUID:
    """Book a posting; the transaction's id. A key that is booked already gives the id that it has.

    Two who book the same key at once wait for each other. BookedDifferently when its entries were others.
    """
    # In one order for everybody: two who book to new accounts wait for each other, never both.
    used = sorted({entry.account for entry in posting.entries}, key=str)
    accounts = {account: _account_id(session, account) for account in used}
    row = insert(LedgerTransaction).values(
        id=ids.uuid7(), key=posting.key, kind=posting.kind, legal_entity_id=posting.legal_entity_id,
        tenant_id=posting.tenant_id, subject=posting.subject, booked_on=posting.booked_on,
        booked_by=posting.booked_by, description=posting.description, entries=len(posting.entries),
    )  # fmt: skip
    once = row.on_conflict_do_nothing(index_elements=[LedgerTransaction.key]).returning(LedgerTransaction.id)
    booked = session.scalars(once).one_or_none()
    if booked is None:
        return _booked_before(session, posting, accounts)
    entries = [
        {"n": n, "account_id": str(accounts[entry.account]), "currency": entry.account.currency,
         "amount": str(entry.amount), "line_no": entry.line_no}
        for n, entry in enumerate(posting.entries, start=1)
    ]  # fmt: skip
    parameters = {"id": booked, "legal_entity_id": posting.legal_entity_id, "entries": json.dumps(entries)}
    session.execute(_WRITE_ENTRIES, parameters)
    return booked


def _account_id(session: Session, account: Account) -> UUID:
    identity = (
        LedgerAccount.legal_entity_id == account.legal_entity_id,
        LedgerAccount.kind == account.kind,
        LedgerAccount.currency == account.currency,
        LedgerAccount.tenant_id.is_not_distinct_from(account.tenant_id),
        LedgerAccount.detail == account.detail,
    )
    find = select(LedgerAccount.id).where(*identity)
    known = session.scalars(find).one_or_none()
    if known is not None:
        return known
    row = insert(LedgerAccount).values(
        id=ids.uuid7(), legal_entity_id=account.legal_entity_id, kind=account.kind, currency=account.currency,
        tenant_id=account.tenant_id, detail=account.detail,
    )  # fmt: skip
    session.execute(row.on_conflict_do_nothing())
    return session.scalars(find).one()  # ours, or that of somebody who booked to it first


def _booked_before(session: Session, posting: Posting, accounts: dict[Account, UUID]) -> UUID:
    before = session.scalars(select(LedgerTransaction).where(LedgerTransaction.key == posting.key)).one()
    columns = (LedgerEntry.account_id, LedgerEntry.amount, LedgerEntry.line_no)
    query = select(*columns).where(LedgerEntry.transaction_id == before.id).order_by(LedgerEntry.n)
    entries = [tuple(row) for row in session.execute(query)]
    again = [(accounts[entry.account], entry.amount, entry.line_no) for entry in posting.entries]
    if (before.kind, before.subject, before.tenant_id, entries) != (
        posting.kind, posting.subject, posting.tenant_id, again,
    ):  # fmt: skip
        raise BookedDifferently(
            f"{posting.key} was booked on {before.booked_on} with other entries"
            f" ({ids.to_wire(ids.LEDGER_TRANSACTION, before.id)}); book a correction under a key of its own."
        )
    return before.id


# All entries of a transaction in one statement: the trigger that balances them accepts nothing else.
_WRITE_ENTRIES = text("""
    insert into ledger_entries (transaction_id, n, account_id, legal_entity_id, currency, amount, line_no)
    select :id, e.n, e.account_id, :legal_entity_id, e.currency, e.amount, e.line_no
    from jsonb_to_recordset(cast(:entries as jsonb))
         as e (n integer, account_id uuid, currency text, amount numeric, line_no integer)
""")
