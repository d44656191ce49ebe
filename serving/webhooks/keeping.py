"""Webhooks as tenants keep them: the secret is shown once, sealed in the row, and replaced with a day of both."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from serving.images.rules import UnfitUrl, fit_url
from serving.webhooks import signature
from studio import ids
from studio.db.notices import Webhook, WebhookMessage
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.sealing import Seal
from studio.settings import settings
from studio.tenants import audit_own

MOST = 10  # of one tenant
BOTH_VALID = timedelta(hours=24)
TEST = "webhook.test"


class WebhooksNotSetUp(Conflict):
    """This installation was given no key to seal secrets with."""

    default_code = "webhooks_not_set_up"


def secret_seal() -> Seal:
    """What seals the secrets. WebhooksNotSetUp when this process was not given the key."""
    key = settings().webhook_key
    if key is None:
        raise WebhooksNotSetUp("Webhooks are not set up here: the operator sets STUDIO_WEBHOOK_KEY.")
    return Seal(key.get_secret_value().encode())


def create(session: Session, tenant_id: UUID, url: str, actor: str) -> tuple[Webhook, str]:
    """A new webhook and its secret, which exists only here and in the answer. InvalidRequest for an unfit address."""
    if len(url) > 2_000:
        raise InvalidRequest("The address is longer than 2,000 characters.", param="url")
    try:
        fit_url(url, frozenset())
    except UnfitUrl as error:
        raise InvalidRequest(f"The address cannot be used: {error}.", param="url") from error
    if len(webhooks(session)) >= MOST:
        raise Conflict(f"There are {MOST} webhooks already; delete one first.", code="too_many_webhooks")
    webhook_id, secret = ids.uuid7(), signature.new_secret()
    sealed = secret_seal().close(tenant_id, webhook_id.bytes, secret.encode())
    session.execute(
        insert(Webhook).values(id=webhook_id, tenant_id=tenant_id, url=url, secret=sealed, created_by=actor)
    )
    audit_own(session, actor, "webhook.create", ids.to_wire(ids.WEBHOOK, webhook_id))
    return find(session, webhook_id), secret


def rotate(session: Session, webhook_id: UUID, actor: str, now: datetime) -> tuple[Webhook, str]:
    """A new secret. For a day messages carry a signature with each, so that no message is refused meanwhile."""
    webhook, secret = find(session, webhook_id), signature.new_secret()
    sealed = secret_seal().close(webhook.tenant_id, webhook_id.bytes, secret.encode())
    values = {"secret": sealed, "previous_secret": webhook.secret, "previous_until": now + BOTH_VALID}
    session.execute(update(Webhook).where(Webhook.id == webhook_id).values(**values))
    audit_own(session, actor, "webhook.rotate", ids.to_wire(ids.WEBHOOK, webhook_id))
    return webhook, secret


def delete(session: Session, webhook_id: UUID, actor: str, now: datetime) -> None:
    """Nothing more is sent there, not even what waits."""
    find(session, webhook_id)
    session.execute(update(Webhook).where(Webhook.id == webhook_id).values(deleted_at=now))
    audit_own(session, actor, "webhook.delete", ids.to_wire(ids.WEBHOOK, webhook_id))


def test(session: Session, webhook_id: UUID, actor: str, now: datetime) -> UUID:
    """A message without a cause; its id. Dagster delivers it like any other."""
    webhook, message_id = find(session, webhook_id), ids.uuid7()
    waiting = select(func.count()).where(
        WebhookMessage.webhook_id == webhook_id, WebhookMessage.type == TEST, WebhookMessage.attempts == 0
    )
    if session.scalars(waiting).one() >= MOST:
        raise Conflict("Ten tests of this webhook wait to be sent already.", code="too_many_tests")
    session.execute(
        insert(WebhookMessage).values(
            id=message_id, tenant_id=webhook.tenant_id, webhook_id=webhook_id, type=TEST, body=body(TEST, now, {})
        )
    )
    audit_own(session, actor, "webhook.test", ids.to_wire(ids.WEBHOOK, webhook_id))
    return message_id


def body(type: str, at: datetime, data: dict[str, object]) -> str:
    """The text that is signed and sent, the same at each attempt."""
    return json.dumps({"type": type, "timestamp": at.isoformat(), "data": data}, separators=(",", ":"))


def find(session: Session, webhook_id: UUID) -> Webhook:
    """A webhook of the tenant of the session; NotFound otherwise."""
    found = session.scalar(select(Webhook).where(Webhook.id == webhook_id, Webhook.deleted_at.is_(None)))
    if found is None:
        raise NotFound("There is no such webhook.")
    return found


def webhooks(session: Session) -> list[Webhook]:
    """The tenant's, oldest first."""
    query = select(Webhook).where(Webhook.deleted_at.is_(None)).order_by(Webhook.created_at, Webhook.id)
    return list(session.scalars(query))
