"""The sensor of money in: bank statements that finance dropped."""

import dagster as dg

from billing import payment_inbox
from orchestration.attempts import attempt, run_key
from orchestration.jobs import TAKE_PAYMENTS
from studio import clock
from studio.objects import ObjectStore


@dg.sensor(job=TAKE_PAYMENTS, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def statements_waiting(objects: dg.ResourceParam[ObjectStore]) -> dg.RunRequest | dg.SkipReason:
    """Books bank statements that lie in the inbox: one run for all of them."""
    now = clock.now()
    files = payment_inbox.waiting(objects)
    if not files:
        return dg.SkipReason("No bank statement waits.")
    work = [f"{one.key}@{one.modified_at.isoformat()}#{attempt(one.modified_at, now)}" for one in files]
    return dg.RunRequest(run_key=run_key("statements", work))
