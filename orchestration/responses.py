"""The sensor of stored responses: what has expired goes. So quick that it needs no run."""

from __future__ import annotations

import dagster as dg
from sqlalchemy import Engine

from serving.responses.sweep import sweep
from studio import clock
from studio.db.sessions import unit_of_work


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def responses_sweep(worker_database: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """Deletes expired responses and fails those whose gateway has died."""
    with unit_of_work(worker_database) as session:
        swept = sweep(session, clock.now())
    return dg.SkipReason(f"{swept.expired} responses had expired, {swept.failed} had lost their gateway.")
