"""What people say against the calendar: overrides made and ended. Which of them speaks is decided in `desired.py`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from studio import ids
from studio.db.catalog import ModelVariant
from studio.db.hours import SITE, HoursOverride
from studio.errors import Conflict, InvalidRequest, ModelNotFound, NotFound

FARTHEST = timedelta(days=3660)

# `open`: as many as the site runs when open. `calendar`: as the calendar says, whatever older overrides say.
Replicas = int | Literal["open", "calendar"]


def add_override(
    session: Session,
    *,
    model: str,
    replicas: Replicas,
    starts_at: datetime,
    ends_at: datetime | None,
    reason: str,
    by: str,
    now: datetime,
) -> HoursOverride:
    """Let a person's word hold over [starts_at, ends_at). `now` is that of the clock of opening hours."""
    variant = session.get(ModelVariant, model)
    if variant is None or variant.retired_at is not None:
        raise ModelNotFound(model)
    if not variant.deployed:
        raise Conflict(f"{model} is not deployed at this site: no override can start it", param="model")
    if variant.served_by is not None:
        raise Conflict(f"{model} is served by the replicas of {variant.served_by}: override that one", param="model")
    if ends_at is not None and ends_at <= max(starts_at, now):
        raise InvalidRequest("an override must end after it begins, and in the future", param="ends_at")
    if abs((ends_at or starts_at) - now) > FARTHEST or abs(starts_at - now) > FARTHEST:
        raise InvalidRequest("an override lies within ten years; one without `ends_at` holds until it is ended")
    numbers = {"open": variant.site_replicas, "calendar": None}
    override = HoursOverride(
        id=ids.uuid7(),
        variant_id=model,
        starts_at=starts_at,
        ends_at=ends_at,
        replicas=numbers[replicas] if isinstance(replicas, str) else replicas,
        reason=reason,
        created_by=by,
    )
    session.add(override)
    session.flush()
    return override


def end_override(session: Session, id: UUID, now: datetime) -> HoursOverride:
    """Let an override end now, or never begin. The site's own are declared in files and end only there."""
    override = session.get(HoursOverride, id, with_for_update={"of": HoursOverride})
    if override is None:
        raise NotFound("there is no override with this id")
    if override.created_by == SITE:
        raise Conflict("the site's own overrides stand in catalog/sites; `calendar` as an override of yours goes first")
    if override.ends_at is not None and override.ends_at <= now:
        raise Conflict("this override has ended already")
    override.ends_at = max(now, override.starts_at)
    session.flush()
    return override
