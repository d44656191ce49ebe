"""What is spent of a budget is what is billed: a random day of all that sets a price, to the last digit."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select

from billing import rated_lines, usage, windows
from studio import clock, ids
from studio.db.invoices import RatedLine
from tests.billing.books import Books
from tests.billing.test_quotes import QUOTED, quoted_batch, quoted_fine_tune, training_is_sold
from tests.billing.test_usage_groups import (
    DAY,
    drawn_event,
    drawn_fine_tune,
    list_price_changes,
    own_price,
    use_all,
)

BEGAN = datetime(2026, 12, 1, tzinfo=UTC)


def test_what_is_spent_of_a_budget_is_what_is_billed(books: Books) -> None:
    drawn, start = random.Random(4), clock.day_window(DAY, clock.BERLIN)[0]
    noon, gateway = start + timedelta(hours=12), books.gateway()
    tenants = [books.tenant("berlin"), books.tenant("kathmandu", "Asia/Kathmandu")]
    for unit in ("completion", "batch_prompt"):
        list_price_changes(books, unit, noon)
    own_price(books, tenants[1], start + timedelta(hours=1), drawn)
    training_is_sold(books, "10", QUOTED - timedelta(days=60))
    training_is_sold(books, "11", noon)
    batch = quoted_batch(books, tenants[0], "100")[0]
    events = [drawn_event(books, one, [batch, ids.uuid7()], start, drawn) for one in tenants for _ in range(60)]
    trained = [drawn_fine_tune(books, one, start, drawn) for one in tenants for _ in range(4)]
    use_all(books, gateway, events + trained)
    for tenant in tenants:
        _draws(books, tenant, gateway.id)
    gateway.reports(windows.closes_at(DAY))
    billed = {}
    for tenant in tenants:
        key = books.seal(tenant, DAY).key
        with books.as_role("worker") as session:
            assert usage.count(session, key).held_events == 0
            rated_lines.rate_seal(session, key)
        with books.as_role("auditor") as session:
            of_tenant = session.execute(
                select(func.sum(RatedLine.amount), func.array_agg(RatedLine.unit), func.array_agg(RatedLine.basis))
                .where(RatedLine.tenant_id == tenant)
            ).one()  # fmt: skip
            billed[tenant] = of_tenant[0]
            assert {"training", "batch_prompt", "reused", "embedding"} <= set(of_tenant[1])
            assert "missed_target" in of_tenant[2]
    assert _settled(books, gateway.id) == billed


def test_of_a_quoted_fine_tune_no_more_is_spent_than_was_quoted(books: Books) -> None:
    tenant, gateway, at = books.tenant(), books.gateway(), QUOTED + timedelta(days=2)
    training_is_sold(books, "10", QUOTED - timedelta(days=60))
    job, _ = quoted_fine_tune(books, tenant, at, 300_000, "2.50")
    gateway.uses(tenant, at, prompt=300_000, fine_tune=job)
    _draws(books, tenant, gateway.id)
    assert _settled(books, gateway.id) == {tenant: Decimal("2.5")}


def _draws(books: Books, tenant: UUID, source: UUID) -> None:
    """A source has drawn from a budget that began before the day."""
    with books.database.superuser() as connection:
        connection.execute(
            "with b as (insert into budgets (tenant_id, kind, currency, amount, created_at)"
            "           values (%s, 'prepaid', 'EUR', 5, %s) returning id),"
            " a as (insert into budget_accounts (budget_id, period) select id, %s from b)"
            " insert into budget_draws (budget_id, period, source_id, amount) select id, %s, %s, 5 from b",
            (tenant, BEGAN, BEGAN.date(), BEGAN.date(), source),
        )


def _settled(books: Books, source: UUID) -> dict[UUID, Decimal]:
    """What is spent, by tenant, once the source has ended; it holds nothing any more."""
    with books.database.superuser() as connection:
        connection.execute("select settle_draws(%s)", [source])
        assert connection.execute("select count(*) from budget_draws").fetchone() == (0,)
        rows = connection.execute(
            "select tenant_id, spent from budget_accounts join budgets on id = budget_id"
        ).fetchall()
    return {tenant: spent for tenant, spent in rows if isinstance(tenant, UUID)}
