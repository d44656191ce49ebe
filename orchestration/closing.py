"""Closes the tenants whose day has begun: each in a transaction of its own, so that one that cannot stops no other."""

from __future__ import annotations

import dagster as dg
from sqlalchemy import Engine

from studio import clock, tenant_closing
from studio.db.sessions import unit_of_work
from studio.db.tenancy import Tenant
from studio.errors import StudioError
from studio.tenants import audit


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def tenants_closing(worker_database: dg.ResourceParam[Engine]) -> dg.SkipReason:
    """Closes tenants that were to be closed from today on. So quick that it needs no run; what is refused says why."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        found = [tenant.id for tenant in tenant_closing.due(session, now)]
    refused = []
    for tenant_id in found:
        try:
            with unit_of_work(worker_database) as session:
                tenant = session.get_one(Tenant, tenant_id)
                ended = tenant_closing.close(session, tenant, now)
                told = {"on": f"{tenant.closes_on}", "keys": ended.keys, "batches": ended.batches}
                told["fine_tunes"] = ended.fine_tunes
                audit(session, "calendar", "tenant.close", tenant.slug, tenant.id, told)
        except StudioError as error:
            refused.append(error.message)
    return dg.SkipReason(f"{len(found) - len(refused)} tenants were closed. {' '.join(refused)}".strip())
