"""How many replicas a variant should have: `desired = f(variant, calendar, overrides, queue, now)`. Pure.

Level-triggered: the answer is computed anew each time, so nothing is lost with a tick that comes late or never.
`reconcile.py` writes the answers down, the node agent makes them true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from uuid import UUID

from serving.fleet.calendar import Calendar, in_words, is_open, next_opening, openings
from studio.db.hours import SITE


@dataclass(frozen=True, slots=True)
class SiteVariant:
    """A variant as this site's catalog declares it."""

    id: str
    deployed: bool
    site_replicas: int  # when open
    served_by: str | None = None
    closed_replicas: int = 0  # kept while closed
    calendar_id: str | None = None  # None: open around the clock


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody's word over [starts_at, ends_at): so many replicas; None hands the word back to the calendar."""

    id: UUID
    variant_id: str
    starts_at: datetime
    ends_at: datetime | None
    replicas: int | None
    reason: str
    created_by: str
    created_at: datetime

    def covers(self, instant: datetime) -> bool:
        """Whether it speaks about this instant."""
        return self.starts_at <= instant and (self.ends_at is None or instant < self.ends_at)


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas, and why. `is_open` is false while prewarming: not announced yet, but on the way."""

    replicas: int
    reason: str
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that differs from the one before; `before` is None for a variant that had none."""

    variant_id: str
    before: int | None
    after: int
    reason: str


def desired(
    variant: SiteVariant, calendar: Calendar | None, overrides: Sequence[Override], waiting_lines: int, now: datetime
) -> Decision:
    """The decision for one variant. `waiting_lines` of batches bring up a replica, but only while it is open."""
    if not variant.deployed:
        return Decision(0, "not deployed at this site")
    if variant.served_by is not None:
        return Decision(0, f"served by the replicas of {variant.served_by}")
    override = in_force(overrides, now)
    if override is not None and override.replicas is not None:
        reason = f"override by {override.created_by}: {override.reason}"
        return Decision(override.replicas, reason, is_open=override.replicas > 0)
    if calendar is None or is_open(calendar, now):
        hours = "open around the clock" if calendar is None else f"open ({calendar.id})"
        if waiting_lines > 0 and variant.site_replicas == 0:
            return Decision(1, f"{hours}, and batch lines wait", is_open=True)
        return Decision(variant.site_replicas, hours, is_open=variant.site_replicas > 0)
    opens_at = next_opening(calendar, now)
    if opens_at is None:
        return Decision(_while_closed(variant), f"closed ({calendar.id}) until further notice")
    opening = in_words(opens_at, calendar.zone)
    if opens_at - calendar.prewarm <= now:
        return Decision(variant.site_replicas, f"prewarming ({calendar.id}), opens {opening}")
    return Decision(_while_closed(variant), f"closed ({calendar.id}) until {opening}")


def in_force(overrides: Sequence[Override], now: datetime) -> Override | None:
    """The override that speaks at an instant: a person's before the site's, then the newest."""
    speaking = [override for override in overrides if override.covers(now)]
    return max(speaking, key=lambda one: (one.created_by != SITE, one.created_at, one.id), default=None)


def moments(calendar: Calendar | None, overrides: Sequence[Override], now: datetime) -> Iterator[datetime]:
    """Every instant after `now` at which a decision may change, in order."""
    edges = sorted(edge for one in overrides for edge in (one.starts_at, one.ends_at) if edge is not None)
    streams = [iter(edges)]
    if calendar is not None:
        streams += [
            (opening.starts_at - calendar.prewarm for opening in openings(calendar, now)),
            (opening.starts_at for opening in openings(calendar, now)),
            (opening.ends_at for opening in openings(calendar, now)),
        ]
    return (moment for moment in merge(*streams) if moment > now)


def changes_between(current: Mapping[str, tuple[int, str]], decisions: Mapping[str, Decision]) -> list[Change]:
    """What has to be written so that the numbers and reasons of `current` become those of `decisions`."""
    return [
        Change(
            variant_id, current[variant_id][0] if variant_id in current else None, decision.replicas, decision.reason
        )
        for variant_id, decision in decisions.items()
        if current.get(variant_id) != (decision.replicas, decision.reason)
    ]


def _while_closed(variant: SiteVariant) -> int:
    return min(variant.closed_replicas, variant.site_replicas)
