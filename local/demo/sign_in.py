"""The way into the console that the demo prints at its end."""

from __future__ import annotations

from collections.abc import Callable

import httpx


def sign_in_words(gateway_url: str, make_link: Callable[[], str]) -> str:
    """A new link, or how to get a console: a gateway that serves none would answer the link with a 404."""
    page = httpx.get(f"{gateway_url}/en/signin", trust_env=False, timeout=10)
    if page.status_code != httpx.codes.OK:
        return "needs the console: `make console` (Node.js 20), `make down`, `make up`, `studio signin-link create`"
    return f"{make_link()}  (once, within 15 minutes; `studio signin-link create` makes another)"
