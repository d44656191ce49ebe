"""`/v1/organization/usage/...` and `/v1/organization/costs`: the caller's own tenant, as OpenAI's usage API shows one.

The organisation is the tenant. Usage knows neither projects nor users of it, so their ids are null. Usage is counted
from events as they arrive; costs are the rated lines, so they follow when a day is closed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, WithJsonSchema
from sqlalchemy import ColumnElement, Select, extract, func, select

from billing import costs
from billing.costs import DayCost
from serving.keys import KeyRecord
from serving.routes.caller import UsageCaller
from serving.routes.patience import bounded
from serving.texts import key_id, storable
from studio import clock, ids, storage_usage
from studio.db.catalog import Model
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageEvent
from studio.errors import InvalidRequest

router = APIRouter(prefix="/v1/organization", tags=["usage"])

UnixTime = Annotated[int, Query(ge=0, le=4_102_444_800)]  # until 2100
BucketWidth = Literal["1m", "1h", "1d"]
_SECONDS: dict[BucketWidth, int] = {"1m": 60, "1h": 3600, "1d": 86_400}
_LIMITS: dict[BucketWidth, tuple[int, int]] = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # default, most
_COST_LIMITS = (7, 180)
_USAGE_GROUPS = {
    "model": UsageEvent.variant_id,
    "api_key_id": UsageEvent.api_key_id,
    "batch": UsageEvent.batch_id.is_not(None),
    "service_tier": UsageEvent.tier_served,
}
_EMBEDDING_GROUPS = ("model", "api_key_id")
_ALWAYS_NULL = ("project_id", "user_id")
_PAGE = "page_"


class CompletionsResult(BaseModel):
    """What was asked of models that write."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    num_model_requests: int
    project_id: None
    user_id: None
    api_key_id: str | None
    model: str | None
    batch: bool | None
    service_tier: str | None


class EmbeddingsResult(BaseModel):
    """What was asked of models that only read."""

    object: Literal["organization.usage.embeddings.result"]
    input_tokens: int
    num_model_requests: int
    project_id: None
    user_id: None
    api_key_id: str | None
    model: str | None


class Amount(BaseModel):
    """An exact decimal, written as a JSON number with all its digits."""

    value: Annotated[Decimal, WithJsonSchema({"type": "number"})]
    currency: str


class CostsResult(BaseModel):
    """What was rated of one currency. Quantities are shown by line item, since tokens of other prices do not add up."""

    object: Literal["organization.costs.result"]
    amount: Amount
    line_item: str | None
    quantity: int | None
    quantity_unit: Literal["tokens"] | None
    project_id: None
    user_id: None
    api_key_id: None


class UsageBucket(BaseModel):
    """[start_time, end_time)"""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[CompletionsResult] | list[EmbeddingsResult]


class UsagePage(BaseModel):
    """OpenAI's page of buckets."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class CostsBucket(BaseModel):
    """One civil day of the tenant."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[CostsResult]


class CostsPage(BaseModel):
    """OpenAI's page of buckets."""

    object: Literal["page"]
    data: list[CostsBucket]
    has_more: bool
    next_page: str | None


def _many(name: str) -> Any:
    """A list in the query. The official SDK writes `name[]` for each value, others repeat `name`."""

    once, bracketed = Query(default=[], alias=name), Query(default=[], alias=f"{name}[]")

    def read(plain: list[str] = once, of_sdk: list[str] = bracketed) -> list[str]:
        return [storable(text, name) for text in plain + of_sdk]

    return Depends(read)


class Span:
    """The part of the time that a page is about, and how it is grouped: what usage and costs have in common."""

    def __init__(
        self,
        start_time: UnixTime,
        group_by: Annotated[list[str], _many("group_by")],
        project_ids: Annotated[list[str], _many("project_ids")],
        user_ids: Annotated[list[str], _many("user_ids")],
        end_time: UnixTime | None = None,
        limit: Annotated[int | None, Query(ge=1)] = None,
        page: Annotated[str | None, Query(description="`next_page` of the page before")] = None,
    ) -> None:
        for name, given in (("project_ids", project_ids), ("user_ids", user_ids)):
            if given:
                raise InvalidRequest(f"There are no {name.removesuffix('_ids')}s here: leave `{name}` out.", param=name)
        self.start = datetime.fromtimestamp(start_time if page is None else _instant(page), UTC)
        self.end = clock.now() if end_time is None else datetime.fromtimestamp(end_time, UTC)
        if self.start >= self.end:
            raise InvalidRequest("`start_time` must be before `end_time`, which is now if absent.", param="start_time")
        self._limit = limit
        self._group_by = {part for text in group_by for part in text.split(",")}

    def limit(self, default: int, most: int) -> int:
        """How many buckets a page has."""
        if self._limit is not None and self._limit > most:
            raise InvalidRequest(f"`limit` may be at most {most} with this bucket width.", param="limit")
        return self._limit or default

    def groups(self, *known: str) -> list[str]:
        """By what is grouped, without what is always null."""
        if unknown := self._group_by - {*known, *_ALWAYS_NULL}:
            allowed = ", ".join((*known, *_ALWAYS_NULL))
            raise InvalidRequest(
                f"`group_by` takes {allowed} here; not {', '.join(sorted(unknown))[:80]}.", param="group_by"
            )
        return [name for name in known if name in self._group_by]


class UsageFilters:
    """Which requests count."""

    def __init__(
        self, models: Annotated[list[str], _many("models")], api_key_ids: Annotated[list[str], _many("api_key_ids")]
    ) -> None:
        self.conditions: list[ColumnElement[bool]] = []
        if models:
            self.conditions.append(UsageEvent.variant_id.in_(models))
        if api_key_ids:
            self.conditions.append(UsageEvent.api_key_id.in_([key_id(key, "api_key_ids") for key in api_key_ids]))


@dataclass(frozen=True, slots=True)
class Group:
    """The events of one bucket and one group."""

    bucket: int
    by: Mapping[str, Any]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@router.get("/usage/completions")
def completions_usage(
    request: Request,
    caller: UsageCaller,
    span: Annotated[Span, Depends()],
    filters: Annotated[UsageFilters, Depends()],
    bucket_width: BucketWidth = "1d",
    batch: bool | None = None,
) -> UsagePage:
    """Requests and tokens of chat and completion models."""
    conditions = [*filters.conditions, Model.task != "embedding"]
    if batch is not None:
        conditions.append(UsageEvent.batch_id.is_not(None) if batch else UsageEvent.batch_id.is_(None))
    groups = span.groups(*_USAGE_GROUPS)
    return _usage_page(request, caller, span, bucket_width, groups, conditions, _completions_result)


@router.get("/usage/embeddings")
def embeddings_usage(
    request: Request,
    caller: UsageCaller,
    span: Annotated[Span, Depends()],
    filters: Annotated[UsageFilters, Depends()],
    bucket_width: BucketWidth = "1d",
) -> UsagePage:
    """Requests and tokens of embedding models, rerank and score included."""
    conditions = [*filters.conditions, Model.task == "embedding"]
    groups = span.groups(*_EMBEDDING_GROUPS)
    return _usage_page(request, caller, span, bucket_width, groups, conditions, _embeddings_result)


@router.get("/costs", response_model=CostsPage)
def organization_costs(
    request: Request,
    caller: UsageCaller,
    span: Annotated[Span, Depends()],
    line_items: Annotated[list[str], _many("line_items")],
    api_key_ids: Annotated[list[str], _many("api_key_ids")],
    bucket_width: Literal["1d"] = "1d",
) -> Response:
    """What the tenant's days have cost, exact to the last decimal. A bucket is a civil day in the tenant's own zone."""
    if api_key_ids:
        raise InvalidRequest(
            "Costs are rated by model and unit, not by key. See `/v1/usage?group_by=key` for the tokens of a key.",
            param="api_key_ids",
        )
    is_by_line_item = bool(span.groups("line_item"))
    with (
        tenant_scope(request.app.state.database, caller.tenant_id) as session,
        bounded(session, "ask for fewer days, or for one line item.", "start_time"),
    ):
        zone = costs.zone_of_days(session, caller.tenant_id, clock.now())
        first = span.start.astimezone(zone).date()
        end_of_all = (span.end - timedelta(microseconds=1)).astimezone(zone).date() + timedelta(days=1)
        end = min(end_of_all, first + timedelta(days=span.limit(*_COST_LIMITS)))
        found = costs.day_costs(
            session, caller.tenant_id, first, end, by_line_item=is_by_line_item, line_items=line_items
        )
    by_day: dict[date, list[DayCost]] = defaultdict(list)
    for cost in found:
        by_day[cost.billing_day].append(cost)
    days = [first + timedelta(days=number) for number in range((end - first).days)]
    page = {
        "object": "page",
        "data": [_cost_bucket(day, zone, by_day[day]) for day in days],
        "has_more": end < end_of_all,
        "next_page": _page(int(clock.day_window(end, zone)[0].timestamp())) if end < end_of_all else None,
    }
    return Response(orjson.dumps(page), media_type="application/json")


def _usage_page(
    request: Request,
    caller: KeyRecord,
    span: Span,
    bucket_width: BucketWidth,
    groups: list[str],
    conditions: list[ColumnElement[bool]],
    result: Callable[[Group], Any],
) -> UsagePage:
    """Buckets begin at whole minutes, hours or days of UTC; what is counted lies within the span that was asked for."""
    seconds = _SECONDS[bucket_width]
    first = int(span.start.timestamp()) // seconds
    end_of_all = int((span.end - timedelta(microseconds=1)).timestamp()) // seconds + 1
    end = min(end_of_all, first + span.limit(*_LIMITS[bucket_width]))
    page_end = min(span.end, datetime.fromtimestamp(end * seconds, UTC))
    query = _grouped(seconds, groups).where(
        UsageEvent.tenant_id == caller.tenant_id,
        UsageEvent.started_at >= span.start,
        UsageEvent.started_at < page_end,
        # Only names the partitions: the day inside an id is that of the event, rounded to a millisecond.
        UsageEvent.usage_day_utc.between(span.start.date() - timedelta(days=1), page_end.date() + timedelta(days=1)),
        *conditions,
    )
    by_bucket: dict[int, list[Any]] = defaultdict(list)
    with (
        tenant_scope(request.app.state.database, caller.tenant_id) as session,
        bounded(session, "ask for a shorter time, or for one model or key.", "start_time"),
    ):
        for row in session.execute(query).mappings():
            group = _group(groups, row)
            by_bucket[group.bucket].append(result(group))
    return UsagePage(
        object="page",
        data=[
            UsageBucket(
                object="bucket",
                start_time=bucket * seconds,
                end_time=(bucket + 1) * seconds,
                results=by_bucket[bucket],
            )
            for bucket in range(first, end)
        ],
        has_more=end < end_of_all,
        next_page=_page(end * seconds) if end < end_of_all else None,
    )


def _grouped(seconds: int, groups: list[str]) -> Select[Any]:
    return (
        select(
            func.floor(extract("epoch", UsageEvent.started_at) / seconds).label("bucket"),
            *(_USAGE_GROUPS[name].label(name) for name in groups),
            func.count().label("requests"),
            func.sum(UsageEvent.prompt_tokens).label("prompt_tokens"),
            # OpenAI's word for what was there already: in an engine's cache, or in ours.
            func.sum(UsageEvent.cached_tokens + UsageEvent.reused_prompt_tokens).label("cached_tokens"),
            func.sum(UsageEvent.completion_tokens).label("completion_tokens"),
        )
        .join(Model, Model.id == UsageEvent.model_id)
        .where(UsageEvent.endpoint.not_in(storage_usage.OF_NO_REQUEST))
        .group_by("bucket", *groups)
        .order_by("bucket", *groups)
    )


def _group(groups: list[str], row: Mapping[Any, Any]) -> Group:
    by = {name: row[name] for name in groups}
    if "api_key_id" in by:
        by["api_key_id"] = ids.to_wire(ids.API_KEY, by["api_key_id"])
    return Group(
        bucket=int(row["bucket"]),
        by=by,
        requests=row["requests"],
        prompt_tokens=int(row["prompt_tokens"]),
        cached_tokens=int(row["cached_tokens"]),
        completion_tokens=int(row["completion_tokens"]),
    )


def _completions_result(group: Group) -> CompletionsResult:
    return CompletionsResult(
        object="organization.usage.completions.result",
        input_tokens=group.prompt_tokens,
        input_cached_tokens=group.cached_tokens,
        input_uncached_tokens=group.prompt_tokens - group.cached_tokens,
        output_tokens=group.completion_tokens,
        num_model_requests=group.requests,
        project_id=None,
        user_id=None,
        api_key_id=group.by.get("api_key_id"),
        model=group.by.get("model"),
        batch=group.by.get("batch"),
        service_tier=group.by.get("service_tier"),
    )


def _embeddings_result(group: Group) -> EmbeddingsResult:
    return EmbeddingsResult(
        object="organization.usage.embeddings.result",
        input_tokens=group.prompt_tokens,
        num_model_requests=group.requests,
        project_id=None,
        user_id=None,
        api_key_id=group.by.get("api_key_id"),
        model=group.by.get("model"),
    )


def _cost_bucket(day: date, zone: ZoneInfo, found: list[DayCost]) -> dict[str, Any]:
    start, end = clock.day_window(day, zone)
    return {
        "object": "bucket",
        "start_time": int(start.timestamp()),
        "end_time": int(end.timestamp()),
        "results": [
            {
                "object": "organization.costs.result",
                # Through a float the number could change.
                "amount": {"value": orjson.Fragment(json_number(cost.amount)), "currency": cost.currency.lower()},
                "line_item": cost.line_item,
                "quantity": None if cost.line_item is None else cost.tokens,
                "quantity_unit": None if cost.line_item is None else "tokens",
                "project_id": None,
                "user_id": None,
                "api_key_id": None,
            }
            for cost in found
        ],
    }


def json_number(amount: Decimal) -> str:
    """All its digits, without empty ones at the end."""
    whole, _, fraction = f"{amount:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def _page(start: int) -> str:
    return f"{_PAGE}{start}"


def _instant(page: str) -> int:
    if not re.fullmatch(f"{_PAGE}[0-9]{{1,10}}", page):
        raise InvalidRequest("`page` must be the `next_page` of the page before.", param="page")
    return int(page.removeprefix(_PAGE))
