"""What was used: events from the gateways, the windows they are processed in, and what could not be accepted."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import CURRENCIES, Base, Bytes, CurrencyCode, Document, Instant, RecordedAt, Tokens, UuidKey

# No request and no fine-tune has more; `accept_usage` puts what claims to into quarantine. Millions of such events of
# one tenant and day still add up within 64 bits.
MOST_TOKENS = 10**12


class UsageSource(Base):
    """One run of one process that meters: its events carry `source_seq` 1, 2, 3, ... without a gap.

    `last_seq` is the highest number it has shipped; when `closed_at` is set nothing more can come. A dead gateway is
    closed by whoever ships its journal, so it never blocks a seal. A source of kind `transaction` takes its numbers in
    the transaction that inserts the events (batches do), so it never has anything pending.
    """

    __tablename__ = "usage_sources"

    id: Mapped[UuidKey]
    kind: Mapped[str] = mapped_column(
        CheckConstraint("kind in ('journal', 'transaction')", "kind_known"), server_default="journal"
    )
    name: Mapped[str]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    crashed_at: Mapped[datetime | None]  # when its death was noticed, or when it ended having lost work of engines
    last_seq: Mapped[Tokens]
    proven_seq: Mapped[Tokens] = mapped_column(
        server_default="0"
    )  # 1..proven_seq are all there; `prove_source` moves it
    pending: Mapped[Tokens]  # written to the journal and not yet shipped, at the heartbeat
    heartbeat_at: Mapped[datetime]


class UsageColumns:
    """The columns of a metered request, shared by the table and by its staging area."""

    usage_day_utc: Mapped[date] = mapped_column(primary_key=True)  # inside `id`, so an id has exactly one partition
    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID]
    source_seq: Mapped[Tokens]
    tenant_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    request_id: Mapped[str]
    tag: Mapped[str | None]
    endpoint: Mapped[str]
    model_id: Mapped[str]
    variant_id: Mapped[str]
    tier_requested: Mapped[str]
    tier_served: Mapped[str]
    replica_id: Mapped[UUID | None]  # None: no engine of ours: all was reused, a fine-tune, storage, GPU hours
    started_at: Mapped[Instant]
    first_token_at: Mapped[datetime | None]
    ended_at: Mapped[Instant]
    prompt_tokens: Mapped[Tokens]
    cached_tokens: Mapped[Tokens]  # part of prompt_tokens
    completion_tokens: Mapped[Tokens]
    reasoning_tokens: Mapped[Tokens]  # part of completion_tokens
    http_status: Mapped[int]
    end_reason: Mapped[str]
    usage_origin: Mapped[str]
    adapter_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    batch_line: Mapped[int | None]
    # The prompt as the engine's own counter sees it: once for each choice. None where it is prompt_tokens.
    engine_prompt_tokens: Mapped[int | None] = mapped_column(BigInteger)
    # Parts of the prompt and of the completion that came from the gateway's own caches: no engine counted them.
    reused_prompt_tokens: Mapped[Tokens] = mapped_column(server_default="0")
    reused_completion_tokens: Mapped[Tokens] = mapped_column(server_default="0")
    # When its body was whole, its images were fetched and an engine was ready: from here on it waited for us alone.
    admitted_at: Mapped[datetime | None]


class UsageEvent(UsageColumns, Base):
    """One metered request. Append-only, partitioned by day; a replayed journal inserts nothing twice."""

    __tablename__ = "usage_events"

    ingested_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("prompt_tokens >= 0 and completion_tokens >= 0", "tokens_not_negative"),
        CheckConstraint("cached_tokens between 0 and prompt_tokens", "cached_within_prompt"),
        CheckConstraint("reasoning_tokens between 0 and completion_tokens", "reasoning_within_completion"),
        CheckConstraint(
            "reused_prompt_tokens between 0 and prompt_tokens - cached_tokens"
            " and reused_completion_tokens between 0 and completion_tokens",
            "reused_within_tokens",
        ),
        CheckConstraint(
            "replica_id is not null or endpoint in ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour')"
            " or (reused_prompt_tokens = prompt_tokens and reused_completion_tokens = completion_tokens)",
            "without_engine_all_is_reused",
        ),
        CheckConstraint(
            "end_reason in ('complete', 'client_left', 'engine_died', 'budget', 'rejected')", "end_reason_known"
        ),
        CheckConstraint("usage_origin in ('engine', 'count')", "origin_known"),
        Index(
            "ix_usage_events_tenant_id_started_at",
            "tenant_id",
            "started_at",
            postgresql_include=[  # what `/v1/usage` adds up, so that it reads a tenant's rows side by side
                *("usage_day_utc", "variant_id", "api_key_id", "tag", "endpoint", "prompt_tokens", "cached_tokens"),
                *("completion_tokens", "reused_prompt_tokens", "reused_completion_tokens"),
            ],
        ),
        Index("ix_usage_events_source_id_source_seq", "source_id", "source_seq"),
        Index(
            "ix_usage_events_variant_id_started_at",
            "variant_id",
            "started_at",
            postgresql_where=text("first_token_at is not null and batch_id is null"),
        ),
        {"postgresql_partition_by": "RANGE (usage_day_utc)"},
    )


class UsageStaging(UsageColumns, Base):
    """Where a shipment is copied to before `accept_usage` moves it. Unlogged: the journal is the durable copy."""

    __tablename__ = "usage_staging"

    shipment_id: Mapped[UUID] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)

    __table_args__ = ({"prefixes": ["UNLOGGED"]},)


class UsageArrival(Base):
    """How many events of a window day a source has shipped, counted by `accept_usage` with their rows.

    `sealed_events` is the count at which all of them were found in seals: only where both differ must the events be
    looked at (`billing/unsealed.py`).
    """

    __tablename__ = "usage_arrivals"

    window_day: Mapped[date] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    events: Mapped[Tokens]
    sealed_events: Mapped[Tokens] = mapped_column(server_default="0")

    __table_args__ = (CheckConstraint("sealed_events between 0 and events", "sealed_within_events"),)


class UsageSum(Base):
    """A window day's requests of one tenant, added up for reports (`billing/usage_sums.py`). Replaced by the day."""

    __tablename__ = "usage_sums"

    id: Mapped[UuidKey]
    window_day: Mapped[date]
    tenant_id: Mapped[UUID]
    usage_day_utc: Mapped[date]
    variant_id: Mapped[str]
    api_key_id: Mapped[UUID]
    tag: Mapped[str | None]
    requests: Mapped[Tokens]
    prompt_tokens: Mapped[Tokens]
    cached_tokens: Mapped[Tokens]
    completion_tokens: Mapped[Tokens]
    reused_tokens: Mapped[Tokens]  # of prompt and completion

    __table_args__ = (
        Index(
            "uq_usage_sums", "tenant_id", "window_day", "usage_day_utc", "variant_id", "api_key_id", "tag",
            unique=True, postgresql_nulls_not_distinct=True,
        ),
        Index("ix_usage_sums_window_day", "window_day"),
    )  # fmt: skip


class UsageSummedDay(Base):
    """How many events of a window day are in its sums: all of them while `usage_arrivals` counts as many."""

    __tablename__ = "usage_summed_days"

    window_day: Mapped[date] = mapped_column(primary_key=True)
    events: Mapped[Tokens]
    summed_at: Mapped[RecordedAt]

    __table_args__ = (CheckConstraint("events >= 0", "events_not_negative"),)


class StorageDay(Base):
    """What a tenant kept on one of its civil days, and the usage event that bills it. Append-only.

    `event_id` None: the tenant's price list sold no storage then, or nothing was kept.
    """

    __tablename__ = "storage_days"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    time_zone: Mapped[str]  # of the day
    file_byte_seconds: Mapped[int] = mapped_column(Numeric(38, 0))  # what the tenant brought
    result_byte_seconds: Mapped[int] = mapped_column(Numeric(38, 0))  # of batches and fine-tunes
    adapter_byte_seconds: Mapped[int] = mapped_column(Numeric(38, 0))  # trained weights
    kilobyte_days: Mapped[Tokens]  # all of it; what is below one is left out
    is_sold: Mapped[bool]
    event_id: Mapped[UUID | None]
    measured_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("least(file_byte_seconds, result_byte_seconds, adapter_byte_seconds) >= 0", "not_negative"),
        CheckConstraint(
            "kilobyte_days = div(file_byte_seconds + result_byte_seconds + adapter_byte_seconds, 86400000)",
            "rounded_down",
        ),
        CheckConstraint("(event_id is not null) = (is_sold and kilobyte_days > 0)", "sold_is_billed"),
    )


class CardReservation(Base):
    """Cards that a tenant alone gets over [valid_from, valid_until), and pays for by the hour, used or not.

    A row only ever receives its end. Several at once add up.
    """

    __tablename__ = "card_reservations"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    cards: Mapped[int] = mapped_column(CheckConstraint("cards between 1 and 4096", "some"))
    valid_from: Mapped[Instant]
    valid_until: Mapped[datetime | None]
    approved_by: Mapped[str]
    reason: Mapped[str]
    recorded_at: Mapped[RecordedAt]

    __table_args__ = (CheckConstraint("valid_until is null or valid_until > valid_from", "span_not_empty"),)


class GpuDay(Base):
    """What a tenant's reserved cards came to on a civil day of its own, and the event that bills it. Append-only."""

    __tablename__ = "gpu_days"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    time_zone: Mapped[str]  # of the day
    card_microseconds: Mapped[int] = mapped_column(Numeric(38, 0))  # cards times time
    micro_hours: Mapped[Tokens]  # millionths of a GPU hour; what is below one is left out
    event_id: Mapped[UUID]
    measured_at: Mapped[RecordedAt]

    __table_args__ = (
        CheckConstraint("micro_hours > 0 and micro_hours = div(card_microseconds, 3600)", "rounded_down"),
    )


class UsageCount(Base):
    """A metered request that was counted again by its model's tokenizer: numbers alone. Append-only."""

    __tablename__ = "usage_counts"

    id: Mapped[UuidKey]  # the usage event's, and so the request's
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    model_id: Mapped[str]
    variant_id: Mapped[str]
    replica_id: Mapped[UUID]
    started_at: Mapped[Instant]
    metered_prompt_tokens: Mapped[Tokens]
    counted_prompt_tokens: Mapped[Tokens]
    metered_completion_tokens: Mapped[Tokens]
    counted_completion_tokens: Mapped[Tokens]
    counted_at: Mapped[RecordedAt]

    __table_args__ = (Index("ix_usage_counts_started_at", "started_at"),)


class Quarantined(Base):
    """Something that looked like usage and could not be accepted or rated. Neither version of a conflict wins.

    Resolved by its cause (a price was added), or by a person's decision: `released` is billed as it stands in
    `usage_events`, `discarded` is billed to nobody.
    """

    __tablename__ = "quarantine"

    id: Mapped[UuidKey]
    at: Mapped[RecordedAt]
    reason: Mapped[str]
    event_id: Mapped[UUID | None]
    tenant_id: Mapped[UUID | None]
    payload: Mapped[Document]
    resolved_at: Mapped[datetime | None]
    decision: Mapped[str | None] = mapped_column(
        CheckConstraint("decision in ('released', 'discarded')", "decision_known")
    )
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(
            "(decision is null) = (decided_by is null) and (decision is null) = (decision_reason is null)"
            " and (decision is null or resolved_at is not null)",
            "decision_explained",
        ),
        Index("ix_quarantine_event_id", "event_id"),
    )


class UsageWindow(Base):
    """The state of one processing window of one tenant: the gate that rating and invoicing test.

    A window is a Berlin day over `started_at`. It can be sealed more than once: seal 2 holds exactly the events that
    came after seal 1 (their sequence numbers lie outside seal 1's ranges), so late usage is a delta, never a rewrite.
    """

    __tablename__ = "usage_windows"

    window_day: Mapped[date] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    seal_no: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    sealed_at: Mapped[RecordedAt]
    sealed_by: Mapped[str]
    reason: Mapped[str]
    manifest: Mapped[Document]  # events, sums per unit, hash, and per source the half-open range of sequence numbers

    __table_args__ = (
        CheckConstraint("state in ('sealed', 'counted', 'rated', 'reconciled', 'held')", "state_known"),
        CheckConstraint("seal_no >= 1", "seal_no_from_one"),
    )


class UsageArchive(Base):
    """Where the events of a seal lie in the bucket `usage-archive`, and what they add up to there. Append-only."""

    __tablename__ = "usage_archives"

    window_day: Mapped[date] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    seal_no: Mapped[int] = mapped_column(primary_key=True)
    object_key: Mapped[str]
    sha256: Mapped[str]  # of the object's bytes
    bytes: Mapped[Bytes]
    schema_version: Mapped[int]
    events: Mapped[Tokens] = mapped_column(CheckConstraint("events >= 1", "events_at_least_one"))
    fingerprint: Mapped[int] = mapped_column(Numeric(38, 0))  # the sum of the events' hashes, whatever their order
    archived_at: Mapped[RecordedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["window_day", "tenant_id", "seal_no"],
            ["usage_windows.window_day", "usage_windows.tenant_id", "usage_windows.seal_no"],
        ),
    )


class UsageDaily(Base):
    """Integer tokens of one seal, per variant, unit, price row and civil day of the tenant. Recomputed whole."""

    __tablename__ = "usage_daily"

    window_day: Mapped[date] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    seal_no: Mapped[int] = mapped_column(primary_key=True)
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    price_id: Mapped[UUID] = mapped_column(ForeignKey("prices.id"), primary_key=True)
    billing_day: Mapped[date] = mapped_column(primary_key=True)
    # What set the price besides the price book: nothing, `missed_target`, or a quote by its id.
    basis: Mapped[str] = mapped_column(primary_key=True, server_default="")
    time_zone: Mapped[str]  # of billing_day
    legal_entity_id: Mapped[str] = mapped_column(ForeignKey("legal_entities.id"))
    currency: Mapped[CurrencyCode] = mapped_column(CheckConstraint(CURRENCIES, "currency_known"))
    events: Mapped[Tokens]
    tokens: Mapped[Tokens]

    __table_args__ = (
        ForeignKeyConstraint(
            ["window_day", "tenant_id", "seal_no"],
            ["usage_windows.window_day", "usage_windows.tenant_id", "usage_windows.seal_no"],
        ),
        CheckConstraint("tokens >= 0", "tokens_not_negative"),
    )
