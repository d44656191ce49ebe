"""What is unusual for a tenant is shown, by a rule that one jump before does not blunt."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from billing import holds, jumps
from billing.holds import TenantHeld
from studio import clock
from tests.billing.books import Books

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def test_a_day_far_above_the_median_is_a_jump_and_a_usual_one_is_not(books: Books) -> None:
    steady, wild, fresh, gateway = books.tenant("steady"), books.tenant("wild"), books.tenant("fresh"), books.gateway()
    history = {5: 1_000_000, 4: 1_000_000, 3: 90_000_000, 2: 1_200_000, 1: 900_000}
    for ago, tokens in history.items():
        for tenant in (steady, wild):
            gateway.uses(tenant, NOON - timedelta(days=ago), prompt=tokens)
            books.close_day(gateway, tenant, DAY - timedelta(days=ago))
    for tenant, tokens in ((steady, 5_000_000), (wild, 5_000_001), (fresh, 900_000_000)):
        gateway.uses(tenant, NOON, prompt=tokens)
        books.close_day(gateway, tenant, DAY)
    with books.as_role("worker") as session:
        assert jumps.of_day(session, DAY) == [jumps.Jump(wild, 5_000_001, 1_000_000, 5)]
        assert [jump.tenant_id for jump in jumps.hold(session, DAY, clock.now())] == [wild]
    with books.as_role("worker") as session:
        assert jumps.hold(session, DAY, clock.now()) == []  # counted again
    with books.as_role("operator") as session:
        (held,) = holds.holds(session)  # nobody else's
        assert held.tenant_id == wild
        assert held.reason.startswith("the usage of 2026-11-10 is 5,000,001 tokens, more than 5 times the median")
        with pytest.raises(TenantHeld):
            holds.require_none(session, wild)
        holds.require_none(session, steady)
        holds.release(session, hold_id=held.id, reason="a new customer of theirs", by="anna", now=clock.now())
    with books.as_role("worker") as session:
        assert jumps.hold(session, DAY, clock.now()) == []


def test_a_price_that_ends_and_is_followed_by_none_is_named_a_week_before(books: Books) -> None:
    with books.as_role("worker") as session:
        assert jumps.price_gaps(session, clock.now()) == []
    ends = clock.now() + timedelta(days=6)
    with books.database.superuser() as connection:
        connection.execute(
            "update prices set valid_until = %s where variant_id = 'chat' and unit = 'prompt' and currency = 'EUR'",
            [ends],
        )
    with books.as_role("worker") as session:
        assert [(gap.variant_id, gap.unit, gap.ends_at) for gap in jumps.price_gaps(session, clock.now())] == [
            ("chat", "prompt", ends)
        ]
        assert jumps.price_gaps(session, clock.now() - timedelta(days=2)) == []


def test_a_tenants_own_price_hides_no_end_of_the_lists(books: Books) -> None:
    tenant, ends = books.tenant(), clock.now() + timedelta(days=6)
    with books.database.superuser() as connection:
        connection.execute(
            "insert into prices (tenant_id, currency, variant_id, unit, per_million, valid_from, approved_by, reason)"
            " select %s, currency, variant_id, unit, 1, now(), 'test', 'test' from prices"
            " where variant_id = 'chat' and unit in ('prompt', 'completion') and currency = 'EUR'",
            [tenant],
        )
        connection.execute(
            "update prices set valid_until = %s where variant_id = 'chat' and currency = 'EUR'"
            " and (unit = 'prompt') = (tenant_id is null) and unit in ('prompt', 'completion')",
            [ends],
        )
    with books.as_role("worker") as session:
        found = [(gap.tenant_id, gap.unit) for gap in jumps.price_gaps(session, clock.now())]
    # Of the list's prompt the tenant's own price goes on, for the tenant alone. Of its own completion the list goes on.
    assert found == [(None, "prompt")]
