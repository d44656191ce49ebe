"""What is owed: each final invoice with what the ledger says of it, and how old that is. Only reads.

Nothing here is stored. What is open of an invoice is the balance of the receivable over everything that is booked about
it: the invoice, its corrections, credit, payments, write-offs. Row-level security narrows it to a tenant's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from studio import ids
from studio.money import CENT

PaymentState = Literal["open", "partly_paid", "overdue", "paid", "overpaid", "cancelled", "written_off"]
BUCKETS = ("not_due", "days_1_30", "days_31_60", "days_61_90", "days_over_90")


@dataclass(frozen=True, slots=True)
class Standing:
    """A final invoice and what is left of it. `corrected` is negative where corrections took back.

    open = gross + corrected - credit - paid - written_off; negative: we owe it.
    """

    invoice_id: UUID
    tenant_id: UUID
    tenant: str
    legal_entity_id: str
    number: str
    currency: str
    month: date
    issued_on: date
    due_on: date
    gross: Decimal
    corrected: Decimal
    credit: Decimal
    paid: Decimal
    written_off: Decimal
    open: Decimal
    buyer: str
    added_by: tuple[str, ...]  # numbers of additional invoices

    def state(self, today: date) -> PaymentState:
        """What it is on a day of the legal entity."""
        if self.open > 0:
            if today > self.due_on:
                return "overdue"
            return "partly_paid" if self.paid or self.credit else "open"
        if self.open < 0:
            return "overpaid"
        if self.written_off:
            return "written_off"
        return "cancelled" if self.corrected and self.gross + self.corrected == 0 else "paid"

    def days_overdue(self, today: date) -> int:
        """0 until the due date is over."""
        return max((today - self.due_on).days, 0)


@dataclass(frozen=True, slots=True)
class Age:
    """What one tenant owes, by how long it has been due."""

    tenant: str
    legal_entity_id: str
    currency: str
    not_due: Decimal
    days_1_30: Decimal
    days_31_60: Decimal
    days_61_90: Decimal
    days_over_90: Decimal
    owed_by_us: Decimal  # of invoices with a negative balance

    @property
    def total(self) -> Decimal:
        """All that is open."""
        return self.not_due + self.days_1_30 + self.days_31_60 + self.days_61_90 + self.days_over_90


def standings(
    session: Session,
    *,
    tenant_id: UUID | None = None,
    invoice_ids: Collection[UUID] | None = None,
    only_unsettled: bool = False,
    before: UUID | None = None,
    limit: int | None = None,
) -> list[Standing]:
    """Final invoices, newest first: of one tenant, of these, only those that are not settled, some of them."""
    parameters = {
        "tenant_id": tenant_id, "invoice_ids": list(invoice_ids) if invoice_ids is not None else None,
        "only_unsettled": only_unsettled, "before": before, "limit": limit,
    }  # fmt: skip
    return [
        Standing(**{**row, **{name: row[name].quantize(CENT) for name in _AMOUNTS}, "added_by": tuple(row["added_by"])})
        for row in session.execute(_STANDINGS, parameters).mappings()
    ]


def standing(session: Session, invoice_id: UUID) -> Standing | None:
    """One final invoice; None when there is none that this session may see."""
    found = standings(session, invoice_ids=[invoice_id])
    return found[0] if found else None


def ageing(found: Sequence[Standing], today: date) -> list[Age]:
    """Open amounts by tenant, entity and currency, in buckets by days after the due date. Pure."""
    sums: dict[tuple[str, str, str], dict[str, Decimal]] = {}
    for one in found:
        key = (one.tenant, one.legal_entity_id, one.currency)
        row = sums.setdefault(key, dict.fromkeys((*BUCKETS, "owed_by_us"), Decimal("0.00")))
        if one.open < 0:
            row["owed_by_us"] -= one.open
        else:
            row[bucket(one.days_overdue(today))] += one.open
    return [Age(*key, *row.values()) for key, row in sorted(sums.items())]


def bucket(days_overdue: int) -> str:
    """The name of the bucket of an age. Pure."""
    return BUCKETS[0] if days_overdue <= 0 else BUCKETS[min((days_overdue - 1) // 30 + 1, 4)]


_AMOUNTS = ("gross", "corrected", "credit", "paid", "written_off", "open")

# One look at the index of subjects for each invoice and each of its corrections.
_STANDINGS = text(f"""
    select i.id as invoice_id, i.tenant_id, t.slug as tenant, i.legal_entity_id, i.number, i.currency, i.month,
           i.issued_on, i.issued_on + i.payment_days as due_on, i.gross, b.corrected, b.credit, b.paid, b.written_off,
           b.open, coalesce(i.buyer ->> 'name', '') as buyer,
           array(select c.number from corrections c
                 where c.invoice_id = i.id and c.state = 'final' and c.type = '380' order by c.number) as added_by
    from invoices i
    join tenants t on t.id = i.tenant_id
    cross join lateral (
        select coalesce(sum(e.amount), 0) as open,
               coalesce(sum(e.amount) filter (where x.kind = 'correction'), 0) as corrected,
               -coalesce(sum(e.amount) filter (where x.kind = 'credit_use'), 0) as credit,
               -coalesce(sum(e.amount) filter (where x.kind = 'payment_match'), 0) as paid,
               -coalesce(sum(e.amount) filter (where x.kind = 'write_off'), 0) as written_off
        from (select '{ids.INVOICE}' || replace(i.id::text, '-', '') as subject
              union all
              select '{ids.CORRECTION}' || replace(c.id::text, '-', '')
              from corrections c where c.invoice_id = i.id and c.state = 'final') s
        join ledger_transactions x on x.subject = s.subject
        join ledger_entries e on e.transaction_id = x.id
        join ledger_accounts a on a.id = e.account_id and a.kind = 'receivable'
    ) b
    where i.state = 'final'
      and (cast(:tenant_id as uuid) is null or i.tenant_id = :tenant_id)
      and (cast(:invoice_ids as uuid[]) is null or i.id = any (cast(:invoice_ids as uuid[])))
      and (cast(:before as uuid) is null or i.id < :before)
      and (not :only_unsettled or b.open <> 0)
    order by i.id desc
    limit :limit
""")  # noqa: S608 (what is put in are prefixes of our ids, constants)
