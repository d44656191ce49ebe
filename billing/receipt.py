"""Receipts: what one request used, at which prices, what that comes to and why it is charged or not. No content.

The words come from the event and the price book by the statement that counts seals, so a receipt says what the invoice
will sum. Known limit: volume tiers, minimum commitments and credit are of a month, and stand on the invoice only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import invoice, rating, usage
from billing.usage import PricedUnit
from studio import gpu_usage, ids, storage_usage, training_usage
from studio.db.catalog import Price
from studio.db.tenancy import Tenant
from studio.db.usage import UsageEvent

FORMAT = "studio-receipt/1"

_ENDS = {
    "complete": "the request was answered to its end",
    "client_left": "the client left; charged is what the engine had produced until then",
    "engine_died": "the engine died; charged is what it had produced until then",
    "budget": "the budget ended the answer; charged is what was produced within it",
    "rejected": "the request was rejected",
}
_ENDS_OF_TRAINING = {
    "complete": "the fine-tune was trained to its end; charged are the tokens that its trainer read, over all epochs",
    "client_left": "the fine-tune was cancelled; charged are the tokens that its trainer had reported until then",
}


def document_of(session: Session, tenant_id: UUID, event_id: UUID, key_id: str) -> dict[str, Any] | None:
    """The receipt of a request in words; None if no usage of that id is known."""
    event = session.scalars(
        select(UsageEvent).where(
            UsageEvent.usage_day_utc == ids.day_utc_of(event_id),
            UsageEvent.id == event_id,
            UsageEvent.tenant_id == tenant_id,
        )
    ).one_or_none()
    if event is None:
        return None
    tenant = session.get_one(Tenant, tenant_id)
    units = usage.units_of_event(session, tenant_id, event_id)
    charged, why = _charge(event, tenant, units)
    lines = [_line(session, unit) for unit in units] if charged else []
    amounts = [rating.rate(unit.tokens, unit.per_million) for unit in units if charged and unit.per_million is not None]
    return {
        "format": FORMAT,
        "request_id": f"req_{event.id.hex}",
        "tenant": {"id": ids.to_wire(ids.TENANT, tenant.id), "slug": tenant.slug},
        "endpoint": event.endpoint,
        "model": event.variant_id,
        "tier_requested": event.tier_requested,
        "tier_served": event.tier_served,
        "batch": None if event.batch_id is None else ids.to_wire(ids.BATCH, event.batch_id),
        "batch_line": event.batch_line,
        "fine_tuning_job": event.request_id if _is_training(event) else None,
        "started_at": event.started_at.isoformat(),
        "first_token_at": None if event.first_token_at is None else event.first_token_at.isoformat(),
        "ended_at": event.ended_at.isoformat(),
        "end_reason": event.end_reason,
        "tokens": {
            "prompt": event.prompt_tokens,
            "cached": event.cached_tokens,
            "completion": event.completion_tokens,
            "reasoning": event.reasoning_tokens,
            "reused": event.reused_prompt_tokens + event.reused_completion_tokens,
        },
        "charged": charged,
        "why": why,
        "billing_day": units[0].billing_day.isoformat() if charged and units[0].billing_day else None,
        "currency": units[0].currency if charged else None,
        "amount": f"{rating.exact_sum(amounts):f}",
        "lines": lines,
        "rated_by": rating.CODE_VERSION,
        "signed_with": key_id,
    }


_ENDS_OF_DAYS = {
    storage_usage.ENDPOINT: "no request: what you kept stored on this day, in kilobyte-days (1,000 bytes for 24 hours)",
    gpu_usage.ENDPOINT: "no request: the cards that were reserved for you on this day, in millionths of a GPU hour",
}


def _charge(event: UsageEvent, tenant: Tenant, units: Sequence[PricedUnit]) -> tuple[bool, str]:
    if tenant.is_internal:
        return False, "not charged: the tenant is one of ours"
    if not units:
        return False, "not charged: no tokens were used"
    if any(unit.currency is None for unit in units):
        return False, "not charged: the tenant was billed by nobody at that time"
    if unpriced := [unit.unit for unit in units if unit.prices != 1]:
        return False, f"not charged so far: there is not exactly one price of {', '.join(unpriced)}; the usage is held"
    if (of_day := _ENDS_OF_DAYS.get(event.endpoint)) is not None:
        return True, of_day
    return True, (_ENDS_OF_TRAINING if _is_training(event) else _ENDS)[event.end_reason]


def _is_training(event: UsageEvent) -> bool:
    return event.endpoint == training_usage.ENDPOINT


def _line(session: Session, unit: PricedUnit) -> dict[str, Any]:
    assert unit.price_id is not None
    assert unit.per_million is not None
    assert unit.currency is not None
    price = session.get_one(Price, unit.price_id)
    return {
        "unit": unit.unit,
        "tokens": unit.tokens,
        "price": {
            "id": ids.to_wire(ids.PRICE, unit.price_id),
            "per_million": rating.price_text(unit.per_million),
            "of": f"{price.variant_id}, {price.unit}",
            "list": "your own" if unit.is_own else unit.currency,
            "valid_from": price.valid_from.isoformat(),
        },
        "basis": invoice.EXPLAINED.get(unit.basis, f"quote {unit.basis}") if unit.basis else "price book",
        "amount": f"{rating.rate(unit.tokens, unit.per_million):f}",
        "explanation": rating.explain(unit.tokens, unit.unit, unit.per_million, unit.currency),
    }
