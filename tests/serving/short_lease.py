"""A gateway whose leases on idempotent requests are short: `python -m tests.serving.short_lease`."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

from serving import process as gateway

LEASE = timedelta(seconds=3)

if __name__ == "__main__":
    with patch("serving.idempotency.store.LEASE", LEASE), patch("serving.idempotency.application.LEASE", LEASE):
        gateway.main()
