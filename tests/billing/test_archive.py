"""The archive: what is sealed lies there, to the last event, and is rated there to the last digit."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from duckdb import OutOfMemoryException
from sqlalchemy import select

from billing import archive, archive_format, rate_archive, windows
from billing.windows import SealKey
from local.objects import EmbeddedObjectStore
from studio import clock, ids
from studio.db.catalog import Price
from studio.db.usage import UsageArchive
from studio.objects import Bucket, ObjectStore
from tests.billing.books import CHAT, Books, Gateway
from tests.billing.test_quotes import QUOTED, quoted_fine_tune, training_is_sold
from tests.local.servers import client

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    objects.prepare()
    return client(objects, objects.secrets.s3_secret_key)


def archive_day(books: Books, store: ObjectStore, day: date = DAY) -> None:
    duckdb = archive_format.connect()
    with books.as_role("worker") as session:
        for key in archive.waiting(session, day):
            archive.archive_seal(session, store, duckdb, key, clock.now())


def compared(books: Books, store: ObjectStore, day: date = DAY) -> list[archive.Comparison]:
    with books.as_role("worker") as session, archive.fetched(store, archive.archived(session, day)) as fetched:
        return archive.compare_day(session, archive_format.connect(), fetched.files, day)


def ratings(books: Books, store: ObjectStore, keys: list[SealKey]) -> list[rate_archive.SealRating]:
    with books.as_role("worker") as session:
        found = rate_archive.rate_twice(session, store, keys)
    return [found[key] for key in keys]


def test_a_seal_is_archived_once_and_equals_the_table(books: Books, store: ObjectStore) -> None:
    tenant, other, gateway = books.tenant(), books.tenant("other"), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, cached=4, completion=5)
    gateway.uses(tenant, NOON + timedelta(microseconds=123457), prompt=2**39, completion=1)
    gateway.uses(other, NOON, prompt=64, variant="embedding", reused_prompt=64)
    gateway.reports(windows.closes_at(DAY))
    key = books.seal(tenant, DAY).key
    books.seal(other, DAY)
    archive_day(books, store)
    with books.as_role("worker") as session:
        assert archive.waiting_days(session, 5) == []
        assert not archive.archive_seal(session, store, archive_format.connect(), key, clock.now())
    found = compared(books, store)
    assert [(one.agrees, one.archive.events) for one in found] == [(True, 2), (True, 1)]
    assert found[0].archive.prompt_tokens == 2**39 + 10
    with books.as_role("auditor") as session:
        rows = archive.archived(session, DAY)
    assert rows[0].object_key == f"{archive.object_key(key, rows[0].sha256)}.parquet"
    manifest = store.get(Bucket.USAGE_ARCHIVE, rows[0].object_key.replace(".parquet", ".json"))
    assert manifest is not None
    assert b'"started_at": "TIMESTAMPTZ"' in manifest


def test_any_difference_between_archive_and_table_is_seen(books: Books, store: ObjectStore) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    event = gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.reports(windows.closes_at(DAY))
    books.seal(tenant, DAY)
    archive_day(books, store)
    with books.database.superuser() as connection:  # not a token is different
        connection.execute("set session_replication_role = replica")
        connection.execute("update usage_events set tag = 'x' where id = %s", [event])
    (one,) = compared(books, store)
    assert (one.agrees, one.archive.tokens == one.table.tokens) == (False, True)


def test_a_damaged_or_missing_file_is_named(books: Books, store: ObjectStore) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    gateway.reports(windows.closes_at(DAY))
    seal = books.seal(tenant, DAY).key
    archive_day(books, store)
    with books.as_role("auditor") as session:
        key = session.scalars(select(UsageArchive.object_key)).one()
    store.put(Bucket.USAGE_ARCHIVE, key, b"PAR1")
    (one,) = ratings(books, store, [seal])
    assert (one.agrees, one.damaged) == (False, f"{key} in the bucket usage-archive is not what was written.")
    store.delete(Bucket.USAGE_ARCHIVE, key)
    (one,) = ratings(books, store, [seal])
    assert (one.agrees, one.damaged) == (False, f"{key} in the bucket usage-archive is missing.")
    assert [one.agrees for one in compared(books, store)] == [False]


def test_the_archive_rates_to_the_same_over_zones_price_changes_and_units(
    books: Books, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random day of a tenant in Kathmandu and one in Berlin, with a price that changes within it."""
    dice = random.Random(19)
    tenants = [books.tenant("kathmandu", "Asia/Kathmandu"), books.tenant("berlin")]
    gateway = books.gateway()
    change_price(books, NOON, Decimal("0.123457"))
    for _ in range(120):
        at = NOON - timedelta(hours=12) + timedelta(seconds=dice.randrange(86_400))
        prompt, completion = dice.randrange(1, 5000), dice.randrange(900)
        cached = dice.randrange(prompt)
        spared = dice.choice([0, 0, prompt - cached])
        gateway.uses(
            dice.choice(tenants), at, prompt=prompt, cached=cached, completion=completion, reused_prompt=spared,
            batch_id=ids.uuid7() if not spared and dice.random() < 0.3 else None,
        )  # fmt: skip
        gateway.uses(dice.choice(tenants), at, prompt=prompt, variant="embedding")
    training_is_sold(books, "10", QUOTED - timedelta(days=60))
    training_is_sold(books, "11.000007", NOON)
    for hours in (-3, 3):  # a quote from before the price, of a job from before and after it
        at = NOON + timedelta(hours=hours)
        job, _ = quoted_fine_tune(books, tenants[0], at, 5_001, "1", NOON - timedelta(hours=6))
        gateway.uses(tenants[0], at, prompt=5_001, fine_tune=job)
    keys = close_all(books, gateway, tenants)
    archive_day(books, store)
    found = ratings(books, store, keys)
    assert [one.agrees for one in found] == [True, True]
    assert all(one.archive_amount == one.rated_amount > 0 for one in found)

    monkeypatch.setattr(rate_archive, "MEMORY_MB", 1)  # too little for it: it gets more
    assert ratings(books, store, keys) == found
    monkeypatch.setattr(rate_archive, "MOST_MEMORY_MB", 1)
    with pytest.raises(OutOfMemoryException):
        ratings(books, store, keys)


def test_a_rated_line_that_is_wrong_by_one_token_is_seen(books: Books, store: ObjectStore) -> None:
    tenant, other, gateway = books.tenant(), books.tenant("other"), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, completion=5)
    gateway.uses(other, NOON, prompt=10, completion=5)
    keys = close_all(books, gateway, [tenant, other])
    archive_day(books, store)
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update rated_lines set tokens = tokens + 1, amount = (tokens + 1) * per_million / 1000000"
            " where unit = 'prompt' and tenant_id = %s",
            [tenant],
        )
    assert [one.differing_lines for one in ratings(books, store, keys)] == [1, 0]


def test_a_partition_is_dropped_only_when_all_of_it_is_archived(books: Books, store: ObjectStore) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    at = clock.now().replace(hour=12) - timedelta(days=3)
    gateway.uses(tenant, at, prompt=10)
    drop = f"select drop_archived_usage('{at.date()}')"
    owner = books.database.url("owner").replace("+psycopg", "")
    with psycopg.connect(owner, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RestrictViolation, match=r"1 events of .* are in no archived"):
            connection.execute(drop)
        day = at.astimezone(clock.BERLIN).date()
        books.close_day(gateway, tenant, day)
        with pytest.raises(psycopg.errors.RestrictViolation, match=r"1 events of .* are in no archived"):
            connection.execute(drop)
        archive_day(books, store, day)
        with pytest.raises(psycopg.errors.RestrictViolation, match=r"an engine of .* still runs"):
            connection.execute(drop)
        connection.execute("update replicas set state = 'stopped'")
        assert connection.execute(drop).fetchone() == (1,)
    (one,) = compared(books, store, day)
    assert (one.agrees, one.only_in_archive) == (True, True)
    # The source lives on, and its numbers from before the drop are still proven.
    late = at + timedelta(days=1)
    gateway.uses(tenant, late, prompt=1)
    gateway.reports(clock.now())
    assert books.seal(tenant, late.astimezone(clock.BERLIN).date()).events == 1


def close_all(books: Books, gateway: Gateway, tenants: list[UUID]) -> list[SealKey]:
    return [books.close_day(gateway, tenant, DAY) for tenant in tenants]


def change_price(books: Books, at: datetime, per_million: Decimal) -> None:
    with books.as_role("worker") as session:
        query = select(Price).where(Price.variant_id == CHAT, Price.unit == "completion", Price.currency == "EUR")
        session.scalars(query).one().valid_until = at
        session.flush()
        session.add(Price(currency="EUR", variant_id=CHAT, unit="completion", per_million=per_million, valid_from=at))
