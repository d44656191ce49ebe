"""Leases: who may have a shard, who may commit it, and who comes next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from serving.batches import lifecycle, shards, workers
from serving.batches.lifecycle import WaitingBatch
from serving.batches.planner import Span
from serving.batches.shards import LeaseLost, Outcome, Shard
from serving.files import records
from serving.routing import Target
from studio import clock, ids
from studio.db.jobs import Batch, BatchShard, File
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.serving.batches.test_validation import variant
from tests.serving.gateway_process import CHAT

LEASE = timedelta(seconds=60)
DONE = Outcome("output", None, 10, 0, (), (), counts_as_attempt=True, result_bytes=7)
LOST = Outcome("other", None, 10, 0, (), (), counts_as_attempt=True, result_bytes=7)


@pytest.fixture
def owners(worker: Engine) -> tuple[UUID, UUID]:
    """Two workers."""
    first, second = ids.uuid7(), ids.uuid7()
    with unit_of_work(worker) as session:
        for id in (first, second):
            workers.register(session, id, clock.now())
    return first, second


def a_batch(worker: Engine, tenant_id: UUID, shards_wanted: int, key_id: UUID | None = None) -> UUID:
    """A batch in progress."""
    file_id, batch_id, now = ids.uuid7(), ids.uuid7(), clock.now()
    key = records.object_key(tenant_id, file_id)
    path = "/v1/chat/completions"
    with unit_of_work(worker) as session:
        session.add(
            File(
                id=file_id, tenant_id=tenant_id, filename="f", purpose="batch", size_bytes=1, sha256="", object_key=key
            )
        )
        session.flush()
        session.add(
            Batch(
                id=batch_id, tenant_id=tenant_id, api_key_id=key_id or ids.uuid7(), endpoint=path,
                completion_window="24h", input_file_id=file_id, state="validating", created_at=now,
                expires_at=now + timedelta(hours=24),
            )
        )  # fmt: skip
        session.flush()
        spans = [Span(1 + 10 * n, 11 + 10 * n, n, n + 1) for n in range(shards_wanted)]
        waiting = WaitingBatch(batch_id, tenant_id, path, key)
        assert lifecycle.begin(session, waiting, Target(variant(CHAT)), 10 * shards_wanted, spans, now)
    return batch_id


def claim(worker: Engine, owner: UUID, now: datetime, held: Sequence[Shard] = ()) -> Shard | None:
    with unit_of_work(worker) as session:
        return shards.claim(session, owner, [CHAT], held, now, LEASE)


def commit(worker: Engine, owner: UUID, shard: Shard, outcome: Outcome = DONE) -> None:
    with unit_of_work(worker) as session:
        shards.commit(session, owner, shard, outcome, 0, clock.now())


@pytest.mark.parametrize("own_cache", [True, False])
def test_a_shard_says_whose_caches_its_lines_may_use(
    worker: Engine, operator: Engine, tenant: UUID, owners: tuple[UUID, UUID], own_cache: bool
) -> None:
    with unit_of_work(operator) as session:
        key = create_key(session, tenant, "batches", "tests", own_cache=own_cache)
    a_batch(worker, tenant, 1, key.id)
    shard = claim(worker, owners[0], clock.now())
    assert shard is not None
    assert (shard.api_key_id, shard.own_cache) == (key.id, own_cache)


def test_of_two_owners_only_the_one_with_the_lease_commits(
    worker: Engine, tenant: UUID, owners: tuple[UUID, UUID]
) -> None:
    batch_id = a_batch(worker, tenant, 1)
    first, second = owners
    now = clock.now()
    stale = claim(worker, first, now)
    fresh = claim(worker, second, now + 2 * LEASE)
    assert stale is not None
    assert fresh is not None
    assert (stale.shard_no, stale.attempt, fresh.shard_no, fresh.attempt) == (1, 1, 1, 2)
    with pytest.raises(LeaseLost):
        commit(worker, first, stale, LOST)
    commit(worker, second, fresh)
    commit(worker, second, fresh)  # the answer to the first got lost
    with pytest.raises(LeaseLost):
        commit(worker, first, stale, LOST)
    with unit_of_work(worker) as session:
        row = session.get_one(BatchShard, (batch_id, 1))
        assert (row.state, row.output_key) == ("done", "output")
        assert lifecycle.progress(session, batch_id).completed == 10


def test_a_worker_does_not_get_again_what_it_works_on(worker: Engine, tenant: UUID, owners: tuple[UUID, UUID]) -> None:
    a_batch(worker, tenant, 1)
    now = clock.now()
    shard = claim(worker, owners[0], now)
    assert shard is not None
    assert claim(worker, owners[0], now + 2 * LEASE, held=[shard]) is None
    again = claim(worker, owners[0], now + 2 * LEASE)  # it knows nothing of its lease: the claim's answer got lost
    assert again is not None
    with pytest.raises(LeaseLost):
        commit(worker, owners[0], shard)
    commit(worker, owners[0], again)


def test_only_leases_of_live_attempts_are_prolonged(worker: Engine, tenant: UUID, owners: tuple[UUID, UUID]) -> None:
    a_batch(worker, tenant, 2)
    now = clock.now()
    live, forgotten = claim(worker, owners[0], now), claim(worker, owners[0], now)
    assert live is not None
    assert forgotten is not None
    with unit_of_work(worker) as session:
        shards.renew(session, owners[0], [live], now + LEASE, LEASE)
        until = dict(session.execute(select(BatchShard.shard_no, BatchShard.leased_until)).tuples().all())
    assert until == {live.shard_no: now + 2 * LEASE, forgotten.shard_no: now + LEASE}


def test_tenants_take_turns(worker: Engine, operator: Engine, tenant: UUID, owners: tuple[UUID, UUID]) -> None:
    other = new_tenant(operator, "globex")
    a_batch(worker, tenant, 3)
    a_batch(worker, other, 3)
    claimed = [claim(worker, owners[0], clock.now()) for _ in range(4)]
    assert [shard.tenant_id for shard in claimed if shard] == [tenant, other, tenant, other]
