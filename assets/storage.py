"""Storage: what tenants kept on a civil day. What is measured and why is `billing/storage.py`."""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine

from assets.borders import border_check, storage_daily_schema
from assets.partitions import BERLIN_DAYS, day_of
from assets.tables import table
from billing import storage, stored_objects
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore


@dg.asset(group_name="usage", owners=["team:finance"], kinds={"postgres"}, partitions_def=BERLIN_DAYS)
def storage_daily(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """What each tenant kept on a civil day of its own zone: files, results, adapters, in bytes times seconds.

    Measured once, when the day is over there. Where the tenant's price list sells storage it is usage from then on: one
    event, sealed and billed with the day. Running a day again measures only who is missing.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        new = storage.measure(session, day, clock.now())
        rows = storage.measured_days(session, day)
    gigabyte_days = [row.kilobyte_days / 1_000_000 for row in rows]
    return dg.MaterializeResult(
        metadata={
            "tenants": len(rows),
            "measured_now": len(new),
            "metered": sum(row.event_id is not None for row in rows),
            "gigabyte_days": round(sum(gigabyte_days), 6),
            "storage": table([asdict(row) | {"tenant_id": ids.to_wire(ids.TENANT, row.tenant_id)} for row in rows]),
        }
    )


@dg.asset_check(asset=storage_daily)
def storage_is_billed_as_measured(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Measured again, every tenant's day comes to the same, and to its usage event."""
    with unit_of_work(worker_database) as session:
        found = storage.uneven(session, day_of(context))
    return dg.AssetCheckResult(passed=not found, metadata={"uneven": table(found[:20]), "in_all": len(found)})


@dg.asset_check(asset=storage_daily)
def stored_bytes_are_in_s3(
    worker_database: dg.ResourceParam[Engine], objects: dg.ResourceParam[ObjectStore]
) -> dg.AssetCheckResult:
    """Every file and adapter that is billed now lies in the object store, with just so many bytes."""
    with unit_of_work(worker_database) as session:
        found = stored_objects.not_as_stored(session, objects, clock.now())
    return dg.AssetCheckResult(passed=not found, metadata={"not_as_stored": table(found[:20]), "in_all": len(found)})


storage_daily_rows_fit = border_check(
    storage_daily, "storage_daily_rows_fit", storage_daily_schema, storage.measured_days
)
