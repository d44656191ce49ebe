"""Run keys. Dagster remembers a key for ever, also of a failed run, so a key names the attempt as well as the work.

Attempts are counted by how long the work has been waiting, which needs no memory: what still waits after 15 s, 30 s,
1 min, 2 min, ... is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

_FIRST_RETRY_SECONDS = 15


def attempt(waiting_since: datetime, now: datetime) -> int:
    """0 at once, then one more each time the waiting time has doubled."""
    return (int((now - waiting_since).total_seconds()) // _FIRST_RETRY_SECONDS).bit_length()


def run_key(partition: str, work: Iterable[str]) -> str:
    """A key of moderate length for all pieces of work that one run takes on, in any order."""
    digest = hashlib.sha256("\n".join(sorted(work)).encode()).hexdigest()
    return f"{partition}/{digest[:16]}"
