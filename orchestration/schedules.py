"""The schedules. A schedule only wakes; rows decide, so a missed or repeated tick does no harm."""

import dagster as dg
from sqlalchemy import Engine

from billing import invoice_requests
from orchestration.jobs import CERTIFY_ISOLATION, DRAFT_INVOICES
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

    Usage that arrived too late for the ten-minute look is sealed here first, however old it is.
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

SCHEDULES = [month_close, NIGHTLY_ISOLATION, daily_objectives, daily_costs]
