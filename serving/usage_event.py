"""The metered request, as the journal keeps it and the database receives it. What it costs is `billing/`."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal
from uuid import UUID

import msgspec

EndReason = Literal["complete", "client_left", "engine_died", "budget"]


class UsageEvent(msgspec.Struct, frozen=True, array_like=True):
    """One request that was answered: the columns of `usage_events`, less those that name the source.

    Field names are column names. `array_like`: fields are only ever added at the end, with a default, so that a
    newer gateway can ship the journal of an older one.
    """

    usage_day_utc: date
    id: UUID  # UUIDv7, minted when the request began
    tenant_id: UUID
    api_key_id: UUID
    request_id: str
    tag: str | None
    endpoint: str
    model_id: str
    variant_id: str
    tier_requested: str
    tier_served: str
    replica_id: UUID | None  # None: no engine worked on it
    started_at: datetime
    first_token_at: datetime | None
    ended_at: datetime
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    http_status: int
    end_reason: EndReason
    usage_origin: Literal["engine"] = "engine"
    engine_prompt_tokens: int | None = None  # the prompt once for each choice, as the engine's own counter sees it
    adapter_id: UUID | None = None
    reused_prompt_tokens: int = 0  # from a cache of ours, as part of prompt_tokens
    reused_completion_tokens: int = 0  # the same of completion_tokens
    admitted_at: datetime | None = None  # since when it waited for us alone: whole, and with an engine ready
