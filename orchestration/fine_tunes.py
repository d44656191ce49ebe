"""The sensor of fine-tunes: one run per job and generation; a job whose run is gone is taken up again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from sqlalchemy.orm import Session

from assets.fine_tunes import FineTuneConfig
from orchestration.jobs import FINE_TUNE
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.errors import StudioError
from studio.objects import Bucket
from training import jobs
from training.checkpoints import Checkpoints
from training.jobs import FineTune, Turn
from training.progress import Prefix
from training.run import Workshop

_JOB_TAG = "studio/fine-tune"
_GENERATION_TAG = "studio/generation"
_BEGINNING = timedelta(seconds=60)  # from the start of a run's process until it holds its job


@dg.sensor(name="fine_tunes", job=FINE_TUNE, minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def fine_tunes_open(
    context: dg.SensorEvaluationContext,
    workshop: dg.ResourceParam[Workshop],
) -> list[dg.RunRequest] | dg.SkipReason:
    """Starts a run for every fine-tuning job that waits, and another one where a run died."""
    requests = []
    with unit_of_work(workshop.database) as session:
        for job in jobs.open_jobs(session):
            match _turn(context.instance, session, job):
                case Turn.START:
                    requests.append(_request(job))
                case Turn.RETRY:
                    jobs.retry(session, job.id)
                    requests.append(_request(jobs.fine_tune(session, job.id)))
                case Turn.CANCEL if _is_cleared(context, workshop, job):
                    jobs.cancel(session, job.id)
                case Turn.GIVE_UP if _is_cleared(context, workshop, job):
                    jobs.give_up(session, job.id)
                case Turn.WAIT | Turn.CANCEL | Turn.GIVE_UP:
                    pass
    return requests or dg.SkipReason("No fine-tuning job waits for a run.")


def _turn(instance: dg.DagsterInstance, session: Session, job: FineTune) -> Turn:
    records = instance.get_run_records(dg.RunsFilter(tags=_tags(job)))
    is_held = jobs.is_worked_on(session, job.id)
    alive = [record for record in records if _is_alive(instance, record, is_held=is_held)]
    ended_at = max((_ended_at(record) for record in records if record not in alive), default=None)
    return jobs.turn(job, is_running=bool(alive), is_held=is_held, ended_at=ended_at, now=clock.now())


def _is_alive(instance: dg.DagsterInstance, record: dg.RunRecord, *, is_held: bool) -> bool:
    """Whether the run is on its way or works.

    A run that was killed together with the code server stays "started" in Dagster for ever and keeps its slot. Its
    process held the job in the database, so there we can see that it is gone.
    """
    run = record.dagster_run
    if run.is_finished or run.status != dg.DagsterRunStatus.STARTED:
        return not run.is_finished
    is_beginning = record.start_time is None or clock.now().timestamp() - record.start_time < _BEGINNING.total_seconds()
    if is_beginning or is_held:
        return True
    instance.report_run_failed(run, "The process of this run is gone.")
    return False


def _ended_at(record: dg.RunRecord) -> datetime:
    """When the run ended; now when Dagster has only just been told."""
    if not record.dagster_run.is_finished:
        return clock.now()
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp


def _is_cleared(context: dg.SensorEvaluationContext, workshop: Workshop, job: FineTune) -> bool:
    """End its trainer and forget its checkpoints, before its end is written: what fails is done by the next tick."""
    try:
        workshop.trainers.end(job)
    except StudioError as error:
        context.log.warning("A fine-tune that is over still has its trainer: %s", error.message)
        return False
    store = workshop.store
    Checkpoints.forget(Prefix(store.client, store.name(Bucket.ADAPTERS), job.prefix))
    return True


def _request(job: FineTune) -> dg.RunRequest:
    id = ids.to_wire(ids.FINE_TUNING_JOB, job.id)
    return dg.RunRequest(
        run_key=f"{id}#{job.generation}",
        run_config=dg.RunConfig(ops={"fine_tunes": FineTuneConfig(job_id=id)}),
        tags=_tags(job),
    )


def _tags(job: FineTune) -> dict[str, str]:
    return {_JOB_TAG: ids.to_wire(ids.FINE_TUNING_JOB, job.id), _GENERATION_TAG: str(job.generation)}
