"""What a tenant sees of its account: what it owes, what we hold of it, and each booking with its document. Only reads.

Runs in a session that sees one tenant (row-level security); no query here names one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import receivables
from studio import ids
from studio.errors import InvalidRequest
from studio.money import CENT

MOST_BOOKINGS = 5_000

Side = Literal["current", "credit"]
Kind = Literal[
    "invoice", "correction", "credit_grant", "credit_use", "credit_expiry", "payment", "payment_returned", "write_off"
]


@dataclass(frozen=True, slots=True)
class Holding:
    """One currency: what is owed, and what stands to the tenant's credit. All positive."""

    currency: str
    unpaid_invoices: int
    unpaid: Decimal
    overdue: Decimal
    owed_to_tenant: Decimal  # of invoices that became negative
    prepaid: Decimal
    promotion: Decimal
    unapplied: Decimal  # negative: credit was used whose top-up the bank took back


@dataclass(frozen=True, slots=True)
class Booking:
    """One movement. On `current` positive means owed to us; on `credit` positive means more credit."""

    booked_on: date
    side: Side
    kind: Kind
    document: str  # number of the invoice or correction, else the id of the payment or the credit
    payment: str | None  # the payment behind it, by id
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    """All bookings of [first, last] in one currency, between two balances of each side."""

    currency: str
    first: date
    last: date
    opening: dict[Side, Decimal]
    bookings: tuple[Booking, ...]
    closing: dict[Side, Decimal]


def holdings(session: Session, today: date) -> list[Holding]:
    """Every currency that the tenant has ever had anything in."""
    unsettled = receivables.standings(session, only_unsettled=True)
    balances = {(row.currency, row.kind): row.amount.quantize(CENT) for row in session.execute(_BALANCES)}
    zero = Decimal("0.00")
    found = []
    for currency in sorted({currency for currency, _ in balances}):
        mine = [one for one in unsettled if one.currency == currency]
        owed = [one for one in mine if one.open > 0]
        found.append(
            Holding(
                currency=currency,
                unpaid_invoices=len(owed),
                unpaid=sum((one.open for one in owed), zero),
                overdue=sum((one.open for one in owed if today > one.due_on), zero),
                owed_to_tenant=sum((-one.open for one in mine if one.open < 0), zero),
                prepaid=-balances.get((currency, "prepaid"), zero) + zero,
                promotion=-balances.get((currency, "promotion"), zero) + zero,
                unapplied=-balances.get((currency, "unapplied"), zero) + zero,
            )
        )
    return found


def statement(session: Session, currency: str, first: date, last: date) -> Statement:
    """The statement of a period, its last day included. InvalidRequest for one with more bookings than are shown."""
    parameters = {"currency": currency, "first": first, "last": last}
    opening: dict[Side, Decimal] = {"current": Decimal("0.00"), "credit": Decimal("0.00")}
    for row in session.execute(_OPENING, parameters):
        opening[row.side] = row.amount.quantize(CENT)
    rows = session.execute(_BOOKINGS, parameters | {"most": MOST_BOOKINGS + 1}).all()
    if len(rows) > MOST_BOOKINGS:
        raise InvalidRequest(f"The period has more than {MOST_BOOKINGS} bookings: ask for a shorter one.", param="from")
    bookings = tuple(
        Booking(
            row.booked_on, row.side, _kind(row.kind, row.amount), row.number or row.subject,
            ids.to_wire(ids.PAYMENT, row.payment_id) if row.payment_id else None, row.amount.quantize(CENT),
        )
        for row in rows
    )  # fmt: skip
    closing = dict(opening)
    for booking in bookings:
        closing[booking.side] += booking.amount
    return Statement(currency, first, last, opening, bookings, closing)


def has_pdf(session: Session, invoice_id: UUID) -> bool:
    """Whether the PDF of an invoice of the tenant is rendered."""
    return bool(session.scalar(_HAS_PDF, {"invoice_id": invoice_id}))


def _kind(kind: str, amount: Decimal) -> Kind:
    if kind == "payment_match":
        return "payment" if amount < 0 else "payment_returned"
    return kind  # type: ignore[return-value]  # a check constraint holds the kinds, and these are all that tenants have


_SIDE = "case when a.kind in ('receivable', 'unapplied') then 'current' else 'credit' end"
_SIGNED = "case when a.kind in ('receivable', 'unapplied') then e.amount else -e.amount end"

_BALANCES = text("""
    select a.currency, a.kind, sum(e.amount) as amount
    from ledger_accounts a join ledger_entries e on e.account_id = a.id
    group by 1, 2
""")

_OPENING = text(f"""
    select {_SIDE} as side, sum({_SIGNED}) as amount
    from ledger_accounts a
    join ledger_entries e on e.account_id = a.id
    join ledger_transactions x on x.id = e.transaction_id
    where a.currency = :currency and x.booked_on < :first
    group by 1
""")  # noqa: S608 (constants of this module)

_BOOKINGS = text(f"""
    select x.booked_on, {_SIDE} as side, x.kind, x.subject, sum({_SIGNED}) as amount,
           (select m.payment_id from payment_matches m where m.transaction_id = x.id) as payment_id,
           coalesce((select i.number from invoices i
                     where x.subject like '{ids.INVOICE}%' and i.id = substr(x.subject, {len(ids.INVOICE) + 1})::uuid),
                    (select c.number from corrections c
                     where x.subject like '{ids.CORRECTION}%'
                       and c.id = substr(x.subject, {len(ids.CORRECTION) + 1})::uuid)) as number
    from ledger_accounts a
    join ledger_entries e on e.account_id = a.id
    join ledger_transactions x on x.id = e.transaction_id
    where a.currency = :currency and x.booked_on between :first and :last
    group by x.id, x.booked_on, x.recorded_at, x.kind, x.subject, 2
    order by x.booked_on, x.recorded_at, x.id, 2
    limit :most
""")  # noqa: S608 (constants of this module)

_HAS_PDF = text("select exists (select from invoice_documents where invoice_id = :invoice_id and kind = 'pdf')")
