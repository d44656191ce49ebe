"""Fine-tunes' usage beside what their trainers said: the tokens billed against the job's row and its copied steps.

The trainer counts twice, by other code: what it read step by step (which is billed), and its whole data set times the
epochs when it is done (the job's row). A job that was cancelled has the former only.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from sqlalchemy.orm import Session

from billing.comparison import Comparison
from billing.windows import SealKey, over_seals

KIND = "trained_tokens_are_the_trainers"


def of_seals(session: Session, window_day: date, keys: Collection[SealKey]) -> dict[SealKey, list[Comparison]]:
    """For each of some seals of one day, a comparison of each fine-tune whose usage it holds.

    One of which no job is known never agrees.
    """
    ordered = sorted(keys)
    found: dict[SealKey, list[Comparison]] = {key: [] for key in ordered}
    names = {"tenant_ids": [key.tenant_id for key in ordered], "seal_nos": [key.seal_no for key in ordered]}
    for row in session.execute(_TRAINED, {"window_day": window_day, **names}):
        key = ordered[row.seal - 1]
        comparison = Comparison(
            kind=KIND,
            subject=f"{key}/{row.name}",
            expected=row.trained_tokens or 0,
            observed=row.billed_tokens,
            agrees=row.billed_tokens == row.trained_tokens == row.reported_tokens,
            details={"state": row.state or "there is no such job", "reported_tokens": row.reported_tokens or 0},
        )
        found[key].append(comparison)
    return found


_TRAINED = over_seals("""
    select s.seal, s.request_id as name, s.prompt_tokens as billed_tokens, j.state, j.trained_tokens,
           (select max((e.data ->> 'trained_tokens')::bigint) from fine_tuning_events e where e.job_id = j.id)
               as reported_tokens
    from sealed s
    left join fine_tuning_jobs j
      on 'ftjob-' || replace(j.id::text, '-', '') = s.request_id and j.tenant_id = s.tenant_id
    where s.endpoint = '/v1/fine_tuning/jobs'
    order by s.seal, s.request_id
""")
