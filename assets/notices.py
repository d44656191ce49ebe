"""What tenants are told: signed messages to their webhooks, and mail. Sent here, never while a request waits."""

from dataclasses import dataclass

import dagster as dg
from sqlalchemy import Engine

from assets.documents import invoice_documents
from assets.tables import table
from billing import dunning_mail, mail_outbox, mail_sending
from serving.webhooks.sending import Sender
from studio import clock
from studio.db.sessions import unit_of_work
from studio.objects import Bucket, ObjectStore


@dataclass(frozen=True, slots=True)
class Post:
    """What notices are sent with. `sender` None: no webhooks are set up; `server` None: no mail is."""

    sender: Sender | None
    server: mail_sending.Server | None


@dg.asset(group_name="notices", owners=["team:ops"], kinds={"postgres", "http"}, pool="webhooks")
def webhook_messages(post: dg.ResourceParam[Post]) -> dg.MaterializeResult[None]:
    """Messages to tenants' webhooks: signed, at least once, with a pause that grows after each failure. Each tenant
    sees its own log (`/v1/webhooks/{id}/deliveries`)."""
    attempts = post.sender.send_due() if post.sender is not None else []
    return dg.MaterializeResult(
        metadata={
            "attempts": len(attempts),
            "delivered": sum(attempt.is_delivered for attempt in attempts),
            "log": table(attempts),
        }
    )


@dg.asset(group_name="notices", owners=["team:finance"], kinds={"postgres", "smtp"}, deps=[invoice_documents])
def mails(
    worker_database: dg.ResourceParam[Engine],
    objects: dg.ResourceParam[ObjectStore],
    post: dg.ResourceParam[Post],
) -> dg.MaterializeResult[None]:
    """Invoices, corrections, alerts and reminders by mail, each once. Nothing is written or sent unless
    `STUDIO_SMTP_HOST` is set. What is uncertain waits for a person and is never sent again by itself."""
    sent = []
    if post.server is not None:
        with unit_of_work(worker_database) as session:
            mail_outbox.write_documents(session, clock.now())
            dunning_mail.write(session, clock.now())
        sent = mail_sending.send_due(worker_database, post.server, lambda key: objects.get(Bucket.INVOICES, key))
    with unit_of_work(worker_database) as session:
        waiting = mail_outbox.waiting(session, clock.now())
    return dg.MaterializeResult(
        metadata={
            "sent": sum(one.outcome == "sent" for one in sent),
            "attempts": table(sent),
            "waiting": table(waiting),
        }
    )


@dg.asset_check(asset=mails)
def every_mail_is_certain(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """No mail was given up, and of none it is unknown whether it was sent: those are for a person to look at."""
    with unit_of_work(worker_database) as session:
        lost = [mail for mail in mail_outbox.waiting(session, clock.now()) if mail.state in ("uncertain", "given up")]
    return dg.AssetCheckResult(passed=not lost, severity=dg.AssetCheckSeverity.WARN, metadata={"mails": table(lost)})
