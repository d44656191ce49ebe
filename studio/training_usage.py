"""How a fine-tune stands among metered usage: one event for each job, found again by the job. No tokens of requests.

Written by `training/metering.py`, priced by `billing/usage.py`, held in budgets by `training/budget_hold.py`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from studio import ids

ENDPOINT = "/v1/fine_tuning/jobs"  # of its event: `prompt_tokens` are the tokens trained, no replica worked on them
TOKENS_TO_TRAIN = "tokens_to_train"  # in the data of the event with which a trainer says what it is going to read


def event_id(job_id: UUID, created_at: datetime) -> UUID:
    """The id of a job's event, whoever writes it and however often: it belongs to the instant the job was asked for."""
    return ids.uuid7_of(created_at, job_id.bytes)


def source_id(job_id: UUID, created_at: datetime) -> UUID:
    """The id of the usage source that the event comes from, and that holds the job's part of budgets until then."""
    return ids.uuid7_of(created_at, b"source of " + job_id.bytes)
