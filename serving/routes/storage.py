"""`/v1/usage/storage`: what the caller's own tenant kept on each of its civil days, and what that is billed as."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import select

from serving.routes.caller import UsageCaller
from serving.routes.stores import TenantDatabase
from studio import clock
from studio.db.sessions import tenant_scope
from studio.db.usage import StorageDay
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/usage", tags=["usage"])
MOST_DAYS = 366
# Far from where the calendar ends, so that days can be added and taken away.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(9000, 12, 31))]


class StorageOfDay(BaseModel):
    """One civil day. Bytes times seconds, exact; a gigabyte kept for 24 hours is 1,000,000 kilobyte-days."""

    day: date
    time_zone: str  # of the day
    file_byte_seconds: str  # digits: more than a JSON number holds
    result_byte_seconds: str  # of batches and fine-tunes
    adapter_byte_seconds: str
    kilobyte_days: int
    is_sold: bool  # whether your price list sold storage then
    receipt: str | None  # `GET /v1/receipts/...` says what it costs; null where nothing is charged


class StorageReport(BaseModel):
    """`end` is not included."""

    object: Literal["list"]
    start: date
    end: date
    data: list[StorageOfDay]


@router.get("/storage")
def storage(
    caller: UsageCaller,
    database: TenantDatabase,
    start: Annotated[Day | None, Query(description="first day; 30 days before `end` if absent")] = None,
    end: Annotated[Day | None, Query(description="day after the last; tomorrow if absent")] = None,
) -> StorageReport:
    """What was kept on each day that is over, oldest first. A day is measured soon after its end."""
    end = end or clock.now().date() + timedelta(days=1)
    start = start or end - timedelta(days=30)
    if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
        raise InvalidRequest(f"`start` must be before `end`, by at most {MOST_DAYS} days.", param="start")
    query = select(StorageDay).where(
        StorageDay.tenant_id == caller.tenant_id, StorageDay.day >= start, StorageDay.day < end
    )
    with tenant_scope(database, caller.tenant_id) as session:
        data = [_of_day(row) for row in session.scalars(query.order_by(StorageDay.day))]
    return StorageReport(object="list", start=start, end=end, data=data)


def _of_day(row: StorageDay) -> StorageOfDay:
    return StorageOfDay(
        day=row.day,
        time_zone=row.time_zone,
        file_byte_seconds=f"{row.file_byte_seconds:f}",
        result_byte_seconds=f"{row.result_byte_seconds:f}",
        adapter_byte_seconds=f"{row.adapter_byte_seconds:f}",
        kilobyte_days=row.kilobyte_days,
        is_sold=row.is_sold,
        receipt=None if row.event_id is None else f"req_{row.event_id.hex}",
    )
