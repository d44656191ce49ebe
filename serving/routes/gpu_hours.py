"""`/v1/usage/gpu-hours`: the hours of cards that were reserved for the caller's own tenant, by its civil days."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select

from serving.routes.caller import UsageCaller
from serving.routes.storage import MOST_DAYS, Day
from serving.routes.stores import TenantDatabase
from studio import clock
from studio.db.sessions import tenant_scope
from studio.db.usage import GpuDay
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/usage", tags=["usage"])


class GpuHoursOfDay(BaseModel):
    """One civil day. `micro_hours`: cards times time, in millionths of a GPU hour."""

    day: date
    time_zone: str  # of the day
    micro_hours: int
    receipt: str  # `GET /v1/receipts/...` says what it costs


class GpuHoursReport(BaseModel):
    """`end` is not included."""

    object: Literal["list"]
    start: date
    end: date
    data: list[GpuHoursOfDay]


@router.get("/gpu-hours")
def gpu_hours(
    caller: UsageCaller,
    database: TenantDatabase,
    start: Annotated[Day | None, Query(description="first day; 30 days before `end` if absent")] = None,
    end: Annotated[Day | None, Query(description="day after the last; tomorrow if absent")] = None,
) -> GpuHoursReport:
    """Cards that were reserved for you on each day that is over, oldest first, used or not."""
    end = end or clock.now().date() + timedelta(days=1)
    start = start or end - timedelta(days=30)
    if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
        raise InvalidRequest(f"`start` must be before `end`, by at most {MOST_DAYS} days.", param="start")
    query = select(GpuDay).where(GpuDay.tenant_id == caller.tenant_id, GpuDay.day >= start, GpuDay.day < end)
    with tenant_scope(database, caller.tenant_id) as session:
        data = [
            GpuHoursOfDay(
                day=row.day, time_zone=row.time_zone, micro_hours=row.micro_hours, receipt=f"req_{row.event_id.hex}"
            )
            for row in session.scalars(query.order_by(GpuDay.day))
        ]
    return GpuHoursReport(object="list", start=start, end=end, data=data)
