"""A fine-tune's usage: one event, inserted by the transaction that ends the job, so that it is billed exactly once.

Billed are the tokens that the trainer reported as read, step by step: all of a job that succeeded, up to the last
reported step of one that was cancelled. What failed is billed to nobody.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, insert, select, text
from sqlalchemy.orm import Session

from studio import ids, training_usage
from studio.db.catalog import ModelVariant
from studio.db.jobs import FineTuningEvent, FineTuningJob
from studio.db.usage import UsageSource, UsageStaging


def reported_tokens(session: Session, job_id: UUID) -> int:
    """How many tokens the trainer has said it read, over all epochs so far. Padding is none, examples that were cut
    count as they were cut.
    """
    # `as_integer` has 32 bits; the largest data set over the most epochs has more than twice as many tokens.
    newest = select(func.max(cast(FineTuningEvent.data["trained_tokens"].as_string(), BigInteger)))
    return session.scalar(newest.where(FineTuningEvent.job_id == job_id, FineTuningEvent.type == "metrics")) or 0


def insert_usage(session: Session, job_id: UUID, now: datetime, *, is_cancelled: bool) -> int:
    """Meter a job that ends in this transaction; its tokens. Without any there is no event.

    Each job is a usage source of its own, opened and closed here: nothing has to wait for it, and its one event is
    number 1.
    """
    tokens = reported_tokens(session, job_id)
    if not tokens:
        return 0
    job, model_id, tier = (
        session.execute(
            select(FineTuningJob, ModelVariant.model_id, ModelVariant.tier)
            .join(ModelVariant, ModelVariant.id == FineTuningJob.variant_id)
            .where(FineTuningJob.id == job_id)
        )
        .tuples()
        .one()
    )
    name, id, shipment_id = ids.to_wire(ids.FINE_TUNING_JOB, job.id), ids.uuid7(), ids.uuid7()
    event_id = training_usage.event_id(job.id, job.created_at)
    source = {
        "id": id, "kind": "transaction", "name": f"fine-tune {name}", "opened_at": job.created_at, "closed_at": now,
        "last_seq": 0, "pending": 0, "heartbeat_at": now,
    }  # fmt: skip
    event = {
        "usage_day_utc": ids.day_utc_of(event_id), "id": event_id, "source_id": id, "source_seq": 1,
        "tenant_id": job.tenant_id, "api_key_id": job.api_key_id, "request_id": name,
        "endpoint": training_usage.ENDPOINT, "model_id": model_id, "variant_id": job.variant_id,
        "tier_requested": tier, "tier_served": tier, "started_at": job.created_at, "ended_at": now,
        "prompt_tokens": tokens, "cached_tokens": 0, "completion_tokens": 0, "reasoning_tokens": 0,
        "http_status": 200, "end_reason": "client_left" if is_cancelled else "complete", "usage_origin": "engine",
    }  # fmt: skip
    session.execute(insert(UsageSource).values(source))
    session.execute(insert(UsageStaging).values(shipment_id=shipment_id, row=0, **event))
    session.execute(_ACCEPT, {"shipment": shipment_id})
    return tokens


_ACCEPT = text("select quarantined from accept_usage(:shipment)")
