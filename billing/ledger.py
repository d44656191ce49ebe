"""The ledger's core: accounts, entries, and postings that sum to zero. Pure: no database, no clock.

Debit is positive, credit negative. What each event of the business books is `postings.py`; writing is `booking.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from billing.rating import exact_sum

AccountKind = Literal[
    "receivable",  # what a tenant owes
    "revenue",  # by kind of service, exact to twelve decimals
    "vat_payable",  # by tax category and rate, as printed on invoices
    "rounding",  # what invoice lines lose or gain by being rounded
    "prepaid",  # one lot of a tenant's credit that was paid for
    "promotion",  # one lot of a tenant's credit that we gave
    "promotion_cost",
    "breakage",  # prepaid credit that expired
    "bank",  # by account
    "clearing",  # what came in and is not matched yet
    "unapplied",  # of a tenant: money that pays no invoice yet
    "outside",  # what passes through the bank and is no customer's: the company's main books have it
    "bad_debt",
]
TransactionKind = Literal[
    "invoice", "correction", "credit_grant", "credit_use", "credit_expiry", "payment", "payment_match", "write_off"
]

_OF_TENANT = frozenset({"receivable", "prepaid", "promotion", "unapplied"})


class Unbalanced(ValueError):
    """The entries of a posting do not sum to zero. Our own mistake, never a caller's."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where money stands: in the books of one legal entity, in one currency.

    `detail` tells accounts of one kind apart: the kind of service, the tax rate, the lot of credit.
    """

    legal_entity_id: str
    kind: AccountKind
    currency: str
    tenant_id: UUID | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if (self.tenant_id is not None) != (self.kind in _OF_TENANT):
            raise ValueError(f"an account {self.kind} belongs to {'a' if self.kind in _OF_TENANT else 'no'} tenant")


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a posting. `line_no`: the invoice line that it comes from, if it comes from one."""

    account: Account
    amount: Decimal
    line_no: int | None = None


@dataclass(frozen=True, slots=True)
class Posting:
    """One transaction on its way into the ledger; the same `key` is booked once, whoever tries again.

    Unbalanced unless the entries of each currency sum to zero, exactly: there is no tolerance.
    """

    key: str
    kind: TransactionKind
    tenant_id: UUID | None  # None: money that is nobody's yet
    subject: str  # what it is about, by its id on the wire
    booked_on: date  # civil day in the entity's zone
    booked_by: str
    description: str
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if len({entry.account.legal_entity_id for entry in self.entries}) != 1:
            raise ValueError(f"the posting {self.key} is not in the books of exactly one legal entity")
        if any(not entry.amount for entry in self.entries):
            raise ValueError(f"the posting {self.key} has an entry of zero")
        for currency in {entry.account.currency for entry in self.entries}:
            off = exact_sum([entry.amount for entry in self.entries if entry.account.currency == currency])
            if off:
                raise Unbalanced(f"the posting {self.key} is off by {off} {currency}")

    @property
    def legal_entity_id(self) -> str:
        """Whose books."""
        return self.entries[0].account.legal_entity_id


def without_zeros(entries: Collection[Entry]) -> tuple[Entry, ...]:
    """The entries that move something."""
    return tuple(entry for entry in entries if entry.amount)
