"""The schedules. A schedule only wakes; rows decide, so a missed or repeated tick does no harm."""

import dagster as dg
from sqlalchemy import Engine

from assets.objects import Replica
from billing import invoice_requests
from orchestration.jobs import CERTIFY_ISOLATION, DRAFT_INVOICES, FLY_CANARY, REMIND, REPLICATE_OBJECTS
from orchestration.reports import daily_costs, daily_objectives
from orchestration.sealing import seal_closed_windows
from studio import clock
from studio.db.sessions import unit_of_work


# Every morning and not only on the 1st: a month with an open day is asked for on the first morning it is complete.
@dg.schedule(
    job=DRAFT_INVOICES,
    cron_schedule="0 6 * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def month_close(worker_database: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """Asks for the invoices of every month that is over and wholly reconciled; a sensor then has them drafted.

    What has arrived since the last ten-minute look is sealed first.
    """
    now = clock.now()
    seal_closed_windows(worker_database, now)
    with unit_of_work(worker_database) as session:
        requests = invoice_requests.request_closed_months(session, now)
    return dg.SkipReason(f"{len(requests)} invoices were asked for.")


# Not between 2 and 3, when the clocks are changed. A night that is missed is made up for by the next.
NIGHTLY_ISOLATION = dg.ScheduleDefinition(
    name="nightly_isolation",
    job=CERTIFY_ISOLATION,
    cron_schedule="30 4 * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Probes that tenants are isolated and gives each of them a signed report.",
)

# After the banks' statements of the night, and once a day: nobody is reminded twice at a level, however often it runs.
DAILY_REMINDERS = dg.ScheduleDefinition(
    name="daily_reminders",
    job=REMIND,
    cron_schedule="0 9 * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Takes the money that came in, then proposes reminders of invoices that are overdue.",
)

# At minute 17: at the full hour everybody's clocks ask for something.
HOURLY_CANARY = dg.ScheduleDefinition(
    name="hourly_billing_canary",
    job=FLY_CANARY,
    cron_schedule="17 * * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Known requests whose bill must be what they counted themselves.",
)


_UNFINISHED = [
    *(dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING),
    *(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING),
]


# One pass at a time: what the last one has not finished, the next would begin again.
@dg.schedule(
    job=REPLICATE_OBJECTS,
    cron_schedule="43 * * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def hourly_replication(
    context: dg.ScheduleEvaluationContext, replica: dg.ResourceParam[Replica]
) -> dg.RunRequest | dg.SkipReason:
    """Copies to the second object store, where there is one."""
    if replica.store is None:
        return dg.SkipReason("STUDIO_REPLICA_S3_ENDPOINT_URL is not set: there are no copies.")
    going = dg.RunsFilter(job_name=REPLICATE_OBJECTS.name, statuses=_UNFINISHED)
    if context.instance.get_runs(going, limit=1):
        return dg.SkipReason("The last pass is not over.")
    return dg.RunRequest()


SCHEDULES = [
    month_close,
    NIGHTLY_ISOLATION,
    DAILY_REMINDERS,
    HOURLY_CANARY,
    daily_objectives,
    daily_costs,
    hourly_replication,
]
