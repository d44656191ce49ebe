"""A gateway with bounds that a test can reach: `python -m tests.serving.small_bounds`."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

from serving import process as gateway
from serving.idempotency import application, joins
from serving.responses import endpoint, store
from serving.routes import patience

MOST_BYTES = 2_000
PATIENCE = timedelta(milliseconds=500)
STATEMENT_SECONDS = 2
LONGEST_CHAIN = 3
MOST_JOINS = 2

if __name__ == "__main__":
    with (
        patch.object(application, "MOST_BYTES", MOST_BYTES),
        patch.object(joins, "MOST_OF_TENANT", MOST_JOINS),
        patch.object(endpoint, "PATIENCE", PATIENCE),
        patch.object(patience, "PATIENCE", PATIENCE),
        patch.object(gateway, "STATEMENT_SECONDS", STATEMENT_SECONDS),
        patch.object(store, "LONGEST_CHAIN", LONGEST_CHAIN),
    ):
        gateway.main()
