"""`/v1/cache`: the caller's way to have what is cached for it deleted at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Engine

from serving.keys import KeyRecord
from serving.limits.connection import ValkeyAway
from serving.routes.caller import InferenceCaller, Parts, manages_all_keys
from serving.routes.stores import TenantDatabase
from studio.db.sessions import tenant_scope
from studio.errors import ServiceUnavailable
from studio.tenants import audit_own

router = APIRouter(prefix="/v1/cache", tags=["tokens"])


class DeletedCache(BaseModel):
    """In the manner of OpenAI's deletions."""

    object: Literal["cache"]
    deleted: Literal[True]
    entries: int  # answers and single vectors that were there


@router.delete("")
async def delete_cache(parts: Parts, caller: InferenceCaller, database: TenantDatabase) -> DeletedCache:
    """Delete every cached answer and embedding that the caller could be given: of a key with a cache of its own that
    one, otherwise what the organization's keys share. An owner, or a key that manages keys, deletes both, of all keys.
    """
    entries, everything = 0, manages_all_keys(caller) and not caller.own_cache
    if parts.cache.shelf.is_used:
        await asyncio.to_thread(_audit, database, caller)
        try:
            entries = await parts.cache.shelf.clear(caller.tenant_id, caller.cache_owner, everything=everything)
        except ValkeyAway as error:
            raise ServiceUnavailable(
                "The cache cannot be reached at the moment, so nothing of it is deleted, and nothing of it is given.",
                retry_after=timedelta(seconds=2),
            ) from error
    return DeletedCache(object="cache", deleted=True, entries=entries)


def _audit(database: Engine, caller: KeyRecord) -> None:
    with tenant_scope(database, caller.tenant_id) as session:
        audit_own(session, caller.actor, "cache.delete", caller.tenant_slug)
