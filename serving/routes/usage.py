"""`/v1/usage`: what the caller's own tenant has used, by day, hour, model, key and tag, and what that cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import RowMapping, Select, func, select
from sqlalchemy.orm import Session

from billing.rating import price_text
from billing.usage_costs import Dimension, GroupCost, usage_costs
from billing.usage_sums import usage_totals
from serving.routes.caller import UsageCaller
from serving.routes.patience import bounded
from serving.texts import key_id, storable
from studio import clock, ids, storage_usage
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageEvent
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/usage", tags=["usage"])
MOST_DAYS = 366
MOST_DAYS_OF_HOURS = 31
# Far from where the calendar ends, so that days can be added and taken away.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(9000, 12, 31))]

_COLUMNS: Mapping[Dimension, Any] = {
    "day": UsageEvent.usage_day_utc,
    "hour": func.date_trunc("hour", UsageEvent.started_at, "UTC"),
    "model": UsageEvent.variant_id,
    "key": UsageEvent.api_key_id,
    "tag": UsageEvent.tag,
}


class _Only(TypedDict):
    """What a report is narrowed to; None: not."""

    model: str | None
    key: UUID | None
    tag: str | None


class UsageCost(BaseModel):
    """What a group costs, net and exact, as its requests' receipts say; volume tiers and the like are of a month."""

    currency: str | None
    amount: str
    unpriced_tokens: int  # not in the amount: they have no price yet


class UsageRow(BaseModel):
    """The requests of one group. What is not grouped by is null; so is the tag of requests without one."""

    day: date | None
    hour: datetime | None
    model: str | None
    key: str | None
    tag: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reused_tokens: int  # of prompt and completion, what our caches gave: at a price of its own
    costs: list[UsageCost] | None  # by currency; null unless asked for


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
    group_by: Annotated[str, Query(description="any of day, hour, model, key, tag, with commas between")] = "day,model",
    model: Annotated[str | None, Query(description="only this one")] = None,
    key: Annotated[str | None, Query(description="only this API key, by its id")] = None,
    tag: Annotated[str | None, Query(description="only requests with this `x-studio-tag`")] = None,
    costs: Annotated[
        bool, Query(description="also what each group costs, net, before what is of a whole month")
    ] = False,
) -> UsageReport:
    """Requests and tokens of each group, and what they cost if asked for."""
    dimensions = _dimensions(group_by)
    end = end or clock.now().date() + timedelta(days=1)
    start = start or end - timedelta(days=30)
    if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
        raise InvalidRequest(f"`start` must be before `end`, by at most {MOST_DAYS} days.", param="start")
    if "hour" in dimensions and end - start > timedelta(days=MOST_DAYS_OF_HOURS):
        raise InvalidRequest(f"By hour, at most {MOST_DAYS_OF_HOURS} days are shown at once.", param="start")
    only = _Only(
        model=None if model is None else storable(model, "model"),
        key=None if key is None else key_id(key, "key"),
        tag=None if tag is None else storable(tag, "tag"),
    )
    priced: list[GroupCost] | None = None
    with tenant_scope(request.app.state.database, caller.tenant_id) as session:
        with bounded(session, "ask for fewer days, or for one model, key or tag.", "start"):
            rows = _rows(session, caller.tenant_id, start, end, dimensions, only)
        if costs:
            with bounded(session, "ask for fewer days, for one model, key or tag, or without costs.", "costs"):
                priced = usage_costs(session, caller.tenant_id, start, end, dimensions, **only)
    by_group = None if priced is None else _by_group(priced)
    data = [_row(dimensions, row, by_group) for row in rows]
    return UsageReport(object="list", start=start, end=end, group_by=dimensions, data=data)


def _by_group(priced: list[GroupCost]) -> dict[tuple[Any, ...], list[UsageCost]]:
    found: dict[tuple[Any, ...], list[UsageCost]] = defaultdict(list)
    for cost in priced:
        amount = price_text(cost.amount)
        found[cost.group].append(UsageCost(currency=cost.currency, amount=amount, unpriced_tokens=cost.unpriced_tokens))
    return found


def _dimensions(group_by: str) -> list[Dimension]:
    given = {name.strip() for name in group_by.split(",") if name.strip()}
    if unknown := given - _COLUMNS.keys():
        raise InvalidRequest(
            f"`group_by` takes {', '.join(_COLUMNS)}, with commas between; not {', '.join(sorted(unknown))[:80]}.",
            param="group_by",
        )
    return [name for name in _COLUMNS if name in given]


def _rows(
    session: Session, tenant_id: UUID, start: date, end: date, dimensions: list[Dimension], only: _Only
) -> Sequence[RowMapping]:
    """Days that are over are summed; hours are not."""
    summed = [name for name in dimensions if name != "hour"]
    if len(summed) == len(dimensions):
        return usage_totals(session, tenant_id, start, end, summed, **only)
    return session.execute(_by_hour(tenant_id, start, end, dimensions, only)).mappings().all()


def _by_hour(tenant_id: UUID, start: date, end: date, dimensions: list[Dimension], only: _Only) -> Select[Any]:
    columns = [_COLUMNS[name] for name in dimensions]
    wanted = [
        column == value
        for column, value in (
            (UsageEvent.variant_id, only["model"]), (UsageEvent.api_key_id, only["key"]), (UsageEvent.tag, only["tag"]),
        )
        if value is not None
    ]  # fmt: skip
    # The tenant is named here and enforced again by row-level security.
    return (
        select(
            *(column.label(name) for name, column in zip(dimensions, columns, strict=True)),
            func.count().label("requests"),
            func.sum(UsageEvent.prompt_tokens).label("prompt_tokens"),
            func.sum(UsageEvent.cached_tokens).label("cached_tokens"),
            func.sum(UsageEvent.completion_tokens).label("completion_tokens"),
            func.sum(UsageEvent.reused_prompt_tokens + UsageEvent.reused_completion_tokens).label("reused_tokens"),
        )
        .where(
            UsageEvent.tenant_id == tenant_id,
            UsageEvent.usage_day_utc >= start,
            UsageEvent.usage_day_utc < end,
            UsageEvent.endpoint.not_in(storage_usage.OF_NO_REQUEST),  # a training is on its job, storage on its days
            *wanted,
        )
        .group_by(*columns)
        .order_by(*columns)
    )


def _row(
    dimensions: list[Dimension], row: Mapping[Any, Any], costs: Mapping[tuple[Any, ...], list[UsageCost]] | None
) -> UsageRow:
    absent = dict.fromkeys(_COLUMNS.keys() - set(dimensions))
    of_group = None if costs is None else costs.get(tuple(row[name] for name in dimensions), [])
    shown = {**absent, **row, "costs": of_group}
    if shown["key"] is not None:
        shown["key"] = ids.to_wire(ids.API_KEY, shown["key"])
    return UsageRow.model_validate(shown)
