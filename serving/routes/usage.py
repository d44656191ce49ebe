"""`/v1/usage`: what the caller's own tenant has used, by day and model. What it costs is on the statement."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy import Select, func, select

from serving.routes.caller import UsageCaller
from studio import clock
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageEvent
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/usage", tags=["usage"])
MOST_DAYS = 366


class UsageOfDay(BaseModel):
    """The requests of one UTC day to one model."""

    day: date
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class UsageReport(BaseModel):
    """`start` and `end` are UTC days, `end` not included."""

    object: Literal["list"]
    start: date
    end: date
    data: list[UsageOfDay]


@router.get("")
def usage(
    request: Request,
    caller: UsageCaller,
    start: Annotated[date | None, Query(description="first UTC day; 30 days before `end` if absent")] = None,
    end: Annotated[date | None, Query(description="UTC day after the last; tomorrow if absent")] = None,
) -> UsageReport:
    """Requests and tokens per UTC day and model."""
    end = end or clock.now().date() + timedelta(days=1)
    start = start or end - timedelta(days=30)
    if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
        raise InvalidRequest(f"`start` must be before `end`, by at most {MOST_DAYS} days.", param="start")
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        rows = session.execute(_by_day_and_model(caller.tenant_id, start, end)).all()
    return UsageReport(
        object="list", start=start, end=end, data=[UsageOfDay.model_validate(row._asdict()) for row in rows]
    )


def _by_day_and_model(tenant_id: UUID, start: date, end: date) -> Select[date, str, int, int, int, int]:
    # The tenant is named here and enforced again by row-level security.
    return (
        select(
            UsageEvent.usage_day_utc.label("day"),
            UsageEvent.variant_id.label("model"),
            func.count().label("requests"),
            func.sum(UsageEvent.prompt_tokens).label("prompt_tokens"),
            func.sum(UsageEvent.cached_tokens).label("cached_tokens"),
            func.sum(UsageEvent.completion_tokens).label("completion_tokens"),
        )
        .where(UsageEvent.tenant_id == tenant_id, UsageEvent.usage_day_utc >= start, UsageEvent.usage_day_utc < end)
        .group_by(UsageEvent.usage_day_utc, UsageEvent.variant_id)
        .order_by(UsageEvent.usage_day_utc, UsageEvent.variant_id)
    )
