"""Bytes that nobody may read any more go, whoever left them behind; those that are needed stay."""

from __future__ import annotations

from uuid import UUID

import openai
import pytest

from local.objects import EmbeddedObjectStore
from serving.batches import results as shard_results
from studio import ids
from studio.objects import Bucket, ObjectStore
from tests.local.servers import client
from tests.serving.batches.books import serving_engine
from tests.serving.batches.conftest import Customer
from tests.serving.batches.orders import line, submit
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """Where the bytes lie."""
    return client(objects, objects.secrets.s3_secret_key)


def file_of(house: House, wire_id: str) -> tuple[str, bool]:
    """Its key, and whether the row says that the bytes are gone."""
    with house.database.superuser() as connection:
        row = connection.execute(
            "select object_key, bytes_deleted_at is not null from files where id = %s",
            [ids.from_wire(ids.FILE, wire_id)],
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def has_bytes(store: ObjectStore, house: House, wire_id: str) -> bool:
    key, is_marked = file_of(house, wire_id)
    is_there = store.size(Bucket.FILES, key) is not None
    assert is_there is not is_marked
    return is_there


def expire(house: House, wire_id: str) -> None:
    with house.database.superuser() as connection:
        connection.execute(
            "update files set expires_at = now() - interval '1 second' where id = %s",
            [ids.from_wire(ids.FILE, wire_id)],
        )


def upload(sdk: openai.OpenAI) -> str:
    return sdk.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune").id


def test_a_deleted_file_goes_with_the_batch_that_needed_it(
    sdk: openai.OpenAI, batch_workers: Workers, house: House, store: ObjectStore
) -> None:
    batch = submit(sdk, [line("kept")])
    sdk.files.delete(batch.input_file_id)
    batch_workers.drain()
    assert has_bytes(store, house, batch.input_file_id)
    with serving_engine(house):
        batch_workers.drain()
    assert not has_bytes(store, house, batch.input_file_id)


def test_an_expired_file_goes_and_others_stay(
    sdk: openai.OpenAI, batch_workers: Workers, house: House, store: ObjectStore
) -> None:
    expired, deleted, kept = upload(sdk), upload(sdk), upload(sdk)
    expire(house, expired)
    sdk.files.delete(deleted)
    assert not has_bytes(store, house, deleted)  # at once: nobody needs it
    batch_workers.drain()
    assert [has_bytes(store, house, file) for file in (expired, kept)] == [False, True]


def test_a_file_that_an_open_fine_tune_needs_stays(
    customer: Customer, batch_workers: Workers, house: House, store: ObjectStore
) -> None:
    training, validating = upload(customer.sdk), upload(customer.sdk)
    with house.database.superuser() as connection:
        connection.execute(
            "insert into fine_tuning_jobs (tenant_id, api_key_id, variant_id, training_file_id, validation_file_id,"
            " seed, hyperparameters, state) values (%s, %s, %s, %s, %s, 1, '{}', 'running')",
            [customer.tenant_id, customer.key.id, CHAT, _uuid(training), _uuid(validating)],
        )
        expire(house, training)
        customer.sdk.files.delete(validating)
        batch_workers.drain()
        assert [has_bytes(store, house, file) for file in (training, validating)] == [True, True]
        connection.execute(
            "update fine_tuning_jobs set state = 'succeeded' where training_file_id = %s", [_uuid(training)]
        )
    batch_workers.drain()
    assert [has_bytes(store, house, file) for file in (training, validating)] == [False, False]


def test_results_of_shards_go_when_their_batch_has_ended_also_after_a_kill(
    customer: Customer, batch_workers: Workers, house: House, store: ObjectStore
) -> None:
    with serving_engine(house):
        batch = submit(customer.sdk, [line("a")])
        batch_workers.drain()
    batch_id = ids.from_wire(ids.BATCH, batch.id)
    prefix = shard_results.shards_prefix(customer.tenant_id, batch_id)
    assert _keys(store, prefix) == []
    store.put(Bucket.FILES, f"{prefix}left", b"by a worker that was killed after it had ended the batch")
    with house.database.superuser() as connection:
        connection.execute("update batch_shards set output_key = 'left' where batch_id = %s", [batch_id])
    batch_workers.drain()
    assert _keys(store, prefix) == []
    assert customer.sdk.files.content(str(customer.sdk.batches.retrieve(batch.id).output_file_id)).text


def _keys(store: ObjectStore, prefix: str) -> list[str]:
    found = store.client.list_objects_v2(Bucket=store.name(Bucket.FILES), Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]


def _uuid(wire_id: str) -> UUID:
    return ids.from_wire(ids.FILE, wire_id)
