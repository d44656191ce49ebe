"""`/v1/models`: what is sold, from the catalog and never from an engine, which would show its paths."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from serving import routing
from serving.fleet import states
from serving.fleet.states import VariantState
from serving.fleet.view import Fleet, Variant
from serving.keys import KeyRecord, require_model
from serving.replica_health import Health
from serving.routes.caller import AnyCaller, InferenceCaller, Parts
from serving.routes.stores import Objects, TenantDatabase
from serving.routing import Target
from studio import clock
from studio.adapters import ADAPTER_FILES
from studio.db import jobs
from studio.db.sessions import tenant_scope
from studio.errors import PermissionDenied
from studio.objects import Bucket
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/models", tags=["models"])


class Model(BaseModel):
    """OpenAI's model object and what else a caller needs to choose."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | None  # of a fine-tuned model: the base, which sets price and limits
    name: str
    task: Literal["chat", "completion", "embedding"]
    tier: Literal["base", "fast"]
    vision: bool  # whether it reads images
    context_tokens: int
    max_output_tokens: int | None
    state: VariantState
    state_reason: str | None  # why it does not answer, in plain words, where its cluster says so
    eta_seconds: int | None  # until it answers: 0 when warm, null when nothing is known to wake it
    hours: str  # opening hours, in words
    opens_at: datetime | None  # null when it is open, or when it is not known to open
    # Currency -> unit -> exact decimal: the caller's own price where one was agreed, the list's otherwise.
    prices_per_million_tokens: dict[str, dict[str, str]]
    licence: str
    licence_url: str
    shutdown_date: date | None
    notice: str | None


class ModelList(BaseModel):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[Model]


class DeletedModel(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


@router.get("")
async def list_models(parts: Parts, caller: AnyCaller) -> ModelList:
    """Every model of the catalog that the key may use, deployed here or not, and the caller's own fine-tuned ones."""
    fleet, now, health = parts.view.fleet, clock.now(), parts.engines.balancer.health
    names = [adapter.name for adapter in fleet.adapters_of(caller.tenant_id)]
    own = [_model(fleet, routing.target_named(fleet, name, caller.tenant_id), caller, now, health) for name in names]
    allowed = caller.models
    sold = models(fleet, now, health, caller.tenant_id)
    data = [model for model in (*sold, *own) if allowed is None or model.id in allowed]
    return ModelList(object="list", data=data)


@router.get("/{id:path}")
async def retrieve_model(id: str, parts: Parts, caller: AnyCaller) -> Model:
    """One entry of the list. The id may contain a slash, raw or encoded."""
    require_model(caller, id)
    fleet = parts.view.fleet
    target = routing.target_named(fleet, id, caller.tenant_id)
    return _model(fleet, target, caller, clock.now(), parts.engines.balancer.health)


@router.delete("/{id:path}")
def delete_model(
    id: str, parts: Parts, caller: InferenceCaller, database: TenantDatabase, store: Objects
) -> DeletedModel:
    """Stop serving a fine-tuned model of one's own and remove its bytes. What it was used for stays in the books."""
    require_model(caller, id)
    target = routing.target_named(parts.view.fleet, id, caller.tenant_id)
    if target.adapter is None:
        raise PermissionDenied(f"The model `{id}` is not yours to delete; only your own fine-tuned ones are.")
    with tenant_scope(database, caller.tenant_id) as session:
        adapter = session.get_one(jobs.Adapter, target.adapter.id)
        adapter.deleted_at = clock.now()
        audit_own(session, caller.actor, "model.delete", id)
        prefix = adapter.object_prefix
    for name in ADAPTER_FILES:
        store.delete(Bucket.ADAPTERS, prefix + name)
    return DeletedModel(id=id, object="model", deleted=True)


def models(fleet: Fleet, now: datetime, health: Health, tenant_id: UUID | None = None) -> list[Model]:
    """All of them, in the catalog's order, at what the tenant pays. None: at the list's prices, for everybody."""
    return [variant_model(fleet, variant, now, health, tenant_id) for variant in fleet.variants.values()]


def _model(fleet: Fleet, target: Target, caller: KeyRecord, now: datetime, health: Health) -> Model:
    base = variant_model(fleet, target.variant, now, health, caller.tenant_id)
    if target.adapter is None:
        return base
    own = {"id": target.name, "name": target.name, "owned_by": caller.tenant_slug, "parent": base.id}
    return base.model_copy(update=own | {"created": int(target.adapter.created_at.timestamp())})


def variant_model(
    fleet: Fleet, variant: Variant, now: datetime, health: Health, tenant_id: UUID | None = None
) -> Model:
    """One variant as callers see it, at what the tenant pays. None: at the list's prices, for everybody."""
    silent = health.ejected()
    state = states.state(fleet, variant, now, silent)
    ready_at, why = states.ready_at(fleet, variant, now, silent), states.reason(fleet, variant, now)
    prices: dict[str, dict[str, str]] = defaultdict(dict)
    listed = fleet.prices.get(variant.id, ())
    for price in listed if tenant_id is None else fleet.prices_for(tenant_id, variant.id):
        prices[price.currency][price.unit] = f"{price.per_million.normalize():f}"
    return Model(
        id=variant.id,
        object="model",
        created=int(variant.listed_at.timestamp()),
        owned_by=variant.publisher,
        parent=None,
        name=variant.name,
        task=variant.task,
        tier=variant.tier,
        vision=variant.vision,
        context_tokens=variant.context_tokens,
        max_output_tokens=variant.max_output_tokens,
        state=state,
        state_reason=None if state == "warm" or why is None else f"{why[0].upper()}{why[1:]}.",
        eta_seconds=None if ready_at is None else round((ready_at - now).total_seconds()),
        hours=str(fleet.hours.calendar_of(variant.running) or "around the clock"),
        opens_at=fleet.opens_at(variant, now),
        prices_per_million_tokens=prices,
        licence=variant.licence,
        licence_url=variant.licence_url,
        shutdown_date=variant.sunset_on,
        notice=variant.notice,
    )
