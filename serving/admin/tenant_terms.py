"""How a tenant is billed: its terms of all times, and a change of them from a day on."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from billing import tenant_terms
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.db.tenancy import Tenant, TenantBilling
from studio.money import Currency
from studio.tenants import Billing, audit, known_tenant

router = APIRouter(prefix="/tenants/{slug}")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BuyerChange(_Body):
    """What changes of the buyer. What is absent stays, null is removed."""

    name: str | None = None
    street: str | None = None
    postcode: str | None = None
    city: str | None = None
    country: str | None = Field(None, pattern="^[A-Z]{2}$")
    vat_id: str | None = None
    email: str | None = None
    reference: str | None = None
    phone: str | None = None
    tax_number: str | None = None
    bank: str | None = None
    account: str | None = None
    fapiao_kind: Literal["81", "82"] | None = None


class TermsChange(_Body):
    """Terms that hold from a day on. What is absent stays as it was."""

    valid_from: date = Field(description="in the tenant's time zone; a move to another seller: the first of a month")
    reason: str = Field(min_length=1)
    legal_entity: str | None = None
    currency: Annotated[str, AfterValidator(Currency.parse)] | None = None
    time_zone: str | None = None
    tax_category: str | None = Field(None, description="null: as seller and buyer suggest")
    payment_days: int | None = Field(None, ge=0, le=365, description="null: those of the legal entity")
    buyer: BuyerChange = BuyerChange()


class TermsView(BaseModel):
    """Terms over `[valid_from, valid_until)`."""

    when: Literal["past", "present", "coming"]
    valid_from: date
    valid_until: date | None
    legal_entity: str
    currency: str
    time_zone: str
    tax_category: str | None
    payment_days: int | None
    buyer: dict[str, str]


class TenantDetail(BaseModel):
    """A tenant with its terms, oldest first."""

    id: str
    slug: str
    name: str
    created_at: datetime
    closed_at: datetime | None
    closes_on: date | None  # the first day on which it is closed
    is_internal: bool
    terms: list[TermsView]


class TermsChanged(BaseModel):
    """The tenant after a change, what changed, and the drafts that were dropped because they are made again."""

    tenant: TenantDetail
    changed: list[str]
    dropped_drafts: list[str]


@router.get("")
def get_tenant(slug: str, session: Transaction) -> TenantDetail:
    """One tenant, open or closed, with past, present and coming terms."""
    return _detail(session, known_tenant(session, slug))


@router.post("/terms", status_code=201)
def post_terms(slug: str, body: TermsChange, caller: BillingCaller, session: Transaction) -> TermsChanged:
    """Change the terms from a day on: buyer, payment days, or, where a month begins, seller and currency."""
    tenant, now = known_tenant(session, slug), clock.now()
    new = _merged(tenant_terms.terms_on(session, tenant.id, body.valid_from), body)
    changed = tenant_terms.change(session, tenant.id, new, by=caller.actor, now=now)
    dropped = [ids.to_wire(ids.INVOICE, id) for id in changed.dropped]
    told = {**body.model_dump(mode="json", exclude_unset=True), "changed": changed.names, "dropped_drafts": dropped}
    audit(session, caller.actor, "tenant.terms", slug, tenant.id, told)
    return TermsChanged(tenant=_detail(session, tenant), changed=list(changed.names), dropped_drafts=dropped)


def _merged(old: Billing, body: TermsChange) -> Billing:
    given = body.model_dump(exclude_unset=True)
    buyer: dict[str, Any] = {**old.buyer, **given.get("buyer", {})}
    new = replace(
        old,
        valid_from=body.valid_from,
        buyer={name: value for name, value in buyer.items() if value is not None},
        legal_entity_id=body.legal_entity or old.legal_entity_id,
        currency=Currency(body.currency or old.currency),
        time_zone=body.time_zone or old.time_zone,
    )
    return replace(new, **{name: given[name] for name in ("tax_category", "payment_days") if name in given})


def _detail(session: Transaction, tenant: Tenant) -> TenantDetail:
    return TenantDetail(
        id=ids.to_wire(ids.TENANT, tenant.id), slug=tenant.slug, name=tenant.name, created_at=tenant.created_at,
        closed_at=tenant.closed_at, closes_on=tenant.closes_on, is_internal=tenant.is_internal,
        terms=[_view(row) for row in tenant_terms.history(session, tenant.id)],
    )  # fmt: skip


def _view(row: TenantBilling) -> TermsView:
    today = clock.now().astimezone(clock.zone(row.time_zone)).date()
    is_over = row.valid_until is not None and row.valid_until <= today
    return TermsView(
        when="past" if is_over else "coming" if today < row.valid_from else "present", valid_from=row.valid_from,
        valid_until=row.valid_until, legal_entity=row.legal_entity_id, currency=row.currency, time_zone=row.time_zone,
        tax_category=row.tax_category, payment_days=row.payment_days,
        buyer={name: str(value) for name, value in row.buyer.items()},
    )  # fmt: skip
