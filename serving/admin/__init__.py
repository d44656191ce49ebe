"""`/admin/v1`: what operators and finance do by API. Each route parses, calls one function of the domain, returns.

All of them need a key with the scope `admin` or an operator's role, and run with the database role `operator`; the
token path and the tenants' own routes never see that role. A route that only reads needs nothing beyond that. One that
changes something names its caller: `Caller` for operations, `BillingCaller` for money.
"""

from fastapi import APIRouter

from serving.admin import (
    budgets,
    card_reservations,
    clock,
    corrections,
    credit_lots,
    fleet,
    hours,
    invoices,
    ledger,
    limits,
    objectives,
    payments,
    prices,
    receivables,
    rerates,
    reviews,
    signin_links,
    tenant_terms,
    tenants,
    usage,
    users,
    weights,
)
from serving.admin.access import READ

router = APIRouter(prefix="/admin/v1", tags=["admin"], dependencies=[READ])
_TENANTS = (tenants, tenant_terms, users)
# `/invoices/open` before `/invoices/{id}`.
_SOLD = (usage, prices, card_reservations, rerates)
_MONEY = (*_SOLD, reviews, invoices, corrections, credit_lots, ledger, payments, receivables)
for part in (*_TENANTS, signin_links, limits, budgets, weights, fleet, hours, clock, objectives, *_MONEY):
    router.include_router(part.router)

__all__ = ["router"]
