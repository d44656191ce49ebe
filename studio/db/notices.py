"""What tenants are told: alerts of their budgets, the webhooks that carry them, and mail."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, ExactAmount, RecordedAt, UuidKey


class Alert(Base):
    """A budget came to a percentage of its amount. Once for each period, percentage and amount. Append-only."""

    __tablename__ = "alerts"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    budget_id: Mapped[UUID] = mapped_column(ForeignKey("budgets.id"))
    period: Mapped[date]
    percent: Mapped[int]
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 6))
    used: Mapped[ExactAmount]  # spent, or held by running gateways
    raised_at: Mapped[RecordedAt]

    __table_args__ = (UniqueConstraint("budget_id", "period", "percent", "amount"),)


class Webhook(Base):
    """An address of a tenant. The secrets are sealed (`studio/sealing.py`); two are valid while one is replaced."""

    __tablename__ = "webhooks"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    url: Mapped[str]
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[RecordedAt]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("id", "tenant_id"),)


class WebhookMessage(Base):
    """A message to one webhook. Its id is what receivers tell repetitions by. `next_attempt_at` None: it is over."""

    __tablename__ = "webhook_messages"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    webhook_id: Mapped[UUID]
    type: Mapped[str]
    body: Mapped[str]  # the very text that is signed
    created_at: Mapped[RecordedAt]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=text("now()"))
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        ForeignKeyConstraint(["webhook_id", "tenant_id"], ["webhooks.id", "webhooks.tenant_id"]),
        Index(
            "ix_webhook_messages_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at is not null"),
        ),
    )


class WebhookAttempt(Base):
    """What a receiver answered. Append-only."""

    __tablename__ = "webhook_attempts"

    message_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_messages.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    at: Mapped[RecordedAt]
    status: Mapped[int | None]
    error: Mapped[str | None]


class Mail(Base):
    """A mail that is to be sent once. `key` says what it is about, so that it is never written twice. Append-only."""

    __tablename__ = "mails"

    id: Mapped[UuidKey]
    kind: Mapped[str] = mapped_column(
        CheckConstraint("kind in ('invoice', 'correction', 'alert', 'dunning')", "kind_known")
    )
    key: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    attachment_key: Mapped[str | None]  # in the bucket `invoices`
    attachment_name: Mapped[str | None]
    attachment_sha256: Mapped[str | None]
    created_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint(
            "(attachment_key is null) = (attachment_name is null)"
            " and (attachment_key is null) = (attachment_sha256 is null)",
            "attachment_whole",
        ),
    )


class MailAttempt(Base):
    """One dialogue with the mail server, written before it begins. Without an outcome it is never repeated."""

    __tablename__ = "mail_attempts"

    mail_id: Mapped[UUID] = mapped_column(ForeignKey("mails.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    began_at: Mapped[datetime]
    outcome: Mapped[str | None] = mapped_column(
        CheckConstraint("outcome in ('sent', 'deferred', 'refused', 'uncertain')", "outcome_known")
    )
    answer: Mapped[str | None]
