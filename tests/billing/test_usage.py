"""Counting: each token once, at the price of its moment, on the tenant's own day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from billing import rated_lines, usage, windows
from billing.windows import WindowInOtherState
from studio import ids
from studio.db.catalog import Price
from studio.db.usage import Quarantined
from tests.billing.books import CHAT, Books

BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=BERLIN)


def test_prompt_cached_and_completion_are_apart(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=100, cached=40, completion=7)
    gateway.uses(tenant, NOON, prompt=50, completion=3)
    books.close_day(gateway, tenant, DAY)
    assert books.daily(DAY) == [("cached_prompt", DAY, 40), ("completion", DAY, 10), ("prompt", DAY, 110)]


def test_an_embedding_model_has_one_unit(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=64, variant="embedding")
    books.close_day(gateway, tenant, DAY)
    assert books.daily(DAY) == [("embedding", DAY, 64)]


def test_what_a_cache_gave_has_a_price_of_its_own_and_is_no_engines_work(books: Books) -> None:
    """`close_day` reconciles with the engine's counters, which know nothing of it."""
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=100, cached=40, completion=7)
    gateway.uses(tenant, NOON, prompt=100, completion=7, reused_prompt=100, reused_completion=7)
    gateway.uses(tenant, NOON, prompt=64, reused_prompt=40, variant="embedding")
    books.close_day(gateway, tenant, DAY)
    with books.as_role("auditor") as session:
        lines = {
            (line.variant_id, line.unit): (line.tokens, line.amount) for line in rated_lines.lines_of(session, DAY)
        }
    assert lines == {
        ("chat", "prompt"): (60, Decimal("0.0000012")),
        ("chat", "cached_prompt"): (40, Decimal("0.0000004")),
        ("chat", "completion"): (7, Decimal("0.00000028")),
        ("chat", "reused"): (107, Decimal("0.000000214")),
        ("embedding", "embedding"): (24, Decimal("0.00000024")),
        ("embedding", "reused"): (40, Decimal("0.00000004")),
    }


def test_a_batch_pays_half(books: Books) -> None:
    tenant, gateway, batch_id = books.tenant(), books.gateway(), ids.uuid7()
    tokens = {"prompt": 3_000_000, "cached": 1_000_000, "completion": 1_000_000}
    gateway.uses(tenant, NOON, **tokens)
    gateway.uses(tenant, NOON, **tokens, batch_id=batch_id)
    gateway.uses(tenant, NOON, prompt=1_000_000, variant="embedding", batch_id=batch_id)
    books.close_day(gateway, tenant, DAY)
    with books.as_role("auditor") as session:
        amounts = {line.unit: line.amount for line in rated_lines.lines_of(session, DAY)}
    for unit in ("prompt", "cached_prompt", "completion"):
        assert amounts[f"batch_{unit}"] == amounts[unit] / 2
    assert amounts["batch_embedding"] == Decimal("0.005")


def test_a_price_change_at_noon_splits_the_day(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    _change_price_of_completions(books, NOON, Decimal("9.000000"))
    for at in (NOON - timedelta(milliseconds=1), NOON, NOON + timedelta(hours=1)):
        gateway.uses(tenant, at, completion=1_000_000)
    books.close_day(gateway, tenant, DAY)
    with books.as_role("auditor") as session:
        lines = rated_lines.lines_of(session, DAY)
    assert sorted((line.tokens, line.amount) for line in lines) == [
        (1_000_000, Decimal("0.04")),
        (2_000_000, Decimal(18)),
    ]


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (DAY, 24)], ids=["spring", "autumn", "plain"]
)
def test_a_berlin_day_has_the_hours_it_has(books: Books, day: date, hours: int) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    start = datetime.combine(day, datetime.min.time(), tzinfo=BERLIN).astimezone(UTC)
    for hour in range(-1, hours + 1):
        gateway.uses(tenant, start + timedelta(hours=hour, minutes=30), prompt=1)
    key = books.close_day(gateway, tenant, day)
    with books.as_role("auditor") as session:
        assert usage.counted_tokens(session, key) == hours


def test_a_window_holds_two_billing_days_of_a_tenant_in_tokyo(books: Books) -> None:
    tenant, gateway = books.tenant(time_zone="Asia/Tokyo"), books.gateway()
    gateway.uses(tenant, NOON, prompt=1)  # 20:00 in Tokyo
    gateway.uses(tenant, NOON + timedelta(hours=5), prompt=2)  # 01:00 of the 11th in Tokyo
    books.close_day(gateway, tenant, DAY)
    assert books.daily(DAY) == [("prompt", DAY, 1), ("prompt", date(2026, 11, 11), 2)]


def test_usage_without_a_price_holds_the_window_until_there_is_one(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    unpriced = gateway.uses(tenant, datetime(2025, 12, 31, 12, tzinfo=BERLIN), prompt=5)
    gateway.reports(windows.closes_at(DAY))
    books.engine_is_idle(windows.closes_at(DAY))
    assert books.process(books.seal(tenant, DAY).key) == "reconciled"
    key = books.seal(tenant, date(2025, 12, 31)).key
    assert books.process(key) == "held"
    with books.as_role("auditor") as session:
        entry = session.scalars(select(Quarantined)).one()
    assert (entry.event_id, entry.reason) == (unpriced, "not exactly one price")
    with books.as_role("worker") as session, pytest.raises(WindowInOtherState):
        rated_lines.rate_seal(session, key)
    with books.database.superuser() as connection:  # the tenant's terms begin in 2026, and so do the prices
        connection.execute("update tenant_billing set valid_from = '2025-01-01'")
        connection.execute(
            "insert into prices (currency, variant_id, unit, per_million, valid_from, valid_until)"
            " values ('EUR', %s, 'prompt', 1, '2025-01-01', '2025-12-31 23:00+00')",
            [CHAT],
        )
    assert books.process(key) == "reconciled"
    with books.as_role("auditor") as session:
        assert session.scalars(select(Quarantined.resolved_at)).one() is not None


def test_counting_and_rating_again_change_nothing(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=4)
    gateway.reports(windows.closes_at(DAY))
    key = books.seal(tenant, DAY).key
    for _ in range(2):
        with books.as_role("worker") as session:
            assert usage.count(session, key).tokens == 14
    for _ in range(2):
        with books.as_role("worker") as session:
            assert rated_lines.rate_seal(session, key) == 2
    with books.as_role("auditor") as session:
        assert sum(line.tokens for line in rated_lines.lines_of(session, key.window_day)) == 14


def _change_price_of_completions(books: Books, at: datetime, per_million: Decimal) -> None:
    with books.as_role("worker") as session:
        old = session.scalars(
            select(Price).where(Price.variant_id == CHAT, Price.unit == "completion", Price.currency == "EUR")
        ).one()
        old.valid_until = at
        session.flush()
        session.add(Price(currency="EUR", variant_id=CHAT, unit="completion", per_million=per_million, valid_from=at))


def test_the_largest_amount_is_kept_to_the_last_of_its_twelve_decimals(books: Books) -> None:
    """A quotient of `numeric` is rounded to some 16 digits, and would refuse this line."""
    tenant, gateway = books.tenant(), books.gateway()
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update prices set per_million = 1000000.000001 where unit = 'prompt' and currency = 'EUR'")
    gateway.uses(tenant, NOON, prompt=200_000_001)
    books.close_day(gateway, tenant, DAY)
    with books.as_role("auditor") as session:
        assert [line.amount for line in rated_lines.lines_of(session, DAY)] == [Decimal("200000001.000200000001")]
