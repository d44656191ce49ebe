"""Counting by groups comes to what each event alone comes to: random days, all that sets a price, and what has none."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text

from billing import price_book, quarantine, rating, usage, windows
from billing.usage import MEASURED, PRICED
from billing.usage_costs import Dimension, GroupCost, usage_costs
from billing.usage_groups import KEPT
from billing.windows import SealKey, over_seal
from studio import clock, ids
from studio.db.catalog import Price
from studio.db.usage import Quarantined, UsageStaging
from tests.billing.books import CHAT, Books, Gateway
from tests.billing.test_quotes import QUOTED, quoted_batch, quoted_fine_tune, training_is_sold

DAY = date(2026, 12, 10)
CLOCKS_CHANGE = date(2026, 11, 1)  # in Havana, at one o'clock: its midnight is there twice
NOON = datetime(2026, 12, 10, 11, tzinfo=UTC)
ZONES = ("Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Asia/Tokyo")
VARIANTS = ("chat", "chat", "chat-fast", "chat-fast", "embedding")

# The reference: each event and unit is joined with its price by itself.
EACH_ALONE = over_seal(
    """
    select variant_id, unit, price_id, billing_day, basis, time_zone, legal_entity_id, currency, count(*) as events,
           sum(tokens)::bigint as tokens
    from priced where prices = 1
    group by variant_id, unit, price_id, billing_day, basis, time_zone, legal_entity_id, currency
    """,
    KEPT,
    MEASURED,
    PRICED,
)
WITHOUT_A_PRICE = over_seal("select distinct id from priced where prices <> 1", KEPT, MEASURED, PRICED)
COUNTED = text("""
    select variant_id, unit, price_id, billing_day, basis, time_zone, legal_entity_id, currency, events, tokens
    from usage_daily where window_day = :window_day and tenant_id = :tenant_id and seal_no = :seal_no
""")


@pytest.mark.parametrize(("seed", "day"), [(0, DAY), (1, CLOCKS_CHANGE), (2, DAY)])
def test_groups_come_to_what_every_event_alone_comes_to(books: Books, seed: int, day: date) -> None:
    drawn, start = random.Random(seed), clock.day_window(day, clock.BERLIN)[0]
    noon = start + timedelta(hours=12)
    gateway = books.gateway()
    tenants = [books.tenant(f"kunde-{n}", zone) for n, zone in enumerate(ZONES)]
    for unit in ("completion", "prompt", "batch_prompt", "batch_completion"):
        list_price_changes(books, unit, drawn.choice([noon, start + timedelta(hours=drawn.uniform(1, 23))]))
    own_price(books, tenants[1], noon + timedelta(hours=drawn.uniform(0, 3)), drawn)
    _moves_to(books, tenants[2], day, "Europe/London")
    batches = [quoted_batch(books, tenants[0], "100")[0], ids.uuid7()]
    for tenant in tenants:
        use_all(books, gateway, [drawn_event(books, tenant, batches, start, drawn) for _ in range(60)])
    training_is_sold(books, "10", QUOTED - timedelta(days=60))
    training_is_sold(books, "11", start + timedelta(hours=drawn.uniform(1, 23)))
    use_all(books, gateway, [drawn_fine_tune(books, tenants[n % 2], start, drawn) for n in range(12)])
    unknown = [books.event(tenants[3], noon, prompt=9, variant="nobody-knows") for _ in range(2)]
    use_all(books, gateway, [*unknown, books.event(tenants[3], noon, variant="nobody-knows")])  # the last has no tokens
    gateway.reports(windows.closes_at(day))
    keys = [books.seal(tenant, day).key for tenant in tenants]

    expected = {key: _rows(books, EACH_ALONE, key) for key in keys}
    unpriced = {key: {row[0] for row in _rows(books, WITHOUT_A_PRICE, key)} for key in keys}
    assert unpriced[keys[3]] == {event["id"] for event in unknown}
    even = {key for key in keys if not unpriced[key]}
    assert {keys[0], keys[1]} <= even
    with books.as_role("worker") as session:
        assert usage.count_together(session, day, keys) == even
    for key in keys:
        assert _rows(books, COUNTED, key) == (expected[key] if key in even else Counter())
        assert books.state(key) == ("counted" if key in even else "sealed")
    for key in keys:  # one by one, and those that had been counted once more
        with books.as_role("worker") as session:
            assert usage.count(session, key).held_events == len(unpriced[key])
        assert _rows(books, COUNTED, key) == (expected[key] if key in even else Counter())
    with books.as_role("auditor") as session:
        entries = session.execute(select(Quarantined.id, Quarantined.event_id)).all()
    assert {event for _, event in entries} == set().union(*unpriced.values())

    _costs_the_same_however_it_is_grouped(books, tenants[0], day, expected[keys[0]])

    with books.as_role("operator") as session:
        for entry, _ in entries:
            quarantine.decide(
                session, entry, "discarded", by="key:finance", reason="a test", now=noon + timedelta(days=9)
            )
    for key in keys:
        with books.as_role("worker") as session:
            assert usage.count(session, key).held_events == 0
        assert _rows(books, COUNTED, key) == _rows(books, EACH_ALONE, key) == expected[key]


def _costs_the_same_however_it_is_grouped(
    books: Books, tenant: UUID, day: date, rated: Counter[tuple[Any, ...]]
) -> None:
    """With the tenant's own eyes: by model as it is rated, and in all as much by anything else."""
    with books.as_role("auditor") as session:
        prices = {price.id: price.per_million for price in session.scalars(select(Price))}
    by_model: dict[str, Decimal] = defaultdict(Decimal)
    for model, unit, price_id, *_, tokens in rated.elements():
        if unit != "training":  # that is of a job, and of no request
            by_model[model] += rating.rate(tokens, prices[price_id])
    with books.as_role("gateway") as session:
        session.execute(text("select set_config('studio.tenant_id', :tenant, true)"), {"tenant": str(tenant)})

        def costs(*dimensions: Dimension) -> list[GroupCost]:
            return usage_costs(session, tenant, day - timedelta(days=2), day + timedelta(days=2), dimensions)

        shown = costs("model")
        assert {cost.group[0]: cost.amount for cost in shown} == by_model
        assert {(cost.currency, cost.unpriced_tokens) for cost in shown} == {("EUR", 0)}
        for dimensions in ((), ("day", "model"), ("hour", "key"), ("tag", "hour", "model")):
            assert sum(cost.amount for cost in costs(*dimensions)) == sum(by_model.values())
        assert len(costs("hour")) > 10
        (chat,) = usage_costs(session, tenant, day - timedelta(days=2), day + timedelta(days=2), (), model="chat")
        assert chat.amount == by_model["chat"]


def test_a_small_part_of_a_day_is_left_to_be_counted_one_by_one(books: Books) -> None:
    tenant, late, gateway = books.tenant(), books.tenant("spaeter"), books.gateway()
    use_all(books, gateway, [books.event(tenant, NOON, prompt=1) for _ in range(20)])
    gateway.uses(late, NOON, prompt=5)
    gateway.reports(windows.closes_at(DAY))
    keys = [books.seal(tenant, DAY).key, books.seal(late, DAY).key]
    with books.as_role("worker") as session:
        assert usage.count_together(session, DAY, keys[1:]) == set()
        assert usage.count_together(session, DAY, keys) == set(keys)


def drawn_event(
    books: Books, tenant: UUID, batches: Sequence[UUID], start: datetime, drawn: random.Random
) -> dict[str, Any]:
    """Any time of the window, on the edges of its days and prices more often."""
    noon, hour = start + timedelta(hours=12), timedelta(hours=1)
    edges = [start, start + hour, noon, noon - timedelta(microseconds=1), start + 5 * hour, start + 5.5 * hour]
    at = drawn.choice(edges) if drawn.random() < 0.3 else start + timedelta(hours=drawn.uniform(0, 24))
    variant = drawn.choice(VARIANTS)
    prompt, completion = drawn.choice([0, 1, 900]), 0 if variant == "embedding" else drawn.choice([0, 1, 70])
    batch = drawn.choice(batches) if variant == "chat" and drawn.random() < 0.3 else None
    reused = drawn.random() < 0.2 and variant != "chat-fast" and batch is None  # those have no price for it
    return books.event(
        tenant, at, prompt=prompt, completion=completion, variant=variant, batch_id=batch,
        cached=0 if reused else drawn.choice([0, prompt // 3]), reused_prompt=prompt if reused else 0,
        reused_completion=completion if reused else 0,
        first_token_after=drawn.choice([None, timedelta(milliseconds=500), timedelta(milliseconds=501)]),
    )  # fmt: skip


def drawn_fine_tune(books: Books, tenant: UUID, start: datetime, drawn: random.Random) -> dict[str, Any]:
    """With a quote from before the day or from within it, or with none."""
    at, tokens = start + timedelta(hours=drawn.uniform(0, 24)), drawn.choice([1, 5_000])
    quoted_at = drawn.choice([QUOTED - timedelta(days=40), at - timedelta(hours=drawn.uniform(0, 23))])
    job, _ = quoted_fine_tune(books, tenant, at, tokens, "100", quoted_at)
    return books.event(tenant, at, prompt=tokens, fine_tune=job if drawn.random() < 0.8 else ids.uuid7())


def use_all(books: Books, gateway: Gateway, events: list[dict[str, Any]]) -> None:
    """Ship them all at once."""
    shipment = ids.uuid7()
    rows = []
    for number, event in enumerate(events):
        gateway.seq += 1
        rows.append(
            event | {"source_id": gateway.id, "source_seq": gateway.seq, "shipment_id": shipment, "row": number}
        )
    with books.as_role("shipper") as session:
        session.execute(insert(UsageStaging), rows)
        session.execute(text("select accept_usage(:shipment)"), {"shipment": shipment})


def _rows(books: Books, statement: Any, key: SealKey) -> Counter[tuple[Any, ...]]:
    with books.as_role("auditor") as session:
        return Counter(tuple(row) for row in session.execute(statement, asdict(key)))


def list_price_changes(books: Books, unit: str, at: datetime) -> None:
    with books.as_role("worker") as session:
        old = session.scalars(
            select(Price).where(
                Price.variant_id == CHAT, Price.unit == unit, Price.currency == "EUR", Price.valid_until.is_(None)
            )
        ).one()
        old.valid_until = at
        session.flush()
        dearer = old.per_million + Decimal("0.012347")
        session.add(Price(currency="EUR", variant_id=CHAT, unit=unit, per_million=dearer, valid_from=at))


def own_price(books: Books, tenant: UUID, at: datetime, drawn: random.Random) -> None:
    """Of the fast tier: sometimes below the base price, sometimes above it."""
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id="chat-fast", unit="prompt", tiers=(),
            per_million=drawn.choice([Decimal("0.01"), Decimal("0.05")]), valid_from=at, valid_until=None,
            retroactive=False, by="key:finance", reason="contract", now=at,
        )  # fmt: skip


def _moves_to(books: Books, tenant: UUID, day: date, zone: str) -> None:
    """New terms in another zone: some instants have two billing days or none, and so no price of their own."""
    with books.database.superuser() as connection:
        connection.execute("update tenant_billing set valid_until = %s where tenant_id = %s", [day, tenant])
        connection.execute(
            "insert into tenant_billing (tenant_id, valid_from, legal_entity_id, currency, time_zone, buyer)"
            " select tenant_id, %s, legal_entity_id, currency, %s, buyer from tenant_billing where tenant_id = %s",
            [day, zone, tenant],
        )
