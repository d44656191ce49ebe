"""What money in books. Pure: facts in, a balanced posting out. Invoices and credit: `postings.py`.

A payment comes from the bank onto the clearing account, whoever paid; each match takes its part from there. So what
stands on clearing is exactly what nobody has recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from billing.ledger import Account, AccountKind, Entry, Posting
from studio import ids


@dataclass(frozen=True, slots=True)
class Booked:
    """When, by whom, and why."""

    on: date
    by: str
    why: str


def payment(
    payment_id: UUID, legal_entity_id: str, currency: str, account: str, amount: Decimal, booked: Booked
) -> Posting:
    """Money that came in (`amount` positive) or went out."""
    return Posting(
        key=f"payment:{ids.to_wire(ids.PAYMENT, payment_id)}",
        kind="payment",
        tenant_id=None,
        subject=ids.to_wire(ids.PAYMENT, payment_id),
        booked_on=booked.on,
        booked_by=booked.by,
        description=booked.why,
        entries=(
            Entry(Account(legal_entity_id, "bank", currency, None, account), amount),
            Entry(Account(legal_entity_id, "clearing", currency), -amount),
        ),
    )


def match(
    match_id: UUID, *, counter: tuple[Entry, ...], tenant_id: UUID | None, subject: str, booked: Booked
) -> Posting:
    """A part of a payment and what it is for: `counter` against clearing."""
    books = counter[0].account
    against = Entry(
        Account(books.legal_entity_id, "clearing", books.currency), -sum((one.amount for one in counter), Decimal(0))
    )
    return Posting(
        key=f"payment_match:{ids.to_wire(ids.PAYMENT_MATCH, match_id)}",
        kind="payment_match",
        tenant_id=tenant_id,
        subject=subject,
        booked_on=booked.on,
        booked_by=booked.by,
        description=booked.why,
        entries=(against, *counter),
    )


def write_off(
    write_off_id: UUID,
    legal_entity_id: str,
    currency: str,
    tenant_id: UUID,
    invoice: str,
    amount: Decimal,
    booked: Booked,
) -> Posting:
    """What is given up of an invoice, gross: a cost. Whether VAT comes back is for the main books."""
    return Posting(
        key=f"write_off:{ids.to_wire(ids.WRITE_OFF, write_off_id)}",
        kind="write_off",
        tenant_id=tenant_id,
        subject=invoice,
        booked_on=booked.on,
        booked_by=booked.by,
        description=booked.why,
        entries=(
            Entry(Account(legal_entity_id, "bad_debt", currency), amount),
            Entry(Account(legal_entity_id, "receivable", currency, tenant_id), -amount),
        ),
    )


def account_of(kind: AccountKind, legal_entity_id: str, currency: str, tenant_id: UUID | None) -> Account:
    """An account without detail."""
    return Account(legal_entity_id, kind, currency, tenant_id)
