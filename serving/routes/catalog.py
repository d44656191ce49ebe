"""`/v1/catalog`: what is sold here, for everybody who has no key yet: models with their tiers, prices, state and hours.

A caller with a key asks `/v1/models`, which also knows its own fine-tuned models and what the key may use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from serving.fleet.states import VariantState
from serving.fleet.view import Fleet, Variant
from serving.identity.needs import PUBLIC
from serving.replica_health import Health
from serving.routes import models
from serving.routes.caller import Parts
from serving.speeds import Speed
from studio import clock
from studio.settings import settings

router = APIRouter(prefix="/v1/catalog", tags=["models"])

_KEPT = timedelta(seconds=1)  # looking ahead at the hours of all variants costs milliseconds, and everybody may ask


class OpenSpan(BaseModel):
    """Open from `opens` to `closes` on a day of the week (1 is Monday), as clocks of the zone show it."""

    weekday: int
    opens: str
    closes: str


class Week(BaseModel):
    """The regular opening hours. Whether a tier is open now is its own field: people may have decided otherwise."""

    time_zone: str
    spans: list[OpenSpan]
    closed_on_holidays: bool


class FirstTokenTarget(BaseModel):
    """A streamed request whose first token comes later pays the base price."""

    milliseconds: int
    up_to_prompt_tokens: int | None  # null: whatever the prompt's length


class MeasuredSpeed(BaseModel):
    """Of streams of all tenants in the last 24 hours, at the gateway."""

    requests: int  # how many streams; never fewer than 20, and of more than 2,000 the latest
    ttft_ms_p50: float
    ttft_ms_p95: float
    tokens_per_second_p50: float | None  # of one stream, after its first token; null: no answer had two
    latest_at: datetime  # when the last of them ended


class WarmupStages(BaseModel):
    """What its last starts have spent their time on, in the order of the stages."""

    weights_seconds: float  # fetched and verified
    start_seconds: float  # of the engine's process
    first_answer_seconds: float  # a test request, before callers are let in


class CatalogTier(BaseModel):
    """What a caller writes into `model`."""

    id: str
    tier: Literal["base", "fast"]
    context_tokens: int
    max_output_tokens: int | None
    state: VariantState
    state_reason: str | None  # why it does not answer, in plain words, where its cluster says so
    is_open: bool
    eta_seconds: int | None  # until it answers: 0 when warm, null when nothing will wake it
    usual_warmup_seconds: int  # from the decision to start it to its first answer, as measured here lately
    usual_warmup_stages: WarmupStages | None  # null: no start has been measured yet
    opens_at: datetime | None  # null when it is open, or when it is not known to open
    closes_at: datetime | None  # null when it is closed, or when it is not known to close
    week: Week | None  # null: around the clock
    speed: MeasuredSpeed | None  # null: too few streams in the last 24 hours to say
    prices_per_million_tokens: dict[str, dict[str, str]]  # currency -> unit -> exact decimal
    first_token_target: FirstTokenTarget | None  # null: nothing is promised


class CatalogModel(BaseModel):
    """A model with its tiers, base first."""

    id: str
    name: str
    publisher: str
    task: Literal["chat", "completion", "embedding"]
    vision: bool  # whether it reads images
    licence: str
    licence_url: str
    shutdown_date: date | None
    notice: str | None
    tiers: list[CatalogTier]


class Catalog(BaseModel):
    """One reading."""

    object: Literal["catalog"]
    read_at: datetime
    api_url: str  # where clients reach this API, without `/v1`
    models: list[CatalogModel]


class _Latest:
    """The last answer and what it was made of."""

    def __init__(self) -> None:
        self._fleet: Fleet | None = None
        self._catalog: Catalog | None = None

    def of(self, fleet: Fleet, now: datetime, health: Health, speeds: Mapping[str, Speed]) -> Catalog:
        """The same answer for as long as nothing can have changed in it but a countdown by a second."""
        if self._catalog is None or self._fleet is not fleet or now - self._catalog.read_at >= _KEPT:
            self._fleet, self._catalog = fleet, catalog(fleet, now, health, speeds)
        return self._catalog


_latest = _Latest()


@router.get("", dependencies=[PUBLIC])
async def read_catalog(parts: Parts, response: Response) -> Catalog:
    """Every model with both tiers, deployed here or not."""
    response.headers["cache-control"] = "no-cache"
    return _latest.of(parts.view.fleet, clock.now(), parts.engines.balancer.health, parts.speeds.now())


def catalog(fleet: Fleet, now: datetime, health: Health, speeds: Mapping[str, Speed]) -> Catalog:
    """What the fleet offers at an instant, in the catalog's order."""
    by_model: dict[str, list[Variant]] = defaultdict(list)
    for variant in fleet.variants.values():
        by_model[variant.model_id].append(variant)
    return Catalog(
        object="catalog",
        read_at=now,
        api_url=settings().gateway_url,
        models=[_model(fleet, variants, now, health, speeds) for variants in by_model.values()],
    )


def _model(
    fleet: Fleet, variants: list[Variant], now: datetime, health: Health, speeds: Mapping[str, Speed]
) -> CatalogModel:
    one, by_tier = variants[0], sorted(variants, key=lambda variant: variant.tier)
    return CatalogModel(
        id=one.model_id,
        name=one.name,
        publisher=one.publisher,
        task=one.task,
        vision=one.vision,
        licence=one.licence,
        licence_url=one.licence_url,
        shutdown_date=one.sunset_on,
        notice=one.notice,
        tiers=[_tier(fleet, variant, now, health, speeds.get(variant.id)) for variant in by_tier],
    )


def _tier(fleet: Fleet, variant: Variant, now: datetime, health: Health, speed: Speed | None) -> CatalogTier:
    as_sold = models.variant_model(fleet, variant, now, health)
    hours, hours_now = fleet.hours, now + fleet.hours.offset
    return CatalogTier(
        id=variant.id,
        tier=variant.tier,
        context_tokens=variant.context_tokens,
        max_output_tokens=variant.max_output_tokens,
        state=as_sold.state,
        state_reason=as_sold.state_reason,
        is_open=variant.deployed and hours.decide(variant.running, hours_now).is_open,
        eta_seconds=as_sold.eta_seconds,
        usual_warmup_seconds=round(variant.expected_warmup.total_seconds()),
        usual_warmup_stages=_stages(variant),
        opens_at=as_sold.opens_at,
        closes_at=fleet.closes_at(variant, now),
        week=_week(fleet, variant),
        speed=None if speed is None else MeasuredSpeed(**asdict(speed)),
        prices_per_million_tokens=as_sold.prices_per_million_tokens,
        first_token_target=_target(variant),
    )


def _stages(variant: Variant) -> WarmupStages | None:
    if variant.usual_stages is None:
        return None
    weights, start, answer = variant.usual_stages
    return WarmupStages(weights_seconds=weights, start_seconds=start, first_answer_seconds=answer)


def _target(variant: Variant) -> FirstTokenTarget | None:
    if variant.first_token_target_ms is None:
        return None
    return FirstTokenTarget(
        milliseconds=variant.first_token_target_ms, up_to_prompt_tokens=variant.first_token_target_prompt_tokens
    )


def _week(fleet: Fleet, variant: Variant) -> Week | None:
    calendar = fleet.hours.calendar_of(variant.running)
    if calendar is None:
        return None
    return Week(
        time_zone=calendar.zone.key,
        spans=[
            OpenSpan(weekday=span.weekday, opens=f"{span.opens:%H:%M}", closes=f"{span.closes:%H:%M}")
            for span in calendar.spans
        ],
        closed_on_holidays=bool(calendar.holidays),
    )
