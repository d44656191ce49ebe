"""From an alert to its messages, in the transaction that raises it: either all of it is there, or nothing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from billing import alerts, mail_outbox
from billing.alerts import RaisedAlert
from serving.webhooks.keeping import body
from studio import ids
from studio.db.notices import Webhook, WebhookMessage

BUDGET_THRESHOLD = "budget.threshold_reached"


def raise_and_tell(session: Session, now: datetime, *, with_mail: bool) -> list[RaisedAlert]:
    """Raise what is to be raised, with a message to each webhook of its tenant and, where mail is set up, a mail."""
    raised = alerts.raise_alerts(session, now)
    for alert in raised:
        own = select(Webhook.id).where(Webhook.tenant_id == alert.tenant_id, Webhook.deleted_at.is_(None))
        text = body(BUDGET_THRESHOLD, now, alert.as_data())
        for webhook_id in session.scalars(own).all():
            row = {"id": ids.uuid7(), "tenant_id": alert.tenant_id, "webhook_id": webhook_id}
            session.execute(insert(WebhookMessage).values(**row, type=BUDGET_THRESHOLD, body=text, created_at=now))
        if with_mail:
            mail_outbox.write_alert(session, alert, now)
    return raised
