"""Work that outlives a request: files and their uploads, batches with their shards, fine-tunes with their events and
adapters."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, Bytes, Document, Instant, RecordedAt, Tokens, UuidKey


class File(Base):
    """A tenant's file; its bytes lie in the `files` bucket. `file-` + id on the wire."""

    __tablename__ = "files"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    filename: Mapped[str]  # a label, never a path
    purpose: Mapped[str] = mapped_column(
        CheckConstraint(
            "purpose in ('batch', 'fine-tune', 'assistants', 'vision', 'user_data', 'evals', 'batch_output',"
            " 'fine-tune-results')",
            "purpose_known",
        )
    )
    size_bytes: Mapped[Bytes]
    sha256: Mapped[str]
    object_key: Mapped[str]
    created_at: Mapped[RecordedAt]
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    bytes_deleted_at: Mapped[datetime | None]  # the object is gone; the row stays, since batches and jobs name it

    __table_args__ = (
        Index("ix_files_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_files_deleted_with_bytes", "deleted_at", postgresql_where=text("bytes_deleted_at is null")),
        Index("ix_files_expiring_with_bytes", "expires_at", postgresql_where=text("bytes_deleted_at is null")),
    )


class Upload(Base):
    """A file that arrives in parts. `upload_` + id on the wire.

    A pending one whose `expires_at` has passed is expired: no state of its own, so nobody has to be there to write it.
    """

    __tablename__ = "uploads"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    filename: Mapped[str]
    purpose: Mapped[str]
    size_bytes: Mapped[Bytes]  # as announced; the parts must come to it
    file_life_seconds: Mapped[int | None]  # of the file that it becomes, as asked for
    state: Mapped[str] = mapped_column(
        CheckConstraint("state in ('pending', 'completed', 'cancelled')", "state_known"), server_default="pending"
    )
    created_at: Mapped[RecordedAt]
    expires_at: Mapped[Instant]
    ended_at: Mapped[datetime | None]
    part_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(PG_UUID(as_uuid=True)))  # that it was completed with
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    parts_removed_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        CheckConstraint("size_bytes > 0", "size_positive"),
        CheckConstraint(
            "(state = 'completed') = (file_id is not null) and (state = 'completed') = (part_ids is not null)",
            "file_when_completed",
        ),
        Index("ix_uploads_with_parts", "expires_at", postgresql_where=text("parts_removed_at is null")),
    )


class UploadPart(Base):
    """One part of an upload; its bytes lie in the `files` bucket until that has ended. `part_` + id on the wire."""

    __tablename__ = "upload_parts"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID]
    upload_id: Mapped[UUID] = mapped_column(index=True)
    size_bytes: Mapped[Bytes]
    created_at: Mapped[RecordedAt]

    __table_args__ = (ForeignKeyConstraint(["tenant_id", "upload_id"], ["uploads.tenant_id", "uploads.id"]),)


class Batch(Base):
    """One OpenAI batch. `batch_` + id on the wire; state names are OpenAI's."""

    __tablename__ = "batches"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    api_key_id: Mapped[UUID]
    endpoint: Mapped[str]
    completion_window: Mapped[str]
    input_file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id"))
    output_file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    error_file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    variant_id: Mapped[str | None] = mapped_column(ForeignKey("model_variants.id"))  # known once validated
    model: Mapped[str | None]  # as its lines name it: a variant, or an adapter of the tenant
    state: Mapped[str] = mapped_column(
        CheckConstraint(
            "state in ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling',"
            " 'cancelled')",
            "state_known",
        )
    )
    errors: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)  # of validation: code, message, param, line
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSONB)
    lines_total: Mapped[int] = mapped_column(server_default="0")
    lines_completed: Mapped[int] = mapped_column(server_default="0")
    lines_failed: Mapped[int] = mapped_column(server_default="0")
    unbilled_tokens: Mapped[Tokens] = mapped_column(server_default="0")  # of attempts whose work was lost
    created_at: Mapped[RecordedAt]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    quote_id: Mapped[UUID | None] = mapped_column(ForeignKey("quotes.id"), unique=True)

    __table_args__ = (Index("ix_batches_tenant_id_created_at", "tenant_id", "created_at"),)


class BatchShard(Base):
    """A run of lines of a batch that one worker works on at a time, held by a lease.

    The transaction that sets `state` to done also inserts the shard's usage events, so a shard counts once.
    """

    __tablename__ = "batch_shards"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    shard_no: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    line_from: Mapped[int]  # counted from 1, inclusive
    line_until: Mapped[int]  # exclusive
    byte_from: Mapped[int] = mapped_column(BigInteger)
    byte_until: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(CheckConstraint("state in ('open', 'leased', 'done')", "state_known"))
    lease_owner: Mapped[UUID | None]
    leased_until: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    lines_completed: Mapped[int] = mapped_column(server_default="0")
    lines_failed: Mapped[int] = mapped_column(server_default="0")
    output_key: Mapped[str | None]
    error_key: Mapped[str | None]  # both keys go when the objects do
    result_bytes: Mapped[int | None] = mapped_column(  # of both objects; None: committed before they were counted
        BigInteger, CheckConstraint("result_bytes >= 0", "result_bytes_not_negative")
    )
    done_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_batch_shards_leased", "tenant_id", postgresql_where=text("state = 'leased'")),
        Index("ix_batch_shards_unfinished", "batch_id", "line_from", postgresql_where=text("state <> 'done'")),
        Index(
            "ix_batch_shards_with_results",
            "batch_id",
            postgresql_where=text("output_key is not null or error_key is not null"),
        ),
    )


class FineTuningJob(Base):
    """One fine-tune. `ftjob-` + id on the wire; state names are OpenAI's."""

    __tablename__ = "fine_tuning_jobs"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    api_key_id: Mapped[UUID]
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))  # the base model
    training_file_id: Mapped[UUID] = mapped_column(ForeignKey("files.id"))
    validation_file_id: Mapped[UUID | None] = mapped_column(ForeignKey("files.id"))
    suffix: Mapped[str | None]
    seed: Mapped[int]
    hyperparameters: Mapped[Document]
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSONB)
    state: Mapped[str] = mapped_column(
        CheckConstraint(
            "state in ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled')", "state_known"
        )
    )
    generation: Mapped[int] = mapped_column(server_default="1")  # a new try gets a new run key
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[RecordedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    quote_id: Mapped[UUID | None] = mapped_column(ForeignKey("quotes.id"), unique=True)

    __table_args__ = (Index("ix_fine_tuning_jobs_tenant_id_created_at", "tenant_id", "created_at"),)


class FineTuningEvent(Base):
    """What the trainer wrote, in its order. Append-only."""

    __tablename__ = "fine_tuning_events"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("fine_tuning_jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    at: Mapped[datetime]
    level: Mapped[str] = mapped_column(CheckConstraint("level in ('info', 'warn', 'error')", "level_known"))
    type: Mapped[str] = mapped_column(CheckConstraint("type in ('message', 'metrics')", "type_known"))
    message: Mapped[str]
    data: Mapped[Document]


class Adapter(Base):
    """Trained weights on top of a base model, validated by us. Served under `name` to its tenant alone.

    `engine_name` is what engines call it: our own id with the content's hash, never a client's string.
    """

    __tablename__ = "adapters"

    id: Mapped[UuidKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("fine_tuning_jobs.id"), unique=True)
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"))
    name: Mapped[str] = mapped_column(unique=True)  # ft:base:tenant:suffix:id
    engine_name: Mapped[str] = mapped_column(unique=True)
    object_prefix: Mapped[str]
    sha256: Mapped[str]
    rank: Mapped[int]
    size_bytes: Mapped[Bytes]
    created_at: Mapped[RecordedAt]
    deleted_at: Mapped[datetime | None]


class LoadedAdapter(Base):
    """That a replica has an adapter in memory. Written by the node agent; gone with the replica."""

    __tablename__ = "loaded_adapters"

    replica_id: Mapped[UUID] = mapped_column(ForeignKey("replicas.id"), primary_key=True)
    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    loaded_at: Mapped[RecordedAt]
    error: Mapped[str | None]  # why the engine would not take it
