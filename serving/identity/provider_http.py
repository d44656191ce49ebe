"""What the OpenID provider is asked over HTTP.

By the standard library, in a thread: it is one request in ten minutes and one for each sign-in, and aiohttp would make
every gateway 5 MB larger. Nothing is followed: an answer that leads elsewhere is none.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote, urlencode
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request

from serving.authorities import client_tls
from studio import VERSION

MOST_BYTES = 1024 * 1024  # of an answer


class ProviderUnreachable(Exception):
    """No whole answer came: no connection, a broken one, too slow, or too large."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whatever the status is."""

    status: int
    body: bytes


async def get(url: str, patience: timedelta) -> Answer:
    """ProviderUnreachable when there is no whole answer in `patience`."""
    return await _ask(Request(url, headers=_HEADERS), patience)  # noqa: S310  # see `_opener`


async def post_form(url: str, form: Mapping[str, str], basic: tuple[str, str] | None, patience: timedelta) -> Answer:
    """`basic`: a client's id and secret for the header. ProviderUnreachable as for `get`."""
    headers = dict(_HEADERS)
    if basic is not None:
        # Both are form-encoded first (RFC 6749, 2.3.1).
        login = ":".join(quote(part, safe="") for part in basic)
        headers["authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return await _ask(Request(url, urlencode(form).encode(), headers), patience)  # noqa: S310  # see `_opener`


_HEADERS = {"accept": "application/json", "user-agent": f"xpulink-studio/{VERSION}"}


async def _ask(request: Request, patience: timedelta) -> Answer:
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await asyncio.to_thread(_answer, request, patience)
    except (OSError, http.client.HTTPException, ValueError) as error:  # OSError: TimeoutError, too
        raise ProviderUnreachable(f"{request.full_url}: {type(error).__name__}: {error}") from error


def _answer(request: Request, patience: timedelta) -> Answer:
    answer = _opener().open(request, timeout=patience.total_seconds())
    if answer is None:
        raise ValueError("neither http nor https")
    with answer:
        body = answer.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return Answer(answer.status, body)


def _opener() -> OpenerDirector:
    """HTTP and HTTPS and nothing else: no files, no proxies, no redirects, no exceptions for a status."""
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler(context=client_tls()))
    return opener
