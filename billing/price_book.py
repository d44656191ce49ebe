"""The price book as people change it: prices and minimum commitments of one tenant. The list is the catalog's.

Append-only and dated: a row's amount never changes, it only receives its end. The person who set a row is stamped on
it. What a price is at an instant is one query, in `usage.py` and in the function `price_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import tiers as rules
from billing.tiers import Tier
from studio import clock, gpu_usage, ids, storage_usage
from studio.db.catalog import Commitment, Model, ModelVariant, Price, PriceTier
from studio.db.tenancy import TenantBilling
from studio.errors import Conflict, InvalidRequest, NotFound
from studio.money import CENT, Currency
from studio.sold_units import BATCH_UNITS, NO_MODELS_GPU_HOURS, TAKES_ADAPTERS, UNITS_BY_TASK

PRICE_STEP = Decimal("0.000001")
_SOLD_BY_DAYS = {storage_usage.PRODUCT: storage_usage.UNIT, gpu_usage.PRODUCT: gpu_usage.UNIT}  # by task


class PriceOverlaps(Conflict):
    """The tenant has a price, or a commitment, of its own for that time already."""

    default_code = "price_overlaps"


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """A price of one tenant over [valid_from, valid_until), and who set it."""

    id: UUID
    variant_id: str
    unit: str
    currency: Currency
    per_million: Decimal
    tiers: tuple[Tier, ...]  # above the first
    valid_from: datetime
    valid_until: datetime | None
    approved_by: str
    reason: str


def set_price(
    session: Session,
    *,
    tenant_id: UUID,
    variant_id: str,
    unit: str,
    per_million: Decimal,
    tiers: Sequence[Tier],
    valid_from: datetime,
    valid_until: datetime | None,
    retroactive: bool,
    by: str,
    reason: str,
    now: datetime,
) -> OwnPrice:
    """A new price of a tenant, in its currency. Before `now` only if `retroactive`: rated usage stays as it is, and a
    re-rating shows what the price would change.
    """
    _require_unit(session, variant_id, unit)
    for amount in (per_million, *(tier.per_million for tier in tiers)):
        if amount < 0 or amount != amount.quantize(PRICE_STEP):
            raise InvalidRequest(f"{amount} is no price: use zero or more, with six decimals.", param="per_million")
    rules.require_falling(per_million, tiers)
    if valid_from < now and not retroactive:
        raise InvalidRequest(
            f"The price would begin in the past ({valid_from.isoformat()}), where usage may be rated already: begin it"
            " later, or say `retroactive` and look at the re-rating.",
            param="valid_from",
        )
    if valid_until is not None and valid_until <= valid_from:
        raise InvalidRequest("The price would end before it begins.", param="valid_until")
    own = OwnPrice(
        id=ids.uuid7(), variant_id=variant_id, unit=unit, currency=_currency(session, tenant_id, valid_from),
        per_million=per_million, tiers=tuple(tiers), valid_from=valid_from, valid_until=valid_until, approved_by=by,
        reason=reason,
    )  # fmt: skip
    row = {
        "id": own.id, "tenant_id": tenant_id, "currency": own.currency, "variant_id": variant_id, "unit": unit,
        "per_million": per_million, "valid_from": valid_from, "valid_until": valid_until, "approved_by": by,
        "reason": reason,
    }  # fmt: skip
    try:
        with session.begin_nested():
            session.execute(insert(Price).values(row))
    except IntegrityError as error:
        raise PriceOverlaps(
            f"The tenant has a price of its own for {unit} of {variant_id} at that time: end that one first."
        ) from error
    if tiers:
        steps = [
            {"price_id": own.id, "from_tokens": tier.from_tokens, "per_million": tier.per_million} for tier in tiers
        ]
        session.execute(insert(PriceTier), steps)
    return own


def end_price(session: Session, tenant_id: UUID, price_id: UUID, at: datetime, now: datetime) -> OwnPrice:
    """End a tenant's price; from then on the list's holds. Never in the past, and only once."""
    row = session.scalars(select(Price).where(Price.id == price_id, Price.tenant_id == tenant_id)).one_or_none()
    if row is None:
        raise NotFound(f"The tenant has no price {ids.to_wire(ids.PRICE, price_id)} of its own.")
    if row.valid_until is not None:
        raise Conflict(f"The price ends already, at {row.valid_until.isoformat()}.")
    if at < now or at <= row.valid_from:
        raise InvalidRequest("A price ends in the future, after it has begun.", param="valid_until")
    session.execute(update(Price).where(Price.id == price_id).values(valid_until=at))
    session.refresh(row)
    return _own(row, _tiers(session, [row.id]).get(row.id, ()))


def own_prices(session: Session, tenant_id: UUID) -> list[OwnPrice]:
    """Every price that a tenant has or had of its own."""
    query = select(Price).where(Price.tenant_id == tenant_id).order_by(Price.variant_id, Price.unit, Price.valid_from)
    rows = session.scalars(query).all()
    tiers = _tiers(session, [row.id for row in rows])
    return [_own(row, tiers.get(row.id, ())) for row in rows]


def commit(
    session: Session,
    *,
    tenant_id: UUID,
    amount: Decimal,
    valid_from: date,
    valid_until: date | None,
    by: str,
    reason: str,
    now: datetime,
) -> Commitment:
    """A minimum that a tenant's invoices of each month come to, net, in its currency. Both dates are firsts."""
    if amount <= 0 or amount != amount.quantize(CENT):
        raise InvalidRequest(f"{amount} is no amount: use more than zero, with two decimals.", param="amount")
    if valid_from < clock.month_start(now.date()):
        raise InvalidRequest("A commitment begins with this month at the earliest.", param="valid_from")
    if valid_until is not None and valid_until <= valid_from:
        raise InvalidRequest("The commitment would end before it begins.", param="valid_until")
    for day in (valid_from, valid_until):
        if day is not None and day != clock.month_start(day):
            raise InvalidRequest(f"A commitment is of whole months, so {day} must be a first.", param="valid_from")
    start, _ = clock.day_window(valid_from, clock.BERLIN)
    row = Commitment(
        id=ids.uuid7(), tenant_id=tenant_id, currency=_currency(session, tenant_id, max(start, now)), amount=amount,
        valid_from=valid_from, valid_until=valid_until, approved_by=by, reason=reason, recorded_at=now,
    )  # fmt: skip
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise PriceOverlaps("The tenant has a commitment for a part of that time: end that one first.") from error
    return row


def end_commitment(
    session: Session, tenant_id: UUID, commitment_id: UUID, valid_until: date, now: datetime
) -> Commitment:
    """The first of the month from which on nothing is committed: next month's at the earliest."""
    query = select(Commitment).where(Commitment.id == commitment_id, Commitment.tenant_id == tenant_id)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"The tenant has no commitment {ids.to_wire(ids.COMMITMENT, commitment_id)}.")
    if row.valid_until is not None:
        raise Conflict(f"The commitment ends already, on {row.valid_until}.")
    this_month = clock.month_start(now.date())
    if valid_until != clock.month_start(valid_until) or valid_until <= max(this_month, row.valid_from):
        raise InvalidRequest("A commitment ends on the first of a later month.", param="valid_until")
    session.execute(update(Commitment).where(Commitment.id == row.id).values(valid_until=valid_until))
    session.refresh(row)
    return row


def commitments_of(session: Session, tenant_id: UUID) -> list[Commitment]:
    """Every commitment of a tenant, oldest first."""
    query = select(Commitment).where(Commitment.tenant_id == tenant_id).order_by(Commitment.valid_from)
    return list(session.scalars(query))


def _require_unit(session: Session, variant_id: str, unit: str) -> None:
    of_variant = select(Model.task, ModelVariant.engine_flags.contains([TAKES_ADAPTERS]))
    found = session.execute(
        of_variant.join(ModelVariant, ModelVariant.model_id == Model.id).where(ModelVariant.id == variant_id)
    ).one_or_none()
    if found is None:
        raise InvalidRequest(f"The catalog has no model {variant_id}.", param="model")
    task, is_trained = found.tuple()
    if unit == gpu_usage.UNIT and task != gpu_usage.PRODUCT:
        raise InvalidRequest(NO_MODELS_GPU_HOURS, param="unit")
    units = UNITS_BY_TASK.get(task, ())
    sold = (*units, *(BATCH_UNITS[one] for one in units), "reused", *(["training"] if is_trained else []))
    if (of_days := _SOLD_BY_DAYS.get(task)) is not None:
        sold = (of_days,)
    if unit not in sold:
        raise InvalidRequest(f"{variant_id} is sold by {', '.join(sold)}; not by {unit!r}.", param="unit")


def _currency(session: Session, tenant_id: UUID, at: datetime) -> Currency:
    query = select(TenantBilling.currency).where(
        TenantBilling.tenant_id == tenant_id,
        TenantBilling.valid_from <= at.date(),
        TenantBilling.valid_until.is_(None) | (TenantBilling.valid_until > at.date()),
    )
    code = session.scalars(query).one_or_none()
    if code is None:
        raise InvalidRequest("The tenant is billed by nobody at that time, so it has no currency.", param="tenant")
    return Currency.parse(code)


def _tiers(session: Session, price_ids: Sequence[UUID]) -> dict[UUID, tuple[Tier, ...]]:
    query = select(PriceTier).where(PriceTier.price_id.in_(price_ids)).order_by(PriceTier.from_tokens)
    found: dict[UUID, tuple[Tier, ...]] = {}
    for row in session.scalars(query):
        found[row.price_id] = (*found.get(row.price_id, ()), Tier(row.from_tokens, row.per_million))
    return found


def _own(row: Price, tiers: tuple[Tier, ...]) -> OwnPrice:
    assert row.approved_by is not None
    assert row.reason is not None
    return OwnPrice(
        id=row.id, variant_id=row.variant_id, unit=row.unit, currency=Currency.parse(row.currency),
        per_million=row.per_million, tiers=tiers, valid_from=row.valid_from, valid_until=row.valid_until,
        approved_by=row.approved_by, reason=row.reason,
    )  # fmt: skip
