"""Tenants and their API keys: created by an operator, every change in the audit log. Code here never commits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from studio import api_keys, clock, ids
from studio.db.catalog import ModelVariant
from studio.db.jobs import Adapter
from studio.db.limits import Limit
from studio.db.tenancy import ApiKey, AuditEntry, LegalEntity, Tenant, TenantBilling
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.money import Currency

SCOPES = frozenset({"inference", "usage", "account", "keys", "admin"})


@dataclass(frozen=True, slots=True)
class Billing:
    """How a tenant is billed from a day on."""

    legal_entity_id: str
    currency: Currency
    time_zone: str
    buyer: dict[str, Any]
    valid_from: date
    tax_category: str | None = None  # None: by seller and buyer
    payment_days: int | None = None  # None: those of the legal entity


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; `text` exists only here and in the answer to its creator."""

    id: UUID
    text: str = field(repr=False)
    prefix: str
    expires_at: datetime | None


def create_tenant(session: Session, slug: str, name: str, billing: Billing, actor: str) -> UUID:
    """A new tenant with its billing. Conflict for a taken slug, InvalidRequest for an unknown entity or zone."""
    try:
        clock.zone(billing.time_zone)
    except ValueError as error:
        raise InvalidRequest(str(error), param="time_zone") from error
    if session.get(LegalEntity, billing.legal_entity_id) is None:
        raise InvalidRequest(f"there is no legal entity {billing.legal_entity_id!r}", param="legal_entity")
    if session.scalar(select(Tenant.id).where(Tenant.slug == slug)) is not None:
        raise Conflict(f"there is a tenant {slug!r} already")
    tenant = Tenant(id=ids.uuid7(), slug=slug, name=name)
    session.add(tenant)
    try:
        session.flush()
    except IntegrityError as error:
        raise InvalidRequest(
            f"{slug!r} is no tenant name: use a-z, 0-9 and dashes, at most 63 characters", param="slug"
        ) from error
    session.add(
        TenantBilling(
            id=ids.uuid7(),
            tenant_id=tenant.id,
            valid_from=billing.valid_from,
            legal_entity_id=billing.legal_entity_id,
            currency=billing.currency,
            time_zone=billing.time_zone,
            tax_category=billing.tax_category,
            buyer=billing.buyer,
            payment_days=billing.payment_days,
        )
    )
    audit(session, actor, "tenant.create", slug, tenant.id, {"legal_entity": billing.legal_entity_id})
    return tenant.id


def find_tenant(session: Session, slug: str) -> Tenant:
    """The open tenant called `slug`; NotFound otherwise."""
    tenant = known_tenant(session, slug)
    if tenant.closed_at is not None:
        raise NotFound(f"the tenant {slug!r} was closed on {tenant.closed_at:%Y-%m-%d}", param="tenant")
    return tenant


def known_tenant(session: Session, slug: str) -> Tenant:
    """The tenant called `slug`, open or closed: what it used is still billed and paid. NotFound otherwise."""
    tenant = session.scalar(select(Tenant).where(Tenant.slug == slug))
    if tenant is None:
        raise NotFound(f"there is no tenant {slug!r}", param="tenant")
    return tenant


def create_key(
    session: Session,
    tenant_id: UUID,
    name: str,
    actor: str,
    *,
    scopes: Collection[str] = ("inference", "usage"),
    expires_at: datetime | None = None,
    requests_per_second: int | None = None,
    models: Collection[str] | None = None,
    endpoints: Collection[str] | None = None,
    own_cache: bool = False,
) -> CreatedKey:
    """Mint a key. InvalidRequest for an unknown scope or model, or a past expiry. More limits: `studio/limits.py`."""
    _require_sensible(session, tenant_id, scopes, expires_at, models)
    minted = api_keys.mint()
    key_id = ids.uuid7()
    session.add(
        ApiKey(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            prefix=minted.prefix,
            secret_hash=minted.secret_hash,
            scopes=sorted(scopes),
            expires_at=expires_at,
            models=_sorted(models),
            endpoints=_sorted(endpoints),
            own_cache=own_cache,
        )
    )
    details: dict[str, Any] = {"name": name, "scopes": sorted(scopes)}
    details |= {"models": _sorted(models), "endpoints": _sorted(endpoints), "own_cache": own_cache}
    if requests_per_second is not None:
        session.flush()  # the limit refers to the key
        session.add(Limit(tenant_id=tenant_id, api_key_id=key_id, requests_per_second=requests_per_second))
        details["requests_per_second"] = requests_per_second
    audit(session, actor, "key.create", minted.prefix, tenant_id, details)
    return CreatedKey(key_id, minted.text, minted.prefix, expires_at)


def create_own_key(
    session: Session,
    tenant_id: UUID,
    name: str,
    actor: str,
    *,
    scopes: Collection[str],
    expires_at: datetime | None,
    models: Collection[str] | None,
    endpoints: Collection[str] | None,
    made_by: UUID,
    own_cache: bool,
) -> CreatedKey:
    """Mint a key for the tenant of the session, in the gateway's role: what it may not write, a function does."""
    _require_sensible(session, tenant_id, scopes, expires_at, models)
    minted, key_id = api_keys.mint(), ids.uuid7()
    session.execute(
        text(
            "select create_own_key(:id, :name, :prefix, :secret_hash, :scopes, cast(:models as text[]),"
            " cast(:endpoints as text[]), cast(:expires_at as timestamptz), :actor, :made_by, :own_cache)"
        ),
        {
            "id": key_id,
            "name": name,
            "prefix": minted.prefix,
            "secret_hash": minted.secret_hash,
            "scopes": sorted(scopes),
            "models": _sorted(models),
            "endpoints": _sorted(endpoints),
            "expires_at": expires_at,
            "actor": actor,
            "made_by": made_by,
            "own_cache": own_cache,
        },
    )
    return CreatedKey(key_id, minted.text, minted.prefix, expires_at)


def revoke_own_key(session: Session, key_id: UUID, actor: str, maker: UUID | None) -> None:
    """End a key of the tenant of the session at once. NotFound when it has no live key with this id, or none that
    `maker` made (None: whoever made it)."""
    parameters = {"id": key_id, "actor": actor, "maker": maker}
    is_revoked = session.scalar(text("select revoke_own_key(:id, :actor, cast(:maker as uuid))"), parameters)
    if not is_revoked:
        raise NotFound("there is no live key with this id")


def revoke_key(session: Session, key_id: UUID, actor: str) -> None:
    """End a key at once. NotFound when there is no live key with this id."""
    found = session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=clock.now())
        .returning(ApiKey.prefix, ApiKey.tenant_id)
    ).one_or_none()
    if found is None:
        raise NotFound("there is no live key with this id")
    audit(session, actor, "key.revoke", found.prefix, found.tenant_id, {})


def audit(
    session: Session, actor: str, action: str, subject: str, tenant_id: UUID | None, details: dict[str, Any]
) -> None:
    """One line in the audit log, in the transaction of what it tells."""
    session.add(
        AuditEntry(id=ids.uuid7(), actor=actor, action=action, subject=subject, tenant_id=tenant_id, details=details)
    )


def audit_own(session: Session, actor: str, action: str, subject: str) -> None:
    """The same for the tenant of the session, in the gateway's role, which may write nothing else into the log."""
    values = {"actor": actor, "action": action, "subject": subject}
    session.execute(text("select audit_own(:actor, :action, :subject, '{}')"), values)


def _require_sensible(
    session: Session,
    tenant_id: UUID,
    scopes: Collection[str],
    expires_at: datetime | None,
    models: Collection[str] | None,
) -> None:
    unknown = set(scopes) - SCOPES
    if unknown or not scopes:
        raise InvalidRequest(
            f"scopes are {', '.join(sorted(SCOPES))}; not {', '.join(sorted(unknown)) or 'none'}", param="scopes"
        )
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidRequest("the key would already be expired", param="expires_in_seconds")
    if models is not None:
        there = set(session.scalars(select(ModelVariant.id).where(ModelVariant.id.in_(models))))
        there |= set(session.scalars(select(Adapter.name).where(Adapter.tenant_id == tenant_id)))
        if missing := sorted(set(models) - there):
            raise InvalidRequest(f"there is no model {', '.join(missing)}; see /v1/models", param="models")


def _sorted(names: Collection[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))
