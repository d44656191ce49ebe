"""The sensor of batches: a worker runs whenever there is something that a worker could do."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from sqlalchemy import Engine

from orchestration.attempts import attempt
from orchestration.jobs import BATCH_WORKER
from serving.batches import lifecycle, workers
from studio import clock
from studio.db.sessions import unit_of_work

_STARTING = timedelta(minutes=2)  # a run that is older and still shows no worker is dead, whatever Dagster believes


@dg.sensor(job=BATCH_WORKER, minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def batch_supply(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> dg.RunRequest | dg.SkipReason:
    """Starts a worker when batches wait and none is at work. Who works is a row of ours, not a run's state."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        workers.close_the_dead(session, now)
        work = lifecycle.open_work(session, now)
        alive = workers.alive(session)
        number, heard_at = workers.last_seen(session)
    if work.since is None:
        return dg.SkipReason("No batch waits for a worker.")
    if alive:
        return dg.SkipReason("A worker is at it.")
    recent = dg.RunsFilter(job_name=BATCH_WORKER.name, created_after=now - _STARTING)
    if any(not run.is_finished for run in context.instance.get_runs(recent)):
        return dg.SkipReason("A worker is starting.")
    waiting_since = max(work.since, heard_at or work.since)
    return dg.RunRequest(run_key=f"after-{number}-workers#{attempt(waiting_since, now)}")
