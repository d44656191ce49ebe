"""Which model answers visitors. Pure: what the fleet offers at an instant in, a variant out."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from serving.fleet.view import Fleet, Variant
from serving.replica_health import Health
from serving.routes import models
from studio.errors import ModelAsleep

_CURRENCY = "EUR"  # every chat model has a price in it


def cheapest_warm(fleet: Fleet, now: datetime, health: Health) -> Variant:
    """The chat model that costs least of those that answer now. ModelAsleep, with the earliest, when none does."""
    sold = [
        (variant, models.variant_model(fleet, variant, now, health))
        for variant in fleet.variants.values()
        if variant.task == "chat"
    ]
    warm = [
        (Decimal(price), variant.id, variant)
        for variant, model in sold
        if model.state == "warm"
        and (price := model.prices_per_million_tokens.get(_CURRENCY, {}).get("completion")) is not None
    ]
    if warm:
        return min(warm)[2]
    coming = [(model.eta_seconds, variant.id) for variant, model in sold if model.eta_seconds is not None]
    seconds, name = min(coming, default=(None, "any"))
    ready_at = None if seconds is None else now + timedelta(seconds=seconds)
    raise ModelAsleep(name, ready_at, now, "no chat model is warm at the moment")
