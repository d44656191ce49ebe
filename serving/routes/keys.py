"""`/v1/keys`: a tenant's keys, managed by the tenant itself. Nobody makes a key that may do more than they may.

An owner, or a key with the scope `keys`, sees and ends all of them; a developer those that they made.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serving.identity.endpoints import require_known_endpoints
from serving.keys import KeyRecord, covers
from serving.routes.caller import KeysCaller, manages_all_keys
from serving.routes.stores import TenantDatabase
from serving.texts import STORABLE
from studio import clock, ids
from studio.db.sessions import tenant_scope
from studio.db.tenancy import ApiKey, ApiKeyUse
from studio.errors import NotFound, PermissionDenied
from studio.tenants import create_own_key, revoke_own_key

router = APIRouter(prefix="/v1/keys", tags=["keys"])

Names = Annotated[list[Annotated[str, Field(pattern=STORABLE)]], Field(min_length=1, max_length=100)]


class NewKey(BaseModel):
    """What a key may do. Models, endpoints and expiry that are absent are those of the caller."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=STORABLE)]
    scopes: Annotated[list[Literal["inference", "usage", "account", "keys"]], Field(min_length=1)] = [
        "inference",
        "usage",
    ]
    models: Names | None = None  # names as in `/v1/models`
    endpoints: Names | None = None  # paths, such as `/v1/embeddings`
    expires_in_seconds: int | None = Field(None, gt=0, le=10 * 366 * 86400)
    own_cache: bool = False  # shares no cache with the tenant's other keys; what such a key makes is like it


class Key(BaseModel):
    """A key without its text."""

    id: str
    object: Literal["api_key"]
    prefix: str
    name: str
    scopes: list[str]
    models: list[str] | None
    endpoints: list[str] | None
    own_cache: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute


class KeyList(BaseModel):
    """All of them, oldest first; also ended ones."""

    object: Literal["list"]
    data: list[Key]


class CreatedKey(BaseModel):
    """The only answer that ever holds the key's text."""

    id: str
    object: Literal["api_key"]
    key: str
    prefix: str
    name: str
    scopes: list[str]
    models: list[str] | None
    endpoints: list[str] | None
    own_cache: bool
    expires_at: datetime | None


@router.get("")
def list_keys(caller: KeysCaller, database: TenantDatabase) -> KeyList:
    """The tenant's keys, or those that the caller made. What stands for people who sign in is not among them."""
    columns = (
        ApiKey.id, ApiKey.prefix, ApiKey.name, ApiKey.scopes, ApiKey.models, ApiKey.endpoints, ApiKey.own_cache,
        ApiKey.created_at, ApiKey.expires_at, ApiKey.revoked_at, ApiKeyUse.last_used_at,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(ApiKeyUse, ApiKeyUse.api_key_id == ApiKey.id, isouter=True)
        .where(ApiKey.tenant_id == caller.tenant_id, ApiKey.user_id.is_(None))
        .order_by(ApiKey.id)
    )
    if not manages_all_keys(caller):
        query = query.where(ApiKey.made_by == caller.id)
    with tenant_scope(database, caller.tenant_id) as session:
        rows = session.execute(query).mappings().all()
    data = [Key(**dict(row) | {"id": ids.to_wire(ids.API_KEY, row["id"]), "object": "api_key"}) for row in rows]
    return KeyList(object="list", data=data)


@router.post("", status_code=201)
def create_key(body: NewKey, request: Request, caller: KeysCaller, database: TenantDatabase) -> CreatedKey:
    """Create a key. Its text is in this answer and nowhere else."""
    require_known_endpoints(request.app, body.endpoints)
    _require_own_rights(caller, body)
    models = body.models if body.models is not None else _listed(caller.models)
    endpoints = body.endpoints if body.endpoints is not None else _listed(caller.endpoints)
    own_cache = body.own_cache or caller.own_cache  # nothing that it makes may look into the others' caches either
    expires_at = caller.expires_at if body.expires_in_seconds is None else _after(body.expires_in_seconds)
    with tenant_scope(database, caller.tenant_id) as session:
        _require_unlimited(session, caller)
        created = create_own_key(
            session,
            caller.tenant_id,
            body.name,
            caller.actor,
            scopes=body.scopes,
            expires_at=expires_at,
            models=models,
            endpoints=endpoints,
            made_by=caller.id,
            own_cache=own_cache,
        )
    return CreatedKey(
        id=ids.to_wire(ids.API_KEY, created.id),
        object="api_key",
        key=created.text,
        prefix=created.prefix,
        name=body.name,
        scopes=sorted(set(body.scopes)),
        models=models,
        endpoints=endpoints,
        own_cache=own_cache,
        expires_at=created.expires_at,
    )


@router.delete("/{key_id}", status_code=204)
def delete_key(key_id: str, caller: KeysCaller, database: TenantDatabase) -> None:
    """Revoke a key of the tenant, or one that the caller made; every gateway refuses it within a second."""
    try:
        id = ids.from_wire(ids.API_KEY, key_id)
    except ValueError as error:
        raise NotFound(f"There is no key `{key_id}`.") from error
    with tenant_scope(database, caller.tenant_id) as session:
        revoke_own_key(session, id, caller.actor, None if manages_all_keys(caller) else caller.id)


def _require_own_rights(caller: KeyRecord, body: NewKey) -> None:
    """PermissionDenied for a key that could do more than the caller: a leaked one must not breed stronger ones."""
    beyond: tuple[tuple[str, Collection[str]], ...] = (
        ("scopes", set(body.scopes) - caller.scopes),
        ("models", [] if caller.models is None else set(body.models or ()) - caller.models),
        ("endpoints", [path for path in body.endpoints or () if not covers(caller.endpoints, path)]),
    )
    for field, names in beyond:
        if names:
            raise PermissionDenied(
                f"You cannot hand on what you do not have: {field} {', '.join(sorted(names))}. Leave it out, or ask an"
                " owner of the tenant or your operator.",
                param=field,
            )
    latest = caller.expires_at
    if latest is not None and body.expires_in_seconds is not None and _after(body.expires_in_seconds) > latest:
        raise PermissionDenied(f"Your own key ends at {latest:%Y-%m-%d %H:%M:%S %Z}.", param="expires_in_seconds")


def _require_unlimited(session: Session, caller: KeyRecord) -> None:
    """PermissionDenied for a key with limits or money of its own: what it creates would be free of them."""
    if session.scalar(select(func.has_limits_of_its_own(caller.id))):
        raise PermissionDenied(
            "An API key with limits or a budget of its own cannot create keys, which would be free of them. Use a key"
            " without, or ask your operator."
        )


def _after(seconds: int) -> datetime:
    return clock.now() + timedelta(seconds=seconds)


def _listed(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
