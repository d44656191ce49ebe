"""What each event of the business books. Pure: facts in, a balanced posting out.

An invoice's revenue is booked exact and its VAT as printed; what rounding a line gained or lost stands in the rounding
account, line by line, so the ledger sums to zero to the last of twelve decimals and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Literal
from uuid import UUID

from billing.ledger import Account, AccountKind, Entry, Posting, without_zeros
from studio import ids

LotKind = Literal["prepaid", "promotion"]

# What revenue is told apart by: the printed unit of an invoice line.
REVENUE_OF_UNIT = MappingProxyType(
    {
        "prompt": "inference",
        "cached_prompt": "inference",
        "completion": "inference",
        "embedding": "embedding",
        "reused": "inference",
        "batch_prompt": "batch",
        "batch_cached_prompt": "batch",
        "batch_completion": "batch",
        "batch_embedding": "batch",
        "training": "training",
        "storage": "storage",
        "gpu_hour": "gpu_hours",
        "quote_limit": "batch",
        "minimum_commitment": "commitment",
    }
)


@dataclass(frozen=True, slots=True)
class BilledLine:
    """A line of an invoice: exact, and as printed."""

    line_no: int
    unit: str
    exact: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Billed:
    """An invoice, or a correction of one, that becomes final."""

    subject: str  # its id on the wire
    tenant_id: UUID
    legal_entity_id: str
    currency: str
    tax_category: str
    tax_rate: Decimal
    tax: Decimal
    gross: Decimal
    lines: tuple[BilledLine, ...]


@dataclass(frozen=True, slots=True)
class Lot:
    """Credit of one origin, with what is left of it. It expires at the end of `expires_on`, in the entity's zone."""

    id: UUID
    kind: LotKind
    tenant_id: UUID
    legal_entity_id: str
    currency: str
    granted_on: date
    expires_on: date | None
    remaining: Decimal

    @property
    def account(self) -> Account:
        """The lot's own account."""
        return Account(self.legal_entity_id, self.kind, self.currency, self.tenant_id, ids.to_wire(ids.CREDIT, self.id))


def invoice(billed: Billed, booked_on: date, booked_by: str) -> Posting | None:
    """Receivable against revenue, VAT and rounding; None for an invoice in which nothing costs anything."""
    moving = _billing_entries(billed, 1)
    if not moving:
        return None
    return Posting(
        key=f"invoice:{billed.subject}",
        kind="invoice",
        tenant_id=billed.tenant_id,
        subject=billed.subject,
        booked_on=booked_on,
        booked_by=booked_by,
        description="invoice",
        entries=moving,
    )


def correction(billed: Billed, takes_back: bool, booked_on: date, booked_by: str, reason: str) -> Posting:
    """The entries of an invoice, the other way round where the correction takes back."""
    return Posting(
        key=f"correction:{billed.subject}",
        kind="correction",
        tenant_id=billed.tenant_id,
        subject=billed.subject,
        booked_on=booked_on,
        booked_by=booked_by,
        description=reason,
        entries=_billing_entries(billed, -1 if takes_back else 1),
    )


def grant(lot: Lot, booked_by: str, reason: str) -> Posting:
    """A new lot of `lot.remaining`: prepaid against the bank, a promotion against its cost."""
    against: AccountKind = "bank" if lot.kind == "prepaid" else "promotion_cost"
    return _of_lot(lot, "credit_grant", against, -lot.remaining, lot.granted_on, booked_by, reason)


def expire(lot: Lot, booked_on: date, booked_by: str) -> Posting:
    """What is left of a lot is nobody's claim any more: income if it was paid for, else its cost is taken back."""
    against: AccountKind = "breakage" if lot.kind == "prepaid" else "promotion_cost"
    reason = f"credit expired on {lot.expires_on}"
    return _of_lot(lot, "credit_expiry", against, lot.remaining, booked_on, booked_by, reason)


def spread(lots: Sequence[Lot], due: Decimal) -> list[tuple[Lot, Decimal]]:
    """How much of each lot pays `due`: gifts before what was paid for, then what expires first, then what is oldest."""
    taken = []
    for lot in sorted(lots, key=_turn):
        amount = min(due, lot.remaining)
        if amount > 0:
            taken.append((lot, amount))
            due -= amount
    return taken


def _turn(lot: Lot) -> tuple[bool, date, date, UUID]:
    return lot.kind != "promotion", lot.expires_on or date.max, lot.granted_on, lot.id


def use(billed: Billed, taken: Sequence[tuple[Lot, Decimal]], booked_on: date, booked_by: str) -> Posting:
    """Lots pay for an invoice, as a payment does: its total and its VAT stay what they are."""
    total = sum((amount for _, amount in taken), Decimal(0))
    return Posting(
        key=f"credit_use:{billed.subject}",
        kind="credit_use",
        tenant_id=billed.tenant_id,
        subject=billed.subject,
        booked_on=booked_on,
        booked_by=booked_by,
        description="invoice paid from credit",
        entries=(*(Entry(lot.account, amount) for lot, amount in taken), Entry(_receivable(billed), -total)),
    )


def _of_lot(
    lot: Lot,
    kind: Literal["credit_grant", "credit_expiry"],
    against: AccountKind,
    amount: Decimal,
    booked_on: date,
    booked_by: str,
    description: str,
) -> Posting:
    subject = ids.to_wire(ids.CREDIT, lot.id)
    return Posting(
        key=f"{kind}:{subject}",
        kind=kind,
        tenant_id=lot.tenant_id,
        subject=subject,
        booked_on=booked_on,
        booked_by=booked_by,
        description=description,
        entries=(Entry(lot.account, amount), Entry(_account(lot.legal_entity_id, lot.currency, against), -amount)),
    )


def _billing_entries(billed: Billed, sign: Literal[1, -1]) -> tuple[Entry, ...]:
    books = (billed.legal_entity_id, billed.currency)
    entries = [Entry(_receivable(billed), sign * billed.gross)]
    for line in billed.lines:
        revenue = _account(*books, "revenue", REVENUE_OF_UNIT[line.unit])
        entries.append(Entry(revenue, -sign * line.exact, line.line_no))
        entries.append(Entry(_account(*books, "rounding"), sign * (line.exact - line.amount), line.line_no))
    vat = _account(*books, "vat_payable", f"{billed.tax_category} {billed.tax_rate}")
    entries.append(Entry(vat, -sign * billed.tax))
    return without_zeros(entries)


def _receivable(billed: Billed) -> Account:
    return Account(billed.legal_entity_id, "receivable", billed.currency, billed.tenant_id)


def _account(legal_entity_id: str, currency: str, kind: AccountKind, detail: str = "") -> Account:
    return Account(legal_entity_id, kind, currency, None, detail)
