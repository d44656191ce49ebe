"""`/v1/uploads`: large files in parts, in OpenAI's shapes. What they become is a file of `/v1/files`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Engine

from serving.files import arrival, parts
from serving.files.joining import Joiners
from serving.files.room import require_room
from serving.routes.caller import InferenceCaller
from serving.routes.files import BOUNDED_AS_IT_ARRIVES, EXPIRY_SECONDS, FileObject, UploadPurpose, file_object
from serving.routes.stores import Objects, TenantDatabase
from studio import clock, ids
from studio.db.jobs import File, Upload, UploadPart
from studio.db.sessions import tenant_scope
from studio.errors import InvalidRequest, PayloadTooLarge
from studio.objects import Bucket, ObjectStore
from studio.settings import settings
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/uploads", tags=["files"])
_joiners = Joiners()

_PART_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "format": "binary"}},
}


class ExpiresAfter(BaseModel):
    """When the file goes by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=EXPIRY_SECONDS[0], le=EXPIRY_SECONDS[-1])]


class UploadCreate(BaseModel):
    """OpenAI's request. `mime_type` is not kept: content always goes out as bytes, never as a type that runs."""

    filename: Annotated[str, Field(min_length=1)]
    purpose: UploadPurpose
    bytes: Annotated[int, Field(ge=1)]
    mime_type: Annotated[str, Field(min_length=1)]
    expires_after: ExpiresAfter | None = None


class UploadComplete(BaseModel):
    """The parts in the order of the file, and what the file should be."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=parts.MOST_PARTS)]
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


class UploadObject(BaseModel):
    """OpenAI's upload object."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: parts.Status
    file: FileObject | None


class UploadPartObject(BaseModel):
    """OpenAI's part object."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


@router.post("")
def create_upload(body: UploadCreate, caller: InferenceCaller, database: TenantDatabase) -> UploadObject:
    """Announce a file. It takes parts for an hour."""
    if body.bytes > (most := settings().max_file_bytes):
        raise PayloadTooLarge(f"A file may have at most {most:,} bytes.", param="bytes")
    require_room(database, caller.tenant_id)
    now = clock.now()
    upload = Upload(
        id=ids.uuid7(),
        tenant_id=caller.tenant_id,
        filename=arrival.label(body.filename),
        purpose=body.purpose,
        size_bytes=body.bytes,
        file_life_seconds=body.expires_after.seconds if body.expires_after else None,
        state="pending",
        created_at=now,
        expires_at=now + parts.LIFE,
    )
    with tenant_scope(database, caller.tenant_id) as session:
        session.add(upload)
        audit_own(session, caller.actor, "upload.create", ids.to_wire(ids.UPLOAD, upload.id))
    return _wire(upload)


@router.get("/{upload_id}")
def retrieve_upload(upload_id: str, caller: InferenceCaller, database: TenantDatabase) -> UploadObject:
    """How far an upload is. OpenAI has no such call; an `expired` one can be seen here only."""
    with tenant_scope(database, caller.tenant_id) as session:
        return _wire(parts.find(session, caller.tenant_id, upload_id))


@router.post(
    "/{upload_id}/parts",
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _PART_FORM}}}},
    max_body_size=BOUNDED_AS_IT_ARRIVES,
)
async def add_part(
    upload_id: str, request: Request, caller: InferenceCaller, store: Objects, database: TenantDatabase
) -> UploadPartObject:
    """Add a part of at most 64 MB. Parts may come in any order and beside each other."""
    upload = await asyncio.to_thread(_find_pending, database, caller.tenant_id, upload_id)
    part_id = ids.uuid7()
    key = parts.part_key(caller.tenant_id, upload.id, part_id)
    content_type = request.headers.get("content-type", "")
    arrived = await arrival.receive(request.stream(), content_type, store, key, "data", parts.PART_BYTES)
    # Shielded as a whole: cut in the middle, the row and the object would not fit together.
    part = await asyncio.shield(
        asyncio.to_thread(_keep, database, store, caller.tenant_id, upload_id, part_id, arrived.size_bytes)
    )
    return UploadPartObject(
        id=ids.to_wire(ids.UPLOAD_PART, part.id),
        object="upload.part",
        created_at=int(part.created_at.timestamp()),
        upload_id=upload_id,
    )


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, body: UploadComplete, caller: InferenceCaller, database: TenantDatabase, store: Objects
) -> UploadObject:
    """Join the parts in the order of the list."""
    part_ids = [_part_id(text) for text in body.part_ids]
    upload, file = await _joiners.run(
        lambda: parts.complete(database, store, caller, upload_id, part_ids, body.md5, clock.now())
    )
    return _wire(upload, file)


@router.post("/{upload_id}/cancel")
def cancel_upload(upload_id: str, caller: InferenceCaller, database: TenantDatabase) -> UploadObject:
    """Give an upload up. Nothing can be added afterwards."""
    now = clock.now()
    with tenant_scope(database, caller.tenant_id) as session:
        upload = parts.find(session, caller.tenant_id, upload_id, to_change=True)
        if upload.state != "cancelled":
            parts.require_pending(upload, now)
            upload.state, upload.ended_at = "cancelled", now
            audit_own(session, caller.actor, "upload.cancel", upload_id)
    return _wire(upload)


def _find_pending(database: Engine, tenant_id: UUID, upload_id: str) -> Upload:
    with tenant_scope(database, tenant_id) as session:
        upload = parts.find(session, tenant_id, upload_id)
    parts.require_pending(upload, clock.now())
    return upload


def _keep(
    database: Engine, store: ObjectStore, tenant_id: UUID, upload_id: str, part_id: UUID, size_bytes: int
) -> UploadPart:
    """Make what has arrived a part; when the upload has ended meanwhile, its bytes go."""
    try:
        with tenant_scope(database, tenant_id) as session:
            upload = parts.find(session, tenant_id, upload_id, to_change=True)
            return parts.add(session, upload, part_id, size_bytes, clock.now())
    except BaseException:
        store.delete(Bucket.FILES, parts.part_key(tenant_id, ids.from_wire(ids.UPLOAD, upload_id), part_id))
        raise


def _part_id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.UPLOAD_PART, text)
    except ValueError as error:
        raise InvalidRequest(f"`part_ids` must be ids of parts, not {text!r}.", param="part_ids") from error


def _wire(row: Upload, file: File | None = None) -> UploadObject:
    return UploadObject(
        id=ids.to_wire(ids.UPLOAD, row.id),
        object="upload",
        bytes=row.size_bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=parts.status(row, clock.now()),
        file=None if file is None else file_object(file),
    )
