"""What is added up once a day is what the events are: with what comes late, and when they are gone, too."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import chain, combinations
from typing import Any
from uuid import UUID

from sqlalchemy import text

from billing import usage_sums
from billing.usage_sums import Dimension
from studio import clock, ids
from tests.billing.books import Books
from tests.billing.test_usage_groups import drawn_event, use_all

FIRST, LAST = date(2026, 10, 24), date(2026, 10, 26)  # the day of 25 hours among them
NAMES: tuple[Dimension, ...] = ("day", "model", "key", "tag")
SETS = [list(names) for names in chain.from_iterable(combinations(NAMES, n) for n in range(5))]
FIGURES = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reused_tokens")
# The reference: every request by itself.
REQUESTS = text("""
    select usage_day_utc as day, variant_id as model, api_key_id as key, tag, 1 as requests, prompt_tokens,
           cached_tokens, completion_tokens, reused_prompt_tokens + reused_completion_tokens as reused_tokens
    from usage_events
    where tenant_id = :tenant_id and endpoint not in ('storage', '/v1/fine_tuning/jobs')
      and usage_day_utc >= :start and usage_day_utc < :end
""")


def test_a_report_is_of_all_that_has_arrived_whatever_is_summed(books: Books) -> None:
    drawn = random.Random(5)
    gateway, tenants = books.gateway(), [books.tenant(), books.tenant("andere", "Asia/Kathmandu")]
    keys, days = [ids.uuid7(), ids.uuid7()], [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]

    def used(day: date, count: int) -> None:
        start = clock.day_window(day, clock.BERLIN)[0]
        events = [drawn_event(books, tenants[n % 2], [ids.uuid7()], start, drawn) for n in range(count)]
        for event in events:
            event |= {"api_key_id": drawn.choice(keys), "tag": drawn.choice([None, "", "team a"])}
        job = books.event(tenants[0], start + timedelta(hours=3), prompt=70, fine_tune=ids.uuid7())
        use_all(books, gateway, [*events, job | {"api_key_id": keys[0]}])

    for day in days:
        used(day, 60)
    assert _summed(books) == set()
    reports = _reports_are_right(books, tenants, keys)
    assert all(_sum(books, day) for day in days[:2])
    assert _summed(books) == set(days[:2])
    assert _reports_are_right(books, tenants, keys) == reports
    assert _sum(books, days[2])
    assert _reports_are_right(books, tenants, keys) == reports
    assert not any(_sum(books, day) for day in days)  # nothing is new

    used(days[1], 3)
    assert _summed(books) == {days[0], days[2]}
    later = _reports_are_right(books, tenants, keys)
    assert later != reports
    assert _sum(books, days[1])
    assert _reports_are_right(books, tenants, keys) == later


def test_a_day_whose_events_are_gone_keeps_its_sums(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    noon = datetime(2026, 10, 24, 11, tzinfo=clock.BERLIN)
    gateway.uses(tenant, noon, prompt=30)
    gateway.uses(tenant, noon, prompt=12)
    assert _sum(books, FIRST)
    with books.database.superuser() as connection:
        connection.execute("drop table usage_events_20261024")
    assert not _sum(books, FIRST)
    assert _totals(books, tenant, []) == Counter({(): (2, 42, 0, 0, 0)})
    gateway.uses(tenant, noon, prompt=1)  # what comes now cannot be added to what is there no more
    assert not _sum(books, FIRST)
    with books.as_role("auditor") as session:
        assert session.execute(text("select sum(prompt_tokens) from usage_sums")).scalar_one() == 42


def test_late_usage_takes_no_days_from_a_report_whose_events_are_gone(books: Books) -> None:
    """It is read from events again, and they are not: between it and today there may be many of those."""
    tenant, gateway = books.tenant(), books.gateway()
    for day, tokens in ((24, 30), (25, 12)):
        gateway.uses(tenant, datetime(2026, 10, day, 11, tzinfo=clock.BERLIN), prompt=tokens)
        assert _sum(books, date(2026, 10, day))
    with books.database.superuser() as connection:
        connection.execute("drop table usage_events_20261025")
    gateway.uses(tenant, datetime(2026, 10, 24, 12, tzinfo=clock.BERLIN), prompt=1)
    gateway.uses(tenant, datetime(2026, 10, 26, 0, 30, tzinfo=clock.BERLIN), prompt=5)
    assert _summed(books) == {date(2026, 10, 25)}
    with books.as_role("gateway") as session:
        session.execute(text("select set_config('studio.tenant_id', :tenant, true)"), {"tenant": str(tenant)})
        (row,) = usage_sums.usage_totals(session, tenant, FIRST, date(2026, 10, 28), [])
    assert (row["requests"], row["prompt_tokens"]) == (4, 48)


def _reports_are_right(books: Books, tenants: list[UUID], keys: list[UUID]) -> list[dict[Any, Any]]:
    """Every report that can be asked for; they are returned."""
    found = []
    for tenant in tenants:
        with books.as_role("auditor") as session:
            parameters = {"tenant_id": tenant, "start": FIRST, "end": LAST}
            requests = session.execute(REQUESTS, parameters).mappings().all()
        for only in ({}, {"key": keys[0]}, {"tag": "team a"}, {"tag": ""}, {"model": "chat", "key": keys[1]}):
            wanted = [row for row in requests if all(row[name] == value for name, value in only.items())]
            for names in SETS if not only else SETS[:1] + SETS[5:6]:  # in all, and by day and model
                groups = {tuple(row[name] for name in names) for row in wanted} or ({()} if not names else set())
                expected = {
                    group: tuple(
                        sum(row[figure] for row in wanted if tuple(row[name] for name in names) == group)
                        for figure in FIGURES
                    )
                    for group in groups
                }
                assert _totals(books, tenant, names, **only) == expected, (names, only)
                found.append(expected)
    return found


def _totals(books: Books, tenant: UUID, names: list[Dimension], **only: Any) -> dict[Any, Any]:
    with books.as_role("gateway") as session:
        session.execute(text("select set_config('studio.tenant_id', :tenant, true)"), {"tenant": str(tenant)})
        rows = usage_sums.usage_totals(session, tenant, FIRST, LAST, names, **only)
        return {tuple(row[name] for name in names): tuple(row[figure] for figure in FIGURES) for row in rows}


def _sum(books: Books, day: date) -> bool:
    with books.as_role("worker") as session:
        return usage_sums.sum_day(session, day)


def _summed(books: Books) -> set[date]:
    with books.as_role("gateway") as session:
        return usage_sums.summed_days(session, FIRST, LAST)
