"""What an engine is sent instead of a caller's request. Pure."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from serving.fleet.view import Replica
from serving.routing import Target
from serving.tokens import unsafe
from serving.tokens.wire import Call
from studio.errors import InvalidRequest

# Priorities, salts and ids are set by us. Everything here would let one caller steer another's requests or ours, or, as
# a long interval of a stream would, hide from us what a caller that leaves has used.
STEERING = (
    "priority",
    "cache_salt",
    "request_id",
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "data_parallel_rank",
    "session_id",
    "stream_interval",
)
PRIORITY = {"fast": 0, "base": 1}  # lower is earlier
BATCH_PRIORITY = 2


def engine_body(
    call: Call,
    target: Target,
    replica: Replica,
    salt: str,
    affordable_tokens: int | None,
    priority: int | None = None,
) -> bytes:
    """What the engine gets: its own name of the model, our steering, and the limits on each answer: the variant's, and
    what the caller's budget affords (None: as many as asked for). Without a `priority` its tier's holds."""
    # An absent field is a null one to every client, but not to every engine.
    payload = {name: value for name, value in call.payload.items() if name not in STEERING and value is not None}
    variant = target.variant
    unsafe.check_for_engine(payload, variant)
    payload["model"] = target.engine_name(replica)
    payload["priority"] = PRIORITY[variant.tier] if priority is None else priority
    # Of embeddings, too: a model that reads from left to right keeps the prefixes of what it embeds.
    payload["cache_salt"] = salt
    if call.stream:
        # Always asked for and shown only on request: a client that leaves still pays for what was produced.
        payload["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    limits = [limit for limit in (variant.max_output_tokens, affordable_tokens) if limit is not None]
    if call.endpoint.generates and limits:
        _cap(payload, call, min(limits))
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The body is nested too deeply.") from error  # it reads deeper than it writes


@lru_cache(4096)
def cache_salt(secret: bytes, tenant_id: UUID, client_salt: str, owner: UUID | None = None) -> str:
    """Prefixes in the engine's cache are shared within a tenant only, or by the calls of one key (`owner`): a hit's
    latency would tell others of them. No salt of a client makes one of these of another."""
    if owner is not None:
        secret = hmac.digest(secret, owner.bytes, hashlib.sha256)
    return hmac.digest(secret, tenant_id.bytes + client_salt.encode(), hashlib.sha256).hex()


def _cap(payload: dict[str, Any], call: Call, most: int) -> None:
    names = call.endpoint.limits
    given = [name for name in names if payload.get(name) is not None]
    # The engine shortens this further to what its context still holds.
    unlimited = call.endpoint.default_tokens or most
    for name in given or names[-1:]:
        payload[name] = min(payload.get(name) or unlimited, most)
