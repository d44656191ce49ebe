"""`/v1/webhooks` and `/v1/alerts`: where a tenant wants to be told, what was sent, and which budgets ran low."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from serving.routes.caller import KeysCaller, UsageCaller
from serving.routes.stores import TenantDatabase
from serving.webhooks import keeping
from studio import clock, ids
from studio.db.budgets import Budget
from studio.db.notices import Alert, Webhook, WebhookAttempt, WebhookMessage
from studio.db.sessions import tenant_scope
from studio.errors import NotFound

router = APIRouter(tags=["usage"])


class NewWebhook(BaseModel):
    """Where messages go: an `https:` address on the public internet."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1)


class WebhookView(BaseModel):
    """An address that is told of alerts."""

    id: str
    object: Literal["webhook"]
    url: str
    created_at: datetime


class WebhookWithSecret(WebhookView):
    """The secret is shown this once. Receivers verify `webhook-signature` with it (Standard Webhooks, `v1`)."""

    secret: str


class WebhookList(BaseModel):
    """All of them, oldest first."""

    object: Literal["list"]
    data: list[WebhookView]


class DeliveryAttempt(BaseModel):
    """What the receiver answered. `status` null: it was not reached."""

    at: datetime
    status: int | None
    error: str | None


class Delivery(BaseModel):
    """A message and its attempts. `next_attempt_at` null: it was delivered, or given up."""

    id: str
    object: Literal["webhook.delivery"]
    type: str
    created_at: datetime
    delivered_at: datetime | None
    next_attempt_at: datetime | None
    attempts: list[DeliveryAttempt]


class DeliveryList(BaseModel):
    """The newest, first."""

    object: Literal["list"]
    data: list[Delivery]


class TestMessage(BaseModel):
    """A message that was asked for; see the deliveries for what comes of it."""

    id: str


class DeletedWebhook(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["webhook.deleted"]
    deleted: bool


class AlertView(BaseModel):
    """A budget came to a percentage of its amount. `used`: spent, or held by running gateways to be spent."""

    id: str
    object: Literal["alert"]
    budget: str
    api_key_id: str | None
    period: date
    percent: int
    currency: str
    amount: str
    used: str
    raised_at: datetime


class AlertList(BaseModel):
    """The newest, first."""

    object: Literal["list"]
    data: list[AlertView]


@router.get("/v1/webhooks")
def list_webhooks(caller: UsageCaller, database: TenantDatabase) -> WebhookList:
    """The tenant's webhooks, without their secrets."""
    with tenant_scope(database, caller.tenant_id) as session:
        return WebhookList(object="list", data=[_view(one) for one in keeping.webhooks(session)])


@router.post("/v1/webhooks", status_code=201)
def create_webhook(body: NewWebhook, caller: KeysCaller, database: TenantDatabase) -> WebhookWithSecret:
    """A new webhook, with its secret. Alerts of budgets are sent there from now on."""
    with tenant_scope(database, caller.tenant_id) as session:
        webhook, secret = keeping.create(session, caller.tenant_id, body.url, caller.actor)
        return WebhookWithSecret(**_view(webhook).model_dump(), secret=secret)


@router.post("/v1/webhooks/{webhook_id}/rotate")
def rotate_webhook(webhook_id: str, caller: KeysCaller, database: TenantDatabase) -> WebhookWithSecret:
    """A new secret. For 24 hours messages carry two signatures, one with each secret."""
    with tenant_scope(database, caller.tenant_id) as session:
        webhook, secret = keeping.rotate(session, _id(webhook_id), caller.actor, clock.now())
        return WebhookWithSecret(**_view(webhook).model_dump(), secret=secret)


@router.delete("/v1/webhooks/{webhook_id}")
def delete_webhook(webhook_id: str, caller: KeysCaller, database: TenantDatabase) -> DeletedWebhook:
    """Nothing more is sent there."""
    with tenant_scope(database, caller.tenant_id) as session:
        keeping.delete(session, _id(webhook_id), caller.actor, clock.now())
    return DeletedWebhook(id=webhook_id, object="webhook.deleted", deleted=True)


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202)
def test_webhook(webhook_id: str, caller: KeysCaller, database: TenantDatabase) -> TestMessage:
    """Send a message of type `webhook.test`, signed like any other. It leaves within a minute."""
    with tenant_scope(database, caller.tenant_id) as session:
        message_id = keeping.test(session, _id(webhook_id), caller.actor, clock.now())
    return TestMessage(id=ids.to_wire(ids.WEBHOOK_MESSAGE, message_id))


@router.get("/v1/webhooks/{webhook_id}/deliveries")
def list_deliveries(
    webhook_id: str,
    caller: UsageCaller,
    database: TenantDatabase,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeliveryList:
    """What was sent there and what the receiver answered."""
    with tenant_scope(database, caller.tenant_id) as session:
        keeping.find(session, _id(webhook_id))
        sent = select(WebhookMessage).where(WebhookMessage.webhook_id == _id(webhook_id))
        messages = session.scalars(sent.order_by(WebhookMessage.id.desc()).limit(limit)).all()
        of_these = WebhookAttempt.message_id.in_([message.id for message in messages])
        attempts = session.scalars(select(WebhookAttempt).where(of_these).order_by(WebhookAttempt.n)).all()
    data = [
        Delivery(
            id=ids.to_wire(ids.WEBHOOK_MESSAGE, message.id), object="webhook.delivery", type=message.type,
            created_at=message.created_at, delivered_at=message.delivered_at, next_attempt_at=message.next_attempt_at,
            attempts=[
                DeliveryAttempt(at=attempt.at, status=attempt.status, error=attempt.error)
                for attempt in attempts if attempt.message_id == message.id
            ],
        )
        for message in messages
    ]  # fmt: skip
    return DeliveryList(object="list", data=data)


@router.get("/v1/alerts")
def list_alerts(
    caller: UsageCaller, database: TenantDatabase, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> AlertList:
    """Budgets of the tenant and its keys that came to 80 or 100 % of their amount, or what the operator has set."""
    query = select(Alert, Budget).join(Budget, Budget.id == Alert.budget_id).order_by(Alert.id.desc()).limit(limit)
    with tenant_scope(database, caller.tenant_id) as session:
        rows = session.execute(query).all()
    return AlertList(object="list", data=[_alert(alert, budget) for alert, budget in rows])


def _alert(alert: Alert, budget: Budget) -> AlertView:
    return AlertView(
        id=ids.to_wire(ids.ALERT, alert.id), object="alert", budget=budget.kind,
        api_key_id=ids.to_wire(ids.API_KEY, budget.api_key_id) if budget.api_key_id else None, period=alert.period,
        percent=alert.percent, currency=budget.currency, amount=f"{alert.amount.normalize():f}",
        used=f"{alert.used.normalize():f}", raised_at=alert.raised_at,
    )  # fmt: skip


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=ids.to_wire(ids.WEBHOOK, webhook.id), object="webhook", url=webhook.url, created_at=webhook.created_at
    )


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.WEBHOOK, text)
    except ValueError as error:
        raise NotFound("There is no such webhook.") from error
