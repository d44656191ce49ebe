"""Tenants and their keys."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import and_, select

from billing import tenant_terms
from serving.admin.access import Caller, Transaction
from serving.identity.endpoints import require_known_endpoints
from studio import clock, ids, tenant_closing
from studio.budgets import put_budget
from studio.db.limits import Limit
from studio.db.tenancy import ApiKey, ApiKeyUse, Tenant
from studio.errors import InvalidRequest
from studio.money import Currency
from studio.tenants import Billing, audit, create_key, create_tenant, find_tenant, known_tenant, revoke_key

router = APIRouter()


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Buyer(_Body):
    """Whom an invoice is addressed to."""

    name: str = Field(min_length=1)
    street: str = ""
    postcode: str | None = None
    city: str = ""
    country: str = Field(pattern="^[A-Z]{2}$")
    vat_id: str | None = None
    email: str | None = Field(None, description="where e-invoices go; without it the VAT id is the address")
    reference: str | None = Field(None, description="the buyer's own reference (Leitweg-ID), printed in e-invoices")
    phone: str | None = None
    tax_number: str | None = Field(None, description="in China: the number on a fapiao")
    bank: str | None = Field(None, description="in China: the bank on a fapiao")
    account: str | None = Field(None, description="in China: the account on a fapiao")
    fapiao_kind: Literal["81", "82"] | None = Field(None, description="81 special, 82 general")


class NewTenant(_Body):
    """A tenant and how it is billed from today on."""

    slug: str
    name: str = Field(min_length=1)
    legal_entity: str
    currency: Annotated[str, AfterValidator(Currency.parse)]
    time_zone: str = "Europe/Berlin"
    buyer: Buyer
    payment_days: int | None = Field(None, ge=0, le=365, description="absent: those of the legal entity")


class TenantView(BaseModel):
    """A tenant as operators see it."""

    id: str
    slug: str
    name: str
    created_at: datetime
    is_internal: bool  # one of ours, such as the canaries: never billed


class Closing(_Body):
    """When a tenant closes. Without a day: now."""

    on: date | None = Field(None, description="the first day on which it is closed, in the tenant's zone")


class ClosedView(BaseModel):
    """A closed tenant, or one that closes on a day to come, and how many keys, batches and fine-tunes that ended."""

    slug: str
    closed_at: datetime | None
    closes_on: date | None
    keys: int
    batches: int
    fine_tunes: int


class NewKey(_Body):
    """What a key may do. Everything absent means: not limited by this key."""

    name: str = "unnamed"
    scopes: list[str] = ["inference", "usage"]
    expires_in_seconds: int | None = Field(None, gt=0, le=10 * 366 * 86400)
    requests_per_second: int | None = Field(None, gt=0, le=2**31 - 1)
    credit: Decimal | None = Field(None, ge=0, max_digits=18, decimal_places=6)  # a prepaid budget
    models: Annotated[list[str], Field(min_length=1)] | None = None  # names as in `/v1/models`
    endpoints: Annotated[list[str], Field(min_length=1)] | None = None  # paths, such as `/v1/embeddings`
    own_cache: bool = False  # shares no cache with the tenant's other keys


class CreatedKeyView(BaseModel):
    """The only answer that ever holds the key's text."""

    id: str
    key: str
    prefix: str
    tenant: str
    scopes: list[str]
    expires_at: datetime | None


class KeyView(BaseModel):
    """A key without its text."""

    id: str
    prefix: str
    name: str
    scopes: list[str]
    models: list[str] | None
    endpoints: list[str] | None
    own_cache: bool
    requests_per_second: int | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@router.post("/tenants", status_code=201)
def post_tenant(body: NewTenant, caller: Caller, session: Transaction) -> TenantView:
    """Create a tenant whose invoices can become final: with what they must show of the buyer."""
    today = clock.now().astimezone(clock.BERLIN).date()
    billing = Billing(
        legal_entity_id=body.legal_entity,
        currency=Currency(body.currency),
        time_zone=body.time_zone,
        buyer=body.buyer.model_dump(exclude_none=True),
        valid_from=clock.month_start(today),  # a month is billed by one entity
        payment_days=body.payment_days,
    )
    create_tenant(session, body.slug, body.name, tenant_terms.checked(session, billing), caller.actor)
    return _tenant_view(find_tenant(session, body.slug))


@router.get("/tenants")
def get_tenants(session: Transaction) -> list[TenantView]:
    """All open tenants."""
    return [
        _tenant_view(tenant)
        for tenant in session.scalars(select(Tenant).where(Tenant.closed_at.is_(None)).order_by(Tenant.slug))
    ]


@router.post("/tenants/{slug}/keys", status_code=201)
def post_key(slug: str, body: NewKey, request: Request, caller: Caller, session: Transaction) -> CreatedKeyView:
    """Create a key. Its text is in this answer and nowhere else."""
    require_known_endpoints(request.app, body.endpoints)
    tenant = find_tenant(session, slug)
    created = create_key(
        session,
        tenant.id,
        body.name,
        caller.actor,
        scopes=body.scopes,
        expires_at=clock.now() + timedelta(seconds=body.expires_in_seconds) if body.expires_in_seconds else None,
        requests_per_second=body.requests_per_second,
        models=body.models,
        endpoints=body.endpoints,
        own_cache=body.own_cache,
    )
    if body.credit is not None:
        session.flush()
        put_budget(session, tenant.id, created.id, "prepaid", body.credit, caller.actor)
    return CreatedKeyView(
        id=ids.to_wire(ids.API_KEY, created.id),
        key=created.text,
        prefix=created.prefix,
        tenant=slug,
        scopes=sorted(body.scopes),
        expires_at=created.expires_at,
    )


@router.post("/tenants/{slug}/close")
def post_close(slug: str, caller: Caller, session: Transaction, body: Closing | None = None) -> ClosedView:
    """Close a tenant now, or as a day to come begins: its keys and jobs end, its namespace goes, and what it used is
    billed. Again adds nothing."""
    tenant, ended = known_tenant(session, slug), tenant_closing.Ended(0, 0, 0)
    if body is not None and body.on is not None:
        tenant_closing.close_on(session, tenant, body.on, clock.now())
        audit(session, caller.actor, "tenant.close", slug, tenant.id, {"on": f"{body.on}"})
    else:
        ended = tenant_closing.close(session, tenant, clock.now())
        audit(session, caller.actor, "tenant.close", slug, tenant.id, asdict(ended))
    return ClosedView(slug=slug, closed_at=tenant.closed_at, closes_on=tenant.closes_on, **asdict(ended))


@router.post("/tenants/{slug}/reopen")
def post_reopen(slug: str, caller: Caller, session: Transaction) -> TenantView:
    """Open a closed tenant again: it needs new keys. Or let one stay open that was to close."""
    tenant = known_tenant(session, slug)
    tenant_closing.reopen(session, tenant)
    audit(session, caller.actor, "tenant.reopen", slug, tenant.id, {})
    return _tenant_view(tenant)


@router.get("/tenants/{slug}/keys")
def get_keys(slug: str, session: Transaction) -> list[KeyView]:
    """All keys of a tenant, also ended ones."""
    tenant = known_tenant(session, slug)
    columns = (
        ApiKey.id, ApiKey.prefix, ApiKey.name, ApiKey.scopes, ApiKey.models, ApiKey.endpoints, ApiKey.own_cache,
        Limit.requests_per_second, ApiKey.created_at, ApiKey.expires_at, ApiKey.revoked_at, ApiKeyUse.last_used_at,
    )  # fmt: skip
    rows = session.execute(
        select(*columns)
        .outerjoin(Limit, and_(Limit.api_key_id == ApiKey.id, Limit.variant_id.is_(None)))
        .outerjoin(ApiKeyUse, ApiKeyUse.api_key_id == ApiKey.id)
        .where(ApiKey.tenant_id == tenant.id)
        .order_by(ApiKey.created_at)
    )
    return [KeyView(**row | {"id": ids.to_wire(ids.API_KEY, row["id"])}) for row in map(dict, rows.mappings())]


@router.delete("/keys/{key_id}", status_code=204)
def delete_key(key_id: str, caller: Caller, session: Transaction) -> None:
    """Revoke a key; every gateway refuses it within a second."""
    try:
        id = ids.from_wire(ids.API_KEY, key_id)
    except ValueError as error:
        raise InvalidRequest(str(error), param="key_id") from error
    revoke_key(session, id, caller.actor)


def _tenant_view(tenant: Tenant) -> TenantView:
    return TenantView(
        id=ids.to_wire(ids.TENANT, tenant.id),
        slug=tenant.slug,
        name=tenant.name,
        created_at=tenant.created_at,
        is_internal=tenant.is_internal,
    )
