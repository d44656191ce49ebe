"""Payments to look at: all, what waits for a person, and whether the ledger says the same. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from studio.money import CENT


@dataclass(frozen=True, slots=True)
class Listed:
    """A payment and how much of it is matched. `invoices`: what it pays now, by number."""

    id: UUID
    legal_entity_id: str
    currency: str
    amount: Decimal
    unmatched: Decimal
    account: str
    source: str
    booked_on: date
    payer: str | None
    payer_account: str | None
    remittance: str
    is_return: bool
    recorded_by: str
    tenant: str | None
    invoices: tuple[str, ...]
    is_touched: bool  # somebody or something has matched it before


@dataclass(frozen=True, slots=True)
class Difference:
    """Payments and the ledger say different things of one account."""

    legal_entity_id: str
    currency: str
    account: str
    payments: Decimal
    ledger: Decimal


def payments(
    session: Session, *, only_waiting: bool = False, tenant_id: UUID | None = None, limit: int | None = None
) -> list[Listed]:
    """Newest first; only those of which something is unmatched, or that are a tenant's."""
    parameters = {"only_waiting": only_waiting, "tenant_id": tenant_id, "limit": limit, "id": None}
    return _listed(session, parameters)


def payment(session: Session, payment_id: UUID) -> Listed:
    """One payment that is there."""
    return _listed(session, {"only_waiting": False, "tenant_id": None, "limit": 1, "id": payment_id})[0]


def waiting(session: Session) -> list[Listed]:
    """What waits for a person, oldest first."""
    return sorted(payments(session, only_waiting=True), key=lambda one: (one.booked_on, one.id))


def differences(session: Session) -> list[Difference]:
    """Where payments and matches are not what bank, clearing and the other accounts say. Empty: all is well."""
    return [Difference(**row) for row in session.execute(_DIFFERENCES).mappings()]


def _listed(session: Session, parameters: Mapping[str, object]) -> list[Listed]:
    rows = session.execute(_PAYMENTS, parameters).mappings()
    return [
        Listed(**{**row, "unmatched": row["unmatched"].quantize(CENT), "invoices": tuple(row["invoices"])})
        for row in rows
    ]


_PAYMENTS = text("""
    select p.id, p.legal_entity_id, p.currency, p.amount, p.amount - m.amount as unmatched, p.account, p.source,
           p.booked_on, p.payer, p.payer_account, p.remittance, p.is_return, p.recorded_by, m.tenant, m.invoices,
           m.matches > 0 as is_touched
    from payments p cross join lateral (
        select coalesce(sum(m.amount), 0) as amount, count(*) as matches, max(t.slug) as tenant,
               coalesce((select array_agg(paid.number order by paid.number) from (
                   select i.number from payment_matches own join invoices i on i.id = own.invoice_id
                       left join payment_matches back on back.reverses_id = own.id
                   where own.payment_id = p.id and own.reverses_id is null
                   group by own.id, i.number having own.amount + coalesce(sum(back.amount), 0) <> 0) paid),
                   '{}') as invoices
        from payment_matches m left join tenants t on t.id = m.tenant_id
        where m.payment_id = p.id) m
    where (cast(:id as uuid) is null or p.id = :id)
      and (not :only_waiting or p.amount <> m.amount)
      and (cast(:tenant_id as uuid) is null
           or exists (select from payment_matches o where o.payment_id = p.id and o.tenant_id = :tenant_id))
    order by p.id desc
    limit :limit
""")

# Bank and clearing move with payments; every other account of a match moves against clearing.
_DIFFERENCES = text("""
    with said as (
        select p.legal_entity_id, p.currency, 'bank ' || p.account as account, p.amount from payments p
        union all
        select p.legal_entity_id, p.currency, 'clearing', -p.amount from payments p
        union all
        select p.legal_entity_id, p.currency, 'clearing', m.amount
        from payment_matches m join payments p on p.id = m.payment_id
        union all
        select p.legal_entity_id, p.currency,
               case m.target when 'invoice' then 'receivable ' || m.invoice_id when 'credit' then 'credit ' || m.lot_id
                    else m.target || ' ' || coalesce(m.tenant_id::text, '') end, -m.amount
        from payment_matches m join payments p on p.id = m.payment_id
    ), booked as (
        select a.legal_entity_id, a.currency,
               case when a.kind = 'bank' then 'bank ' || a.detail when a.kind = 'clearing' then 'clearing'
                    when m.target = 'invoice' then 'receivable ' || m.invoice_id
                    when m.target = 'credit' then 'credit ' || m.lot_id
                    else m.target || ' ' || coalesce(m.tenant_id::text, '') end as account, e.amount
        from ledger_transactions x
        join ledger_entries e on e.transaction_id = x.id
        join ledger_accounts a on a.id = e.account_id
        left join payment_matches m on m.transaction_id = x.id
        where x.kind in ('payment', 'payment_match')
    ), sums as (
        select legal_entity_id, currency, account, sum(amount) as payments, 0 as ledger from said group by 1, 2, 3
        union all
        select legal_entity_id, currency, coalesce(account, 'no match'), 0, sum(amount) from booked group by 1, 2, 3
    )
    select legal_entity_id, currency, account, sum(payments) as payments, trim_scale(sum(ledger)) as ledger
    from sums group by 1, 2, 3 having sum(payments) <> sum(ledger) order by 1, 2, 3
""")
