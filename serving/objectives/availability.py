"""Whether a model was there when it was open. Pure: hours and replicas in, seconds out.

The open time is what calendar and overrides said. Time that somebody closed by an override is no open time, and is
counted apart, so that nobody gets a good figure by closing. Known limits: calendars are not dated, so a month is judged
by the present one; a replica that drains counts as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serving.fleet.calendar import is_open
from serving.fleet.desired import SiteVariant, in_force
from serving.fleet.hours import Hours

NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Span:
    """Over [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Availability:
    """Of one variant over a span. `openings` counts the times at which it opened, `warm` those that met a replica."""

    open: timedelta
    available: timedelta
    closed_by_override: timedelta
    openings: int
    warm: int


def availability(hours: Hours, variant: SiteVariant, ready: Iterable[Span], over: Span) -> Availability:
    """`ready` are the spans in which a replica of the variant answered; they may overlap."""
    there = _merged(ready)
    open_time = available = closed = NOTHING
    openings = warm = 0
    was_open: bool | None = None  # what began before the span is no opening of it
    for part, part_is_open, is_closed_by_hand in _parts(hours, variant, over):
        if part_is_open:
            open_time += part.end - part.start
            available += _overlap(part, there)
            if was_open is False:
                openings += 1
                warm += any(one.start <= part.start < one.end for one in there)
        elif is_closed_by_hand:
            closed += part.end - part.start
        was_open = part_is_open
    return Availability(open_time, available, closed, openings, warm)


def _parts(hours: Hours, variant: SiteVariant, over: Span) -> Iterator[tuple[Span, bool, bool]]:
    """The span cut at every decision: whether the variant was open, and whether only an override kept it closed."""
    at, decision = over.start, hours.decide(variant, over.start)
    for then, following in hours.decisions_after(variant, over.start):
        if then >= over.end:
            break
        if then > at:
            yield Span(at, then), decision.is_open, _closed_by_hand(hours, variant, at)
        at, decision = then, following
    if at < over.end:
        yield Span(at, over.end), decision.is_open, _closed_by_hand(hours, variant, at)


def _closed_by_hand(hours: Hours, variant: SiteVariant, at: datetime) -> bool:
    override = in_force(hours.overrides_of(variant), at)
    calendar = hours.calendar_of(variant)
    return override is not None and override.replicas == 0 and (calendar is None or is_open(calendar, at))


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: one.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        elif span.start < span.end:
            merged.append(span)
    return merged


def _overlap(part: Span, spans: Sequence[Span]) -> timedelta:
    shared = (min(part.end, span.end) - max(part.start, span.start) for span in spans)
    return sum((length for length in shared if length > NOTHING), NOTHING)
