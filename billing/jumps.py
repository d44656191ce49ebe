"""Jumps: what is unusual for a tenant, and what will be without a price soon.

A jump holds that tenant's invoices, once for each day, until a person has looked and releases them: it may be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import holds

JUMP = "usage jump"  # who holds
HISTORY_DAYS = 14
# With fewer days of usage a tenant has no habits yet.
LEAST_DAYS = 5
FACTOR = 5
# Small usage jumps all the time.
LEAST_TOKENS = 1_000_000
PRICES_AHEAD = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Jump:
    """A tenant's day with more than FACTOR times the median of its days with usage before."""

    tenant_id: UUID
    tokens: int
    median_tokens: int
    days: int


@dataclass(frozen=True, slots=True)
class PriceGap:
    """Something that is sold now and has no price at an instant to come: its usage would be held.

    `tenant_id`: whose own price it is, where the list has none that goes on; None for the list's.
    """

    tenant_id: UUID | None
    currency: str
    variant_id: str
    unit: str
    ends_at: datetime


def of_day(session: Session, window_day: date) -> list[Jump]:
    """The jumps of a window day, by what is counted of it; the largest first.

    A median, because one earlier jump must not hide the next.
    """
    parameters = {
        "day": window_day, "days": HISTORY_DAYS, "least_days": LEAST_DAYS, "factor": FACTOR, "least": LEAST_TOKENS,
    }  # fmt: skip
    return [Jump(**row) for row in session.execute(_JUMPS, parameters).mappings()]


def hold(session: Session, window_day: date, now: datetime) -> list[Jump]:
    """Hold the tenants with a jump on a day that were not held for it before; those jumps. A day that is counted again
    holds nobody again, and one that a person has released stays released."""
    known = set(session.scalars(_HELD, {"by": JUMP, "reason": f"{_of(window_day)}%"}))
    new = [jump for jump in of_day(session, window_day) if jump.tenant_id not in known]
    for jump in new:
        reason = (
            f"{_of(window_day)} {jump.tokens:,} tokens, more than {FACTOR} times the median of"
            f" {jump.median_tokens:,} on its {jump.days} days with usage before: see whether that is right"
        )
        holds.hold(session, tenant_id=jump.tenant_id, reason=reason, by=JUMP, now=now)
    return new


def _of(window_day: date) -> str:
    return f"the usage of {window_day} is"


def price_gaps(session: Session, now: datetime) -> list[PriceGap]:
    """Prices that end within PRICES_AHEAD, or have ended, and are followed by none. A tenant's own price prices nobody
    else's usage, so it fills no gap of the list; the list fills one of its."""
    rows = session.execute(_PRICE_GAPS, {"ahead": now + PRICES_AHEAD})
    return [PriceGap(**row) for row in rows.mappings()]


_HELD = text("select tenant_id from invoice_holds where held_by = :by and reason like :reason")

_JUMPS = text("""
    with per_day as (
        select tenant_id, window_day, sum(tokens)::bigint as tokens
        from usage_daily
        where window_day between cast(:day as date) - :days and :day and unit not in ('storage', 'gpu_hour')
        group by tenant_id, window_day
    ), habits as (
        select tenant_id, count(*) as days, percentile_disc(0.5) within group (order by tokens) as median_tokens
        from per_day where window_day < :day group by tenant_id
    )
    select d.tenant_id, d.tokens, h.median_tokens, h.days
    from per_day d join habits h using (tenant_id)
    where d.window_day = :day and h.days >= :least_days and d.tokens >= :least and d.tokens > :factor * h.median_tokens
    order by d.tokens desc
""")

_PRICE_GAPS = text("""
    select p.tenant_id, p.currency, p.variant_id, p.unit, max(p.valid_until) as ends_at
    from prices p join model_variants v on v.id = p.variant_id
    where (v.retired_at is null or v.id in ('storage', 'gpu')) and (p.tenant_id is null or not exists (
        select 1 from prices l
        where l.tenant_id is null and (l.currency, l.variant_id, l.unit) = (p.currency, p.variant_id, p.unit)
          and (l.valid_until is null or l.valid_until > :ahead)))
    group by p.tenant_id, p.currency, p.variant_id, p.unit
    having bool_and(p.valid_until is not null and p.valid_until <= :ahead)
    order by ends_at, 1, 2, 3, 4
""")
