"""The archive asset: each seal's events as a file in the object store, and the checks that it is the table's equal.

Usage is rated only after it is archived, so that two programs can rate it and be compared before money depends on it.
"""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine

from assets.partitions import BERLIN_DAYS, day_of
from assets.tables import table
from assets.usage import USAGE_EVENTS
from billing import archive, archive_format
from billing.archive import Comparison, NotWhatWasSealed
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore


@dg.asset(
    group_name="usage",
    owners=["team:finance"],
    kinds={"s3", "parquet"},
    partitions_def=BERLIN_DAYS,
    deps=[USAGE_EVENTS],
)
def usage_archive(
    context: dg.AssetExecutionContext,
    worker_database: dg.ResourceParam[Engine],
    objects: dg.ResourceParam[ObjectStore],
) -> dg.MaterializeResult[None]:
    """The sealed events of a Berlin day as Parquet with a manifest, one file for each seal, written once.

    A file's name holds its hash. Running a day again writes what is missing and changes nothing else. A seal that does
    not add up to what was sealed is left out, which the check beside shows, and stops no other.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        keys = archive.waiting(session, day)
    duckdb = archive_format.connect()
    left_out: dict[str, str] = {}
    for key in keys:
        try:
            with unit_of_work(worker_database) as session:
                archive.archive_seal(session, objects, duckdb, key, clock.now())
        except NotWhatWasSealed as error:
            left_out[str(key)] = error.message
    with unit_of_work(worker_database) as session:
        rows = archive.archived(session, day)
        return dg.MaterializeResult(
            metadata={
                "archived_now": len(keys) - len(left_out),
                "left_out": table([{"seal": key, "why": why} for key, why in left_out.items()]),
                "seals": len(rows),
                "events": sum(row.events for row in rows),
                "bytes": sum(row.bytes for row in rows),
                "files": table([{"key": row.object_key, "events": row.events, "bytes": row.bytes} for row in rows]),
            }
        )


@dg.asset_check(asset=usage_archive)
def archive_equals_table(
    context: dg.AssetCheckExecutionContext,
    worker_database: dg.ResourceParam[Engine],
    objects: dg.ResourceParam[ObjectStore],
) -> dg.AssetCheckResult:
    """Every seal has the file that was written, and it adds up to the table's events, tokens and fingerprint."""
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        waiting = archive.waiting(session, day)
        with archive.fetched(objects, archive.archived(session, day)) as fetched:
            compared = archive.compare_day(session, archive_format.connect(), fetched.files, day)
    return dg.AssetCheckResult(
        passed=not waiting and all(one.agrees for one in compared),
        metadata={
            "compared": len(compared),
            "not_archived": table([{"seal": str(key)} for key in waiting]),
            "damaged": table([{"seal": str(key), "why": why} for key, why in fetched.damaged.items()]),
            "only_in_archive": sum(one.only_in_archive for one in compared),
            "different": table([_comparison_row(one) for one in compared if not one.agrees]),
        },
    )


def _comparison_row(one: Comparison) -> dict[str, str | int]:
    return {
        "tenant": ids.to_wire(ids.TENANT, one.key.tenant_id),
        "seal_no": one.key.seal_no,
        "sealed_events": one.sealed_events,
        **{f"archive_{name}": str(value) for name, value in asdict(one.archive).items()},
        **{f"table_{name}": str(value) for name, value in asdict(one.table).items()},
    }
