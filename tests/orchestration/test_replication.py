"""Copies on a second object store: real S3, two sets of buckets. Every loss turns the check red, with its row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from assets.objects import Replica, object_replication
from studio.objects import Bucket, ObjectStore
from studio.replication import REPLICATED, BucketReport, Trouble, replicate
from tests.orchestration.location import Location


@pytest.fixture(scope="module")
def buckets(objects: ObjectStore) -> tuple[ObjectStore, ObjectStore]:
    """The originals, and where their copies go."""
    source, target = ObjectStore(objects.client, "cn-"), ObjectStore(objects.client, "eu-")
    for bucket in REPLICATED:
        source.client.create_bucket(Bucket=source.name(bucket))
    return source, target


@pytest.fixture
def stores(buckets: tuple[ObjectStore, ObjectStore]) -> Iterator[tuple[ObjectStore, ObjectStore]]:
    """Empty originals before each test; copies as the passes leave them."""
    yield buckets
    for store in buckets:
        for bucket in REPLICATED:
            pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.name(bucket))
            for key in [found["Key"] for page in pages for found in page.get("Contents", ())]:
                store.delete(bucket, key)


def later(hours: float = 1) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def of(bucket: Bucket, reports: list[BucketReport]) -> BucketReport:
    return next(report for report in reports if report.bucket == bucket)


def trouble(reports: list[BucketReport]) -> list[tuple[str, str, str]]:
    return [(one.bucket, one.key, one.what) for report in reports for one in report.trouble]


def test_what_is_new_is_copied_once_with_its_lag(stores: tuple[ObjectStore, ObjectStore]) -> None:
    source, target = stores
    source.put(Bucket.INVOICES, "2026/DE-1.pdf", b"an invoice")
    source.put(Bucket.FILES, "tenant/file", b"x" * 100_000)
    first = replicate(source, target, later(2), verify_days=1)
    assert trouble(first) == []
    assert (of(Bucket.INVOICES, first).copied, of(Bucket.FILES, first).copied) == (1, 1)
    assert 7000 < of(Bucket.INVOICES, first).lag_seconds < 7300
    assert target.get(Bucket.FILES, "tenant/file") == b"x" * 100_000
    second = replicate(source, target, later(3), verify_days=1)
    assert trouble(second) == []
    assert [(report.copied, report.lag_seconds) for report in second] == [(0, 0.0)] * len(REPLICATED)
    assert of(Bucket.FILES, second).verified == 1


def test_a_copy_that_is_gone_or_spoilt_is_told_and_made_anew(stores: tuple[ObjectStore, ObjectStore]) -> None:
    source, target = stores
    for name in ("gone", "spoilt", "sound"):
        source.put(Bucket.USAGE_ARCHIVE, name, f"usage of {name}".encode())
    replicate(source, target, later())
    target.delete(Bucket.USAGE_ARCHIVE, "gone")
    _overwrite_bytes(target, Bucket.USAGE_ARCHIVE, "spoilt", b"usage of sp0ilt")
    seen = replicate(source, target, later(2), verify_days=1)
    assert sorted(trouble(seen)) == [("usage-archive", "gone", "missing"), ("usage-archive", "spoilt", "spoilt")]
    for name in ("gone", "spoilt"):
        assert target.get(Bucket.USAGE_ARCHIVE, name) == f"usage of {name}".encode()
    assert trouble(replicate(source, target, later(3), verify_days=1)) == []


def test_an_original_that_changed_where_nothing_may_change_is_not_copied(
    stores: tuple[ObjectStore, ObjectStore],
) -> None:
    source, target = stores
    source.put(Bucket.INVOICES, "DE-7.pdf", b"119.00 EUR")
    source.put(Bucket.BACKUPS, "newest", b"one")
    replicate(source, target, later())
    source.put(Bucket.INVOICES, "DE-7.pdf", b"911.00 EUR")
    source.put(Bucket.BACKUPS, "newest", b"two")
    seen = replicate(source, target, later(2), verify_days=1)
    assert trouble(seen) == [("invoices", "DE-7.pdf", "original changed")]
    assert target.get(Bucket.INVOICES, "DE-7.pdf") == b"119.00 EUR"
    assert target.get(Bucket.BACKUPS, "newest") == b"two", "there a new one is no error"


def test_deletions_are_followed_for_tenants_files_and_never_all_at_once(
    stores: tuple[ObjectStore, ObjectStore],
) -> None:
    source, target = stores
    for number in range(30):
        source.put(Bucket.FILES, f"t/{number}", b"of a tenant")
    source.put(Bucket.INVOICES, "DE-8.pdf", b"kept")
    replicate(source, target, later())
    source.delete(Bucket.FILES, "t/0")
    source.delete(Bucket.INVOICES, "DE-8.pdf")
    seen = replicate(source, target, later(2))
    assert (trouble(seen), of(Bucket.FILES, seen).removed) == ([], 1)
    assert target.get(Bucket.FILES, "t/0") is None
    assert target.get(Bucket.INVOICES, "DE-8.pdf") == b"kept"
    for number in range(1, 30):
        source.delete(Bucket.FILES, f"t/{number}")
    held = replicate(source, target, later(3))
    (one,) = of(Bucket.FILES, held).trouble
    assert one == Trouble("files", "", "deletions held", "29 of 29 originals are gone at once; their copies were kept")
    assert target.get(Bucket.FILES, "t/1") == b"of a tenant"


def test_dagster_shows_the_rows_and_turns_red(stores: tuple[ObjectStore, ObjectStore]) -> None:
    source, target = stores
    source.put(Bucket.INVOICES, "DE-9.pdf", b"an invoice")

    def run() -> tuple[bool, Any, Any]:
        resources = {"objects": source, "replica": Replica(target)}
        result = dg.materialize([object_replication], resources=resources)
        (check,) = result.get_asset_check_evaluations()
        (done,) = result.asset_materializations_for_node("object_replication")
        trouble = check.metadata["trouble"]
        assert isinstance(trouble, dg.TableMetadataValue)
        return check.passed, trouble.records, done.metadata

    passed, rows, metadata = run()
    assert (passed, rows, metadata["copied"].value) == (True, [], 1)
    # The pass wrote down when it began, to the microsecond; S3 keeps seconds, so the original is older.
    target.delete(Bucket.INVOICES, "DE-9.pdf")
    passed, rows, metadata = run()
    assert not passed
    (row,) = rows
    assert (row.data["bucket"], row.data["key"], row.data["what"]) == ("invoices", "DE-9.pdf", "missing")
    assert metadata["missing"].value == 1
    assert run()[0], "and then it is whole again"


def test_without_a_second_store_nothing_is_asked_for() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location({"replica": Replica(None)}, instance)
        schedule = location.defs.get_repository_def().get_schedule_def("hourly_replication")
        context = dg.build_schedule_context(instance, resources={"replica": Replica(None)})
        said = schedule.evaluate_tick(context)
        assert said.skip_message == "STUDIO_REPLICA_S3_ENDPOINT_URL is not set: there are no copies."
        assert not said.run_requests


def _overwrite_bytes(store: ObjectStore, bucket: Bucket, key: str, body: bytes) -> None:
    """Other bytes of the same length behind the same metadata, as a bad disk would have them."""
    metadata = store.client.head_object(Bucket=store.name(bucket), Key=key)["Metadata"]
    store.client.put_object(Bucket=store.name(bucket), Key=key, Body=body, Metadata=metadata)
