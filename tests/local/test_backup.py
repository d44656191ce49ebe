"""A backup is restored elsewhere and is what its manifest says; one that is not is found out."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from billing import chain
from local.backup.drill import drill
from local.backup.dump import BackupFailed, backups, prune, take
from local.objects import EmbeddedObjectStore
from studio.objects import Bucket, ObjectStore
from studio.settings import REPOSITORY
from tests.billing.books import Books
from tests.local.servers import client
from tests.server import TestDatabase

AT = datetime(2026, 10, 12, 9, tzinfo=UTC)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.fixture
def books(database: TestDatabase) -> Iterator[Books]:
    """A database with a small catalog and one engine."""
    books = Books(database)
    books.open()
    yield books
    books.close()


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """A place for backups that no other test looks at."""
    own = ObjectStore(client(objects, objects.secrets.s3_secret_key).client, f"drill{random.randrange(10**9)}-")
    for bucket in (Bucket.BACKUPS, Bucket.INVOICES):
        own.client.create_bucket(Bucket=own.name(bucket))
    return own


def test_a_restored_backup_is_the_original_and_refuses_what_that_refuses(books: Books, store: ObjectStore) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    books.final_invoice(gateway, tenant, AT, NOW, prompt=1_000_000, completion=1_000_000)
    made = take(books.database.url("owner"), store, NOW)
    assert made.facts.rows["usage_events"] == 1
    assert made.facts.rows["invoices"] == 1
    assert made.facts.last_numbers == {"xpulink-de/2026/invoice": 1}
    assert made.facts.guards["policies"] > 10

    done = drill(store, made)
    assert done.deviations == ()
    assert (done.passed, done.tables) == (True, len(made.facts.rows))

    # Another state of the database is another manifest, and its figures are those that the drill compares with.
    books.tenant("another")
    newer = take(books.database.url("owner"), store, NOW + timedelta(hours=1))
    assert newer.facts.rows["tenants"] == made.facts.rows["tenants"] + 1
    forged = drill(store, type(made)(made.name, made.taken_at, made.sha256, made.size_bytes, newer.facts))
    assert ("rows.tenants", str(newer.facts.rows["tenants"]), str(made.facts.rows["tenants"])) in forged.deviations
    assert not forged.passed


def test_an_operator_backs_up_and_drills(books: Books, objects: EmbeddedObjectStore, store: ObjectStore) -> None:
    own = objects.environment | books.database.environment("owner")
    environment = os.environ | own | {"STUDIO_S3_BUCKET_PREFIX": store.bucket_prefix}

    def studio(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / "bin" / "studio"), "backup", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)

    nothing = studio("drill")
    assert (nothing.returncode, nothing.stderr) == (
        1,
        "There is no backup: make one with `studio backup create`.\n",
    )
    created = json.loads(studio("create", "--json").stdout)
    drilled = studio("drill", created["name"], "--json")
    assert drilled.returncode == 0, drilled.stderr
    assert json.loads(drilled.stdout)["passed"] is True


def test_a_dump_whose_bytes_were_changed_is_refused(books: Books, store: ObjectStore) -> None:
    made = take(books.database.url("owner"), store, NOW)
    body = store.get(Bucket.BACKUPS, made.dump_key)
    assert body is not None
    store.put(Bucket.BACKUPS, made.dump_key, body[:-1])
    with pytest.raises(BackupFailed, match="was changed or cut"):
        drill(store, made)


def test_old_backups_go_and_half_ones_do_not_count(books: Books, store: ObjectStore) -> None:
    made = [take(books.database.url("owner"), store, NOW + timedelta(hours=hours)) for hours in range(3)]
    store.put(Bucket.BACKUPS, "2026-11-02T12:00:00Z/studio.dump", b"no manifest yet")
    assert [one.name for one in backups(store)] == [one.name for one in made]
    assert prune(store, keep=2) == [made[0].name]
    assert [one.name for one in backups(store)] == [one.name for one in made[1:]]
    assert store.get(Bucket.BACKUPS, made[0].dump_key) is None


def test_a_broken_ledger_is_not_backed_up_in_silence(books: Books, store: ObjectStore) -> None:
    store.put(Bucket.INVOICES, chain.COPY, b'{"2026-10-01": "%s"}' % (b"0" * 64))  # a day that is not in the database
    with pytest.raises(BackupFailed, match="chain is broken"):
        take(books.database.url("owner"), store, NOW)
    assert backups(store) == []


def test_a_table_that_the_owner_does_not_see_is_not_left_out_in_silence(books: Books, store: ObjectStore) -> None:
    with books.database.superuser() as connection:
        connection.execute("create table notes (tenant_id uuid)")
        connection.execute("alter table notes enable row level security, force row level security")
    with pytest.raises(BackupFailed, match="all rows of notes"):
        take(books.database.url("owner"), store, NOW)
