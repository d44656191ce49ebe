"""Anthropic's error envelope, which its SDKs read their exceptions from. Statuses and headers stay our own. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from serving.tokens.request import request_id
from studio.errors import InsufficientQuota, StudioError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def body_of(error: StudioError, id: UUID) -> bytes:
    """A refusal."""
    return orjson.dumps(object_of(error, id))


def object_of(error: StudioError, id: UUID) -> dict[str, Any]:
    """The same, for a place within a stream."""
    about = {"type": _type(error), "message": error.message}
    return {"type": "error", "error": about, "request_id": request_id(id)}


def _type(error: StudioError) -> str:
    if isinstance(error, InsufficientQuota):
        return "billing_error"
    return _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
