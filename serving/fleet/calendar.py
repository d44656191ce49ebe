"""Opening hours as instants. Pure: a calendar and an instant in, instants out; no clock, no database.

Hours are written in the wall-clock time of a zone and compared as instants, half-open. Where the clocks change, a time
that comes twice opens at its first coming and closes at its second; one that is skipped comes as late as it would have.
Hours that would then begin after their end do not come that day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

HORIZON_DAYS = 60  # what does not open for longer than this is not waited for; each look ahead costs 30 us a day

_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Span:
    """Open over [opens, closes) on a day of the week; 1 is Monday."""

    weekday: int
    opens: time
    closes: time


@dataclass(frozen=True, slots=True)
class Calendar:
    """A week of spans in one zone, closed on holidays. A holiday is a civil day of that zone, with its name."""

    id: str
    zone: ZoneInfo
    prewarm: timedelta
    spans: tuple[Span, ...]
    holidays: Mapping[date, str]

    def __str__(self) -> str:
        """As people write it: `Mon-Fri 08:00-18:00 Europe/Berlin, not on holidays`."""
        hours = ", ".join(f"{_days(days)} {opens:%H:%M}-{closes:%H:%M}" for (opens, closes), days in _by_time(self))
        return f"{hours} {self.zone.key}" + (", not on holidays" if self.holidays else "")


@dataclass(frozen=True, slots=True)
class Opening:
    """Open over [starts_at, ends_at), in UTC."""

    starts_at: datetime
    ends_at: datetime


def is_open(calendar: Calendar, instant: datetime) -> bool:
    """Whether the calendar is open at an instant."""
    today = instant.astimezone(calendar.zone).date()
    return any(opening.starts_at <= instant < opening.ends_at for opening in _openings_of(calendar, today))


def openings(calendar: Calendar, instant: datetime) -> Iterator[Opening]:
    """The openings that have not ended by an instant, in order."""
    today = instant.astimezone(calendar.zone).date()
    for day in range(HORIZON_DAYS):
        for opening in _openings_of(calendar, today + timedelta(days=day)):
            if opening.ends_at > instant:
                yield opening


def next_opening(calendar: Calendar, instant: datetime) -> datetime | None:
    """The first start of an opening after an instant; None when there is none within HORIZON_DAYS."""
    return next((opening.starts_at for opening in openings(calendar, instant) if opening.starts_at > instant), None)


def in_words(instant: datetime, zone: ZoneInfo) -> str:
    """For people: `Monday 2026-11-30 08:00 Europe/Berlin`."""
    return f"{instant.astimezone(zone):%A %Y-%m-%d %H:%M} {zone.key}"


def _openings_of(calendar: Calendar, day: date) -> Iterator[Opening]:
    if day in calendar.holidays:
        return
    for span in calendar.spans:
        if span.weekday != day.isoweekday():
            continue
        closes = datetime.combine(day, span.closes, calendar.zone)
        opening = Opening(
            starts_at=datetime.combine(day, span.opens, calendar.zone).astimezone(UTC),
            ends_at=max(closes.astimezone(UTC), closes.replace(fold=1).astimezone(UTC)),
        )
        if opening.starts_at < opening.ends_at:
            yield opening


def _by_time(calendar: Calendar) -> list[tuple[tuple[time, time], list[int]]]:
    days: dict[tuple[time, time], list[int]] = {}
    for span in calendar.spans:
        days.setdefault((span.opens, span.closes), []).append(span.weekday)
    return sorted(days.items(), key=lambda hours: (hours[1], hours[0]))


def _days(days: list[int]) -> str:
    names = [_DAY_NAMES[day - 1] for day in days]
    if len(days) > 2 and days == list(range(days[0], days[-1] + 1)):
        return f"{names[0]}-{names[-1]}"
    return ", ".join(names)
