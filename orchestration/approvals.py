"""What waits for people on its way to a final invoice, as one table that is written when it changes."""

from __future__ import annotations

import hashlib

import dagster as dg
from sqlalchemy import Engine

from assets.open_invoices import waiting_metadata
from billing import holds, open_invoices
from studio import clock
from studio.db.sessions import unit_of_work


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def invoices_waiting(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> dg.SensorResult | dg.SkipReason:
    """Holds tenants whose reconciliation is red, and lists what waits for a review, an approval or a release."""
    with unit_of_work(worker_database) as session:
        holds.hold_red(session, clock.now())
        rows = open_invoices.open_invoices(session)
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    if digest == context.cursor:
        return dg.SkipReason(f"Still {len(rows)} wait.")
    written = dg.AssetMaterialization("open_invoices", metadata=waiting_metadata(rows))
    return dg.SensorResult(asset_events=[written], cursor=digest)
