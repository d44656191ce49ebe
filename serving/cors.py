"""Which browsers may call: all. Callers from elsewhere prove themselves by key, so their origin means nothing.

A session's cookie does not travel from another site, and what it could change asks for more (`sign_in/cookies.py`).
"""

from __future__ import annotations

from serving.envelope import Headers
from serving.tokens.client import Receive, Scope, Send

_EXPOSED = (
    b"x-request-id, request-id, openai-processing-ms, idempotent-replayed, retry-after, retry-after-ms, x-should-retry,"
    b" x-model-ready-in-seconds, x-studio-cache, x-studio-cache-why, x-studio-cache-hits, age,"
    b" x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests,"
    b" x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
RESPONSE_HEADERS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED),
]


def is_preflight(headers: Headers) -> bool:
    """Whether a browser asks before it calls. It sends no key with that."""
    return any(name == b"access-control-request-method" for name, _ in headers)


async def preflight(scope: Scope, receive: Receive, send: Send) -> None:
    """Allow whatever the browser wants to send, by name: `*` does not cover `authorization`."""
    wanted = next((value for name, value in scope["headers"] if name == b"access-control-request-headers"), b"")
    headers = [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", wanted),
        (b"access-control-max-age", b"86400"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
