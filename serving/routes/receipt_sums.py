"""`/v1/receipts/sum`: what several requests of the caller's tenant came to together, so that no client adds up."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from billing.rating import price_text
from billing.usage_costs import usage_costs
from serving.routes.caller import UsageCaller
from serving.routes.patience import bounded
from serving.routes.stores import TenantDatabase
from serving.routes.usage import UsageCost
from studio import ids, storage_usage
from studio.db.sessions import tenant_scope
from studio.db.tenancy import Tenant
from studio.db.usage import UsageEvent
from studio.errors import InvalidRequest

router = APIRouter(tags=["usage"])

MOST_REQUESTS = 2_000
MOST_BETWEEN = timedelta(days=31)
PATIENCE = timedelta(seconds=5)  # a primary key is looked up for each request
_REQUEST = "req_"


class RequestsToSum(BaseModel):
    """The values of `x-request-id` of answers. One that stands twice counts once."""

    request_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_REQUESTS)]


class ReceiptSum(BaseModel):
    """What the receipts of these requests say together, net and exact."""

    object: Literal["receipt.sum"]
    requests: int  # how many different ones were asked for
    known: int  # of how many usage is in the books; usage is there seconds after its end, a refused request's never
    costs: list[UsageCost]  # by currency; empty for a tenant of ours, which is not charged


@router.post("/v1/receipts/sum")
def sum_receipts(asked: RequestsToSum, caller: UsageCaller, database: TenantDatabase) -> ReceiptSum:
    """Add up what requests cost: at most 2,000 of them, begun within 31 days of each other. It changes nothing."""
    events = {_event_id(one) for one in asked.request_ids}
    days = [ids.day_utc_of(event) for event in events]
    start, end = min(days), max(days) + timedelta(days=1)
    if end - start > MOST_BETWEEN:
        raise InvalidRequest(
            f"These requests lie more than {MOST_BETWEEN.days} days apart: ask for those of each month by themselves.",
            param="request_ids",
        )
    with (
        tenant_scope(database, caller.tenant_id) as session,
        bounded(session, "ask for fewer requests at once.", "request_ids", PATIENCE),
    ):
        known = session.scalars(
            select(func.count()).where(
                UsageEvent.tenant_id == caller.tenant_id,
                UsageEvent.usage_day_utc >= start,
                UsageEvent.usage_day_utc < end,
                UsageEvent.id.in_(events),
                UsageEvent.endpoint.not_in(storage_usage.OF_NO_REQUEST),
            )
        ).one()
        is_internal = session.get_one(Tenant, caller.tenant_id).is_internal
        costs = [] if is_internal else usage_costs(session, caller.tenant_id, start, end, [], requests=events)
    return ReceiptSum(
        object="receipt.sum",
        requests=len(events),
        known=known,
        costs=[
            UsageCost(currency=cost.currency, amount=price_text(cost.amount), unpriced_tokens=cost.unpriced_tokens)
            for cost in costs
        ],
    )


def _event_id(request_id: str) -> UUID:
    try:
        event = ids.from_wire(_REQUEST, request_id)
        ids.instant_of(event)  # which another kind of id may hold beyond the calendar's end
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"`{request_id[:80]}` is no id of a request: give the values of `x-request-id` as they stand.",
            param="request_ids",
        ) from error
    return event
