"""Invoices in the ledger: booked in the transaction that makes them final, and compared with it for ever after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing import booking, credit_lots, postings
from billing.postings import Billed, BilledLine
from studio import ids
from studio.db.invoices import Invoice, InvoiceLine

MISSING = "missing"  # who books an invoice that became final before there was a ledger


@dataclass(frozen=True, slots=True)
class Unequal:
    """An invoice, or a correction, and the ledger say different things. Amounts are `invoice / ledger`."""

    subject: str
    number: str | None
    receivable: str
    net: str
    exact: str
    tax: str
    prepaid: str


def book(session: Session, invoice: Invoice, issued_on: date, by: str) -> Decimal:
    """Book an invoice that becomes final, and pay it from the tenant's credit; how much credit it used."""
    billed = _billed(session, invoice)
    credit_lots.take_turns(session, billed.tenant_id)
    _post(session, billed, issued_on, by)
    return credit_lots.use(session, billed, issued_on, by)


def book_missing(session: Session) -> list[str]:
    """Book every final invoice that the ledger lacks, without touching credit; their numbers."""
    booked = []
    for invoice in missing(session):
        assert invoice.number is not None
        assert invoice.issued_on is not None
        _post(session, _billed(session, invoice), invoice.issued_on, MISSING)
        booked.append(invoice.number)
    return booked


def missing(session: Session) -> list[Invoice]:
    """Final invoices that the ledger lacks, oldest first."""
    return [session.get_one(Invoice, invoice_id) for invoice_id in session.scalars(_UNBOOKED).all()]


def unequal(session: Session) -> list[Unequal]:
    """Where final invoices or corrections and the ledger differ, either way, in any of their amounts."""
    return [Unequal(**row) for row in session.execute(_UNEQUAL).mappings()]


def _post(session: Session, billed: Billed, on: date, by: str) -> None:
    posting = postings.invoice(billed, on, by)
    if posting is not None:
        booking.post(session, posting)


def _billed(session: Session, invoice: Invoice) -> Billed:
    columns = (InvoiceLine.line_no, InvoiceLine.unit, InvoiceLine.exact, InvoiceLine.amount)
    query = select(*columns).where(InvoiceLine.invoice_id == invoice.id).order_by(InvoiceLine.line_no)
    return Billed(
        subject=ids.to_wire(ids.INVOICE, invoice.id),
        tenant_id=invoice.tenant_id,
        legal_entity_id=invoice.legal_entity_id,
        currency=invoice.currency,
        tax_category=invoice.tax_category,
        tax_rate=invoice.tax_rate,
        tax=invoice.tax,
        gross=invoice.gross,
        lines=tuple(BilledLine(*row) for row in session.execute(query)),
    )


_SUBJECT = f"'{ids.INVOICE}' || replace(i.id::text, '-', '')"

# An invoice in which nothing costs anything has nothing to book.
_UNBOOKED = text(f"""
    select i.id from invoices i
    where i.state = 'final'
      and exists (select 1 from invoice_lines l where l.invoice_id = i.id and l.exact <> 0)
      and not exists (select 1 from ledger_transactions t where t.key = 'invoice:' || {_SUBJECT})
    order by i.finalized_at
""")  # noqa: S608 (what is put in are prefixes of our ids, constants)

_UNEQUAL = text(f"""
    with billed as (
        select {_SUBJECT} as subject, i.number, i.legal_entity_id, i.currency, i.tenant_id, i.gross, i.net,
               (select coalesce(sum(l.exact), 0) from invoice_lines l where l.invoice_id = i.id) as exact, i.tax,
               i.prepaid
        from invoices i
        where i.state = 'final'
        union all
        select '{ids.CORRECTION}' || replace(c.id::text, '-', ''), c.number, c.legal_entity_id, c.currency, c.tenant_id,
               s.sign * c.gross, s.sign * c.net,
               (select s.sign * coalesce(sum(l.exact), 0) from correction_lines l where l.correction_id = c.id),
               s.sign * c.tax, 0
        from corrections c cross join lateral (select case c.type when '380' then 1 else -1 end as sign) s
        where c.state = 'final'
    ), booked as (
        select t.subject, a.legal_entity_id, a.currency, t.tenant_id,
               coalesce(sum(e.amount) filter (where a.kind = 'receivable' and t.kind <> 'credit_use'), 0) as gross,
               -coalesce(sum(e.amount) filter (where a.kind in ('revenue', 'rounding')), 0) as net,
               -coalesce(sum(e.amount) filter (where a.kind = 'revenue'), 0) as exact,
               -coalesce(sum(e.amount) filter (where a.kind = 'vat_payable'), 0) as tax,
               -coalesce(sum(e.amount) filter (where a.kind = 'receivable' and t.kind = 'credit_use'), 0) as prepaid
        from ledger_transactions t
        join ledger_entries e on e.transaction_id = t.id
        join ledger_accounts a on a.id = e.account_id
        where t.kind in ('invoice', 'correction', 'credit_use') and (a.tenant_id is null or a.tenant_id = t.tenant_id)
        group by t.subject, a.legal_entity_id, a.currency, t.tenant_id
    ), compared as (
        select coalesce(b.subject, k.subject) as subject, b.number,
               coalesce(b.gross, 0) as b_gross, coalesce(k.gross, 0) as k_gross,
               coalesce(b.net, 0) as b_net, coalesce(k.net, 0) as k_net,
               coalesce(b.exact, 0) as b_exact, coalesce(k.exact, 0) as k_exact,
               coalesce(b.tax, 0) as b_tax, coalesce(k.tax, 0) as k_tax,
               coalesce(b.prepaid, 0) as b_prepaid, coalesce(k.prepaid, 0) as k_prepaid
        from billed b
        full join booked k using (subject, legal_entity_id, currency, tenant_id)
    )
    select subject, number,
           b_gross || ' / ' || trim_scale(k_gross) as receivable, b_net || ' / ' || trim_scale(k_net) as net,
           trim_scale(b_exact) || ' / ' || trim_scale(k_exact) as exact,
           b_tax || ' / ' || trim_scale(k_tax) as tax, b_prepaid || ' / ' || trim_scale(k_prepaid) as prepaid
    from compared
    where (b_gross, b_net, b_exact, b_tax, b_prepaid) <> (k_gross, k_net, k_exact, k_tax, k_prepaid)
    order by subject
""")  # noqa: S608 (what is put in are prefixes of our ids, constants)
