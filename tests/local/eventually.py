"""Waiting for what other processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], what: str, within_seconds: float = 20.0) -> None:
    """Return as soon as it holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_seconds:.0f} s: {what}"
        time.sleep(0.05)
