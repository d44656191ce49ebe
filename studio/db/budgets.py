"""Budgets of tenants and keys, and which gateway holds how much of them. Limits on requests are elsewhere."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Numeric, text
from sqlalchemy.dialects.postgresql import ARRAY, INTEGER
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, CurrencyCode, ExactAmount, RecordedAt, UuidKey


class Budget(Base):
    """What may be spent: `prepaid` once, `monthly` anew in each civil month of the tenant's zone.

    Without `api_key_id` it is the tenant's, whichever key spends it. A request needs room in every budget it meets.
    """

    __tablename__ = "budgets"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    kind: Mapped[str] = mapped_column(CheckConstraint("kind in ('prepaid', 'monthly')", "kind_known"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 6), CheckConstraint("amount >= 0", "not_negative"))
    created_at: Mapped[RecordedAt]
    ended_at: Mapped[datetime | None]
    alert_percents: Mapped[list[int]] = mapped_column(ARRAY(INTEGER), server_default="{80,100}")

    __table_args__ = (
        CheckConstraint(
            "cardinality(alert_percents) <= 10 and 0 < all (alert_percents) and 200 >= all (alert_percents)",
            "alert_percents_sensible",
        ),
        Index(
            "uq_budgets_live",
            "tenant_id",
            "api_key_id",
            "kind",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("ended_at is null"),
        ),
    )


class BudgetAccount(Base):
    """A budget in one of its periods, and what sources of usage that have ended spent of it.

    `period` is the first day of the month, or for a prepaid budget the day (UTC) on which it began.
    """

    __tablename__ = "budget_accounts"

    budget_id: Mapped[UUID] = mapped_column(ForeignKey("budgets.id"), primary_key=True)
    period: Mapped[date] = mapped_column(primary_key=True)
    spent: Mapped[ExactAmount] = mapped_column(CheckConstraint("spent >= 0", "not_negative"), server_default="0")


class BudgetDraw(Base):
    """What a living source of usage holds of an account, spent already or not. It counts as spent until settled."""

    __tablename__ = "budget_draws"

    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    period: Mapped[date] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    amount: Mapped[ExactAmount] = mapped_column(CheckConstraint("amount >= 0", "not_negative"))
    drawn_at: Mapped[RecordedAt]

    __table_args__ = (
        ForeignKeyConstraint(("budget_id", "period"), ("budget_accounts.budget_id", "budget_accounts.period")),
    )
