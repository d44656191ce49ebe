"""Budgets of tenants and keys as people set and see them. How gateways spend them is `serving/budgets`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from studio import clock, ids
from studio.db.budgets import Budget, BudgetAccount, BudgetDraw
from studio.db.tenancy import TenantBilling
from studio.errors import InsufficientQuota, NotFound
from studio.tenants import audit

Kind = Literal["prepaid", "monthly"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget and what is left of it in its present period."""

    id: UUID
    api_key_id: UUID | None
    kind: Kind
    currency: str
    amount: Decimal
    spent: Decimal  # by sources of usage that have ended, and nothing else of what they had drawn
    held: Decimal  # drawn by running gateways, spent already or not, and by fine-tunes
    period: date
    created_at: datetime

    @property
    def free(self) -> Decimal:
        """What any gateway may still draw."""
        return max(self.amount - self.spent - self.held, Decimal(0))


def put_budget(
    session: Session, tenant_id: UUID, api_key_id: UUID | None, kind: Kind, amount: Decimal, actor: str
) -> UUID:
    """The tenant's or key's budget of this kind, created or changed to `amount` in the tenant's present currency.

    A change keeps what was spent. A budget in another currency than the tenant's is ended, and a new one begins.
    """
    currency = _billing(session, tenant_id).currency
    budget = _live(session, tenant_id, api_key_id, kind)
    if budget is not None and budget.currency != currency:
        budget.ended_at = clock.now()
        session.flush()
        budget = None
    if budget is None:
        budget = Budget(id=ids.uuid7(), tenant_id=tenant_id, api_key_id=api_key_id, kind=kind, currency=currency)
        session.add(budget)
    budget.amount = amount
    session.flush()
    audit(session, actor, "budget.put", _subject(budget), tenant_id, {"amount": str(amount), "currency": currency})
    return budget.id


def end_budget(session: Session, tenant_id: UUID, api_key_id: UUID | None, kind: Kind, actor: str) -> None:
    """Spending is not limited by it any more. NotFound when there is none."""
    budget = _live(session, tenant_id, api_key_id, kind)
    if budget is None:
        raise NotFound(
            f"there is no {kind} budget of this {'key' if api_key_id else 'tenant'}",
            way_out="The list of budgets names them.",
        )
    budget.ended_at = clock.now()
    audit(session, actor, "budget.end", _subject(budget), tenant_id, {})


def standings(session: Session, tenant_id: UUID) -> list[Standing]:
    """All live budgets of a tenant and of its keys, oldest first."""
    budgets = session.scalars(
        select(Budget).where(Budget.tenant_id == tenant_id, Budget.ended_at.is_(None)).order_by(Budget.created_at)
    ).all()
    if not budgets:
        return []
    zone = clock.zone(_billing(session, tenant_id).time_zone)
    month = clock.now().astimezone(zone).date().replace(day=1)
    return [_standing(session, budget, month if budget.kind == "monthly" else _began(budget)) for budget in budgets]


def require_free(session: Session, tenant_id: UUID, api_key_id: UUID) -> None:
    """InsufficientQuota where nothing at all is left of a budget that work of this key would meet."""
    for one in standings(session, tenant_id):
        if one.api_key_id in (None, api_key_id) and not one.free:
            of_key = one.api_key_id is not None
            raise InsufficientQuota(
                f"The {named(one.kind, of_key=of_key)} is used up: 0 of {one.amount.normalize():f} {one.currency} is"
                f" left here. To go on, {way_out(one.kind, of_key=of_key)}."
            )


def named(kind: Kind, *, of_key: bool) -> str:
    """A budget in words, for whoever spends it."""
    what = {"prepaid": "credit", "monthly": "budget of this month"}[kind]
    return f"{what} of {'this API key' if of_key else 'your organization'}"


def way_out(kind: Kind, *, of_key: bool) -> str:
    """What to do when it is used up."""
    what = {
        "prepaid": "ask your operator for more credit",
        "monthly": "raise it, or wait for the next month",
    }[kind]
    return f"use another key, or {what}" if of_key else what


def _standing(session: Session, budget: Budget, period: date) -> Standing:
    spent = session.scalar(
        select(BudgetAccount.spent).where(BudgetAccount.budget_id == budget.id, BudgetAccount.period == period)
    )
    held = session.scalar(
        select(func.sum(BudgetDraw.amount)).where(BudgetDraw.budget_id == budget.id, BudgetDraw.period == period)
    )
    return Standing(
        id=budget.id,
        api_key_id=budget.api_key_id,
        kind=budget.kind,  # type: ignore[arg-type]  # a check of the table
        currency=budget.currency,
        amount=budget.amount,
        spent=spent or Decimal(0),
        held=held or Decimal(0),
        period=period,
        created_at=budget.created_at,
    )


def _began(budget: Budget) -> date:
    return budget.created_at.date()


def _live(session: Session, tenant_id: UUID, api_key_id: UUID | None, kind: Kind) -> Budget | None:
    return session.scalar(
        select(Budget).where(
            Budget.tenant_id == tenant_id,
            Budget.api_key_id.is_not_distinct_from(api_key_id),
            Budget.kind == kind,
            Budget.ended_at.is_(None),
        )
    )


def _billing(session: Session, tenant_id: UUID) -> TenantBilling:
    today = clock.now().date()
    return session.scalars(
        select(TenantBilling).where(
            TenantBilling.tenant_id == tenant_id,
            TenantBilling.valid_from <= today,
            TenantBilling.valid_until.is_(None) | (TenantBilling.valid_until > today),
        )
    ).one()


def _subject(budget: Budget) -> str:
    return f"{budget.kind} budget of {'key ' + budget.api_key_id.hex if budget.api_key_id else 'tenant'}"
