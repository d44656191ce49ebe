"""Availability: a model was there when it was open, or was not, and nobody's override makes a figure better."""

from __future__ import annotations

from datetime import timedelta

from serving.fleet.desired import Override, SiteVariant
from serving.fleet.hours import Hours
from serving.objectives.availability import Availability, Span, availability
from studio import ids
from tests.serving.test_calendar import OFFICE, berlin

VARIANT = SiteVariant("model", deployed=True, site_replicas=1, calendar_id="office")
WEDNESDAY = Span(berlin("2026-11-25 00:00"), berlin("2026-11-26 00:00"))


def seen(*ready: tuple[str, str], override: Override | None = None, over: Span = WEDNESDAY) -> Availability:
    hours = Hours({"office": OFFICE}, {"model": (override,)} if override else {})
    return availability(hours, VARIANT, [Span(berlin(start), berlin(end)) for start, end in ready], over)


def by_hand(replicas: int | None, start: str, end: str) -> Override:
    return Override(
        ids.uuid7(), "model", berlin(start), berlin(end), replicas, "a reason", "xpu_ops", berlin("2026-11-25 00:00")
    )


def test_a_replica_from_prewarm_to_close_is_all_of_the_day() -> None:
    whole = seen(("2026-11-25 07:40", "2026-11-25 18:00:30"))
    assert (whole.open, whole.available, whole.openings, whole.warm) == (timedelta(hours=10), timedelta(hours=10), 1, 1)


def test_a_late_and_broken_day_is_counted_to_the_second_and_overlaps_count_once() -> None:
    broken = seen(
        ("2026-11-25 08:05:01", "2026-11-25 12:00"), ("2026-11-25 11:00", "2026-11-25 13:00"),
        ("2026-11-25 14:00", "2026-11-25 19:00"), ("2026-11-25 02:00", "2026-11-25 03:00"),
    )  # fmt: skip
    assert broken.open - broken.available == timedelta(hours=1, minutes=5, seconds=1)
    assert (broken.openings, broken.warm) == (1, 0)


def test_a_weekend_has_no_open_time() -> None:
    saturday = Span(berlin("2026-11-28 00:00"), berlin("2026-11-29 00:00"))
    assert seen(("2026-11-28 08:00", "2026-11-28 18:00"), over=saturday).open == timedelta(0)


def test_a_holiday_has_no_open_time_and_no_opening() -> None:
    christmas = Span(berlin("2026-12-24 00:00"), berlin("2026-12-27 00:00"))  # from Thursday to Saturday
    quiet = seen(("2026-12-24 07:40", "2026-12-24 18:00"), over=christmas)
    assert (quiet.open, quiet.available, quiet.openings) == (timedelta(hours=10), timedelta(hours=10), 1)


def test_what_was_closed_by_hand_is_not_open_and_is_told() -> None:
    closed = seen(("2026-11-25 07:40", "2026-11-25 12:00"), override=by_hand(0, "2026-11-25 12:00", "2026-11-25 20:00"))
    assert (closed.open, closed.available) == (timedelta(hours=4), timedelta(hours=4))
    assert closed.closed_by_override == timedelta(hours=6)  # the evening would have been closed anyway


def test_what_was_opened_by_hand_is_promised_too() -> None:
    longer = seen(("2026-11-25 07:40", "2026-11-25 18:00"), override=by_hand(1, "2026-11-25 17:00", "2026-11-25 20:00"))
    assert (longer.open, longer.available) == (timedelta(hours=12), timedelta(hours=10))
