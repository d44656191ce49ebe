"""The copies of our buckets on a second S3 server. What a pass does is `studio/replication.py`."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from assets.tables import table
from studio import clock
from studio.objects import ObjectStore
from studio.replication import replicate

_CHECK = "copies_are_whole"


@dataclass(frozen=True, slots=True)
class Replica:
    """Where copies go; None: nowhere."""

    store: ObjectStore | None


@dg.asset(
    group_name="objects",
    owners=["team:ops"],
    kinds={"s3"},
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset="object_replication",
            description="No copy was missing or spoilt, no original has changed under a name that never changes.",
        )
    ],
)
def object_replication(
    objects: dg.ResourceParam[ObjectStore], replica: dg.ResourceParam[Replica]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Copies of invoices, usage, backups and tenants' files on a second S3 server in the EU, read again within a week.

    What is spoilt or missing is told and made anew. An original that changed where nothing may change is never copied.
    """
    if replica.store is None:
        raise dg.Failure("STUDIO_REPLICA_S3_ENDPOINT_URL is not set: there are no copies.", allow_retries=False)
    reports = replicate(objects, replica.store, clock.now())
    trouble = [one for report in reports for one in report.trouble]
    yield dg.AssetCheckResult(
        check_name=_CHECK,
        passed=not trouble,
        metadata={"trouble": table(trouble[:100]), "in_all": len(trouble)},
    )
    shown = [
        {
            "bucket": report.bucket,
            "objects": report.objects,
            "bytes": report.size_bytes,
            "copied": report.copied,
            "removed": report.removed,
            "verified": report.verified,
            "lag_seconds": round(report.lag_seconds),
        }
        for report in reports
    ]
    yield dg.MaterializeResult(
        metadata={
            "lag_seconds": max(report.lag_seconds for report in reports),
            "missing": sum(one.what == "missing" for one in trouble),
            "spoilt": sum(one.what == "spoilt" for one in trouble),
            "copied": sum(report.copied for report in reports),
            "verified": sum(report.verified for report in reports),
            "buckets": table(shown),
        }
    )
