"""The schedules of reports. Each tick reports anew what may still have changed, so a missed one is made up for."""

from datetime import timedelta

import dagster as dg
from sqlalchemy import Engine

from assets.costs import margin_daily
from billing import margin
from orchestration.jobs import MEASURE_COSTS, REPORT_OBJECTIVES
from serving.objectives import months
from studio import clock
from studio.db.sessions import unit_of_work

_DAYS = 3  # late usage of the last days is rated by then; what comes later is reported when somebody runs the day


@dg.schedule(
    job=REPORT_OBJECTIVES,
    cron_schedule="0 5 * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_objectives(
    context: dg.ScheduleEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest]:
    """Reports the running month, and those before it until they are final: on its third morning, or when it can."""
    today = context.scheduled_execution_time.astimezone(clock.BERLIN).date()
    with unit_of_work(worker_database) as session:
        asked = {clock.month_start(today), *months.unfinished(session)}
    return [dg.RunRequest(run_key=f"{today}/{month}", partition_key=month.isoformat()) for month in sorted(asked)]


@dg.schedule(
    job=MEASURE_COSTS,
    cron_schedule="20 5 * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_costs(
    context: dg.ScheduleEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest]:
    """Measures the last days: energy from Prometheus, then what is left of the revenue.

    Days of a month whose rate of exchange has come meanwhile are computed again, from the energy that is kept.
    """
    today = context.scheduled_execution_time.astimezone(clock.BERLIN).date()
    days = (today - timedelta(days=ago) for ago in range(_DAYS, 0, -1))
    with unit_of_work(worker_database) as session:
        waiting = margin.waiting_for_a_rate(session)
    return [
        *(dg.RunRequest(run_key=f"{today}/{day}", partition_key=day.isoformat()) for day in days),
        *(
            dg.RunRequest(
                run_key=f"{today}/{day}/rate", partition_key=day.isoformat(), asset_selection=[margin_daily.key]
            )
            for day in waiting
        ),
    ]
