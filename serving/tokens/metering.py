"""What a request has used, told to all who must know before its last byte leaves: limits, budgets, metrics, journal."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from serving.gateway import Gateway
from serving.tokens.request import Request, request_id
from serving.tokens.usage import TokenCounts
from serving.usage_event import EndReason, UsageEvent
from studio import clock


async def record(
    gateway: Gateway,
    request: Request,
    replica_id: UUID | None,
    counts: TokenCounts,
    first_token_at: datetime | None,
    reason: EndReason,
) -> None:
    """Returns when the event is durable. `replica_id` None: no engine had a part in it. JournalBroken."""
    variant = request.variant
    if request.lease is not None:
        request.lease.end(counts.of_engine)
    if request.reservation is not None:
        request.reservation.settle(counts)
        if reason == "complete" and request.reservation.ended(counts):
            reason = "budget"
    event = UsageEvent(
        usage_day_utc=request.started_at.date(),
        id=request.id,
        tenant_id=request.caller.tenant_id,
        api_key_id=request.caller.id,
        request_id=request_id(request.id),
        tag=request.tag,
        endpoint=request.call.endpoint.path,
        model_id=variant.model_id,
        variant_id=variant.id,
        tier_requested=variant.tier,
        tier_served=variant.tier,
        replica_id=replica_id,
        started_at=request.started_at,
        first_token_at=first_token_at,
        ended_at=clock.now(),
        prompt_tokens=counts.prompt,
        cached_tokens=counts.cached,
        completion_tokens=counts.completion,
        reasoning_tokens=counts.reasoning,
        http_status=200,
        end_reason=reason,
        engine_prompt_tokens=counts.engine_prompt,
        adapter_id=request.target.adapter_id,
        reused_prompt_tokens=counts.reused_prompt,
        reused_completion_tokens=counts.reused_completion,
        admitted_at=request.admitted_at,
    )
    gateway.metrics.metered(variant, counts, request.started_at, first_token_at, event.ended_at)
    if request.timeline is not None:
        request.timeline.counts, request.timeline.first_token_at = counts, first_token_at
    await gateway.journal.append(event)
    if request.sample is not None:
        gateway.cross_check.recorded(request.sample, event)
