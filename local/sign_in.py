"""The way into the console that `studio up` and the demo print at their end."""

from __future__ import annotations

from collections.abc import Callable

import httpx


def without_console(gateway_url: str) -> str | None:
    """How to get a console where the gateway serves none (a link would lead to a 404); None where there is one."""
    page = httpx.get(f"{gateway_url}/en/signin", trust_env=False, timeout=10)
    if page.status_code == httpx.codes.OK:
        return None
    return "needs the console: `make console` (Node.js 20), `make down`, `make up`, `studio signin-link create`"


def sign_in_words(gateway_url: str, make_link: Callable[[], str]) -> str:
    """A new link, or how to get a console."""
    missing = without_console(gateway_url)
    return missing or f"{make_link()}  (once, within 15 minutes; `studio signin-link create` makes another)"
