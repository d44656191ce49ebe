"""OpenAI's error envelope: the one form in which this gateway says no, whatever route the request took."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil

import orjson

from studio.errors import Conflict, InsufficientQuota, MethodNotAllowed, ModelAsleep, RateLimited, StudioError

Headers = list[tuple[bytes, bytes]]


def body_of(error: StudioError) -> bytes:
    """All four keys, always: SDKs read them without looking whether they are there."""
    return envelope(error.message, error.type, error.code, error.param)


def headers_of(error: StudioError) -> Headers:
    """What tells an SDK whether and when to try again. `retry-after-ms` wins where both are understood."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        seconds = error.retry_after.total_seconds()
        headers.append((b"retry-after", b"%d" % max(1, ceil(seconds))))
        headers.append((b"retry-after-ms", b"%d" % ceil(seconds * 1000)))
    if isinstance(error, ModelAsleep) and error.ready_in is not None:
        # `retry-after` ends at what SDKs are willing to wait; this is the truth.
        headers.append((b"x-model-ready-in-seconds", b"%d" % ceil(error.ready_in.total_seconds())))
    is_for_ever = isinstance(error, RateLimited) and error.retry_after is None
    if is_for_ever or isinstance(error, InsufficientQuota | Conflict):
        # SDKs retry each 429 and 409 by themselves; these would fail the same way again.
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return headers


def for_status(status: int, message: str) -> bytes:
    """The envelope of an error that the web framework raised, of which only the status is known."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return envelope(message, kind, HTTPStatus(status).name.lower(), None)


def envelope(message: str, type: str, code: str, param: str | None) -> bytes:
    """The bytes on the wire. A message may quote what a caller wrote, and that may be half of a surrogate pair."""
    message = message.encode(errors="replace").decode()
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})
