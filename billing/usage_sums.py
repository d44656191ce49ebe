"""Usage added up once for each day, so that a report of a month reads some rows of each day and not every request.

A window day's sums stand beside the number of events that they are of. While as many have arrived (`usage_arrivals`,
counted as events are accepted), they are all there is; a day to which more has come is read from its events until it is
summed again. So a report is exact at every moment, and only faster where a day is summed. Known limit: to a day whose
events were dropped (`drop_archived_usage`) late usage cannot be added. No money is made of sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from studio import clock, storage_usage

Dimension = Literal["day", "model", "key", "tag"]
# Under these names in a report.
_COLUMNS: Mapping[Dimension, str] = {
    "day": "usage_day_utc", "model": "variant_id", "key": "api_key_id", "tag": "tag",
}  # fmt: skip
_AROUND = timedelta(days=2)  # an event's UTC day is within a day of its start, as are Berlin's days


def sum_day(session: Session, window_day: date) -> bool:
    """Sum a window day, unless its sums are all there is already; whether they are new.

    A day of which events are gone (`drop_archived_usage`) keeps the sums that it has.
    """
    session.execute(_ONE_AT_A_TIME, {"window": f"sum {window_day}"})
    if window_day in summed_days(session, window_day, window_day):
        return False
    start, end = clock.day_window(window_day, clock.BERLIN)
    known = session.execute(_KNOWN, {"window_day": window_day}).scalar() or 0
    with session.begin_nested() as attempt:
        session.execute(_FORGET, {"window_day": window_day})
        parameters = {"window_day": window_day, "start": start, "end": end}
        events: int = session.execute(_SUM, parameters).scalar_one()
        if events < known:
            attempt.rollback()
    return events >= known


def summed_days(session: Session, first: date, last: date) -> set[date]:
    """The window days from `first` to `last` of which the sums are all there is: also those without any usage."""
    return set(session.scalars(_SUMMED, {"first": first, "last": last}))


def usage_totals(
    session: Session,
    tenant_id: UUID,
    start: date,
    end: date,
    dimensions: Sequence[Dimension],
    *,
    model: str | None = None,
    key: UUID | None = None,
    tag: str | None = None,
) -> Sequence[RowMapping]:
    """Requests and tokens of the UTC days [start, end), with the tenant's own eyes (`tenant_scope`), too.

    A row has the dimensions asked for and `requests`, `prompt_tokens`, `cached_tokens`, `completion_tokens` and
    `reused_tokens`. Sums that become stale meanwhile were right when this began.
    """
    days = [start - _AROUND + timedelta(days=number) for number in range((end - start + 2 * _AROUND).days)]
    summed = summed_days(session, days[0], days[-1])
    unsummed = [day for day in days if day not in summed]
    parameters: dict[str, Any] = {
        "tenant_id": tenant_id, "start": start, "end": end, "model": model, "key": key, "tag": tag,
        "unsummed": unsummed,
    }  # fmt: skip
    spans = list(_spans(unsummed))
    for number, (first, after) in enumerate(spans):
        since, until = (clock.day_window(day, clock.BERLIN)[0] for day in (first, after))
        parameters |= {
            f"since_{number}": since, f"until_{number}": until,
            f"from_{number}": max(start, first - _AROUND), f"before_{number}": min(end, after + _AROUND),
        }  # fmt: skip
    return session.execute(_totals(dimensions, len(spans)), parameters).mappings().all()


def _spans(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Days one after the other as one span, its end not included: an index finds it. Mostly it is today, and sometimes
    yesterday; a day to which usage came late is a span of its own, since those between may have lost their events."""
    for _, run in groupby(enumerate(days), key=lambda place_and_day: place_and_day[1].toordinal() - place_and_day[0]):
        together = [day for _, day in run]
        yield together[0], together[-1] + timedelta(days=1)


def _totals(dimensions: Sequence[Dimension], spans: int) -> Any:
    columns = [_COLUMNS[name] for name in dimensions]
    selected = "".join(f"{column}, " for column in columns)
    named = "".join(f"{column} as {name}, " for name, column in zip(dimensions, columns, strict=True))
    grouped = f"group by {', '.join(columns)}" if columns else ""
    ordered = f"order by {', '.join(columns)}" if columns else ""
    events = "".join(
        f"""
            union all
            select {selected}{_ADDED}
            from usage_events e
            where {_WANTED} and e.endpoint not in {storage_usage.OF_NO_REQUEST}
              and e.started_at >= :since_{number} and e.started_at < :until_{number}
              and e.usage_day_utc >= :from_{number} and e.usage_day_utc < :before_{number}
            {grouped}"""  # noqa: S608 (what is put in are names and statements of our own)
        for number in range(spans)
    )
    return text(f"""
        with parts as (
            select {selected}{", ".join(_SUMS)}
            from usage_sums e
            where {_WANTED} and e.usage_day_utc >= :start and e.usage_day_utc < :end
              and e.window_day <> all(cast(:unsummed as date[])){events}
        )
        select {named}{", ".join(f"coalesce(sum({name}), 0)::bigint as {name}" for name in _SUMS)}
        from parts
        {grouped} {ordered}
    """)  # noqa: S608 (likewise)


# The tenant is named here and enforced again by row-level security.
_WANTED = """
    e.tenant_id = :tenant_id
    and (cast(:model as text) is null or e.variant_id = :model)
    and (cast(:key as uuid) is null or e.api_key_id = :key)
    and (cast(:tag as text) is null or e.tag = :tag)
"""
_SUMS = {
    "requests": "count(*)", "prompt_tokens": "sum(prompt_tokens)", "cached_tokens": "sum(cached_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "reused_tokens": "sum(reused_prompt_tokens + reused_completion_tokens)",
}  # fmt: skip
_ADDED = ", ".join(f"{added} as {name}" for name, added in _SUMS.items())

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:window, 0))")
_SUMMED = text("select * from summed_days(:first, :last)")
_KNOWN = text("select events from usage_summed_days where window_day = :window_day")
_FORGET = text("delete from usage_sums where window_day = :window_day")
# In one statement, so that the number is that of the events which were added.
_SUM = text(f"""
    with added as (
        select e.tenant_id, e.usage_day_utc, e.variant_id, e.api_key_id, e.tag,
               e.endpoint in {storage_usage.OF_NO_REQUEST} as is_of_no_request, {_ADDED}
        from usage_events e
        where e.started_at >= :start and e.started_at < :end
          and e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
        group by e.tenant_id, e.usage_day_utc, e.variant_id, e.api_key_id, e.tag, is_of_no_request
    ), written as (
        insert into usage_sums (window_day, tenant_id, usage_day_utc, variant_id, api_key_id, tag, {", ".join(_SUMS)})
        select cast(:window_day as date), tenant_id, usage_day_utc, variant_id, api_key_id, tag, {", ".join(_SUMS)}
        from added where not is_of_no_request
    )
    insert into usage_summed_days (window_day, events)
    select cast(:window_day as date), coalesce(sum(requests), 0) from added
    on conflict (window_day) do update set events = excluded.events, summed_at = now()
    returning events
""")  # noqa: S608 (names of our own)
