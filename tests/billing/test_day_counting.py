"""All seals of a day at once come to the rows that each of them comes to alone."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from billing import day_counting, price_book, usage, windows
from billing.windows import SealKey
from studio import ids
from tests.billing.books import CHAT, Books
from tests.billing.test_quotes import QUOTED, quoted_batch

DAY = date(2026, 11, 30)
NOON = datetime(2026, 11, 30, 11, tzinfo=UTC)
ZONES = ("Europe/Berlin", "Asia/Kathmandu", "America/New_York")


def seal_all(books: Books, tenants: list[UUID]) -> list[SealKey]:
    return [books.seal(tenant, DAY).key for tenant in tenants]


def counted_at_once(books: Books) -> list[SealKey]:
    with books.as_role("worker") as session:
        return day_counting.count_day(session, DAY)


def rows(books: Books) -> list[dict[str, Any]]:
    with books.as_role("auditor") as session:
        return [asdict(row) for row in usage.daily_tokens(session, DAY)]


def own_price(books: Books, tenant: UUID, unit: str, at: datetime) -> None:
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit=unit, per_million=Decimal("0.007"), tiers=(),
            valid_from=at, valid_until=at + timedelta(hours=3), retroactive=True, by="key:finance", reason="contract",
            now=at,
        )  # fmt: skip


def test_zones_own_prices_quotes_late_answers_and_late_seals_are_counted_alike(books: Books) -> None:
    dice = random.Random(24)
    tenants = [books.tenant(f"tenant-{n}", zone) for n, zone in enumerate(ZONES)]
    gateway, batch = books.gateway(), quoted_batch(books, tenants[0], "2.50")[0]
    own_price(books, tenants[0], "prompt", NOON + timedelta(hours=1))
    own_price(books, tenants[1], "batch_prompt", QUOTED + timedelta(hours=1))

    def use_all() -> None:
        for number in range(40):
            at = NOON - timedelta(hours=11) + timedelta(seconds=dice.randrange(82_000))
            tokens = {"prompt": dice.randrange(1, 5_000), "completion": dice.choice([0, 70])}
            tenant = tenants[number % 3]
            match number % 5:
                case 0:
                    gateway.uses(tenant, at, **tokens, cached=dice.randrange(tokens["prompt"]))
                case 1:
                    late = timedelta(milliseconds=dice.choice([499, 500, 501]))
                    gateway.uses(tenant, at, **tokens, variant="chat-fast", first_token_after=late)
                case 2:
                    gateway.uses(tenant, at, prompt=64, variant="embedding", reused_prompt=dice.choice([0, 24, 64]))
                case 3:
                    gateway.uses(tenants[0], at, **tokens, batch_id=batch)
                case _:
                    gateway.uses(tenant, at, **tokens, batch_id=ids.uuid7())
        gateway.reports(windows.closes_at(DAY))

    use_all()
    keys = seal_all(books, tenants)
    use_all()  # what arrives late has a seal of its own
    keys += seal_all(books, tenants)
    for key in keys:
        with books.as_role("worker") as session:
            assert usage.count(session, key).held_events == 0
    one_by_one = rows(books)
    assert sorted(counted_at_once(books)) == sorted(keys)
    assert rows(books) == one_by_one
    assert {row["basis"][:4] for row in one_by_one} == {"", "qte_", "miss"}
    assert len({row["billing_day"] for row in one_by_one}) == 3
    with books.as_role("auditor") as session:
        assert {seal.state for seal in windows.seals(session)} == {"counted"}


def test_what_is_in_question_is_left_alone_and_holds_nobody_else(books: Books) -> None:
    fine, unpriced, disputed = (books.tenant(name) for name in ("fine", "unpriced", "disputed"))
    gateway = books.gateway()
    for tenant in (fine, unpriced, disputed):
        gateway.uses(tenant, NOON, prompt=10)
    gateway.uses(unpriced, NOON, prompt=5, variant="never-sold")
    with books.database.superuser() as connection:
        connection.execute(
            "insert into quarantine (reason, tenant_id, payload) values ('same id, other content', %s, '{}')",
            [disputed],
        )
    gateway.reports(windows.closes_at(DAY))
    keys = seal_all(books, [fine, unpriced, disputed])
    assert counted_at_once(books) == keys[:1]
    assert [(row["tenant_id"], row["tokens"]) for row in rows(books)] == [(fine, 10)]
    assert [books.state(key) for key in keys] == ["counted", "sealed", "sealed"]


def test_tokens_that_are_not_counted_stop_the_day(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    gateway.reports(windows.closes_at(DAY))
    (key,) = seal_all(books, [tenant])
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("""update usage_windows set manifest = jsonb_set(manifest, '{prompt_tokens}', '11')""")
    with pytest.raises(RuntimeError, match="holds 11 tokens but 10 were counted"):
        counted_at_once(books)
    assert (rows(books), books.state(key)) == ([], "sealed")
    with books.as_role("auditor") as session:
        assert session.execute(text("show enable_nestloop")).scalar_one() == "on"
