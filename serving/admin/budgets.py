"""Budgets: what a tenant, or one of its keys, may spend."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from serving import texts
from serving.admin.access import BillingCaller, Transaction
from studio import budgets, ids
from studio.budgets import Kind
from studio.db.budgets import Budget
from studio.db.tenancy import ApiKey
from studio.errors import NotFound
from studio.tenants import find_tenant

router = APIRouter(prefix="/tenants/{slug}/budgets")


class BudgetBody(BaseModel):
    """A budget in the tenant's currency: of a key, or without `key_id` of the tenant."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    amount: Decimal = Field(ge=0, max_digits=18, decimal_places=6)
    key_id: str | None = None
    alert_percents: list[Annotated[int, Field(ge=1, le=200)]] | None = Field(
        None, max_length=10, description="at which percentages to alert; left out: as it is, at first 80 and 100"
    )


class BudgetView(BaseModel):
    """A budget and its present period. `held` is drawn by running gateways, spent already or not, and by fine-tunes."""

    key_id: str | None
    kind: Kind
    currency: str
    amount: Decimal
    spent: Decimal
    held: Decimal
    free: Decimal
    period: date


@router.get("")
def get_budgets(slug: str, session: Transaction) -> list[BudgetView]:
    """Every budget of the tenant and of its keys."""
    return views(session, find_tenant(session, slug).id)


@router.put("")
def put_budget(slug: str, body: BudgetBody, caller: BillingCaller, session: Transaction) -> list[BudgetView]:
    """Create a budget or change its amount; what was spent stays spent. It holds within a second."""
    tenant_id = find_tenant(session, slug).id
    budget_id = budgets.put_budget(
        session, tenant_id, _key(session, tenant_id, body.key_id), body.kind, body.amount, caller.actor
    )
    if body.alert_percents is not None:
        session.get_one(Budget, budget_id).alert_percents = sorted(set(body.alert_percents))
    return views(session, tenant_id)


@router.delete("/{kind}", status_code=204)
def delete_budget(
    slug: str, kind: Kind, caller: BillingCaller, session: Transaction, key_id: str | None = None
) -> None:
    """End a budget: spending is not limited by it any more."""
    tenant_id = find_tenant(session, slug).id
    budgets.end_budget(session, tenant_id, _key(session, tenant_id, key_id), kind, caller.actor)


def views(session: Session, tenant_id: UUID) -> list[BudgetView]:
    """As operators and the tenant itself see them."""
    return [
        BudgetView(
            key_id=ids.to_wire(ids.API_KEY, one.api_key_id) if one.api_key_id else None,
            kind=one.kind,
            currency=one.currency,
            amount=one.amount,
            spent=one.spent,
            held=one.held,
            free=one.free,
            period=one.period,
        )
        for one in budgets.standings(session, tenant_id)
    ]


def _key(session: Session, tenant_id: UUID, wire_id: str | None) -> UUID | None:
    if wire_id is None:
        return None
    id = texts.key_id(wire_id, "key_id")
    if session.query(ApiKey.id).filter(ApiKey.id == id, ApiKey.tenant_id == tenant_id).one_or_none() is None:
        raise NotFound("the tenant has no key with this id", param="key_id")
    return id
