"""When models are open here, and overrides of that. Instants are those of the clock of opening hours."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from serving.admin.access import Caller, Transaction
from serving.fleet.desired import Override, SiteVariant, in_force
from serving.fleet.hours import Hours, read_hours
from serving.fleet.overrides import add_override, end_override
from serving.fleet.reconcile import site_variants
from studio import clock, hours_clock, ids
from studio.db.hours import HoursOverride
from studio.errors import InvalidRequest
from studio.tenants import audit

router = APIRouter(prefix="/fleet")


class NewOverride(BaseModel):
    """So many replicas over [starts_at, ends_at), whatever the calendar says.

    `open` stands for as many as when open; `calendar` hands the word back to the calendar, above older overrides.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    replicas: Annotated[int, Field(ge=0, le=64)] | Literal["open", "calendar"] = "open"
    starts_at: AwareDatetime | None = None  # None: now
    ends_at: AwareDatetime | None = None  # None: until it is ended
    reason: str = Field(min_length=1)


class OverrideView(BaseModel):
    """One override. `replicas` null: as the calendar says."""

    id: str
    model: str
    replicas: int | None
    starts_at: datetime
    ends_at: datetime | None
    reason: str
    created_by: str
    in_force: bool


class NextChange(BaseModel):
    """When the number of replicas changes next, if nobody intervenes."""

    at: datetime
    replicas: int
    reason: str


class VariantHours(BaseModel):
    """One deployed model: what its calendar says, what overrides say, and what follows."""

    model: str
    calendar: str | None
    hours: str
    open: bool
    desired: int
    reason: str
    next_change: NextChange | None
    overrides: list[OverrideView]


class HoursReport(BaseModel):
    """All deployed models with replicas of their own."""

    now: datetime
    clock_offset_seconds: float
    models: list[VariantHours]


@router.get("/hours")
def get_hours(session: Transaction) -> HoursReport:
    """Opening hours of what is deployed here, as they hold now. Batches that wait may ask for one replica more."""
    hours = read_hours(session)
    now = clock.now() + hours.offset
    own = [variant for variant in site_variants(session) if variant.deployed and variant.served_by is None]
    return HoursReport(
        now=now,
        clock_offset_seconds=hours.offset.total_seconds(),
        models=[_variant(hours, variant, now) for variant in own],
    )


@router.post("/overrides", status_code=201)
def post_override(body: NewOverride, caller: Caller, session: Transaction) -> OverrideView:
    """Override the calendar of a model. The fleet follows within seconds."""
    now = hours_clock.hours_now(session)
    override = add_override(
        session,
        model=body.model,
        replicas=body.replicas,
        starts_at=body.starts_at or now,
        ends_at=body.ends_at,
        reason=body.reason,
        by=caller.actor,
        now=now,
    )
    details = body.model_dump(mode="json", exclude={"model"})
    audit(session, caller.actor, "fleet.override", body.model, None, details)
    return _made(override, now)


@router.delete("/overrides/{override_id}")
def delete_override(override_id: str, caller: Caller, session: Transaction) -> OverrideView:
    """End an override now; the calendar or an older override speaks again."""
    now = hours_clock.hours_now(session)
    override = end_override(session, _id(override_id), now)
    audit(session, caller.actor, "fleet.override_end", override.variant_id, None, {"override": override_id})
    return _made(override, now)


def _id(text: str) -> UUID:
    try:
        return ids.from_wire(ids.OVERRIDE, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param="override_id") from error


def _variant(hours: Hours, variant: SiteVariant, now: datetime) -> VariantHours:
    decision, change = hours.decide(variant, now), hours.next_change(variant, now)
    calendar, zone = hours.calendar_of(variant), hours.zone_of(variant)
    speaking = in_force(hours.overrides_of(variant), now)
    return VariantHours(
        model=variant.id,
        calendar=variant.calendar_id,
        hours=str(calendar or "around the clock"),
        open=decision.is_open,
        desired=decision.replicas,
        reason=decision.reason,
        next_change=change
        and NextChange(at=change[0].astimezone(zone), replicas=change[1].replicas, reason=change[1].reason),
        overrides=[_view(override, override is speaking) for override in hours.overrides_of(variant)],
    )


def _made(row: HoursOverride, now: datetime) -> OverrideView:
    override = Override(
        row.id, row.variant_id, row.starts_at, row.ends_at, row.replicas, row.reason, row.created_by, row.created_at
    )
    return _view(override, override.covers(now))


def _view(override: Override, is_in_force: bool) -> OverrideView:
    return OverrideView(
        id=ids.to_wire(ids.OVERRIDE, override.id),
        model=override.variant_id,
        replicas=override.replicas,
        starts_at=override.starts_at,
        ends_at=override.ends_at,
        reason=override.reason,
        created_by=override.created_by,
        in_force=is_in_force,
    )
