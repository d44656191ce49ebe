"""The sensor of batches: a worker runs whenever there is something that a worker could do."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from sqlalchemy import Engine

from orchestration.attempts import attempt
from orchestration.jobs import BATCH_WORKER
from serving.batches import lifecycle, sweep, workers
from studio import clock
from studio.db.sessions import unit_of_work

_STARTING = timedelta(minutes=2)  # a run that is older and still shows no worker is dead, whatever Dagster believes
_BACK_OFF = timedelta(seconds=15)  # after one worker without any progress; doubled by each further one
_BACK_OFF_MOST = timedelta(minutes=15)
_SWEEP = timedelta(hours=1)  # from the last worker to one that has nothing to do but to remove bytes


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
        fruitless = workers.opened_after(session, lifecycle.last_progress(session))
        due_since = work.since or sweep.due_since(session, now)
    if due_since is None:
        return dg.SkipReason("No batch waits for a worker.")
    if alive:
        return dg.SkipReason("A worker is at it.")
    recent = dg.RunsFilter(job_name=BATCH_WORKER.name, created_after=now - _STARTING)
    if any(not run.is_finished for run in context.instance.get_runs(recent)):
        return dg.SkipReason("A worker is starting.")
    pause = _back_off(fruitless) if work.since else _SWEEP
    waiting_since = due_since if heard_at is None else max(due_since, heard_at + pause)
    if waiting_since > now:
        why = "The last worker brought no batch forward" if work.since else "There are only bytes to remove"
        return dg.SkipReason(f"{why}: the next one starts at {waiting_since:%H:%M:%S} UTC.")
    return dg.RunRequest(run_key=f"after-{number}-workers#{attempt(waiting_since, now)}")


def _back_off(fruitless: int) -> timedelta:
    """After so many workers in a row that brought no batch forward."""
    return min(_BACK_OFF * 2 ** min(fruitless - 1, 10), _BACK_OFF_MOST) if fruitless else timedelta(0)
