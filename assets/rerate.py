"""Re-rating as an asset: a month with the price book and the code of now, beside what was rated. Changes nothing."""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine

from assets.partitions import BERLIN_MONTHS, day_of
from assets.tables import table
from assets.usage import rated_usage
from billing import rerate
from studio.db.sessions import unit_of_work


@dg.asset(
    group_name="invoices",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_MONTHS,
    deps=[rated_usage],
)
def re_rate_preview(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """What a month would come to now, per tenant, model and unit, where that is not what was rated.

    A dry run: rated lines stay as they are. A difference counts only by a correction that people order and approve.
    """
    with unit_of_work(worker_database) as session:
        preview = rerate.preview(session, day_of(context))
    return dg.MaterializeResult(
        metadata={
            "seals": preview.seals,
            "code_version": preview.code_version,
            "differences": len(preview.differences),
            "table": table([asdict(one) | {"change": one.change} for one in preview.differences]),
        }
    )
