"""The sensor that shows that sensors run. An alert looks for its row, not for Dagster's own word."""

import dagster as dg
from sqlalchemy import Engine

from studio import clock, ticks
from studio.db.sessions import unit_of_work


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def pulse(worker_database: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """Writes down that daemon, code server and database work together. `DagsterAway` misses it after 5 minutes."""
    with unit_of_work(worker_database) as session:
        ticks.record(session, clock.now())
    return dg.SkipReason("Sensors run.")
