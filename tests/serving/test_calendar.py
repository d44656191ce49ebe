"""Opening hours as instants: every transition and its neighbours, holidays, and the days on which the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fleet.calendar import Calendar, Span, in_words, is_open, next_opening, openings

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Calendar(
    id="office",
    zone=BERLIN,
    prewarm=timedelta(minutes=30),
    spans=tuple(Span(day, time(8), time(18)) for day in range(1, 6)),
    holidays={date(2026, 12, 25): "1. Weihnachtstag"},
)
INSTANTS = st.timedeltas(timedelta(0), timedelta(days=730)).map(datetime(2026, 1, 1, tzinfo=UTC).__add__)


def berlin(text: str) -> datetime:
    """A wall-clock time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def every_day(opens: time, closes: time) -> Calendar:
    return Calendar("daily", BERLIN, timedelta(0), tuple(Span(day, opens, closes) for day in range(1, 8)), {})


@pytest.mark.parametrize(
    ("instant", "open_then"),
    [
        ("2026-11-25 07:59:59", False),
        ("2026-11-25 08:00:00", True),
        ("2026-11-25 17:59:59", True),
        ("2026-11-25 18:00:00", False),
        ("2026-11-27 17:59:59", True),  # Friday
        ("2026-11-27 18:00:00", False),
        ("2026-11-28 12:00:00", False),  # Saturday
        ("2026-11-30 07:59:59", False),  # Monday
        ("2026-11-30 08:00:00", True),
        ("2026-12-24 12:00:00", True),
        ("2026-12-25 12:00:00", False),  # a Friday, but a holiday
        ("2026-03-27 17:59:59", True),  # the Friday before the clocks change, and the Monday after
        ("2026-03-30 07:59:59", False),
        ("2026-03-30 08:00:00", True),
        ("2026-10-26 07:59:59", False),
        ("2026-10-26 08:00:00", True),
    ],
)
def test_open_is_half_open_in_wall_clock_time(instant: str, open_then: bool) -> None:
    assert is_open(OFFICE, berlin(instant)) is open_then


@pytest.mark.parametrize(
    ("instant", "opening"),
    [
        ("2026-11-25 07:59:59", "2026-11-25 08:00"),
        ("2026-11-25 08:00:00", "2026-11-26 08:00"),
        ("2026-11-27 18:00:00", "2026-11-30 08:00"),
        ("2026-12-24 18:00:00", "2026-12-28 08:00"),
        ("2026-03-27 18:00:00", "2026-03-30 08:00"),
        ("2026-10-23 18:00:00", "2026-10-26 08:00"),
    ],
)
def test_the_next_opening_passes_over_weekends_and_holidays(instant: str, opening: str) -> None:
    assert next_opening(OFFICE, berlin(instant)) == berlin(opening)


def test_a_weekend_has_an_hour_less_in_march_and_one_more_in_october() -> None:
    def closed(friday: str) -> timedelta:
        closes = berlin(friday).astimezone(UTC)
        opens = next_opening(OFFICE, closes)
        assert opens is not None
        return opens - closes

    assert closed("2026-03-20 18:00") == timedelta(hours=62)
    assert closed("2026-03-27 18:00") == timedelta(hours=61)
    assert closed("2026-10-23 18:00") == timedelta(hours=63)


class TestWhereTheClocksChange:
    def lengths(self, calendar: Calendar, day: str) -> list[timedelta]:
        midnight = berlin(day)
        return [
            opening.ends_at - opening.starts_at
            for opening in openings(calendar, midnight)
            if opening.starts_at.astimezone(BERLIN).date() == midnight.date()
        ]

    def test_a_night_that_loses_an_hour(self) -> None:
        assert self.lengths(every_day(time(1), time(4)), "2026-03-29") == [timedelta(hours=2)]

    def test_a_night_that_gains_an_hour(self) -> None:
        assert self.lengths(every_day(time(1), time(4)), "2026-10-25") == [timedelta(hours=4)]

    def test_hours_that_are_skipped_come_an_hour_later_by_the_clock(self) -> None:
        (opening, *_) = openings(every_day(time(2, 15), time(2, 45)), berlin("2026-03-29"))
        assert f"{opening.starts_at.astimezone(BERLIN):%H:%M}" == "03:15"
        assert opening.ends_at - opening.starts_at == timedelta(minutes=30)

    def test_hours_that_would_end_before_they_begin_do_not_come(self) -> None:
        calendar = every_day(time(2, 30), time(3, 15))
        assert self.lengths(calendar, "2026-03-29") == []
        assert next_opening(calendar, berlin("2026-03-29")) == berlin("2026-03-30 02:30")

    def test_hours_that_come_twice_are_open_from_the_first_to_the_second(self) -> None:
        assert self.lengths(every_day(time(2, 15), time(2, 45)), "2026-10-25") == [timedelta(minutes=90)]


@given(INSTANTS)
def test_the_next_opening_is_where_it_becomes_open(instant: datetime) -> None:
    opening = next_opening(OFFICE, instant)
    assert opening is not None
    assert opening > instant
    assert is_open(OFFICE, opening)
    assert not is_open(OFFICE, opening - timedelta(microseconds=1))


@given(INSTANTS)
def test_open_is_what_a_clock_on_the_wall_says(instant: datetime) -> None:
    local = instant.astimezone(BERLIN)
    on_the_wall = local.isoweekday() <= 5 and 8 <= local.hour < 18 and local.date() not in OFFICE.holidays
    assert is_open(OFFICE, instant) is on_the_wall


def test_a_calendar_that_never_opens_is_not_waited_for() -> None:
    assert next_opening(Calendar("never", BERLIN, timedelta(0), (), {}), berlin("2026-11-25")) is None


def test_people_read_it_as_they_would_write_it() -> None:
    assert str(OFFICE) == "Mon-Fri 08:00-18:00 Europe/Berlin, not on holidays"
    assert in_words(datetime(2026, 11, 30, 7, tzinfo=UTC), BERLIN) == "Monday 2026-11-30 08:00 Europe/Berlin"
