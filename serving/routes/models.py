"""`/v1/models`: what is sold, from the catalog and never from an engine, which would show its paths."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from serving import routing
from serving.fleet.view import Fleet, Variant, VariantState
from serving.routes.caller import AnyCaller, Parts
from studio import clock

router = APIRouter(prefix="/v1/models", tags=["models"])


class Model(BaseModel):
    """OpenAI's model object and what else a caller needs to choose."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    task: Literal["chat", "completion", "embedding"]
    tier: Literal["base", "fast"]
    context_tokens: int
    max_output_tokens: int | None
    state: VariantState
    eta_seconds: int | None  # until it answers: 0 when warm, null when nothing will wake it
    hours: str  # opening hours, in words
    opens_at: datetime | None  # null when it is open, or when it is not known to open
    prices_per_million_tokens: dict[str, dict[str, str]]  # currency -> unit -> exact decimal
    licence: str
    licence_url: str
    shutdown_date: date | None
    notice: str | None


class ModelList(BaseModel):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[Model]


@router.get("")
async def list_models(parts: Parts, _caller: AnyCaller) -> ModelList:
    """Every model of the catalog, deployed here or not."""
    return ModelList(object="list", data=models(parts.view.fleet, clock.now()))


@router.get("/{id:path}")
async def retrieve_model(id: str, parts: Parts, _caller: AnyCaller) -> Model:
    """One entry of the list. The id may contain a slash, raw or encoded."""
    fleet = parts.view.fleet
    return _model(fleet, routing.variant_named(fleet, id), clock.now())


def models(fleet: Fleet, now: datetime) -> list[Model]:
    """All of them, in the catalog's order."""
    return [_model(fleet, variant, now) for variant in fleet.variants.values()]


def _model(fleet: Fleet, variant: Variant, now: datetime) -> Model:
    ready_at = fleet.ready_at(variant, now)
    prices: dict[str, dict[str, str]] = defaultdict(dict)
    for price in fleet.prices.get(variant.id, ()):
        prices[price.currency][price.unit] = f"{price.per_million.normalize():f}"
    return Model(
        id=variant.id,
        object="model",
        created=int(variant.listed_at.timestamp()),
        owned_by=variant.publisher,
        name=variant.name,
        task=variant.task,
        tier=variant.tier,
        context_tokens=variant.context_tokens,
        max_output_tokens=variant.max_output_tokens,
        state=fleet.state(variant),
        eta_seconds=None if ready_at is None else round((ready_at - now).total_seconds()),
        hours=str(fleet.hours.calendar_of(variant.running) or "around the clock"),
        opens_at=fleet.opens_at(variant, now),
        prices_per_million_tokens=prices,
        licence=variant.licence,
        licence_url=variant.licence_url,
        shutdown_date=variant.sunset_on,
        notice=variant.notice,
    )
