"""The sensors of notices: alerts are raised in the tick itself, what is to be sent is sent in one run."""

from __future__ import annotations

import dagster as dg
from sqlalchemy import Engine

from assets.notices import Post
from billing import dunning_mail, mail_outbox
from orchestration.attempts import run_key
from orchestration.jobs import SEND_MAIL, SEND_WEBHOOKS
from serving.webhooks import sending
from serving.webhooks.alerting import raise_and_tell
from studio import clock
from studio.db.sessions import unit_of_work

_RUNNING = dg.DefaultSensorStatus.RUNNING


@dg.sensor(minimum_interval_seconds=60, default_status=_RUNNING)
def budget_alerts(worker_database: dg.ResourceParam[Engine], post: dg.ResourceParam[Post]) -> dg.SkipReason:
    """Raises alerts of budgets that came to 80 or 100 % (or what is set), each once, with what tells of them."""
    with unit_of_work(worker_database) as session:
        raised = raise_and_tell(session, clock.now(), with_mail=post.server is not None)
    return dg.SkipReason(f"{len(raised)} alerts were raised.")


@dg.sensor(job=SEND_WEBHOOKS, minimum_interval_seconds=30, default_status=_RUNNING)
def webhooks_due(
    worker_database: dg.ResourceParam[Engine], post: dg.ResourceParam[Post]
) -> dg.RunRequest | dg.SkipReason:
    """Has messages sent that are due: one run for all."""
    now = clock.now()
    if post.sender is None:
        return dg.SkipReason("Webhooks are not set up (STUDIO_WEBHOOK_KEY).")
    waiting = sending.due(worker_database, now)
    if not waiting:
        return dg.SkipReason("No message is due.")
    # A message that is due again after a failed run is so minutes later: the minute tells the attempts apart.
    return dg.RunRequest(run_key=run_key(f"{now:%Y-%m-%dT%H:%M}", map(str, waiting)))


@dg.sensor(job=SEND_MAIL, minimum_interval_seconds=60, default_status=_RUNNING)
def mail_due(worker_database: dg.ResourceParam[Engine], post: dg.ResourceParam[Post]) -> dg.RunRequest | dg.SkipReason:
    """Writes the mails of new documents and reminders, and has those sent that are due: one run for all."""
    now = clock.now()
    if post.server is None:
        return dg.SkipReason("Mail is not set up (STUDIO_SMTP_HOST).")
    with unit_of_work(worker_database) as session:
        mail_outbox.write_documents(session, now)
        dunning_mail.write(session, now)
        due = [f"{mail.id}#{mail.attempts}" for mail in mail_outbox.waiting(session, now) if mail.state == "due"]
    return dg.RunRequest(run_key=run_key("mail", due)) if due else dg.SkipReason("No mail is due.")
