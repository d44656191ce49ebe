"""Sealing: complete, once, and late usage apart."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.event import listen

from billing import unsealed, windows
from billing.windows import NothingToSeal, UsageNotComplete
from serving.batches import workers
from studio import ids
from tests.billing.books import Books

BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=BERLIN)


def test_a_day_waits_for_the_grace(books: Books) -> None:
    tenant = books.tenant()
    closes = windows.closes_at(DAY)
    with books.as_role("worker") as session, pytest.raises(UsageNotComplete, match="from 2026-11-10 23:15"):
        windows.seal(
            session, window_day=DAY, tenant_id=tenant, by="calendar", reason="day closed", cutoff=closes,
            now=closes - timedelta(seconds=1),
        )  # fmt: skip


def test_a_gateway_that_has_not_reported_blocks_the_seal(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.reports(NOON)
    with pytest.raises(UsageNotComplete, match="last heard of at 2026-11-10 11:00:00 UTC"):
        books.seal(tenant, DAY)
    gateway.reports(windows.closes_at(DAY), pending=3)
    with pytest.raises(UsageNotComplete, match="3 events still to ship"):
        books.seal(tenant, DAY)
    gateway.reports(windows.closes_at(DAY))
    assert books.seal(tenant, DAY).events == 1


def test_a_gap_in_the_numbers_of_a_gateway_blocks_the_seal(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.seq += 1
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.reports(windows.closes_at(DAY))
    with pytest.raises(UsageNotComplete, match="lacks 1 of its 3 events"):
        books.seal(tenant, DAY)


def test_a_person_seals_today_as_operator(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, cached=4, completion=5)
    asked = NOON + timedelta(minutes=1)
    gateway.reports(asked + timedelta(seconds=2))
    with books.as_role("operator") as session:
        seal = windows.seal(
            session, window_day=DAY, tenant_id=tenant, by="ops", reason="demo", cutoff=asked,
            now=asked + timedelta(seconds=3),
        )  # fmt: skip
    totals = {name: seal.manifest[name] for name in ("events", "prompt_tokens", "cached_tokens", "completion_tokens")}
    assert totals == {"events": 1, "prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5}
    assert len(seal.manifest["sha256"]) == 64


def test_late_usage_gets_a_seal_of_its_own(books: Books) -> None:
    tenant, other, gateway = books.tenant(), books.tenant("other"), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.uses(other, NOON, prompt=1, completion=1)
    gateway.reports(windows.closes_at(DAY))
    first = books.seal(tenant, DAY)
    with pytest.raises(NothingToSeal):
        books.seal(tenant, DAY)
    gateway.uses(tenant, NOON + timedelta(hours=1), prompt=7, completion=0)
    gateway.reports(windows.closes_at(DAY))
    second = books.seal(tenant, DAY)
    assert (first.key.seal_no, first.tokens) == (1, 15)
    assert (second.key.seal_no, second.tokens, second.manifest["sources"][0]["from_seq"]) == (2, 7, 3)


def test_unsealed_windows_are_found(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.uses(tenant, datetime(2026, 11, 9, 23, 30, tzinfo=UTC), prompt=1)  # 00:30 of the 10th in Berlin
    gateway.uses(tenant, datetime(2026, 11, 9, 22, 30, tzinfo=UTC), prompt=1)  # 23:30 of the 9th in Berlin
    with books.as_role("worker") as session:
        found = [(window.window_day, window.events) for window in unsealed.of_all_days(session)]
    assert found == [(date(2026, 11, 9), 1), (DAY, 2)]
    gateway.reports(windows.closes_at(DAY))
    books.seal(tenant, DAY)
    with books.as_role("auditor") as session:  # whose eyes the metrics have
        assert [window.window_day for window in unsealed.of_all_days(session)] == [date(2026, 11, 9)]
        assert [window.window_day for window in unsealed.of_closed_days(session, NOON)] == [date(2026, 11, 9)]


def test_a_batch_worker_that_died_delays_no_seal(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=1)
    with books.as_role("worker") as session:
        workers.register(session, ids.uuid7(), NOON)
    gateway.reports(windows.closes_at(DAY))
    assert books.seal(tenant, DAY).events == 1


def test_days_of_which_all_is_sealed_are_looked_at_again_only_when_more_arrives(books: Books) -> None:
    tenant, gateway, now = books.tenant(), books.gateway(), windows.closes_at(DAY)

    def looks() -> tuple[int, list[int]]:
        """How often the events were read, and how many are in no seal."""
        with books.as_role("worker") as session:
            statements: list[str] = []
            listen(session.get_bind(), "before_cursor_execute", lambda *said: statements.append(said[2]))
            found = unsealed.remember(session, now)
        return sum("from usage_events" in statement for statement in statements), [one.events for one in found]

    gateway.uses(tenant, NOON, prompt=10)
    gateway.uses(tenant, now + timedelta(hours=1), prompt=10)  # of a day that is not over
    assert looks() == (1, [1])
    gateway.reports(now)
    books.seal(tenant, DAY)
    assert [looks() for _ in range(2)] == [(1, []), (0, [])]
    gateway.uses(tenant, NOON, prompt=10)
    assert looks() == (1, [1])
