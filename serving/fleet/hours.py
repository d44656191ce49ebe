"""The hours of this installation: all calendars and overrides of one reading, and what follows for a variant.

Instants here are those of the clock of opening hours, which a demo may move; `offset` leads to it from real time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from serving.fleet.calendar import Calendar, Span
from serving.fleet.desired import Decision, Override, SiteVariant, desired, moments
from studio import clock, hours_clock
from studio.db import hours as tables


@dataclass(frozen=True, slots=True)
class Hours:
    """One consistent reading."""

    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    overrides: Mapping[str, tuple[Override, ...]] = field(default_factory=dict)  # by variant
    offset: timedelta = timedelta(0)

    def calendar_of(self, variant: SiteVariant) -> Calendar | None:
        """The calendar that a variant follows; None: open around the clock."""
        return None if variant.calendar_id is None else self.calendars[variant.calendar_id]

    def zone_of(self, variant: SiteVariant) -> ZoneInfo:
        """The zone in which people read a variant's hours."""
        calendar = self.calendar_of(variant)
        return clock.BERLIN if calendar is None else calendar.zone

    def overrides_of(self, variant: SiteVariant) -> tuple[Override, ...]:
        """What people and the site say about a variant, now and later."""
        return self.overrides.get(variant.id, ())

    def decide(self, variant: SiteVariant, now: datetime, waiting_lines: int = 0) -> Decision:
        """How many replicas the variant should have at an instant."""
        return desired(variant, self.calendar_of(variant), self.overrides_of(variant), waiting_lines, now)

    def decisions_after(self, variant: SiteVariant, now: datetime) -> Iterator[tuple[datetime, Decision]]:
        """The decisions to come, each with the instant from which it holds."""
        for at in moments(self.calendar_of(variant), self.overrides_of(variant), now):
            yield at, self.decide(variant, at)

    def next_change(self, variant: SiteVariant, now: datetime) -> tuple[datetime, Decision] | None:
        """When the number of replicas changes next, and to what."""
        present = self.decide(variant, now).replicas
        later = self.decisions_after(variant, now)
        return next(((at, decision) for at, decision in later if decision.replicas != present), None)

    def opens_at(self, variant: SiteVariant, now: datetime) -> datetime | None:
        """When a variant that is closed opens; None when nothing says that it will."""
        return next((at for at, decision in self.decisions_after(variant, now) if decision.is_open), None)

    def closes_at(self, variant: SiteVariant, now: datetime) -> datetime | None:
        """When a variant that is open closes; None when nothing says that it will."""
        return next((at for at, decision in self.decisions_after(variant, now) if not decision.is_open), None)

    def starts_at(self, variant: SiteVariant, now: datetime) -> datetime | None:
        """When its first replica is started: at once while it should have some, else at the next prewarm."""
        if self.decide(variant, now).replicas > 0:
            return now
        return next((at for at, decision in self.decisions_after(variant, now) if decision.replicas > 0), None)


def assemble(
    calendars: Iterable[tuple[str, str, int]],
    spans: Iterable[tuple[str, int, time, time]],
    holidays: Iterable[tuple[str, date, str]],
    overrides: Iterable[Override],
    offset: timedelta,
) -> Hours:
    """The rows of the four tables, put together."""
    all_spans = sorted(spans)
    all_holidays, all_overrides = list(holidays), list(overrides)
    return Hours(
        calendars={
            id: Calendar(
                id=id,
                zone=clock.zone(zone_name),
                prewarm=timedelta(minutes=prewarm_minutes),
                spans=tuple(
                    Span(weekday, opens, closes)
                    for calendar_id, weekday, opens, closes in all_spans
                    if calendar_id == id
                ),
                holidays={day: name for calendar_id, day, name in all_holidays if calendar_id == id},
            )
            for id, zone_name, prewarm_minutes in calendars
        },
        overrides={
            variant_id: tuple(one for one in all_overrides if one.variant_id == variant_id)
            for variant_id in {one.variant_id for one in all_overrides}
        },
        offset=offset,
    )


def read_hours(session: Session, since: datetime | None = None) -> Hours:
    """As the tables say, without overrides that have ended, or had by `since`."""
    offset = hours_clock.offset(session)
    calendar, span, holiday, override = tables.Calendar, tables.OpeningHours, tables.Holiday, tables.HoursOverride
    columns = (
        override.id, override.variant_id, override.starts_at, override.ends_at, override.replicas, override.reason,
        override.created_by, override.created_at,
    )  # fmt: skip
    not_ended = or_(override.ends_at.is_(None), override.ends_at > (since or clock.now() + offset))
    return assemble(
        calendars=session.execute(select(calendar.id, calendar.time_zone, calendar.prewarm_minutes)).tuples(),
        spans=session.execute(select(span.calendar_id, span.weekday, span.opens, span.closes)).tuples(),
        holidays=session.execute(select(holiday.calendar_id, holiday.day, holiday.name)).tuples(),
        overrides=(Override(*row) for row in session.execute(select(*columns).where(not_ended))),
        offset=offset,
    )
