"""Two transfers that look the same, without the bank's own reference: one that is told again, or another one?

Within one statement they are two. Across statements nobody can tell, unless the file tells all of that day again and
more besides. A file that leaves it open is refused until a person has looked at the account: money is never dropped by
a guess, and never booked twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.bank_statement import BankEntry
from studio.db.payments import Payment
from studio.errors import Conflict

Said = Literal["same", "another"]
_OF_BANKS = ("camt.053", "csv")


class EqualTransfers(Conflict):
    """The file has a transfer that an earlier one may have told of. Nothing of it was booked."""

    default_code = "equal_transfers"


def settled(
    session: Session, entries: Sequence[BankEntry], known: Collection[str], said: Said | None
) -> tuple[BankEntry, ...]:
    """The entries of a file, with keys of their own for those that are `another`. EqualTransfers if nobody has said.

    `known`: the keys that are booked already.
    """
    doubtful = [entry for entry in entries if _is_doubtful(session, entry, entries, known)]
    if not doubtful or said == "same":
        return tuple(entries)
    if said is None:
        first = doubtful[0]
        raise EqualTransfers(
            f"{len(doubtful)} transfers have no reference of the bank and look like some that are booked, such as"
            f" {first.amount} {first.currency} of {first.payer or 'somebody'} on {first.booked_on}. Look at the"
            " account: import the file with `--equal another` if they are more money, with `--equal same` if it tells"
            " of them again. Nothing of it was booked."
        )
    taken = set(known)
    return tuple(_renumbered(session, entry, taken) if entry in doubtful else entry for entry in entries)


def _is_doubtful(session: Session, entry: BankEntry, entries: Sequence[BankEntry], known: Collection[str]) -> bool:
    if entry.bank_reference is not None or entry.key not in known:
        return False
    of_file = {one.key for one in entries if one.account == entry.account}
    booked = select(Payment.entry_key).where(
        Payment.account == entry.account, Payment.booked_on == entry.booked_on, Payment.source.in_(_OF_BANKS)
    )
    tells_the_day_again = set(session.scalars(booked)) <= of_file
    return not (tells_the_day_again and len(of_file.intersection(known)) > 1)


def _renumbered(session: Session, entry: BankEntry, taken: set[str]) -> BankEntry:
    """The same with the next number that is free."""
    while entry.key in taken or session.scalar(select(Payment.id).where(Payment.entry_key == entry.key)) is not None:
        entry = replace(entry, occurrence=entry.occurrence + 1)
    taken.add(entry.key)
    return entry
