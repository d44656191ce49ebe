"""A fine-tune's usage: one event, inserted by the transaction that ends the job, so that it is billed exactly once.

Billed are the tokens that the trainer reported as read, step by step: all of a job that succeeded, up to the last
reported step of one that was cancelled. What failed is billed to nobody.

Each job is a usage source of its own, so nothing has to wait for it, and its one event is number 1. It is opened when
money is set aside for the training (`budget_hold.py`), at the latest by the event, and closed by the end of the job,
which settles what it held.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_once
from sqlalchemy.orm import Session

from studio import ids, training_usage
from studio.db.catalog import ModelVariant
from studio.db.jobs import FineTuningEvent, FineTuningJob
from studio.db.usage import UsageSource, UsageStaging


def reported_tokens(session: Session, job_id: UUID) -> int:
    """How many tokens the trainer has said it read, over all epochs so far. Padding is none, examples that were cut
    count as they were cut.
    """
    return _newest_number(session, job_id, "metrics", "trained_tokens")


def tokens_to_train(session: Session, job_id: UUID) -> int:
    """How many tokens the trainer has said it is going to read, over all epochs; 0 while it has not said so."""
    return _newest_number(session, job_id, "message", training_usage.TOKENS_TO_TRAIN)


def open_source(session: Session, job_id: UUID, now: datetime) -> UUID | None:
    """The job's usage source; None if it was opened before."""
    created_at = session.scalars(select(FineTuningJob.created_at).where(FineTuningJob.id == job_id)).one()
    return session.scalar(
        insert_once(UsageSource)
        .values(
            id=training_usage.source_id(job_id, created_at),
            kind="transaction",
            name=f"fine-tune {ids.to_wire(ids.FINE_TUNING_JOB, job_id)}",
            opened_at=created_at,
            last_seq=0,
            pending=0,
            heartbeat_at=now,
        )
        .on_conflict_do_nothing()
        .returning(UsageSource.id)
    )


def insert_usage(session: Session, job_id: UUID, now: datetime, *, is_cancelled: bool) -> int:
    """Meter a job that ends in this transaction; its tokens. Without any there is no event."""
    tokens = reported_tokens(session, job_id)
    if tokens:
        open_source(session, job_id, now)
        _insert_event(session, job_id, tokens, now, is_cancelled=is_cancelled)
    close_source(session, job_id, now)
    return tokens


def close_source(session: Session, job_id: UUID, now: datetime) -> None:
    """Nothing more comes of a job that ends in this transaction: of what it held of budgets, what it cost is spent."""
    created_at = session.scalars(select(FineTuningJob.created_at).where(FineTuningJob.id == job_id)).one()
    closed = session.scalar(
        update(UsageSource)
        .where(UsageSource.id == training_usage.source_id(job_id, created_at), UsageSource.closed_at.is_(None))
        .values(closed_at=now, heartbeat_at=now)
        .returning(UsageSource.id)
        .execution_options(synchronize_session=False)
    )
    if closed is not None:
        session.execute(_SETTLE, {"source": closed})


def _insert_event(session: Session, job_id: UUID, tokens: int, now: datetime, *, is_cancelled: bool) -> None:
    job, model_id, tier = (
        session.execute(
            select(FineTuningJob, ModelVariant.model_id, ModelVariant.tier)
            .join(ModelVariant, ModelVariant.id == FineTuningJob.variant_id)
            .where(FineTuningJob.id == job_id)
        )
        .tuples()
        .one()
    )
    event_id, shipment_id = training_usage.event_id(job.id, job.created_at), ids.uuid7()
    event = {
        "usage_day_utc": ids.day_utc_of(event_id), "id": event_id,
        "source_id": training_usage.source_id(job.id, job.created_at), "source_seq": 1,
        "tenant_id": job.tenant_id, "api_key_id": job.api_key_id,
        "request_id": ids.to_wire(ids.FINE_TUNING_JOB, job.id),
        "endpoint": training_usage.ENDPOINT, "model_id": model_id, "variant_id": job.variant_id,
        "tier_requested": tier, "tier_served": tier, "started_at": job.created_at, "ended_at": now,
        "prompt_tokens": tokens, "cached_tokens": 0, "completion_tokens": 0, "reasoning_tokens": 0,
        "http_status": 200, "end_reason": "client_left" if is_cancelled else "complete", "usage_origin": "engine",
    }  # fmt: skip
    session.execute(insert(UsageStaging).values(shipment_id=shipment_id, row=0, **event))
    session.execute(_ACCEPT, {"shipment": shipment_id})


def _newest_number(session: Session, job_id: UUID, type: str, name: str) -> int:
    # `as_integer` has 32 bits; the largest data set over the most epochs has more than twice as many tokens.
    newest = select(func.max(cast(FineTuningEvent.data[name].as_string(), BigInteger)))
    return session.scalar(newest.where(FineTuningEvent.job_id == job_id, FineTuningEvent.type == type)) or 0


_ACCEPT = text("select quarantined from accept_usage(:shipment)")
_SETTLE = text("select settle_draws(:source)")
