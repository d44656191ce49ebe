"""Write the declared opening hours: calendars before the variants that name them, the site's overrides after.

Overrides by people are never touched here. The site's are ended when they are no longer declared, never deleted, so
the table tells at any time what held when.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from studio import ids
from studio.catalog.declaration import WEEKDAYS, DeclaredCalendar, DeclaredOverride, Site
from studio.db.hours import SITE, Calendar, Holiday, HoursOverride, OpeningHours

# The site's overrides hold since always: also for a demo's clock that is set back to last week.
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


def write_calendars(session: Session, calendars: tuple[DeclaredCalendar, ...]) -> None:
    """Make the calendars what is declared. Calendars that left stay until `remove_calendars`."""
    for calendar in calendars:
        row = {"time_zone": calendar.time_zone, "prewarm_minutes": calendar.prewarm_minutes}
        statement = upsert(Calendar).values(id=calendar.id, **row)
        session.execute(statement.on_conflict_do_update(index_elements=[Calendar.id], set_=row))
        session.execute(delete(OpeningHours).where(OpeningHours.calendar_id == calendar.id))
        session.execute(delete(Holiday).where(Holiday.calendar_id == calendar.id))
        spans = [
            {
                "calendar_id": calendar.id,
                "weekday": WEEKDAYS.index(day) + 1,
                "opens": hours.opens,
                "closes": hours.closes,
            }
            for hours in calendar.hours
            for day in hours.days
        ]
        session.execute(insert(OpeningHours), spans)
        if holidays := [{"calendar_id": calendar.id} | holiday.model_dump() for holiday in calendar.holidays]:
            session.execute(insert(Holiday), holidays)


def remove_calendars(session: Session, declared: tuple[DeclaredCalendar, ...]) -> None:
    """Remove calendars that are not declared any more; by now no variant names them."""
    session.execute(delete(Calendar).where(Calendar.id.not_in([calendar.id for calendar in declared])))


def write_overrides(session: Session, site: Site, now: datetime) -> None:
    """End the site's overrides that are not declared any more, add those that are new."""
    replicas_when_open = {entry.variant: entry.replicas for entry in site.deploy}
    declared = {override.variant: _word(override, replicas_when_open) for override in site.overrides}
    standing = session.scalars(
        select(HoursOverride).where(HoursOverride.created_by == SITE, HoursOverride.ends_at.is_(None))
    )
    for row in standing:
        if declared.get(row.variant_id) == (row.replicas, row.reason):
            del declared[row.variant_id]
        else:
            row.ends_at = now
    for variant_id, (replicas, reason) in declared.items():
        session.add(
            HoursOverride(
                id=ids.uuid7(),
                variant_id=variant_id,
                replicas=replicas,
                starts_at=ALWAYS,
                ends_at=None,
                reason=reason,
                created_by=SITE,
            )
        )
    session.flush()


def _word(override: DeclaredOverride, replicas_when_open: Mapping[str, int]) -> tuple[int, str]:
    replicas = replicas_when_open[override.variant] if override.replicas == "open" else override.replicas
    return replicas, override.reason
