"""What operators look back on: Dagster's ticks, what cards drew, what it cost and brought, the monthly report.

Nothing here is billed. Null in a column of these tables means "not measured", and is never read as 0.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, CurrencyCode, Document, ExactAmount, Instant, RecordedAt, Tokens, UuidKey


class DagsterTick(Base):
    """When Dagster's daemon last got a sensor of ours to run. One row."""

    __tablename__ = "dagster_ticks"

    singleton: Mapped[bool] = mapped_column(
        CheckConstraint("singleton", "one_row"), primary_key=True, server_default="true"
    )
    ticked_at: Mapped[Instant]


class CostRate(Base):
    """What this site pays from an instant on, until the next row. Declared in `catalog/sites`."""

    __tablename__ = "cost_rates"

    valid_from: Mapped[Instant] = mapped_column(primary_key=True)
    eur_per_kwh: Mapped[Decimal | None] = mapped_column(
        Numeric(18, 6), CheckConstraint("eur_per_kwh >= 0", "energy_not_negative")
    )
    eur_per_card_hour: Mapped[Decimal | None] = mapped_column(
        Numeric(18, 6), CheckConstraint("eur_per_card_hour >= 0", "card_not_negative")
    )
    source: Mapped[str]


class CardEnergy(Base):
    """Joules of one card in one hour, for the variant or the fine-tune's trainer that held it; both None: nobody did.

    Replaced when the hour is read again. `unmeasured_seconds`: in that much of the hour the exporter knew no power.
    """

    __tablename__ = "card_energy"

    id: Mapped[UuidKey]
    hour: Mapped[Instant] = mapped_column(CheckConstraint("hour = date_trunc('hour', hour)", "whole_hour"))
    card: Mapped[str]  # its uuid
    host: Mapped[str]
    variant_id: Mapped[str | None] = mapped_column(ForeignKey("model_variants.id"))
    fine_tune_id: Mapped[UUID | None]  # as its pod is named
    joules: Mapped[Decimal | None] = mapped_column(
        Numeric(18, 3), CheckConstraint("joules >= 0", "joules_not_negative")
    )
    unmeasured_seconds: Mapped[Decimal | None] = mapped_column(
        Numeric(10, 3), CheckConstraint("unmeasured_seconds >= 0", "unmeasured_not_negative")
    )
    recorded_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("variant_id is null or fine_tune_id is null", "one_holder"),
        Index(
            "uq_card_energy",
            "hour",
            "card",
            "variant_id",
            "fine_tune_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_card_energy_fine_tune_id", "fine_tune_id", postgresql_where=text("fine_tune_id is not null")),
    )


class MarginDaily(Base):
    """One Berlin day of a variant that is sold, of one tenant that used it; `tenant_id` None: it ran for nobody.

    `share` is the tenant's and tier's part of the busy time of the replicas that ran. Costs are in EUR.
    """

    __tablename__ = "margin_daily"

    id: Mapped[UuidKey]
    day: Mapped[date]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))  # as it was sold
    running_variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))  # whose replicas answered
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))  # of the revenue
    busy_seconds: Mapped[Decimal] = mapped_column(Numeric(18, 3))
    share: Mapped[Decimal] = mapped_column(Numeric(12, 10))
    card_seconds: Mapped[Decimal] = mapped_column(Numeric(18, 3))
    kwh: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    energy_cost: Mapped[Decimal | None] = mapped_column(Numeric(38, 12))
    card_cost: Mapped[Decimal | None] = mapped_column(Numeric(38, 12))
    cost: Mapped[Decimal | None] = mapped_column(Numeric(38, 12))
    revenue: Mapped[ExactAmount]
    margin: Mapped[Decimal | None] = mapped_column(Numeric(38, 12))  # in `currency`
    units_per_euro: Mapped[Decimal | None] = mapped_column(Numeric(18, 4))  # of the month; None: not known yet
    is_training: Mapped[bool] = mapped_column(server_default="false")  # of fine-tunes: no replica worked on them
    computed_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("cost = energy_cost + card_cost", "cost_is_whole"),
        CheckConstraint("margin = revenue - round(cost * units_per_euro, 12)", "margin_is_what_is_left"),
        CheckConstraint(
            "margin is null or (cost is not null and units_per_euro is not null)", "margin_has_its_rate"
        ),
        Index(
            "uq_margin_daily", "day", "tenant_id", "variant_id", "currency", "is_training",
            unique=True, postgresql_nulls_not_distinct=True,
        ),
    )  # fmt: skip


class SloFigure(Base):
    """One figure of a month's report. `value` None: nothing was there to measure; `target` None: none was promised."""

    __tablename__ = "slo_figures"

    month: Mapped[date] = mapped_column(
        CheckConstraint("month = date_trunc('month', month)::date", "month_is_its_first_day"), primary_key=True
    )
    objective: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)  # a variant or a model
    value: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    target: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    is_met: Mapped[bool | None]
    samples: Mapped[Tokens] = mapped_column(CheckConstraint("samples >= 0", "samples_not_negative"))
    details: Mapped[Document] = mapped_column(server_default="{}")
    computed_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("is_met is null or (value is not null and target is not null)", "met_only_when_measured"),
    )
