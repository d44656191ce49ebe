"""The fleet asset: how many replicas each variant should have. The node agent makes it so."""

import dagster as dg
from sqlalchemy import Engine

from assets.catalog import catalog
from assets.tables import table
from serving.fleet.reconcile import Reconciliation, reconcile
from studio import clock
from studio.db.sessions import unit_of_work


@dg.asset(group_name="fleet", owners=["team:ops"], kinds={"postgres"}, deps=[catalog])
def desired_replicas(worker_database: dg.ResourceParam[Engine]) -> dg.MaterializeResult[None]:
    """How many replicas each variant should have now, and why. A sensor keeps it current."""
    with unit_of_work(worker_database) as session:
        done = reconcile(session, clock.now())
    return dg.MaterializeResult(metadata=fleet_metadata(done))


def fleet_metadata(done: Reconciliation) -> dict[str, dg.MetadataValue]:
    """What a reconciliation changed and what holds now, for the asset page."""
    return {
        "changed": dg.MetadataValue.int(len(done.changes)),
        "changes": table(done.changes),
        "fleet": table(done.fleet),
    }
