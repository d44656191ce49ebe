"""Storage: measured once a day from rows, billed like all usage where a list sells it, and there where it is billed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.orm import Session

from billing import complete_months, price_book, rate_archive, rated_lines, reconcile, storage, stored_objects, usage
from billing import windows as sealing
from billing.complete_months import TenantMonth
from billing.documents import frozen_rows
from local.objects import EmbeddedObjectStore
from studio import budgets, clock, ids, storage_usage
from studio.catalog.sync import sync_catalog
from studio.db.invoices import InvoiceLine
from studio.db.jobs import Batch, BatchShard, File, Upload, UploadPart
from studio.errors import InvalidRequest
from studio.objects import Bucket, ObjectStore
from tests.billing.books import CATALOG, Books
from tests.billing.test_archive import archive_day
from tests.local.servers import client
from tests.server import TestDatabase

DAY = date(2026, 11, 10)
CLOCKS_CHANGE = date(2026, 10, 25)  # 25 hours in Berlin
NEXT_NOON = datetime(2026, 11, 11, 11, tzinfo=UTC)
GB = 10**9
PRICE_LISTS = """
price_lists:
  EUR:
    storage: [{valid_from: 2026-01-01T00:00:00+01:00, gigabyte_day: 0.5}]
"""


@pytest.fixture
def selling(database: TestDatabase, tmp_path: Path) -> Iterator[Books]:
    """Books whose euro list sells storage, as if since January."""
    shutil.copytree(CATALOG.folder, tmp_path / "catalog")
    (tmp_path / "catalog" / "price_lists.yaml").write_text(PRICE_LISTS)
    books = Books(database)
    books.open()
    with books.as_role("worker") as session:
        sync_catalog(session, tmp_path / "catalog", CATALOG.site)
    yield books
    books.close()


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    objects.prepare()
    return client(objects, objects.secrets.s3_secret_key)


def since_january(books: Books) -> None:
    """Tenants and prices of before the days of these tests, whenever they run."""
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update tenants set created_at = '2026-01-01'")
        connection.execute("update prices set recorded_at = '2026-01-01'")


def keeps(
    books: Books,
    tenant: UUID,
    size_bytes: int,
    since: datetime,
    *,
    until: datetime | None = None,
    expires: datetime | None = None,
    purpose: str = "batch",
    key: str = "k",
) -> UUID:
    id = ids.uuid7()
    row = {"tenant_id": tenant, "filename": "f", "purpose": purpose, "size_bytes": size_bytes, "sha256": "0"}
    gone = {"deleted_at": until, "expires_at": expires}
    with books.as_role("worker") as session:
        session.execute(insert(File).values(id=id, object_key=key, created_at=since, **row, **gone))
    return id


def trains(books: Books, tenant: UUID, size_bytes: int, since: datetime, prefix: str = "p/") -> None:
    """An adapter since an instant."""
    job, file = ids.uuid7(), keeps(books, tenant, 0, since)
    with books.database.superuser() as connection:
        connection.execute(
            "insert into fine_tuning_jobs (id, tenant_id, api_key_id, variant_id, training_file_id, seed,"
            " hyperparameters, state) values (%s, %s, %s, 'chat', %s, 1, '{}', 'succeeded')",
            (job, tenant, ids.uuid7(), file),
        )
        connection.execute(
            "insert into adapters (id, tenant_id, job_id, variant_id, name, engine_name, object_prefix, sha256, rank,"
            " size_bytes, created_at) values (%s, %s, %s, 'chat', %s, %s, %s, '0', 8, %s, %s)",
            (ids.uuid7(), tenant, job, job.hex, job.hex, prefix, size_bytes, since),
        )


def measure(books: Books, day: date, now: datetime) -> list[storage.MeasuredDay]:
    with books.as_role("worker") as session:
        return storage.measure(session, day, now)


def test_a_day_of_storage_is_sealed_rated_twice_and_invoiced_with_the_day(selling: Books, store: ObjectStore) -> None:
    books = selling
    tenant, gateway = books.tenant(), books.gateway()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    keeps(books, tenant, 3 * GB, start - timedelta(days=1))
    keeps(books, tenant, 2 * GB, start + timedelta(hours=12), purpose="batch_output")
    trains(books, tenant, GB, start - timedelta(days=1))
    gateway.uses(tenant, start + timedelta(hours=12), prompt=1_000_000)
    (day,) = measure(books, DAY, end + timedelta(minutes=1))
    assert day.kilobyte_days == 5_000_000  # 3 GB and 1 GB the whole day, 2 GB half of it
    assert measure(books, DAY, end + timedelta(minutes=2)) == []

    gateway.reports(sealing.closes_at(DAY))
    books.engine_is_idle(sealing.closes_at(DAY) + timedelta(hours=1))
    key = books.seal(tenant, DAY).key
    assert key.seal_no == 1  # it was there before the day was sealed
    archive_day(books, store, DAY)
    with books.as_role("worker") as session:
        assert usage.count_together(session, DAY, [key]) == {key}
    assert ("storage", DAY, 5_000_000) in books.daily(DAY)
    with books.as_role("worker") as session:
        assert not usage.count(session, key).held_events
        rated_lines.rate_seals(session, DAY, [key])
        again = rate_archive.rate_twice(session, store, [key])
        reconcile.reconcile_seal(session, key, sealing.closes_at(DAY), reconcile.rated_twice(key, again[key]))
        assert storage.uneven(session, DAY) == []
    assert books.state(key) == "reconciled"
    invoice_id = books.draft(tenant, date(2026, 11, 1), NEXT_NOON)
    assert invoice_id is not None
    books.finalize(invoice_id, NEXT_NOON)  # with its revenue in the ledger
    with books.as_role("auditor") as session:
        lines = session.scalars(select(InvoiceLine).where(InvoiceLine.invoice_id == invoice_id)).all()
    line = next(line for line in lines if line.unit == "storage")
    assert (line.amount, line.tokens, line.variant_id) == (Decimal("2.50"), 5_000_000, storage_usage.PRODUCT)
    with books.as_role("auditor") as session:
        names = [line.name for line in frozen_rows.of_invoice(session, invoice_id).lines if line.unit == "storage"]
    assert names == ["Storage, kilobyte-days of storage"]
    assert line.explanation == "5,000,000 kilobyte-days of storage x 0.50 EUR / 1,000,000"


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Europe/Berlin", CLOCKS_CHANGE), ("Asia/Tokyo", DAY), ("America/New_York", DAY), ("Asia/Kathmandu", DAY)],
)
def test_what_is_measured_are_bytes_times_seconds_of_the_tenants_own_day(selling: Books, zone: str, day: date) -> None:
    books, drawn = selling, random.Random(zone)
    tenant = books.tenant("kunde", zone)
    since_january(books)
    start, end = clock.day_window(day, clock.zone(zone))
    expected = 0
    for _ in range(40):
        size = drawn.choice([1, 999, drawn.randrange(10**6), drawn.randrange(10**12)])
        since = start + timedelta(seconds=drawn.randrange(-90_000, 90_000), microseconds=drawn.randrange(10**6))
        until, expires = (
            drawn.choice([None, since + timedelta(seconds=drawn.randrange(1, 200_000))]) for _ in range(2)
        )
        keeps(books, tenant, size, since, until=until, expires=expires)
        gone = min(instant for instant in (until, expires, end) if instant is not None)
        microseconds = (min(gone, end) - max(since, start)) // timedelta(microseconds=1)
        expected += size * max(microseconds, 0)
    before = end - timedelta(seconds=1)
    assert measure(books, day, before) == []  # it is not over there
    (measured,) = measure(books, day, end)
    assert measured.kilobyte_days == expected // (10**6 * 1000 * 86_400)
    with books.as_role("auditor") as session:
        event = session.execute(text("select * from usage_events")).one()
        (unit,) = usage.units_of_event(session, tenant, event.id)
    assert (unit.unit, unit.billing_day, unit.tokens) == ("storage", day, measured.kilobyte_days)
    assert event.started_at == end - timedelta(microseconds=1)


def test_a_list_without_a_price_of_storage_charges_nothing_and_holds_nothing(books: Books) -> None:
    tenant = books.tenant()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    keeps(books, tenant, GB, start)
    (day,) = measure(books, DAY, end)
    assert (day.kilobyte_days, day.is_sold, day.event_id) == (1_000_000, False, None)
    with books.as_role("auditor") as session:
        assert session.execute(text("select count(*) from usage_events")).scalar_one() == 0


def test_storage_is_charged_from_when_its_price_is_known_and_until_the_tenant_is_closed(selling: Books) -> None:
    books = selling
    tenant = books.tenant()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    keeps(books, tenant, GB, start - timedelta(days=5))
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update prices set recorded_at = %s where unit = 'storage'", (end,))
        connection.execute("update tenants set closed_at = %s", (end + timedelta(hours=6),))
    assert [one.is_sold for one in measure(books, DAY, end)] == [False]  # it was over when the price was recorded
    (last,) = measure(books, DAY + timedelta(days=1), end + timedelta(days=1))
    assert (last.is_sold, last.kilobyte_days) == (True, 250_000)
    assert measure(books, DAY + timedelta(days=2), end + timedelta(days=3)) == []


def test_a_month_waits_until_its_storage_is_measured(selling: Books) -> None:
    books = selling
    tenant = books.tenant()
    since_january(books)
    now = datetime(2026, 12, 1, 11, tzinfo=UTC)
    november = TenantMonth(tenant, date(2026, 11, 1))
    with books.as_role("worker") as session:
        assert complete_months.complete(session, [november], now) == set()
        for day in {one.day for one in storage.due(session, now)}:
            storage.measure(session, day, now)
        assert complete_months.complete(session, [november], now) == {november}


def test_what_is_billed_and_not_in_the_object_store_is_named(books: Books, store: ObjectStore) -> None:
    tenant = books.tenant()
    now = clock.now()
    folder = f"{tenant}/{ids.uuid7()}"
    for name in ("right", "short"):
        store.put(Bucket.FILES, f"{folder}/{name}", b"12345")
    store.put(Bucket.ADAPTERS, f"{folder}/adapter/adapter_model.safetensors", b"123456")
    store.put(Bucket.ADAPTERS, f"{folder}/adapter/adapter_config.json", b"{}")
    keeps(books, tenant, 5, now, key=f"{folder}/right")
    keeps(books, tenant, 6, now, key=f"{folder}/short")
    keeps(books, tenant, 7, now, key=f"{folder}/gone")
    keeps(books, tenant, 8, now - timedelta(hours=1), key=f"{folder}/deleted", until=now)
    trains(books, tenant, 6, now, f"{folder}/adapter/")
    with books.as_role("worker") as session:
        session.execute(update(File).where(File.object_key == "k").values(deleted_at=now))
        found = stored_objects.not_as_stored(session, store, now + timedelta(seconds=1))
    assert {(one.key, one.billed_bytes, one.stored_bytes) for one in found} == {
        (f"{folder}/short", 6, 5),
        (f"{folder}/gone", 7, None),
    }


def test_a_changed_measure_is_seen(selling: Books) -> None:
    books = selling
    tenant = books.tenant()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    file = keeps(books, tenant, GB, start)
    measure(books, DAY, end)
    with books.as_role("worker") as session:
        assert storage.uneven(session, DAY) == []
        session.execute(update(File).where(File.id == file).values(deleted_at=start + timedelta(hours=12)))
        (found,) = storage.uneven(session, DAY)
    assert (found.measured, found.measured_again, found.billed) == (1_000_000, 500_000, 1_000_000)


def test_a_tenants_own_price_of_storage(selling: Books) -> None:
    books = selling
    tenant = books.tenant()
    own: dict[str, Any] = {
        "tenant_id": tenant, "per_million": Decimal("0.1"), "tiers": (), "valid_from": NEXT_NOON, "valid_until": None,
        "retroactive": True, "by": "key:finance", "reason": "contract", "now": NEXT_NOON,
    }  # fmt: skip
    with books.as_role("operator") as session:
        set_one = price_book.set_price(session, variant_id="storage", unit="storage", **own)
        assert set_one.per_million == Decimal("0.1")
        with pytest.raises(InvalidRequest, match=r"storage is sold by storage; not by 'prompt'"):
            price_book.set_price(session, variant_id="storage", unit="prompt", **own)


def test_parts_count_until_their_upload_ends_and_results_until_they_are_files(books: Books) -> None:
    tenant = books.tenant()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    at = {hour: start + timedelta(hours=hour) for hour in range(25)}
    file, batch, owner = keeps(books, tenant, 0, start), ids.uuid7(), {"tenant_id": tenant}
    ended: tuple[dict[str, Any], ...] = (
        {"state": "completed", "ended_at": at[6], "file_id": file, "part_ids": []},
        {"state": "cancelled", "ended_at": at[3]},
        {"state": "pending", "ended_at": None},  # expired at 12, and nobody wrote that down
    )
    with as_owner(books) as session:
        for row in ended:
            upload = ids.uuid7()
            of_it = {"filename": "f", "purpose": "batch", "size_bytes": GB, "created_at": start, "expires_at": at[12]}
            session.execute(insert(Upload).values(id=upload, **owner, **of_it, **row))
            part = {"upload_id": upload, "size_bytes": GB, "created_at": start}
            session.execute(insert(UploadPart).values(id=ids.uuid7(), **owner, **part))
        until = {"expires_at": end, "created_at": start, "in_progress_at": start, "completed_at": at[20]}
        what = {"api_key_id": ids.uuid7(), "endpoint": "/v1/embeddings", "completion_window": "24h"}
        session.execute(insert(Batch).values(id=batch, **owner, **what, input_file_id=file, state="completed", **until))
        span = {"line_from": 1, "line_until": 2, "byte_from": 0, "byte_until": 1, "state": "done"}
        for number, size in enumerate((2 * GB, None), start=1):  # one of before results were counted
            row = {"shard_no": number, "result_bytes": size, "done_at": at[8]}
            session.execute(insert(BatchShard).values(batch_id=batch, **owner, **span, **row))
    (day,) = measure(books, DAY, end)
    hours = 3600 * GB
    assert (day.file_byte_seconds, day.result_byte_seconds) == ((6 + 3 + 12) * hours, 2 * (20 - 8) * hours)
    assert measure(books, DAY - timedelta(days=40), end) != []  # by hand, however long ago


def test_what_is_kept_is_spent_of_the_tenants_budgets_once_and_above_their_amount(selling: Books) -> None:
    books = selling
    tenant = books.tenant()
    since_january(books)
    start, end = clock.day_window(DAY, clock.BERLIN)
    with books.as_role("operator") as session:
        budgets.put_budget(session, tenant, None, "prepaid", Decimal("1.20"), "test")
        budgets.put_budget(session, tenant, None, "monthly", Decimal("1.20"), "test")
    with books.database.superuser() as connection:
        connection.execute("update budgets set created_at = %s", (start - timedelta(days=3),))
    keeps(books, tenant, 2 * GB, start)  # 1.00 a day
    measure(books, DAY, end)
    assert measure(books, DAY, end) == []
    assert spent(books) == {("prepaid", (start - timedelta(days=3)).date()): 1, ("monthly", date(2026, 11, 1)): 1}
    measure(books, DAY + timedelta(days=1), end + timedelta(days=1))
    measure(books, DAY - timedelta(days=4), end)  # nothing was kept yet
    assert set(spent(books).values()) == {Decimal(2)}
    with books.as_role("operator") as session:
        assert [one.free for one in budgets.standings(session, tenant) if one.kind == "prepaid"] == [0]
    with books.as_role("auditor") as session:
        metered: int = session.execute(text("select sum(prompt_tokens) from usage_events")).scalar_one()
    assert metered == 4_000_000  # what is spent is what is metered, at 0.5


@contextmanager
def as_owner(books: Books) -> Iterator[Session]:
    """Rows that gateways and workers of batches write, put there as they would be."""
    engine = create_engine("postgresql+psycopg://", creator=books.database.superuser)
    with Session(engine) as session:
        yield session
        session.commit()
    engine.dispose()


def spent(books: Books) -> dict[tuple[str, date], Decimal]:
    query = "select b.kind, a.period, a.spent from budget_accounts a join budgets b on b.id = a.budget_id"
    with books.as_role("auditor") as session:
        return {(row.kind, row.period): row.spent for row in session.execute(text(query))}
