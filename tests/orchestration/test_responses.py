"""Stored responses under Dagster: what is over goes without a run."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine, insert, select

from studio import clock, ids
from studio.db.responses import StoredResponse
from studio.db.sessions import engine_for, tenant_scope, unit_of_work
from studio.tenants import CreatedKey
from tests.orchestration.location import Location
from tests.server import TestDatabase


def test_expired_responses_go_and_silent_ones_fail(
    location: Location, database: TestDatabase, worker: Engine, tenant: UUID, api_key: CreatedKey
) -> None:
    now, minute = clock.now(), timedelta(minutes=1)
    rows = {
        "expired": ("completed", now - minute, None),
        "kept": ("completed", now + minute, None),
        "running": ("in_progress", now + minute, now),
        "silent": ("queued", now + minute, now - 3 * minute),
    }
    gateway = engine_for(database.url("gateway"))
    with tenant_scope(gateway, tenant) as session:
        for model, (status, expires_at, heard_at) in rows.items():
            session.execute(
                insert(StoredResponse).values(
                    id=ids.uuid7(), tenant_id=tenant, api_key_id=api_key.id, model=model, status=status,
                    background=True, created_at=now, expires_at=expires_at, heard_at=heard_at, content=b"sealed",
                )
            )  # fmt: skip
    gateway.dispose()
    assert location.asks("responses_sweep") == []
    with unit_of_work(worker) as session:
        left = dict(session.execute(select(StoredResponse.model, StoredResponse.status)).tuples().all())
    assert left == {"kept": "completed", "running": "in_progress", "silent": "failed"}
