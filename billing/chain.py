"""The chain of hashes over the days of the ledger: whoever changes a closed day breaks it, the tables' owner too.

Pure, and written so that a stranger can compute it again: a transaction is one line of compact JSON, a day the SHA-256
over its lines in the order of their ids, a link the SHA-256 over the link before, the day and the day's hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

GENESIS = "0" * 64
COPY = "ledger/chain.json"  # its key in the bucket of invoices


@dataclass(frozen=True, slots=True)
class BookedEntry:
    """An entry with the account that it stands in, by its name and not by its id."""

    n: int
    account: str
    currency: str
    amount: Decimal
    line_no: int | None


@dataclass(frozen=True, slots=True)
class BookedTransaction:
    """A transaction as it stands in the ledger."""

    id: UUID
    key: str
    kind: str
    legal_entity_id: str
    tenant_id: UUID | None
    subject: str
    booked_on: date
    booked_by: str
    description: str
    recorded_at: datetime
    recorded_on: date
    entries: tuple[BookedEntry, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a day holds: how many transactions, and the hash over them."""

    transactions: int
    sha256: str


EMPTY = Content(0, hashlib.sha256().hexdigest())


@dataclass(frozen=True, slots=True)
class Link:
    """One closed day."""

    day: date
    transactions: int
    content_sha256: str
    previous_sha256: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Break:
    """The first day that is not what it was when it was closed, and in what."""

    day: date
    why: str


def canonical(transaction: BookedTransaction) -> bytes:
    """A transaction as one line: the fields of the class in order, amounts with twelve decimals, instants in UTC."""
    fields = [
        str(transaction.id),
        transaction.key,
        transaction.kind,
        transaction.legal_entity_id,
        str(transaction.tenant_id or ""),
        transaction.subject,
        transaction.booked_on.isoformat(),
        transaction.booked_by,
        transaction.description,
        transaction.recorded_at.astimezone(UTC).isoformat(timespec="microseconds"),
        transaction.recorded_on.isoformat(),
        [[one.n, one.account, one.currency, f"{one.amount:.12f}", one.line_no] for one in transaction.entries],
    ]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def content(transactions: Iterable[BookedTransaction]) -> Content:
    """A day's transactions, given in the order of their ids."""
    digest, count = hashlib.sha256(), 0
    for transaction in transactions:
        digest.update(canonical(transaction))
        count += 1
    return Content(count, digest.hexdigest())


def link(previous_sha256: str, day: date, of_day: Content) -> Link:
    """Close a day after the link before it; GENESIS is before the first."""
    sha256 = hashlib.sha256(f"{previous_sha256}\n{day.isoformat()}\n{of_day.sha256}\n".encode()).hexdigest()
    return Link(day, of_day.transactions, of_day.sha256, previous_sha256, sha256)


def as_json(links: Sequence[Link]) -> bytes:
    """The links as they are copied to a place outside the database."""
    return json.dumps({one.day.isoformat(): one.sha256 for one in links}, indent=0).encode()


def from_json(copy: bytes | None) -> dict[date, str]:
    """The copied links by day; none when nothing was copied yet."""
    return {date.fromisoformat(day): sha256 for day, sha256 in json.loads(copy or b"{}").items()}


def first_break(links: Sequence[Link], days: Mapping[date, Content], kept: Mapping[date, str]) -> Break | None:
    """The first day that does not hold, or None.

    `links` are the stored ones, `days` what is there now, `kept` the links that were copied to a place outside the
    database: without those, an owner who computes the whole chain anew goes unseen.
    """
    stored = {one.day: one for one in links}
    closed_until = max((*stored, *kept), default=date.min)
    previous = GENESIS
    for day in sorted({*stored, *kept, *(day for day in days if day <= closed_until)}):
        one = stored.get(day)
        if one is None:
            return Break(day, "it was closed and its link is gone" if day in kept else "it was never closed")
        now = link(previous, day, days.get(day, EMPTY))
        if now.transactions != one.transactions:
            return Break(day, f"{one.transactions} transactions were closed, {now.transactions} are there")
        if now.content_sha256 != one.content_sha256:
            return Break(day, "a transaction, an entry or an account was changed")
        if now != one:
            return Break(day, "its link does not follow from the day before")
        if kept.get(day, one.sha256) != one.sha256:
            return Break(day, "its link is not the one that was copied when it was closed")
        previous = one.sha256
    return None
