"""`/v1/usage`: what the caller's own tenant has used, by day, model, key and tag. What it cost: `organization.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select, func, select

from serving.routes.caller import UsageCaller
from serving.texts import key_id, storable
from studio import clock, ids, training_usage
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageEvent
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/usage", tags=["usage"])
MOST_DAYS = 366
# Far from where the calendar ends, so that days can be added and taken away.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(9000, 12, 31))]

Dimension = Literal["day", "model", "key", "tag"]
_COLUMNS: Mapping[Dimension, Any] = {
    "day": UsageEvent.usage_day_utc,
    "model": UsageEvent.variant_id,
    "key": UsageEvent.api_key_id,
    "tag": UsageEvent.tag,
}


class UsageRow(BaseModel):
    """The requests of one group. What is not grouped by is null; so is the tag of requests without one."""

    day: date | None
    model: str | None
    key: str | None
    tag: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reused_tokens: int  # of prompt and completion, what our caches gave: at a price of its own


class UsageReport(BaseModel):
    """`start` and `end` are UTC days, `end` not included."""

    object: Literal["list"]
    start: date
    end: date
    group_by: list[Dimension]
    data: list[UsageRow]


@router.get("")
def usage(
    request: Request,
    caller: UsageCaller,
    start: Annotated[Day | None, Query(description="first UTC day; 30 days before `end` if absent")] = None,
    end: Annotated[Day | None, Query(description="UTC day after the last; tomorrow if absent")] = None,
    group_by: Annotated[str, Query(description="any of day, model, key, tag, with commas between")] = "day,model",
    model: Annotated[str | None, Query(description="only this one")] = None,
    key: Annotated[str | None, Query(description="only this API key, by its id")] = None,
    tag: Annotated[str | None, Query(description="only requests with this `x-studio-tag`")] = None,
) -> UsageReport:
    """Requests and tokens of each group."""
    dimensions = _dimensions(group_by)
    end = end or clock.now().date() + timedelta(days=1)
    start = start or end - timedelta(days=30)
    if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
        raise InvalidRequest(f"`start` must be before `end`, by at most {MOST_DAYS} days.", param="start")
    filters = [
        UsageEvent.usage_day_utc >= start,
        UsageEvent.usage_day_utc < end,
        UsageEvent.endpoint != training_usage.ENDPOINT,  # tokens of no request: they are on the job
    ]
    if model is not None:
        filters.append(UsageEvent.variant_id == storable(model, "model"))
    if key is not None:
        filters.append(UsageEvent.api_key_id == key_id(key, "key"))
    if tag is not None:
        filters.append(UsageEvent.tag == storable(tag, "tag"))
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        rows = session.execute(_grouped(caller.tenant_id, dimensions, filters)).mappings().all()
    return UsageReport(
        object="list", start=start, end=end, group_by=dimensions, data=[_row(dimensions, row) for row in rows]
    )


def _dimensions(group_by: str) -> list[Dimension]:
    given = {name.strip() for name in group_by.split(",") if name.strip()}
    if unknown := given - _COLUMNS.keys():
        raise InvalidRequest(
            f"`group_by` takes {', '.join(_COLUMNS)}, with commas between; not {', '.join(sorted(unknown))[:80]}.",
            param="group_by",
        )
    return [name for name in _COLUMNS if name in given]


def _grouped(tenant_id: UUID, dimensions: list[Dimension], filters: list[ColumnElement[bool]]) -> Select[Any]:
    columns = [_COLUMNS[name] for name in dimensions]
    # The tenant is named here and enforced again by row-level security.
    return (
        select(
            *(column.label(name) for name, column in zip(dimensions, columns, strict=True)),
            func.count().label("requests"),
            func.coalesce(func.sum(UsageEvent.prompt_tokens), 0).label("prompt_tokens"),
            func.coalesce(func.sum(UsageEvent.cached_tokens), 0).label("cached_tokens"),
            func.coalesce(func.sum(UsageEvent.completion_tokens), 0).label("completion_tokens"),
            func.coalesce(func.sum(UsageEvent.reused_prompt_tokens + UsageEvent.reused_completion_tokens), 0).label(
                "reused_tokens"
            ),
        )
        .where(UsageEvent.tenant_id == tenant_id, *filters)
        .group_by(*columns)
        .order_by(*columns)
    )


def _row(dimensions: list[Dimension], row: Mapping[Any, Any]) -> UsageRow:
    absent = dict.fromkeys(_COLUMNS.keys() - set(dimensions))
    shown = {**absent, **row}
    if shown["key"] is not None:
        shown["key"] = ids.to_wire(ids.API_KEY, shown["key"])
    return UsageRow.model_validate(shown)
