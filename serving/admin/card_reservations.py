"""Cards that are reserved for one tenant: operators' routes. Only who may bill reserves, since it costs by the hour."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from billing import card_reservations
from billing.card_reservations import MOST_CARDS
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.db.usage import CardReservation
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

router = APIRouter(prefix="/tenants/{slug}/card-reservations")


class ReservationBody(BaseModel):
    """Cards for this tenant alone, paid by the hour."""

    model_config = ConfigDict(extra="forbid")

    cards: int = Field(ge=1, le=MOST_CARDS)
    valid_from: AwareDatetime | None = Field(None, description="now if absent")
    valid_until: AwareDatetime | None = Field(None, description="until it is ended if absent")
    reason: str = Field(min_length=1, max_length=500)


class ReservationEnd(BaseModel):
    """When the cards are given back."""

    model_config = ConfigDict(extra="forbid")

    valid_until: AwareDatetime | None = Field(None, description="now if absent")


class ReservationView(BaseModel):
    """A reservation and who agreed to it."""

    id: str
    cards: int
    valid_from: datetime
    valid_until: datetime | None
    approved_by: str
    reason: str


@router.get("")
def get_reservations(slug: str, session: Transaction) -> list[ReservationView]:
    """Every reservation of the tenant, oldest first."""
    return [_view(row) for row in card_reservations.of_tenant(session, known_tenant(session, slug).id)]


@router.post("", status_code=201)
def post_reservation(slug: str, body: ReservationBody, caller: BillingCaller, session: Transaction) -> ReservationView:
    """Reserve cards. Several reservations at once add up."""
    tenant, now = known_tenant(session, slug), clock.now()
    row = card_reservations.reserve(
        session, tenant_id=tenant.id, cards=body.cards, valid_from=body.valid_from or now,
        valid_until=body.valid_until, by=caller.actor, reason=body.reason, now=now,
    )  # fmt: skip
    view = _view(row)
    audit(session, caller.actor, "cards.reserve", view.id, tenant.id, view.model_dump(mode="json"))
    return view


@router.post("/{reservation_id}/end")
def post_reservation_end(
    slug: str, reservation_id: str, body: ReservationEnd, caller: BillingCaller, session: Transaction
) -> ReservationView:
    """Give the cards back, once."""
    tenant, now = known_tenant(session, slug), clock.now()
    try:
        id = ids.from_wire(ids.CARD_RESERVATION, reservation_id)
    except ValueError as error:
        raise InvalidRequest(str(error), param="reservation_id") from error
    view = _view(card_reservations.end(session, tenant.id, id, body.valid_until or now, now))
    audit(session, caller.actor, "cards.end", view.id, tenant.id, {"valid_until": str(view.valid_until)})
    return view


def _view(row: CardReservation) -> ReservationView:
    return ReservationView(
        id=ids.to_wire(ids.CARD_RESERVATION, row.id), cards=row.cards, valid_from=row.valid_from,
        valid_until=row.valid_until, approved_by=row.approved_by, reason=row.reason,
    )  # fmt: skip
