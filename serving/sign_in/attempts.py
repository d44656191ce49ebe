"""A sign-in that has begun: what the browser carries in a cookie until it comes back. Nothing of it is kept here.

`state` and `nonce` bind the answer to this browser, the verifier binds the code to it (PKCE, RFC 7636). Each attempt
has a cookie of its own, so that two tabs may sign in at the same time.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from datetime import timedelta

import msgspec

HOLDS_FOR = timedelta(minutes=10)
_PATH = re.compile(r"/(?:en|de|zh)(?:/[a-z-]+)?(?:\?[\w=&.%:-]*)?(?:#[\w.:-]*)?", re.ASCII)
_LONGEST_PATH = 300


class Attempt(msgspec.Struct, frozen=True):
    """Of one browser tab."""

    state: str
    nonce: str
    verifier: str
    return_to: str

    @classmethod
    def begin(cls, return_to: str | None) -> Attempt:
        """A new one."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, safe_path(return_to))

    @classmethod
    def of_cookie(cls, text: str | None, state: str | None) -> Attempt | None:
        """What a cookie holds, if it is the one of this `state`."""
        try:
            attempt = msgspec.json.decode(base64.urlsafe_b64decode((text or "").encode("latin-1")), type=cls)
        except (ValueError, msgspec.MsgspecError):
            return None
        if state is None or not secrets.compare_digest(attempt.state.encode(), state.encode()):
            return None
        return msgspec.structs.replace(attempt, return_to=safe_path(attempt.return_to))

    @property
    def cookie(self) -> str:
        """Its cookie's value."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @property
    def challenge(self) -> str:
        """What the provider hears of the verifier."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


def name_of(state: str) -> str:
    """A short name of an attempt, for its cookie."""
    return hashlib.sha256(state.encode()).hexdigest()[:12]


def safe_path(text: str | None) -> str:
    """A page of the console to come back to; the first one for anything else, such as another site's address."""
    if text is None or len(text) > _LONGEST_PATH or _PATH.fullmatch(text) is None:
        return "/"
    return text
