"""Rows of files, and where the bytes behind them lie. Every query names the tenant; row-level security does again."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from studio import ids
from studio.db.jobs import Batch, File, FineTuningJob
from studio.errors import NotFound

BATCH_FILE_LIFE = timedelta(days=30)
BATCH_ENDED = ("completed", "failed", "expired", "cancelled")
FINE_TUNE_ENDED = ("succeeded", "failed", "cancelled")


def object_key(tenant_id: UUID, file_id: UUID) -> str:
    """The key in the `files` bucket: the tenant first, then nothing that a client chose."""
    return f"{tenant_id}/files/{file_id}"


def file_expiry(purpose: str, life_seconds: int | None, now: datetime) -> datetime | None:
    """When a new file goes by itself: as asked for, else never, but for input files of batches."""
    if life_seconds is not None:
        return now + timedelta(seconds=life_seconds)
    return now + BATCH_FILE_LIFE if purpose == "batch" else None


def is_there(tenant_id: UUID, now: datetime) -> ColumnElement[bool]:
    """The tenant's files that are neither deleted nor expired, and have their bytes."""
    unexpired = or_(File.expires_at.is_(None), File.expires_at > now)
    return (File.tenant_id == tenant_id) & File.deleted_at.is_(None) & File.bytes_deleted_at.is_(None) & unexpired


def find(session: Session, tenant_id: UUID, wire_id: str, now: datetime) -> File:
    """The tenant's file behind an id of the wire; NotFound whatever is wrong with it."""
    return _found(session, select(File).where(is_there(tenant_id, now)), wire_id)


def find_to_use(session: Session, tenant_id: UUID, wire_id: str, now: datetime) -> File:
    """As `find`, for work that begins with the file in this transaction: whoever deletes the file meanwhile waits for
    its end and then sees the work; if the deletion was first, there is no such file."""
    return _found(session, select(File).where(is_there(tenant_id, now)).with_for_update(read=True), wire_id)


def can_go(now: datetime) -> ColumnElement[bool]:
    """Files whose bytes nobody may read any more and that no work needs, with their bytes still there."""
    is_over = or_(File.deleted_at.is_not(None), File.expires_at <= now)
    return File.bytes_deleted_at.is_(None) & is_over & ~_is_needed(File.id)


def _found(session: Session, query: Select[File], wire_id: str) -> File:
    not_found = NotFound(f"No such File object: {wire_id}", param="id")
    try:
        file_id = ids.from_wire(ids.FILE, wire_id)
    except ValueError as error:
        raise not_found from error
    row = session.scalars(query.where(File.id == file_id)).one_or_none()
    if row is None:
        raise not_found
    return row


def is_needed(session: Session, file_id: UUID) -> bool:
    """Whether work that has begun with a file is still to be done: then its bytes stay, although its owner let go."""
    return session.scalars(select(_is_needed(file_id))).one()


def mark_removed(session: Session, file_id: UUID, now: datetime) -> None:
    """The bytes of a file are gone."""
    session.execute(update(File).where(File.id == file_id).values(bytes_deleted_at=now))


def _is_needed(file_id: UUID | InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    batches = select(Batch.id).where(Batch.input_file_id == file_id, Batch.state.not_in(BATCH_ENDED))
    tunes = select(FineTuningJob.id).where(
        or_(FineTuningJob.training_file_id == file_id, FineTuningJob.validation_file_id == file_id),
        FineTuningJob.state.not_in(FINE_TUNE_ENDED),
    )
    return or_(batches.exists(), tunes.exists())
