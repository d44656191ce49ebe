"""Batches that nobody foresaw: each fails alone, and none runs for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from botocore.exceptions import EndpointConnectionError
from openai.types import Batch

from local.objects import EmbeddedObjectStore
from serving.batches import lifecycle, validation
from serving.batches.drain import Drain, Equipment
from studio.db.sessions import engine_for
from studio.objects import Bucket, ObjectStore
from tests.local.servers import client
from tests.serving.batches.books import serving_engine
from tests.serving.batches.orders import line, results, submit
from tests.serving.batches.quick_drain import QUICK
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """Where the bytes lie."""
    return client(objects, objects.secrets.s3_secret_key)


@pytest.fixture
def equipment(house: House, store: ObjectStore) -> Iterator[Equipment]:
    """Of a worker in this process."""
    database = engine_for(house.database.url("worker"))
    yield Equipment(database, store, b"a secret of the tests", QUICK)
    database.dispose()


def lose_input(store: ObjectStore, house: House, batch: Batch) -> None:
    """The bytes are gone, although the row says otherwise."""
    with house.database.superuser() as connection:
        row = connection.execute(
            "select object_key from files where replace(id::text, '-', '') = %s",
            [batch.input_file_id.removeprefix("file-")],
        ).fetchone()
    assert row is not None
    store.delete(Bucket.FILES, row[0])


def errors_of(batch: Batch) -> list[tuple[str | None, str | None]]:
    """Code and message."""
    assert batch.errors is not None
    return [(error.code, error.message) for error in batch.errors.data or ()]


def test_a_file_that_breaks_its_judge_fails_alone(
    sdk: openai.OpenAI, house: House, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, good = submit(sdk, [line("poison")]), submit(sdk, [line("good")])
    validate = validation.validate

    def broken(lines: Any, *context: Any) -> Any:
        read = list(lines)
        if b"poison" in read[0].text:
            raise ZeroDivisionError("with content")
        return validate(read, *context)

    monkeypatch.setattr(validation, "validate", broken)
    with serving_engine(house):
        asyncio.run(Drain(equipment).run())
    failed = sdk.batches.retrieve(poison.id)
    assert (failed.status, errors_of(failed)) == ("failed", [("internal_error", "The file could not be read.")])
    assert sdk.batches.retrieve(good.id).status == "completed"


def test_findings_that_cannot_be_kept_fail_their_batch_alone(
    sdk: openai.OpenAI, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = submit(sdk, ["{"])
    fail = lifecycle.fail

    def fail_of_old(session: Any, batch_id: Any, findings: Any, now: Any) -> None:
        if findings[0].code == "invalid_json_line":
            findings = [validation.Finding("c", "a\0b", None, None)]
        fail(session, batch_id, findings, now)

    monkeypatch.setattr(lifecycle, "fail", fail_of_old)
    asyncio.run(Drain(equipment).run())
    assert errors_of(sdk.batches.retrieve(batch.id)) == [("internal_error", "The file could not be read.")]


def test_an_input_that_is_not_there_is_a_finding(
    sdk: openai.OpenAI, batch_workers: Workers, house: House, store: ObjectStore
) -> None:
    batch = submit(sdk, [line("a")])
    lose_input(store, house, batch)
    batch_workers.drain()
    failed = sdk.batches.retrieve(batch.id)
    assert (failed.status, [code for code, _ in errors_of(failed)]) == ("failed", ["file_not_found"])


def test_an_outage_of_the_store_fails_no_batch(
    sdk: openai.OpenAI, house: House, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = submit(sdk, [line("a")])
    validate, calls = validation.validate, []

    def away_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise EndpointConnectionError(endpoint_url="http://s3")
        return validate(*arguments)

    monkeypatch.setattr(validation, "validate", away_once)
    with serving_engine(house):
        asyncio.run(Drain(equipment).run())
    assert sdk.batches.retrieve(batch.id).status == "completed"


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_shard_that_always_fails_ends_its_lines(
    sdk: openai.OpenAI, batch_workers: Workers, house: House, store: ObjectStore, is_cancelled: bool
) -> None:
    batch = submit(sdk, (line(f"f-{n}") for n in range(3)))
    batch_workers.drain()
    assert sdk.batches.retrieve(batch.id).status == "in_progress"
    lose_input(store, house, batch)
    if is_cancelled:
        sdk.batches.cancel(batch.id)
        batch_workers.drain()
    else:
        with serving_engine(house):
            batch_workers.drain()
    done = sdk.batches.retrieve(batch.id)
    assert done.status == ("cancelled" if is_cancelled else "completed")
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (0, 3)
    assert results(sdk, done.error_file_id) == []
