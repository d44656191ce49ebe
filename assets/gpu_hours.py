"""GPU hours: cards reserved for one tenant on a civil day. What is counted and why is `billing/gpu_hours.py`."""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine

from assets.borders import border_check, gpu_hours_daily_schema
from assets.partitions import BERLIN_DAYS, day_of
from assets.tables import table
from billing import gpu_hours
from studio import clock, ids
from studio.db.sessions import unit_of_work


@dg.asset(group_name="usage", owners=["team:finance"], kinds={"postgres"}, partitions_def=BERLIN_DAYS)
def gpu_hours_daily(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """The hours of cards that were reserved for one tenant on a civil day of its own zone, used or not.

    Counted once, when the day is over there: one event, sealed and billed with the day. Running a day again counts only
    who is missing.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        new = gpu_hours.count(session, day, clock.now())
        rows = gpu_hours.counted_days(session, day)
    return dg.MaterializeResult(
        metadata={
            "tenants": len(rows),
            "counted_now": len(new),
            "gpu_hours": gpu_hours.hours(rows),
            "hours": table([asdict(row) | {"tenant_id": ids.to_wire(ids.TENANT, row.tenant_id)} for row in rows]),
        }
    )


@dg.asset_check(asset=gpu_hours_daily)
def gpu_hours_are_billed_as_reserved(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Counted again, every tenant's day comes to the same, and to its usage event."""
    with unit_of_work(worker_database) as session:
        found = gpu_hours.uneven(session, day_of(context))
    return dg.AssetCheckResult(passed=not found, metadata={"uneven": table(found[:20]), "in_all": len(found)})


gpu_hours_daily_rows_fit = border_check(
    gpu_hours_daily, "gpu_hours_daily_rows_fit", gpu_hours_daily_schema, gpu_hours.counted_days
)
