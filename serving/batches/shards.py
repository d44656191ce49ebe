"""Shards as rows: leased by one worker at a time, committed once. Code here never commits the transaction itself.

The commit makes the shard done and inserts its usage in one transaction, and only the holder of the lease can do it. So
a worker may die at any point: what was committed counts once, everything else is done again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, text, tuple_, update
from sqlalchemy.orm import Session

from serving.batches.metering import LineUsage, insert_usage
from serving.batches.planner import Span
from studio.db.jobs import Batch, BatchShard


class LeaseLost(Exception):
    """Somebody else has the shard: nothing of this attempt may be kept."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of work with all that is needed to do it."""

    batch_id: UUID
    shard_no: int
    attempt: int
    tenant_id: UUID
    api_key_id: UUID
    own_cache: bool  # of that key
    endpoint: str
    variant_id: str
    input_key: str
    line_from: int
    line_until: int
    byte_from: int
    byte_until: int

    @property
    def lines_most(self) -> int:
        """Its lines, if none is blank."""
        return self.line_until - self.line_from


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt at a shard came to."""

    output_key: str | None
    error_key: str | None
    completed: int
    failed: int
    used: Sequence[LineUsage]
    unfinished: Sequence[Span]  # goes back to be done by somebody
    counts_as_attempt: bool  # whether what is unfinished had its chance
    result_bytes: int  # of both objects


def claim(
    session: Session,
    worker_id: UUID,
    variants: Collection[str],
    held: Collection[Shard],
    now: datetime,
    lease: timedelta,
) -> Shard | None:
    """Lease the next shard: of one of `variants`, or of a batch that is to end without asking any engine.

    Tenants take turns; within a tenant the batch that expires first goes first. What the worker works on (`held`) it
    does not get again: after a pause its own leases may have run out.
    """
    wanted = {
        "variants": list(variants),
        "held_batches": [shard.batch_id for shard in held],
        "held_numbers": [shard.shard_no for shard in held],
        "now": now,
    }
    row = session.execute(_NEXT, wanted).mappings().one_or_none()
    if row is None:
        return None
    shard = Shard(**row)
    session.execute(
        update(BatchShard)
        .where(_is(shard))
        .values(state="leased", lease_owner=worker_id, leased_until=now + lease, attempt=shard.attempt)
    )
    return shard


def renew(session: Session, worker_id: UUID, held: Collection[Shard], now: datetime, lease: timedelta) -> None:
    """Prolong the leases of what a worker works on. A lease that it has and does not know of runs out."""
    numbers = [(shard.batch_id, shard.shard_no) for shard in held]
    session.execute(
        update(BatchShard)
        .where(
            tuple_(BatchShard.batch_id, BatchShard.shard_no).in_(numbers),
            BatchShard.lease_owner == worker_id,
            BatchShard.state == "leased",
        )
        .values(leased_until=now + lease)
    )


def note_unbilled(session: Session, tokens: Mapping[UUID, int]) -> None:
    """Count tokens of lines that are answered, not committed. A commit takes them back; a lost attempt leaves them."""
    for batch_id in sorted(tokens):
        session.execute(
            update(Batch).where(Batch.id == batch_id).values(unbilled_tokens=Batch.unbilled_tokens + tokens[batch_id])
        )


def commit(session: Session, worker_id: UUID, shard: Shard, outcome: Outcome, noted_tokens: int, now: datetime) -> None:
    """Keep an attempt: results, usage and counts, all or nothing. LeaseLost when another worker has the shard.

    `noted_tokens` of the attempt were counted as unbilled so far. Called again after a commit whose answer got lost, it
    does nothing.
    """
    statement = (
        update(BatchShard)
        .where(
            _is(shard),
            BatchShard.state == "leased",
            BatchShard.lease_owner == worker_id,
            BatchShard.attempt == shard.attempt,
        )
        .values(_row_after(outcome, shard, now))
        .returning(BatchShard.shard_no)
    )
    if session.scalars(statement).one_or_none() is None:
        if _was_committed(session, worker_id, shard):
            return
        raise LeaseLost(f"shard {shard.shard_no} of batch {shard.batch_id}")
    insert_usage(session, worker_id, shard.batch_id, outcome.used, now)
    session.execute(
        update(Batch)
        .where(Batch.id == shard.batch_id)
        .values(
            lines_completed=Batch.lines_completed + outcome.completed,
            lines_failed=Batch.lines_failed + outcome.failed,
            unbilled_tokens=Batch.unbilled_tokens - noted_tokens,
        )
    )
    if outcome.completed or outcome.failed:
        attempt = shard.attempt if outcome.counts_as_attempt else shard.attempt - 1
        add(session, shard.batch_id, shard.tenant_id, outcome.unfinished, attempt=attempt)


def add(session: Session, batch_id: UUID, tenant_id: UUID, spans: Sequence[Span], attempt: int = 0) -> None:
    """Open new shards of a batch whose row this transaction holds."""
    if not spans:
        return
    last = session.scalars(
        select(func.coalesce(func.max(BatchShard.shard_no), 0)).where(BatchShard.batch_id == batch_id)
    ).one()
    session.execute(
        insert(BatchShard),
        [
            {
                "batch_id": batch_id,
                "shard_no": number,
                "tenant_id": tenant_id,
                "state": "open",
                "attempt": attempt,
                "line_from": span.line_from,
                "line_until": span.line_until,
                "byte_from": span.byte_from,
                "byte_until": span.byte_until,
            }
            for number, span in enumerate(spans, start=last + 1)
        ],
    )


def result_keys(session: Session, batch_id: UUID) -> list[tuple[str | None, str | None]]:
    """Output and error keys of a batch's shards, in the order of their lines."""
    query = (
        select(BatchShard.output_key, BatchShard.error_key)
        .where(BatchShard.batch_id == batch_id)
        .order_by(BatchShard.line_from, BatchShard.shard_no)
    )
    return [(output_key, error_key) for output_key, error_key in session.execute(query)]


def _row_after(outcome: Outcome, shard: Shard, now: datetime) -> dict[str, Any]:
    if not (outcome.completed or outcome.failed):
        attempt = shard.attempt if outcome.counts_as_attempt else shard.attempt - 1
        return {"state": "open", "leased_until": None, "attempt": attempt}
    return {
        "state": "done",
        "leased_until": None,
        "lines_completed": outcome.completed,
        "lines_failed": outcome.failed,
        "output_key": outcome.output_key,
        "error_key": outcome.error_key,
        "result_bytes": outcome.result_bytes,
        "done_at": now,
    }


def _was_committed(session: Session, worker_id: UUID, shard: Shard) -> bool:
    row = session.execute(select(BatchShard.lease_owner, BatchShard.state, BatchShard.attempt).where(_is(shard))).one()
    return bool(row.lease_owner == worker_id and row.state != "leased" and row.attempt <= shard.attempt)


def _is(shard: Shard) -> ColumnElement[bool]:
    return (BatchShard.batch_id == shard.batch_id) & (BatchShard.shard_no == shard.shard_no)


_NEXT = text("""
    with busy as materialized (
        select tenant_id, count(*) as shards from batch_shards where state = 'leased' group by tenant_id)
    select s.batch_id, s.shard_no, s.attempt + 1 as attempt, s.tenant_id, b.api_key_id,
           coalesce(k.own_cache, false) as own_cache, b.endpoint,
           b.variant_id, f.object_key as input_key, s.line_from, s.line_until, s.byte_from, s.byte_until
    from batch_shards s
    join batches b on b.id = s.batch_id
    join files f on f.id = b.input_file_id
    left join api_keys k on k.id = b.api_key_id
    left join busy on busy.tenant_id = s.tenant_id
    where s.state <> 'done'
      and (s.state = 'open' or s.leased_until < :now)
      and (s.batch_id, s.shard_no) not in (
          select * from unnest(cast(:held_batches as uuid[]), cast(:held_numbers as integer[])))
      and (b.state = 'cancelling'
           or b.state = 'in_progress' and (b.variant_id = any(:variants) or b.expires_at <= :now))
    order by coalesce(busy.shards, 0), b.expires_at, b.id, s.line_from
    limit 1
    for update of s skip locked
""")
