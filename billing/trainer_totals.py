"""Fine-tunes' usage beside what their trainers said: the tokens billed against the job's row and its copied steps.

The trainer counts twice, by other code: what it read step by step (which is billed), and its whole data set times the
epochs when it is done (the job's row). A job that was cancelled has the former only.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy.orm import Session

from billing.comparison import Comparison
from billing.windows import SealKey, over_seal

KIND = "trained_tokens_are_the_trainers"


def of_seal(session: Session, key: SealKey) -> list[Comparison]:
    """A comparison for each fine-tune whose usage the seal holds. One of which no job is known never agrees."""
    return [
        Comparison(
            kind=KIND,
            subject=f"{key}/{row.name}",
            expected=row.trained_tokens or 0,
            observed=row.billed_tokens,
            agrees=row.billed_tokens == row.trained_tokens == row.reported_tokens,
            details={"state": row.state or "there is no such job", "reported_tokens": row.reported_tokens or 0},
        )
        for row in session.execute(_TRAINED, asdict(key))
    ]


_TRAINED = over_seal("""
    select s.request_id as name, s.prompt_tokens as billed_tokens, j.state, j.trained_tokens,
           (select max((e.data ->> 'trained_tokens')::bigint) from fine_tuning_events e where e.job_id = j.id)
               as reported_tokens
    from sealed s
    left join fine_tuning_jobs j
      on 'ftjob-' || replace(j.id::text, '-', '') = s.request_id and j.tenant_id = s.tenant_id
    where s.endpoint = '/v1/fine_tuning/jobs'
    order by s.request_id
""")
