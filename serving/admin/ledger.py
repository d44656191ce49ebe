"""The ledger, to look at: balances, transactions, and whether its closed days are what they were."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from billing import balances, chain, ledger_days
from billing.balances import Booked
from serving.admin.access import Transaction
from serving.routes.stores import Objects
from serving.texts import storable
from studio import ids
from studio.objects import Bucket
from studio.tenants import known_tenant

router = APIRouter(prefix="/ledger")


class BalanceView(BaseModel):
    """What stands in the accounts of one kind. Debit is positive; amounts are exact decimal text."""

    legal_entity: str
    currency: str
    kind: str
    detail: str
    tenants: int
    amount: str


class EntryView(BaseModel):
    """One side of a transaction."""

    account: str
    detail: str
    currency: str
    amount: str
    line_no: int | None


class TransactionView(BaseModel):
    """What was booked at once, and why."""

    id: str
    key: str
    kind: str
    tenant: str | None  # null: money that is nobody's yet
    subject: str
    booked_on: date
    booked_by: str
    description: str
    recorded_at: datetime
    entries: list[EntryView]


class VerificationView(BaseModel):
    """`head` is the newest link: who writes it down elsewhere can prove later that nothing before it was changed."""

    closed_days: int
    transactions: int
    head: str
    copied_days: int
    holds: bool
    first_broken_day: date | None
    why: str | None


@router.get("/balances")
def get_balances(session: Transaction) -> list[BalanceView]:
    """Every kind of account, by legal entity and currency; each currency of an entity sums to zero."""
    return [
        BalanceView(
            legal_entity=balance.legal_entity_id,
            currency=balance.currency,
            kind=balance.kind,
            detail=balance.detail,
            tenants=balance.tenants,
            amount=f"{balance.amount:f}",
        )
        for balance in balances.balances(session)
    ]


@router.get("/transactions")
def get_transactions(
    session: Transaction,
    tenant: str | None = None,
    subject: Annotated[str | None, Query(description="an invoice or a lot of credit, by its id")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[TransactionView]:
    """The newest transactions, of one tenant or about one thing."""
    tenant_id = known_tenant(session, tenant).id if tenant is not None else None
    subject = storable(subject, "subject") if subject is not None else None
    found = balances.transactions(session, tenant_id=tenant_id, subject=subject, limit=limit)
    return [_view(booked) for booked in found]


@router.get("/verification")
def get_verification(session: Transaction, store: Objects) -> VerificationView:
    """Compute the chain of hashes again from the first day on, and compare it with its copy in the object store."""
    kept = chain.from_json(store.get(Bucket.INVOICES, chain.COPY))
    said = ledger_days.verify(session, kept)
    return VerificationView(
        closed_days=said.days,
        transactions=said.transactions,
        head=said.head,
        copied_days=len(kept),
        holds=said.broken is None,
        first_broken_day=said.broken.day if said.broken else None,
        why=said.broken.why if said.broken else None,
    )


def _view(booked: Booked) -> TransactionView:
    return TransactionView(
        id=ids.to_wire(ids.LEDGER_TRANSACTION, booked.id),
        key=booked.key,
        kind=booked.kind,
        tenant=ids.to_wire(ids.TENANT, booked.tenant_id) if booked.tenant_id else None,
        subject=booked.subject,
        booked_on=booked.booked_on,
        booked_by=booked.booked_by,
        description=booked.description,
        recorded_at=booked.recorded_at,
        entries=[
            EntryView(
                account=side.account,
                detail=side.detail,
                currency=side.currency,
                amount=f"{side.amount:f}",
                line_no=side.line_no,
            )
            for side in booked.entries
        ],
    )
