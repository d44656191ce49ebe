"""`/admin/v1`: what operators and finance do by API. Each route parses, calls one function of the domain, returns.

All of them need a key with the scope `admin` and run with the database role `operator`; the token path and the tenants'
own routes never see that role.
"""

from fastapi import APIRouter, Depends

from serving.admin import budgets, clock, fleet, hours, invoices, limits, tenants, usage, weights
from serving.admin.access import authenticate

router = APIRouter(prefix="/admin/v1", tags=["admin"], dependencies=[Depends(authenticate)])
for part in (tenants, limits, budgets, weights, fleet, hours, clock, usage, invoices):
    router.include_router(part.router)

__all__ = ["router"]
