"""Cards for one tenant alone: who gets how many from when to when, and who agreed. Their hours are `gpu_hours.py`.

In a cluster the tenant's own namespace may hold so many cards more (`studio/cluster/tenants.py`).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from studio import gpu_usage, ids
from studio.db.tenancy import Tenant
from studio.db.usage import CardReservation
from studio.errors import Conflict, InvalidRequest, NotFound

MOST_CARDS = 4096


def reserve(
    session: Session,
    *,
    tenant_id: UUID,
    cards: int,
    valid_from: datetime,
    valid_until: datetime | None,
    by: str,
    reason: str,
    now: datetime,
) -> CardReservation:
    """Reserve cards from now or later on; several at once add up. InvalidRequest where nobody could pay for them."""
    if not 1 <= cards <= MOST_CARDS:
        raise InvalidRequest(f"Reserve between 1 and {MOST_CARDS:,} cards, not {cards:,}.", param="cards")
    if valid_from < now:
        raise InvalidRequest("Cards are reserved from now on: what is over could not be used.", param="valid_from")
    if valid_until is not None and valid_until <= valid_from:
        raise InvalidRequest("The reservation would end before it begins.", param="valid_until")
    if session.get_one(Tenant, tenant_id).closed_at is not None:
        raise Conflict("The tenant is closed: open it again first.")
    priced = {"tenant": tenant_id, "at": valid_from, "variant": gpu_usage.PRODUCT, "unit": gpu_usage.UNIT}
    if session.execute(_PRICE, priced).first() is None:
        raise InvalidRequest(
            "GPU hours have no price for this tenant at that time: name `gpu_hour` under its currency in"
            " catalog/price_lists.yaml, or set an own one (`studio price set --model gpu --unit gpu_hour`).",
            param="tenant",
        )
    row = CardReservation(
        id=ids.uuid7(), tenant_id=tenant_id, cards=cards, valid_from=valid_from, valid_until=valid_until,
        approved_by=by, reason=reason, recorded_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def end(session: Session, tenant_id: UUID, reservation_id: UUID, at: datetime, now: datetime) -> CardReservation:
    """Give the cards back. Never in the past, and only once."""
    query = select(CardReservation).where(CardReservation.id == reservation_id, CardReservation.tenant_id == tenant_id)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"The tenant has no reservation {ids.to_wire(ids.CARD_RESERVATION, reservation_id)}.")
    if row.valid_until is not None:
        raise Conflict(f"The reservation ends already, at {row.valid_until.isoformat()}.")
    if at < now or at <= row.valid_from:
        raise InvalidRequest("A reservation ends in the future, after it has begun.", param="valid_until")
    session.execute(update(CardReservation).where(CardReservation.id == row.id).values(valid_until=at))
    session.refresh(row)
    return row


def of_tenant(session: Session, tenant_id: UUID) -> list[CardReservation]:
    """Every reservation of a tenant, oldest first."""
    query = select(CardReservation).where(CardReservation.tenant_id == tenant_id)
    return list(session.scalars(query.order_by(CardReservation.valid_from, CardReservation.id)))


_PRICE = text("""
    select p.price_id
    from tenant_billing b
    cross join lateral price_at(
        b.tenant_id, b.currency, :variant, :unit, cast(:at as timestamptz)) p
    where b.tenant_id = :tenant and b.valid_from <= (cast(:at as timestamptz) at time zone b.time_zone)::date
      and (b.valid_until is null or (cast(:at as timestamptz) at time zone b.time_zone)::date < b.valid_until)
""")
