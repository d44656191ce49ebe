"""`/v1/balance` and `/v1/statement`: what the caller's tenant owes, what we hold of it, and how that came about."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from billing import customer_account, payment_reference
from billing.customer_account import Kind, Side
from serving.routes.caller import AccountCaller
from serving.routes.stores import TenantDatabase
from studio import clock
from studio.db.sessions import tenant_scope
from studio.db.tenancy import LegalEntity, TenantBilling
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1", tags=["account"])
MOST_DAYS = 3 * 366
# Far from where the calendar ends, so that days can be added and taken away.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(9000, 12, 31))]


class CurrencyBalance(BaseModel):
    """One currency; exact decimal text, all positive. `unapplied` is money that pays no invoice yet."""

    currency: Literal["EUR", "CNY"]
    unpaid_invoices: int
    unpaid: str
    overdue: str
    owed_to_you: str
    credit_prepaid: str
    credit_promotion: str
    unapplied: str


class AccountBalance(BaseModel):
    """Where the account stands now. Transfers with `top_up_reference` become credit."""

    object: Literal["balance"]
    as_of: date
    top_up_reference: str
    data: list[CurrencyBalance]


class SideBalances(BaseModel):
    """`current`: what you owe, negative where we hold money of yours. `credit`: what invoices will use."""

    current: str
    credit: str


class StatementLine(BaseModel):
    """A booking. On `current` a positive amount is owed by you; on `credit` it is more credit."""

    booked_on: date
    side: Side
    kind: Kind
    document: str
    payment: str | None
    amount: str


class AccountStatementView(BaseModel):
    """All bookings of a period, both days included: closing = opening + bookings, on each side."""

    object: Literal["statement"]
    currency: Literal["EUR", "CNY"]
    from_day: date
    to_day: date
    opening: SideBalances
    bookings: list[StatementLine]
    closing: SideBalances


@router.get("/balance")
def get_balance(caller: AccountCaller, database: TenantDatabase) -> AccountBalance:
    """Credit, unpaid invoices, and money that pays nothing yet."""
    with tenant_scope(database, caller.tenant_id) as session:
        today = today_of_seller(session)
        found = customer_account.holdings(session, today)
    return AccountBalance(
        object="balance",
        as_of=today,
        top_up_reference=payment_reference.of_tenant(caller.tenant_id),
        data=[
            CurrencyBalance(
                currency=one.currency,
                unpaid_invoices=one.unpaid_invoices,
                unpaid=str(one.unpaid),
                overdue=str(one.overdue),
                owed_to_you=str(one.owed_to_tenant),
                credit_prepaid=str(one.prepaid),
                credit_promotion=str(one.promotion),
                unapplied=str(one.unapplied),
            )
            for one in found
        ],
    )


@router.get("/statement")
def get_statement(
    caller: AccountCaller,
    database: TenantDatabase,
    first: Annotated[
        Day | None, Query(alias="from", description="first day; that of the month of `to` if absent")
    ] = None,
    last: Annotated[Day | None, Query(alias="to", description="last day, included; today if absent")] = None,
    currency: Annotated[Literal["EUR", "CNY"] | None, Query(description="the one you are billed in if absent")] = None,
) -> AccountStatementView:
    """The account statement of a period."""
    with tenant_scope(database, caller.tenant_id) as session:
        last = last or today_of_seller(session)
        first = first or clock.month_start(last)
        if not timedelta(0) <= last - first < timedelta(days=MOST_DAYS):
            raise InvalidRequest(f"`from` must not be after `to`, nor {MOST_DAYS} days before it.", param="from")
        said = customer_account.statement(session, currency or _currency(session), first, last)
    return AccountStatementView(
        object="statement",
        currency=said.currency,
        from_day=first,
        to_day=last,
        opening=SideBalances(current=str(said.opening["current"]), credit=str(said.opening["credit"])),
        bookings=[
            StatementLine(
                booked_on=one.booked_on,
                side=one.side,
                kind=one.kind,
                document=one.document,
                payment=one.payment,
                amount=str(one.amount),
            )
            for one in said.bookings
        ],
        closing=SideBalances(current=str(said.closing["current"]), credit=str(said.closing["credit"])),
    )


def _terms(session: Session) -> TenantBilling | None:
    """How the tenant is billed today; row-level security leaves its own rows only."""
    today = clock.now().date()
    query = select(TenantBilling).where(
        TenantBilling.valid_from <= today, or_(TenantBilling.valid_until.is_(None), TenantBilling.valid_until > today)
    )
    return session.scalars(query).one_or_none()


def _currency(session: Session) -> str:
    terms = _terms(session)
    if terms is None:
        raise InvalidRequest("Nobody bills this tenant today: name a currency.", param="currency")
    return terms.currency


def today_of_seller(session: Session) -> date:
    """The civil day of whoever bills the tenant."""
    terms = _terms(session)
    zone = session.get_one(LegalEntity, terms.legal_entity_id).time_zone if terms else "UTC"
    return clock.now().astimezone(clock.zone(zone)).date()
