"""`/v1/limits`: what the caller's key is limited to, how much of it is used, and why a request was refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from serving.routes.caller import AnyCaller, Parts
from studio.errors import NotFound

router = APIRouter(prefix="/v1/limits", tags=["limits"])

Kind = Literal["requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent_requests"]


class LimitUse(BaseModel):
    """One limit and how much of it is used. `scope` organization: all keys together; `model` null: all models together.

    `reset_ms`: until all of it is there again; 0 for concurrent requests, which are free when they end.
    """

    scope: Literal["organization", "api_key"]
    model: str | None
    kind: Kind
    limit: int
    used: int
    remaining: int
    reset_ms: int


class Limits(BaseModel):
    """All limits that requests of this key must keep to. Empty: there are none."""

    object: Literal["list"]
    counted: Literal["shared", "local_share", "alone"]
    data: list[LimitUse]


class ExplainedLimit(LimitUse):
    """A limit as it stood when a request was refused. `fits_in_ms` null: the request is larger than the limit."""

    exceeded: bool
    fits_in_ms: int | None


class Explanation(BaseModel):
    """Why a request was refused. `counted` local_share: by this gateway's share, while the shared count was away."""

    object: Literal["limit.explanation"]
    request_id: str
    at: datetime
    model: str
    estimated_tokens: int
    counted: Literal["shared", "local_share", "alone"]
    message: str
    limits: list[ExplainedLimit]


@router.get("")
async def get_limits(caller: AnyCaller, parts: Parts) -> Limits:
    """What applies to the key of this request, and its use at this moment."""
    data = [LimitUse.model_validate(use) for use in await parts.limits.use(caller)]
    return Limits(object="list", counted=parts.limits.state, data=data)


@router.get("/explain/{request_id}")
async def explain(request_id: str, caller: AnyCaller, parts: Parts) -> Explanation:
    """Why a request of the last 24 hours was refused with `rate_limit_exceeded`, by its `x-request-id`."""
    found = await parts.limits.explanation(caller.tenant_id, request_id)
    if found is None:
        raise NotFound(
            f"No refusal by a limit is known of the request `{request_id}`; one is kept for 24 hours.",
            way_out="Give the value of `x-request-id` that came with the refusal.",
            param="request_id",
        )
    at = datetime.fromtimestamp(found.pop("at"), UTC)
    return Explanation(object="limit.explanation", request_id=found.pop("request"), at=at, **found)
