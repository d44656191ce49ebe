"""Judge what the catalog files say about opening hours: calendars, who follows them, the site's overrides. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from studio.catalog.declaration import WEEKDAYS, CalendarFile, DeclaredCalendar, DeclaredModel, Site
from studio.catalog.yaml_lines import Place


def judge_calendars(file: CalendarFile) -> Iterator[tuple[Place, str]]:
    """What is wrong within `calendars.yaml`."""
    for index, calendar in enumerate(file.calendars):
        place: Place = ("calendars", index)
        if calendar.id in {earlier.id for earlier in file.calendars[:index]}:
            yield (*place, "id"), f"the calendar {calendar.id} is declared twice"
        yield from _judge_hours(calendar, place)
        seen = set()
        for position, holiday in enumerate(calendar.holidays):
            if holiday.day in seen:
                yield (*place, "holidays", position), f"{calendar.id}: {holiday.day} is a holiday twice"
            seen.add(holiday.day)


def judge_calendar_names(model: DeclaredModel, file: CalendarFile) -> Iterator[tuple[Place, str]]:
    """Variants that follow a calendar which nobody declares."""
    declared = {calendar.id for calendar in file.calendars}
    for index, variant in enumerate(model.variants):
        if variant.calendar is not None and variant.calendar not in declared:
            yield ("variants", index, "calendar"), f"{variant.id}: no calendar is named {variant.calendar}"


def judge_overrides(site: Site) -> Iterator[tuple[Place, str]]:
    """Overrides of what has no replicas of its own here, or two of one variant."""
    running = {entry.variant for entry in site.deploy if entry.served_by is None}
    for index, override in enumerate(site.overrides):
        place: Place = ("overrides", index)
        if override.variant not in running:
            yield (*place, "variant"), f"{override.variant} has no replicas of its own here that could be overridden"
        if override.variant in {earlier.variant for earlier in site.overrides[:index]}:
            yield (*place, "variant"), f"{override.variant} is overridden twice"


def _judge_hours(calendar: DeclaredCalendar, place: Place) -> Iterator[tuple[Place, str]]:
    for position, hours in enumerate(calendar.hours):
        if hours.closes <= hours.opens:
            yield (*place, "hours", position), f"{calendar.id}: these hours close before they open"
        if len(set(hours.days)) < len(hours.days):
            yield (*place, "hours", position, "days"), f"{calendar.id}: a day is named twice"
    for (_, earlier), (position, later) in combinations(enumerate(calendar.hours), 2):
        shared = [day for day in WEEKDAYS if day in earlier.days and day in later.days]
        if shared and earlier.opens < later.closes and later.opens < earlier.closes:
            on = ", ".join(shared)
            yield (*place, "hours", position), f"{calendar.id}: these hours overlap earlier ones on {on}"
