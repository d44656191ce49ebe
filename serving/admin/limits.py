"""Limits of a tenant, of its keys and of models. Each gateway keeps to a change within a second."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from serving.admin.access import Caller, Transaction
from serving.texts import key_id
from studio import ids
from studio.db.limits import Limit
from studio.limits import MOST_REQUESTS, MOST_TOKENS, Ceilings, Scope, clear_limits, limits_of, set_limits
from studio.tenants import find_tenant

router = APIRouter(prefix="/tenants/{slug}/limits")

Requests = Annotated[int, Field(gt=0, le=MOST_REQUESTS)]
OfKey = Annotated[str | None, Query(description="id of a key; the tenant as a whole if absent")]
OfModel = Annotated[str | None, Query(description="one model; all models together if absent")]


class NewLimits(BaseModel):
    """The most of each kind; what is absent is not limited. They replace what the same key and model had before."""

    model_config = ConfigDict(extra="forbid")

    key: str | None = None  # the tenant as a whole
    model: str | None = None  # all models together
    requests_per_second: Requests | None = None
    requests_per_minute: Requests | None = None
    tokens_per_minute: Annotated[int, Field(gt=0, le=MOST_TOKENS)] | None = None
    concurrent_requests: Requests | None = None


class LimitsView(BaseModel):
    """The limits of one key and model. `key` null: of the tenant as a whole; `model` null: of all models together."""

    key: str | None
    model: str | None
    requests_per_second: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None


@router.get("")
def get_limits(slug: str, session: Transaction) -> list[LimitsView]:
    """All limits of a tenant. A request must keep to every one that matches its key and its model."""
    return [_view(row) for row in limits_of(session, find_tenant(session, slug).id)]


@router.put("")
def put_limits(slug: str, body: NewLimits, caller: Caller, session: Transaction) -> LimitsView:
    """Set the limits of a tenant, a key, a model, or a key with a model."""
    scope = Scope(find_tenant(session, slug).id, _key(body.key), body.model)
    ceilings = Ceilings(
        body.requests_per_second, body.requests_per_minute, body.tokens_per_minute, body.concurrent_requests
    )
    return _view(set_limits(session, scope, ceilings, caller.actor))


@router.delete("", status_code=204)
def delete_limits(slug: str, caller: Caller, session: Transaction, key: OfKey = None, model: OfModel = None) -> None:
    """End the limits of a tenant, a key, a model, or a key with a model."""
    clear_limits(session, Scope(find_tenant(session, slug).id, _key(key), model), caller.actor)


def _key(text: str | None) -> UUID | None:
    return None if text is None else key_id(text, "key")


def _view(row: Limit) -> LimitsView:
    return LimitsView(
        key=None if row.api_key_id is None else ids.to_wire(ids.API_KEY, row.api_key_id),
        model=row.variant_id,
        requests_per_second=row.requests_per_second,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent_requests=row.concurrent_requests,
    )
