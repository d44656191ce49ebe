"""A gateway that says often that it lives, and is forgotten soon: `python -m tests.serving.limits.short_lease`."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

from serving import process as gateway
from serving.limits import shared

LEASE = timedelta(seconds=3)

if __name__ == "__main__":
    with patch.multiple(shared, LEASE=LEASE, ANNOUNCE_EVERY=LEASE / 6):
        gateway.main()
