"""Small questions that tell whether a server answers. Each gives up within a second or two and never raises."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

_TIMEOUT_SECONDS = 1.0


def http_ok(url: str) -> bool:
    """Whether a GET is answered with a success."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (our own loopback URLs)
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError):
        return False


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
