"""How a request from a browser shows who it is, and why no other site can make one.

The session's cookie is HttpOnly, SameSite=Lax and, where the site is https, Secure with the prefix `__Host-`, which no
other host of the domain can set. A cookie comes along by itself, so a request that may change something must also prove
that a page of ours made it, in two ways that fail for different reasons: the browser itself says that it is of the same
origin (`Sec-Fetch-Site`, or `Origin` where that is not sent), and it carries the header `x-csrf-token`, which only a
script that may read our answers can know. SameSite alone does not tell a neighbouring host of the same site from us.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from urllib.parse import urlsplit

from serving.envelope import Headers
from serving.tokens.client import Scope
from studio.errors import PermissionDenied

SCHEME = "Session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Cookies:
    """The cookies of one site, by its own address."""

    def __init__(self, gateway_url: str) -> None:
        parts = urlsplit(gateway_url)
        self._origin = f"{parts.scheme}://{parts.netloc}".encode()
        self._is_secure = parts.scheme == "https"
        # Beyond this machine a cookie over plain http is anybody's.
        self.is_safe = self._is_secure or parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._prefix = "__Host-studio" if self._is_secure else "studio"
        self._session = f"{self._prefix}-session".encode()

    def session(self, text: str, holds_for: timedelta) -> str:
        """The `Set-Cookie` of a session."""
        return self._set("session", text, holds_for)

    def no_session(self) -> str:
        """The `Set-Cookie` that takes it away."""
        return self._set("session", "", timedelta(0))

    def attempt(self, name: str, text: str, holds_for: timedelta) -> str:
        """The `Set-Cookie` of a sign-in that has begun."""
        return self._set(f"attempt-{name}", text, holds_for)

    def no_attempt(self, name: str) -> str:
        """The `Set-Cookie` that takes it away."""
        return self._set(f"attempt-{name}", "", timedelta(0))

    def attempt_in(self, headers: Headers, name: str) -> str | None:
        """What the browser carries of an attempt."""
        return _read(headers, f"{self._prefix}-attempt-{name}".encode())

    def take_session(self, scope: Scope) -> None:
        """Puts a cookie's session where all callers are looked for. PermissionDenied for what another site made."""
        headers: Headers = scope["headers"]
        if any(name == b"authorization" for name, _ in headers):
            return  # a key or a token is a proof of its own; no site can send one in somebody's name
        text = _read(headers, self._session)
        if text is None:
            return
        if scope["method"] not in _SAFE:
            self.require_same_origin(headers)
            shown = next((value for name, value in headers if name == b"x-csrf-token"), b"")
            if not secrets.compare_digest(shown, csrf_token(text).encode()):
                raise PermissionDenied("The header `x-csrf-token` is missing or not this session's. Reload the page.")
        scope["headers"] = [(b"authorization", f"{SCHEME} {text}".encode("latin-1")), *headers]

    def require_same_origin(self, headers: Headers) -> None:
        """PermissionDenied unless the browser says that a page of this site asks."""
        found = dict(reversed(headers))
        site = found.get(b"sec-fetch-site")
        if site == b"same-origin" if site is not None else found.get(b"origin") == self._origin:
            return
        raise PermissionDenied(
            "This was not asked by a page of this site, so it is not done. Open the site itself and do it there."
        )

    def _set(self, name: str, text: str, holds_for: timedelta) -> str:
        secure = "; Secure" if self._is_secure else ""
        age = int(holds_for.total_seconds())
        return f"{self._prefix}-{name}={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}"


def csrf_token(session: str) -> str:
    """Follows from the session's secret, which it does not tell; so there is nothing to keep and nothing to mix up."""
    return hashlib.sha256(b"studio csrf " + session.encode("latin-1")).hexdigest()


def _read(headers: Headers, name: bytes) -> str | None:
    for header, value in headers:
        if header != b"cookie":
            continue
        for one in value.split(b";"):
            found, _, text = one.strip().partition(b"=")
            if found == name and text:
                return text.decode("latin-1")
    return None
