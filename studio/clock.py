"""The only source of "now". Everything else takes an instant as an argument or asks here.

Instants are UTC and timezone-aware. A civil day exists only together with a zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

BERLIN = ZoneInfo("Europe/Berlin")  # the zone of the processing windows (docs/decisions/0004)


def now() -> datetime:
    """The present instant, UTC."""
    return datetime.now(UTC)


def zone(name: str) -> ZoneInfo:
    """The IANA zone `name`; ValueError naming it when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"there is no time zone named {name!r}") from error


def day_window(day: date, tz: ZoneInfo) -> tuple[datetime, datetime]:
    """The half-open span [start, end) of a civil day, in UTC. It lasts 23 or 25 hours where the clocks change."""
    start = datetime.combine(day, time.min, tzinfo=tz)
    end = datetime.combine(day + timedelta(days=1), time.min, tzinfo=tz)
    return start.astimezone(UTC), end.astimezone(UTC)


def month_start(day: date) -> date:
    """The first day of the month that holds `day`: how a month is written as a date."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """The first day of the month after `month`."""
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)
