"""`/v1/budgets`: what the caller's tenant may spend and what is left of it. Operators set it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from serving.admin.budgets import BudgetView, views
from serving.routes.caller import UsageCaller
from serving.routes.stores import TenantDatabase
from studio.db.sessions import tenant_scope

router = APIRouter(prefix="/v1/budgets", tags=["usage"])


class BudgetList(BaseModel):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[BudgetView]


@router.get("")
def list_budgets(caller: UsageCaller, database: TenantDatabase) -> BudgetList:
    """Every budget of the tenant and of its keys."""
    with tenant_scope(database, caller.tenant_id) as session:
        return BudgetList(object="list", data=views(session, caller.tenant_id))
