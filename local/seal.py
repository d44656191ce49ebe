"""Seal a usage window by API, waiting for the sources of usage that still lag."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from local.api import Api, ApiRefused
from studio import clock

_WAIT_SECONDS = 60.0


def seal_window(api: Api, day: date, tenant: str, reason: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Seal what the window has received until now. ApiRefused (`nothing_to_seal`) when there is nothing new.

    The cutoff stays the same while asking again, so the wait ends as soon as every source has reported past it.
    """
    body = {"tenant": tenant, "reason": reason, "cutoff": clock.now().isoformat()}
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            sealed: dict[str, Any] = api.post(f"/admin/v1/usage/windows/{day}/seals", body)
        except ApiRefused as error:
            if error.code != "usage_not_complete" or time.monotonic() > deadline:
                raise
            say(str(error))
            time.sleep(0.5)
        else:
            return sealed
