"""What is sold: models, their variants (tiers) and prices. Written by the catalog sync; own prices by people."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import (
    CURRENCIES,
    Base,
    Bytes,
    CurrencyCode,
    Document,
    Instant,
    InvoiceAmount,
    PricePerMillion,
    RecordedAt,
    Tokens,
    UuidKey,
)


class Model(Base):
    """A set of weights under one name. `id` is the slug that users write."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    publisher: Mapped[str]
    task: Mapped[str] = mapped_column(
        CheckConstraint("task in ('chat', 'completion', 'embedding', 'storage', 'gpu')", "task_known")
    )
    vision: Mapped[bool]
    licence: Mapped[str]
    licence_url: Mapped[str]
    context_tokens: Mapped[int]
    sunset_on: Mapped[date | None]
    notice: Mapped[str | None]  # shown loudly wherever the model is named
    listed_at: Mapped[RecordedAt]
    retired_at: Mapped[datetime | None]  # no longer declared; kept, since usage and invoices name it


class ModelVariant(Base):
    """One tier of a model: what a caller puts into `model`, and what a replica runs.

    `served_by` is set where this site lets several tiers share one engine: that variant's replicas answer for this one.
    """

    __tablename__ = "model_variants"

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    tier: Mapped[str] = mapped_column(CheckConstraint("tier in ('base', 'fast')", "tier_known"))
    context_tokens: Mapped[int]
    max_output_tokens: Mapped[int | None]  # None: only the context limits it
    weights_id: Mapped[str]  # folder in the `modelzoo` bucket
    weights_bytes: Mapped[Bytes]
    gpu_count: Mapped[int]  # cards per replica; 0 runs on the CPU
    max_num_seqs: Mapped[int]
    suggested_replicas: Mapped[int]
    calendar_id: Mapped[str | None] = mapped_column(ForeignKey("calendars.id"))  # None: open around the clock
    closed_replicas: Mapped[int] = mapped_column(server_default="0")  # kept while closed: a fast tier may keep one
    engine_flags: Mapped[list[str]] = mapped_column(JSONB)
    engine_env: Mapped[dict[str, str]] = mapped_column(JSONB)
    deployed: Mapped[bool]  # whether this site runs it at all
    site_replicas: Mapped[int]  # how many this site runs when open
    served_by: Mapped[str | None] = mapped_column(ForeignKey("model_variants.id"))
    retired_at: Mapped[datetime | None]
    # Published: later than this, and a request pays the base price. None: nothing is promised.
    first_token_target_ms: Mapped[int | None] = mapped_column(
        CheckConstraint("first_token_target_ms > 0", "first_token_target_positive")
    )
    first_token_target_prompt_tokens: Mapped[int | None]  # longer prompts are promised nothing; None: all are

    __table_args__ = (
        UniqueConstraint("model_id", "tier"),
        CheckConstraint("served_by is null or site_replicas = 0", "shared_has_no_replicas_of_its_own"),
    )


class Price(Base):
    """One effective-dated price, per 1,000,000 of its unit. Append-only: the amount of a row never changes.

    Valid over the half-open [valid_from, valid_until). Two rows of one list, variant and unit never overlap (an
    exclusion constraint, in the migration). A row with a tenant is that tenant's own and goes before the list's.
    """

    __tablename__ = "prices"

    id: Mapped[UuidKey]
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), index=True)
    unit: Mapped[str] = mapped_column(
        CheckConstraint(
            "unit in ('prompt', 'cached_prompt', 'completion', 'embedding', 'batch_prompt', 'batch_cached_prompt',"
            " 'batch_completion', 'batch_embedding', 'reused', 'training', 'storage', 'gpu_hour')",
            "unit_known",
        )
    )
    per_million: Mapped[PricePerMillion] = mapped_column(CheckConstraint("per_million >= 0", "not_negative"))
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None]
    recorded_at: Mapped[RecordedAt]
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"), index=True)  # None: the list's
    approved_by: Mapped[str | None]
    reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("valid_until is null or valid_until > valid_from", "span_not_empty"),
        CheckConstraint(
            "(tenant_id is null) = (approved_by is null) and (tenant_id is null) = (reason is null)", "own_is_approved"
        ),
        CheckConstraint("(unit = 'storage') = (variant_id = 'storage')", "storage_is_of_storage"),
        CheckConstraint("(unit = 'gpu_hour') = (variant_id = 'gpu')", "gpu_hours_are_of_gpu"),
    )


class RoundingOfList(Base):
    """How invoices of a list, that of its currency, are rounded: from a month on, until the next row. Append-only."""

    __tablename__ = "rounding_modes"

    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"), primary_key=True)
    valid_from: Mapped[date] = mapped_column(
        CheckConstraint("extract(day from valid_from) = 1", "whole_months"), primary_key=True
    )
    mode: Mapped[str] = mapped_column(CheckConstraint("mode in ('half_up', 'half_even')", "mode_known"))
    recorded_at: Mapped[RecordedAt]


class PriceTier(Base):
    """What a price falls to above `from_tokens` of a tenant's month. Recorded with its price (a trigger), or never."""

    __tablename__ = "price_tiers"

    price_id: Mapped[UUID] = mapped_column(ForeignKey("prices.id"), primary_key=True)
    from_tokens: Mapped[Tokens] = mapped_column(CheckConstraint("from_tokens > 0", "above_the_first"), primary_key=True)
    per_million: Mapped[PricePerMillion] = mapped_column(CheckConstraint("per_million >= 0", "not_negative"))


class Commitment(Base):
    """What a tenant has promised to spend in each month of [valid_from, valid_until), net. Both are firsts of a month.

    A tenant has at most one at a time (an exclusion constraint, in the migration). A row only ever receives its end.
    """

    __tablename__ = "commitments"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    amount: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("amount > 0", "positive"))
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    approved_by: Mapped[str]
    reason: Mapped[str]
    recorded_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint(
            "extract(day from valid_from) = 1 and (valid_until is null or extract(day from valid_until) = 1)",
            "whole_months",
        ),
        CheckConstraint("valid_until is null or valid_until > valid_from", "span_not_empty"),
    )


class Quote(Base):
    """A binding price for one file: its batch or fine-tune is billed at the prices of `priced_at`, and never above
    `max_cost`, net.

    `qte_` + id on the wire. `document`: what the customer was told, with every price row and count behind the figure.
    """

    __tablename__ = "quotes"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))
    input_file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id"))
    endpoint: Mapped[str]
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    max_cost: Mapped[InvoiceAmount] = mapped_column(CheckConstraint("max_cost >= 0", "not_negative"))
    priced_at: Mapped[Instant]
    valid_until: Mapped[Instant]  # for using it; its prices hold until what was quoted has ended
    document: Mapped[Document]

    __table_args__ = (CheckConstraint("valid_until > priced_at", "span_not_empty"),)


class CatalogSync(Base):
    """Each successful synchronisation: which files, by content hash."""

    __tablename__ = "catalog_syncs"

    id: Mapped[UuidKey]
    content_hash: Mapped[str]
    models: Mapped[int]
    variants: Mapped[int]
    prices: Mapped[int]
    synced_at: Mapped[RecordedAt]
