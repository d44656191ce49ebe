"""Files that arrive in parts: the rows of uploads, where their parts lie, and how these become one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session

from serving.files import records
from serving.keys import KeyRecord
from studio import ids
from studio.db.jobs import File, Upload, UploadPart
from studio.db.sessions import tenant_scope
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.object_streams import ObjectWriter, read_pieces
from studio.objects import Bucket, ObjectStore
from studio.tenants import audit_own

LIFE = timedelta(hours=1)
PART_BYTES = 64 * 1024 * 1024  # what the official SDK cuts a file into
MOST_PARTS = 10_000
# Parts outlive the end of their upload, since a completion that began before it may still be reading them.
JOINING = timedelta(minutes=15)

Status = Literal["pending", "completed", "cancelled", "expired"]


def parts_prefix(tenant_id: UUID, upload_id: UUID) -> str:
    """Where the parts of an upload lie in the `files` bucket."""
    return f"{tenant_id}/uploads/{upload_id}/"


def part_key(tenant_id: UUID, upload_id: UUID, part_id: UUID) -> str:
    """The key of one part."""
    return f"{parts_prefix(tenant_id, upload_id)}{part_id}"


def status(upload: Upload, now: datetime) -> Status:
    """OpenAI's word for the state of an upload."""
    if upload.state == "pending" and upload.expires_at <= now:
        return "expired"
    state: Status = upload.state  # type: ignore[assignment]  # the table's own check knows the same words
    return state


def parts_can_go(now: datetime) -> ColumnElement[bool]:
    """Uploads that have ended, with their parts still there."""
    return Upload.parts_removed_at.is_(None) & (func.coalesce(Upload.ended_at, Upload.expires_at) <= now - JOINING)


def find(session: Session, tenant_id: UUID, wire_id: str, *, to_change: bool = False) -> Upload:
    """The tenant's upload behind an id of the wire; `to_change` makes others wait who would change it too."""
    not_found = NotFound(f"No such Upload object: {wire_id}", param="upload_id")
    try:
        upload_id = ids.from_wire(ids.UPLOAD, wire_id)
    except ValueError as error:
        raise not_found from error
    query = select(Upload).where(Upload.id == upload_id, Upload.tenant_id == tenant_id)
    row = session.scalars(query.with_for_update() if to_change else query).one_or_none()
    if row is None:
        raise not_found
    return row


def require_pending(upload: Upload, now: datetime) -> None:
    """Conflict when the upload takes nothing more."""
    if (word := status(upload, now)) != "pending":
        raise Conflict(f"The upload {ids.to_wire(ids.UPLOAD, upload.id)} is {word}. Create a new one.")


def add(session: Session, upload: Upload, part_id: UUID, size_bytes: int, now: datetime) -> UploadPart:
    """Make what has arrived a part of an upload that was found `to_change`."""
    require_pending(upload, now)
    so_far = select(func.count(), func.coalesce(func.sum(UploadPart.size_bytes), 0))
    count, total = session.execute(so_far.where(UploadPart.upload_id == upload.id)).one()
    # A part may come twice, when the answer to the first was lost on the way. More than that is storage for nothing.
    if count >= MOST_PARTS or total + size_bytes > 2 * upload.size_bytes + PART_BYTES:
        raise InvalidRequest(
            f"The upload has {count:,} parts with {total:,} bytes already, for a file of {upload.size_bytes:,}."
            " Complete it with the right ones of them, or cancel it.",
            param="data",
        )
    part = UploadPart(
        id=part_id, tenant_id=upload.tenant_id, upload_id=upload.id, size_bytes=size_bytes, created_at=now
    )
    session.add(part)
    return part


def complete(
    database: Engine,
    store: ObjectStore,
    caller: KeyRecord,
    wire_id: str,
    part_ids: Sequence[UUID],
    md5: str | None,
    now: datetime,
) -> tuple[Upload, File | None]:
    """Join the parts in the order of the list; the upload and its file (None: deleted since).

    A second call with the same list has the answer of the first: a client may not have received that. While the first
    is at work it is a Conflict. The lock belongs to the transaction, so it cannot outlive a gateway that dies here.
    """
    tenant_id = caller.tenant_id
    _require_distinct(part_ids)
    with tenant_scope(database, tenant_id) as session:
        upload = find(session, tenant_id, wire_id)
        if upload.state == "completed":
            return upload, _file_of(session, upload, part_ids, now)
        require_pending(upload, now)
        _require_whole(session, upload, part_ids)
        _require_alone(session, upload)
        return _completed(database, store, caller.actor, upload, part_ids, md5, now)


def _completed(
    database: Engine,
    store: ObjectStore,
    actor: str,
    upload: Upload,
    part_ids: Sequence[UUID],
    md5: str | None,
    now: datetime,
) -> tuple[Upload, File | None]:
    tenant_id = upload.tenant_id
    file_id = ids.uuid7()
    key = records.object_key(tenant_id, file_id)
    is_used = False
    try:
        sha256 = _join(store, upload, part_ids, md5, key)
        with tenant_scope(database, tenant_id) as session:
            upload = find(session, tenant_id, ids.to_wire(ids.UPLOAD, upload.id), to_change=True)
            if upload.state == "completed":
                return upload, _file_of(session, upload, part_ids, now)
            # Its hour may have ended while the parts were joined, which is no fault of the client's.
            require_pending(upload, upload.created_at)
            file = File(
                id=file_id,
                tenant_id=tenant_id,
                filename=upload.filename,
                purpose=upload.purpose,
                size_bytes=upload.size_bytes,
                sha256=sha256,
                object_key=key,
                created_at=now,
                expires_at=records.file_expiry(upload.purpose, upload.file_life_seconds, now),
            )
            session.add(file)
            session.flush()
            upload.state, upload.ended_at, upload.part_ids, upload.file_id = "completed", now, list(part_ids), file_id
            audit_own(session, actor, "file.create", ids.to_wire(ids.FILE, file_id))
        is_used = True
    finally:
        if not is_used:
            store.delete(Bucket.FILES, key)
    return upload, file


def _file_of(session: Session, upload: Upload, part_ids: Sequence[UUID], now: datetime) -> File | None:
    if upload.part_ids != list(part_ids):
        raise Conflict(f"The upload {ids.to_wire(ids.UPLOAD, upload.id)} was completed with other parts.")
    there = select(File).where(records.is_there(upload.tenant_id, now), File.id == upload.file_id)
    return session.scalars(there).one_or_none()


def _require_distinct(part_ids: Sequence[UUID]) -> None:
    """A small part that is listed often enough would be a large file that nobody has sent."""
    known: set[UUID] = set()
    for part_id in part_ids:
        if part_id in known:
            raise InvalidRequest(
                f"The part {ids.to_wire(ids.UPLOAD_PART, part_id)} is listed twice. List each part once.",
                param="part_ids",
            )
        known.add(part_id)


def _require_alone(session: Session, upload: Upload) -> None:
    """Until the transaction ends. Joining is work that nobody shall start over and over."""
    lock = func.pg_try_advisory_xact_lock(func.hashtextextended(str(upload.id), 0))
    if not session.scalars(select(lock)).one():
        raise Conflict(
            f"The upload {ids.to_wire(ids.UPLOAD, upload.id)} is being completed by another request. Ask again when"
            " that has ended."
        )


def _require_whole(session: Session, upload: Upload, part_ids: Sequence[UUID]) -> None:
    known = select(UploadPart.id, UploadPart.size_bytes).where(UploadPart.upload_id == upload.id)
    sizes = dict(session.execute(known).tuples().all())
    for part_id in part_ids:
        if part_id not in sizes:
            raise InvalidRequest(
                f"The upload has no part {ids.to_wire(ids.UPLOAD_PART, part_id)}. List the ids of its own parts.",
                param="part_ids",
            )
    total = sum(sizes[part_id] for part_id in part_ids)
    if total != upload.size_bytes:
        raise InvalidRequest(
            f"The listed parts have {total:,} bytes together, but the upload was created for {upload.size_bytes:,}."
            " List every part, in the order of the file.",
            param="part_ids",
        )


def _join(store: ObjectStore, upload: Upload, part_ids: Sequence[UUID], md5: str | None, key: str) -> str:
    """Write the file's object; its SHA-256. Nothing stays behind of a file with another MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with ObjectWriter(store, Bucket.FILES, key) as writer:
        for part_id in part_ids:
            for piece in read_pieces(store, Bucket.FILES, part_key(upload.tenant_id, upload.id, part_id)):
                writer.write(piece)
                digest.update(piece)
        if md5 is not None and digest.hexdigest() != md5.lower():
            raise InvalidRequest(
                f"The joined parts have the MD5 {digest.hexdigest()}, not {md5}. Upload the damaged part again.",
                param="md5",
            )
    return writer.sha256
