"""`/v1/files`: a tenant's files, in OpenAI's shapes. Bytes are streamed both ways."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import Engine, select, update

from serving.files import records
from serving.files.arrival import Arrival, receive
from serving.files.room import require_room
from serving.keys import KeyRecord
from serving.routes.caller import InferenceCaller
from serving.routes.stores import Objects, TenantDatabase
from studio import clock, ids
from studio.db.jobs import File
from studio.db.sessions import tenant_scope
from studio.errors import InvalidRequest
from studio.object_streams import read_pieces
from studio.objects import Bucket, ObjectStore
from studio.settings import settings
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/files", tags=["files"])

# Only `batch` and `fine-tune` files are for work here; the others are kept for clients that keep theirs at OpenAI's.
UploadPurpose = Literal["batch", "fine-tune", "assistants", "vision", "user_data", "evals"]
UPLOAD_PURPOSES = get_args(UploadPurpose)
Purpose = Literal[UploadPurpose, "batch_output", "fine-tune-results"]
BOUNDED_AS_IT_ARRIVES = 2**62  # by `receive`, once the caller is known: nothing of it is kept in memory
EXPIRY_SECONDS = range(3600, 2_592_000 + 1)
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(UPLOAD_PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY_SECONDS[0], "maximum": EXPIRY_SECONDS[-1]},
    },
}


class FileObject(BaseModel):
    """OpenAI's file object."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None


class FileList(BaseModel):
    """OpenAI's page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


@router.post(
    "",
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}}},
    max_body_size=BOUNDED_AS_IT_ARRIVES,
)
async def upload_file(
    request: Request, caller: InferenceCaller, store: Objects, database: TenantDatabase
) -> FileObject:
    """Upload a file. It exists once it has arrived whole."""
    await asyncio.to_thread(require_room, database, caller.tenant_id)
    now = clock.now()
    file_id = ids.uuid7()
    key = records.object_key(caller.tenant_id, file_id)
    content_type = request.headers.get("content-type", "")
    arrived = await receive(request.stream(), content_type, store, key, "file", settings().max_file_bytes)
    # Shielded as a whole: cut in the middle, the row and the object would not fit together.
    row = await asyncio.shield(asyncio.to_thread(_keep, database, store, caller, file_id, arrived, now))
    return file_object(row)


@router.get("")
def list_files(
    caller: InferenceCaller,
    database: TenantDatabase,
    purpose: Purpose | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> FileList:
    """The tenant's files. Ids grow with time, so they order files that were made in the same second."""
    query = select(File).where(records.is_there(caller.tenant_id, clock.now()))
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    if after is not None:
        bound = _cursor(after)
        query = query.where(File.id > bound if order == "asc" else File.id < bound)
    query = query.order_by(File.id.asc() if order == "asc" else File.id.desc()).limit(limit + 1)
    with tenant_scope(database, caller.tenant_id) as session:
        rows = [file_object(row) for row in session.scalars(query)]
    page = rows[:limit]
    return FileList(
        object="list",
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(rows) > limit,
    )


@router.get("/{file_id}")
def retrieve_file(file_id: str, caller: InferenceCaller, database: TenantDatabase) -> FileObject:
    """One file."""
    with tenant_scope(database, caller.tenant_id) as session:
        return file_object(records.find(session, caller.tenant_id, file_id, clock.now()))


@router.get("/{file_id}/content", response_class=StreamingResponse)
def retrieve_content(
    file_id: str, caller: InferenceCaller, database: TenantDatabase, store: Objects
) -> StreamingResponse:
    """The bytes, as they were uploaded."""
    with tenant_scope(database, caller.tenant_id) as session:
        row = records.find(session, caller.tenant_id, file_id, clock.now())
    return StreamingResponse(
        read_pieces(store, Bucket.FILES, row.object_key),
        media_type="application/octet-stream",
        headers={
            "content-length": str(row.size_bytes),
            "content-disposition": "attachment",
            "x-content-type-options": "nosniff",
        },
    )


@router.delete("/{file_id}")
def delete_file(file_id: str, caller: InferenceCaller, database: TenantDatabase, store: Objects) -> DeletedFile:
    """Delete a file. A batch or fine-tune that has begun with it goes on."""
    now = clock.now()
    with tenant_scope(database, caller.tenant_id) as session:
        row = records.find(session, caller.tenant_id, file_id, now)
        session.execute(update(File).where(File.id == row.id).values(deleted_at=now))
        audit_own(session, caller.actor, "file.delete", file_id)
        is_needed = records.is_needed(session, row.id)
    if not is_needed:
        store.delete(Bucket.FILES, row.object_key)
        with tenant_scope(database, caller.tenant_id) as session:
            records.mark_removed(session, row.id, clock.now())
    return DeletedFile(id=file_id, object="file", deleted=True)


def _purpose(arrived: Arrival) -> str:
    purpose = arrived.fields.get("purpose", "")
    if purpose not in UPLOAD_PURPOSES:
        raise InvalidRequest(f"`purpose` must be one of {', '.join(UPLOAD_PURPOSES)}.", param="purpose")
    return purpose


def _life_seconds(arrived: Arrival) -> int | None:
    anchor, seconds = arrived.fields.get("expires_after[anchor]"), arrived.fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("`expires_after[anchor]` must be `created_at`.", param="expires_after[anchor]")
    if seconds is None or not re.fullmatch("[0-9]{1,7}", seconds) or int(seconds) not in EXPIRY_SECONDS:
        raise InvalidRequest(
            f"`expires_after[seconds]` must lie between {EXPIRY_SECONDS[0]} and {EXPIRY_SECONDS[-1]}.",
            param="expires_after[seconds]",
        )
    return int(seconds)


def _keep(
    database: Engine, store: ObjectStore, caller: KeyRecord, file_id: UUID, arrived: Arrival, now: datetime
) -> File:
    """Make what has arrived a file; when it cannot be one, its bytes go."""
    tenant_id = caller.tenant_id
    key = records.object_key(tenant_id, file_id)
    try:
        purpose = _purpose(arrived)
        row = File(
            id=file_id,
            tenant_id=tenant_id,
            filename=arrived.filename,
            purpose=purpose,
            size_bytes=arrived.size_bytes,
            sha256=arrived.sha256,
            object_key=key,
            created_at=now,
            expires_at=records.file_expiry(purpose, _life_seconds(arrived), now),
        )
        with tenant_scope(database, tenant_id) as session:
            session.add(row)
            audit_own(session, caller.actor, "file.create", ids.to_wire(ids.FILE, file_id))
    except BaseException:
        store.delete(Bucket.FILES, key)
        raise
    return row


def _cursor(after: str) -> UUID:
    try:
        return ids.from_wire(ids.FILE, after)
    except ValueError as error:
        raise InvalidRequest("`after` must be the id of a file.", param="after") from error


def file_object(row: File) -> FileObject:
    """A file as the wire shows it."""
    return FileObject(
        id=ids.to_wire(ids.FILE, row.id),
        object="file",
        bytes=row.size_bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=None if row.expires_at is None else int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status="processed",
        status_details=None,
    )
