"""The price book of one tenant: prices of its own with their volume tiers, and minimum commitments."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from billing import price_book
from billing.price_book import OwnPrice
from billing.tiers import Tier
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.db.catalog import Commitment
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

router = APIRouter(prefix="/tenants/{slug}")

PerMillion = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)]
Month = Annotated[str, Field(pattern=r"^\d{4}-\d{2}$", description="such as 2026-12")]


class TierBody(BaseModel):
    """Above so many tokens of a month, this price."""

    model_config = ConfigDict(extra="forbid")

    from_tokens: int = Field(gt=0, lt=2**63)
    per_million: PerMillion


class PriceBody(BaseModel):
    """A price of the tenant's own, in its currency."""

    model_config = ConfigDict(extra="forbid")

    model: str
    unit: str
    per_million: PerMillion
    tiers: list[TierBody] = Field([], max_length=20)
    valid_from: AwareDatetime | None = Field(None, description="now if absent")
    valid_until: AwareDatetime | None = None
    retroactive: bool = Field(False, description="allow a beginning in the past, where usage may be rated already")
    reason: str = Field(min_length=1, max_length=500)


class PriceEnd(BaseModel):
    """When it ends."""

    model_config = ConfigDict(extra="forbid")

    valid_until: AwareDatetime


class TierView(BaseModel):
    """As it was set."""

    from_tokens: int
    per_million: str


class PriceView(BaseModel):
    """A price of the tenant's own, and who set it."""

    id: str
    model: str
    unit: str
    currency: str
    per_million: str
    tiers: list[TierView]
    valid_from: datetime
    valid_until: datetime | None
    approved_by: str
    reason: str


class CommitmentBody(BaseModel):
    """What the tenant's invoices of each month come to at least, net."""

    model_config = ConfigDict(extra="forbid")

    amount: Decimal = Field(gt=0, max_digits=18, decimal_places=2)
    valid_from: Month
    valid_until: Month | None = Field(None, description="the first month without it")
    reason: str = Field(min_length=1, max_length=500)


class CommitmentEnd(BaseModel):
    """The first month without it."""

    model_config = ConfigDict(extra="forbid")

    valid_until: Month


class CommitmentView(BaseModel):
    """A commitment and who approved it."""

    id: str
    currency: str
    amount: str
    valid_from: str
    valid_until: str | None
    approved_by: str
    reason: str


@router.get("/prices")
def get_prices(slug: str, session: Transaction) -> list[PriceView]:
    """Every price that the tenant has or had of its own. For all else the list's prices hold."""
    return [_price(own) for own in price_book.own_prices(session, known_tenant(session, slug).id)]


@router.post("/prices", status_code=201)
def post_price(slug: str, body: PriceBody, caller: BillingCaller, session: Transaction) -> PriceView:
    """Set a price. It never changes; to change it, end it and set another."""
    tenant, now = known_tenant(session, slug), clock.now()
    own = price_book.set_price(
        session, tenant_id=tenant.id, variant_id=body.model, unit=body.unit, per_million=body.per_million,
        tiers=[Tier(tier.from_tokens, tier.per_million) for tier in body.tiers], valid_from=body.valid_from or now,
        valid_until=body.valid_until, retroactive=body.retroactive, by=caller.actor, reason=body.reason, now=now,
    )  # fmt: skip
    view = _price(own)
    audit(session, caller.actor, "price.set", view.id, tenant.id, view.model_dump(mode="json"))
    return view


@router.post("/prices/{price_id}/end")
def post_price_end(slug: str, price_id: str, body: PriceEnd, caller: BillingCaller, session: Transaction) -> PriceView:
    """From when on the list's price holds again."""
    tenant = known_tenant(session, slug)
    own = price_book.end_price(session, tenant.id, _id(ids.PRICE, price_id), body.valid_until, clock.now())
    audit(session, caller.actor, "price.end", price_id, tenant.id, {"valid_until": body.valid_until.isoformat()})
    return _price(own)


@router.get("/commitments")
def get_commitments(slug: str, session: Transaction) -> list[CommitmentView]:
    """Every minimum commitment of the tenant, oldest first."""
    return [_commitment(row) for row in price_book.commitments_of(session, known_tenant(session, slug).id)]


@router.post("/commitments", status_code=201)
def post_commitment(slug: str, body: CommitmentBody, caller: BillingCaller, session: Transaction) -> CommitmentView:
    """Commit the tenant to a minimum. What a month lacks becomes a line of its invoice."""
    tenant = known_tenant(session, slug)
    row = price_book.commit(
        session, tenant_id=tenant.id, amount=body.amount, valid_from=_month(body.valid_from, "valid_from"),
        valid_until=None if body.valid_until is None else _month(body.valid_until, "valid_until"), by=caller.actor,
        reason=body.reason, now=clock.now(),
    )  # fmt: skip
    view = _commitment(row)
    audit(session, caller.actor, "commitment.set", view.id, tenant.id, view.model_dump(mode="json"))
    return view


@router.post("/commitments/{commitment_id}/end")
def post_commitment_end(
    slug: str, commitment_id: str, body: CommitmentEnd, caller: BillingCaller, session: Transaction
) -> CommitmentView:
    """Name the first month without it."""
    tenant, id = known_tenant(session, slug), _id(ids.COMMITMENT, commitment_id)
    row = price_book.end_commitment(session, tenant.id, id, _month(body.valid_until, "valid_until"), clock.now())
    audit(session, caller.actor, "commitment.end", commitment_id, tenant.id, {"valid_until": body.valid_until})
    return _commitment(row)


def _month(text: str, param: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no month.", param=param) from error


def _id(prefix: str, text: str) -> UUID:
    try:
        return ids.from_wire(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param="id") from error


def _price(own: OwnPrice) -> PriceView:
    return PriceView(
        id=ids.to_wire(ids.PRICE, own.id),
        model=own.variant_id,
        unit=own.unit,
        currency=own.currency,
        per_million=f"{own.per_million.normalize():f}",
        tiers=[
            TierView(from_tokens=tier.from_tokens, per_million=f"{tier.per_million.normalize():f}")
            for tier in own.tiers
        ],
        valid_from=own.valid_from,
        valid_until=own.valid_until,
        approved_by=own.approved_by,
        reason=own.reason,
    )


def _commitment(row: Commitment) -> CommitmentView:
    return CommitmentView(
        id=ids.to_wire(ids.COMMITMENT, row.id),
        currency=row.currency,
        amount=f"{row.amount:.2f}",
        valid_from=f"{row.valid_from:%Y-%m}",
        valid_until=None if row.valid_until is None else f"{row.valid_until:%Y-%m}",
        approved_by=row.approved_by,
        reason=row.reason,
    )
