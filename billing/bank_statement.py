"""A bank statement as we understand it, whatever file it came in. Pure. Reading files: `camt.py`, `statement_csv.py`.

An entry has a key that is the same in every file that tells of it: from the bank's own reference where there is one,
else from all that is known of it and its number among those that look the same on that statement. So importing a file
twice, statements that overlap, and CAMT and CSV of one account book each entry once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

from studio.errors import InvalidRequest, PayloadTooLarge
from studio.money import CENT, Currency

MOST_BYTES = 20 * 1024 * 1024  # a statement of some 20,000 entries
MOST_ENTRIES = 50_000
MOST_TEXT = 2_000  # characters of one text of an entry; banks send 140 a line
_LARGEST = Decimal(10) ** 15  # what a column holds

Format = Literal["camt.053", "csv"]


class StatementUnreadable(InvalidRequest):
    """The file is no bank statement that can be imported whole. Nothing of it was booked."""

    default_code = "statement_unreadable"


@dataclass(frozen=True, slots=True)
class BankEntry:
    """One movement on one of our accounts. `amount` is positive for money in, negative for money out.

    `bank_reference` is the bank's own id of it, `end_to_end_id` the one that the payer gave. `is_return`: the bank says
    that it takes an earlier movement back.
    """

    account: str
    currency: Currency
    amount: Decimal
    booked_on: date
    payer: str | None = None
    payer_account: str | None = None
    remittance: str = ""
    bank_reference: str | None = None
    end_to_end_id: str | None = None
    is_return: bool = False
    occurrence: int = 1

    @property
    def key(self) -> str:
        """What is booked once. The sign is part of it: a bank may name a reversal like what it reverses."""
        about = [self.account, self.booked_on.isoformat(), f"{self.amount:.2f}", self.currency]
        if self.bank_reference is not None:
            about += ["by the bank", self.bank_reference]
        else:
            told = (self.end_to_end_id, self.payer_account, self.payer, self.remittance)
            about += ["by all of it", *(compact(text or "") for text in told)]
        digest = hashlib.sha256("\x1f".join([*about, str(self.occurrence)]).encode()).hexdigest()
        return f"bank:{self.account}:{self.booked_on}:{digest[:32]}"


@dataclass(frozen=True, slots=True)
class Statement:
    """The booked entries of one file. `ignored` counts entries that the bank has not booked for good."""

    format: Format
    entries: tuple[BankEntry, ...]
    ignored: int


def numbered(entries: Sequence[BankEntry]) -> tuple[BankEntry, ...]:
    """The entries of one statement; those that nothing tells apart are numbered: two equal transfers are two."""
    seen: Counter[str] = Counter()
    result = []
    for entry in entries:
        seen[entry.key] += 1
        result.append(replace(entry, occurrence=seen[entry.key]))
    return tuple(result)


def compact(text: str) -> str:
    """Letters and digits only, in upper case: banks break and space texts differently."""
    return re.sub(r"[\W_]+", "", text).upper()


def account_number(text: str) -> str:
    """An IBAN or account number as it is compared."""
    return re.sub(r"\s+", "", text).upper()


def money(text: str, where: str) -> Decimal:
    """A positive amount with at most two decimals; StatementUnreadable otherwise."""
    # Not Decimal's own grammar: it takes NaN, exponents, underscores and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,5})?", text):
        raise StatementUnreadable(f"{where}: {text[:40]!r} is no amount such as 119.00.")
    amount = Decimal(text)
    if amount != amount.quantize(CENT) or amount >= _LARGEST:
        raise StatementUnreadable(f"{where}: {text} has more decimals than there are cents.")
    return amount.quantize(CENT)


def currency(text: str, where: str) -> Currency:
    """EUR or CNY; StatementUnreadable otherwise."""
    try:
        return Currency.parse(text)
    except ValueError as error:
        raise StatementUnreadable(f"{where}: {error}. Nothing of the file was booked.") from error


def day(text: str, where: str) -> date:
    """A civil day; StatementUnreadable otherwise."""
    try:
        parsed = date.fromisoformat(text[:10])
    except ValueError as error:
        raise StatementUnreadable(f"{where}: {text[:40]!r} is no day such as 2026-12-03.") from error
    if not 2000 <= parsed.year <= 2100:
        raise StatementUnreadable(f"{where}: the year of {parsed} cannot be.")
    return parsed


def text_of(text: str | None) -> str | None:
    """A text on one line, without what PostgreSQL cannot store; None when nothing is left."""
    cleaned = " ".join((text or "").replace("\0", "").split())[:MOST_TEXT]
    return cleaned or None


def require_size(body: bytes) -> None:
    """PayloadTooLarge for a file over the limit; it is not looked into."""
    if len(body) > MOST_BYTES:
        raise PayloadTooLarge(
            f"The file has {len(body)} bytes, more than {MOST_BYTES}: import shorter periods, such as single days."
        )
