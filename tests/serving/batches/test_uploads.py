"""Files that arrive in parts, as a customer sends them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest

from local.objects import EmbeddedObjectStore
from serving.files import joining, parts
from studio import ids
from studio.errors import ServiceUnavailable
from studio.objects import Bucket, ObjectStore
from tests.local.servers import client
from tests.serving.batches.conftest import Customer
from tests.serving.batches.worker_process import Workers
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess

CONTENT = os.urandom(1024) * 11 * 1024  # 11 MiB: more than one part of the object store's own
MIB = 1024 * 1024


@pytest.fixture
def store(objects: EmbeddedObjectStore) -> ObjectStore:
    """Where the bytes lie."""
    return client(objects, objects.secrets.s3_secret_key)


def create(sdk: openai.OpenAI, size: int, **fields: Any) -> str:
    return sdk.uploads.create(
        filename="a.jsonl", purpose="batch", bytes=size, mime_type="application/jsonl", **fields
    ).id


def add(sdk: openai.OpenAI, upload_id: str, data: bytes) -> str:
    return sdk.uploads.parts.create(upload_id, data=data).id


def test_the_sdk_uploads_a_large_file_in_chunks(sdk: openai.OpenAI) -> None:
    upload = sdk.uploads.upload_file_chunked(
        file=CONTENT,
        filename="large.jsonl",
        bytes=len(CONTENT),
        mime_type="application/jsonl",
        purpose="user_data",
        part_size=4 * MIB,
        md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    )
    assert (upload.object, upload.status, upload.bytes) == ("upload", "completed", len(CONTENT))
    assert upload.expires_at == upload.created_at + 3600
    file = upload.file
    assert file is not None
    assert (file.object, file.filename, file.purpose, file.bytes) == ("file", "large.jsonl", "user_data", len(CONTENT))
    assert file.expires_at is None
    assert sdk.files.retrieve(file.id) == file
    assert hashlib.sha256(sdk.files.content(file.id).content).digest() == hashlib.sha256(CONTENT).digest()


def test_parts_that_came_beside_each_other_are_joined_in_the_order_of_the_list(sdk: openai.OpenAI) -> None:
    texts = [f"part {number}\n".encode() * 1000 for number in range(8)]
    upload_id = create(sdk, sum(map(len, texts)), expires_after={"anchor": "created_at", "seconds": 7200})
    with ThreadPoolExecutor(4) as beside:
        part_ids = list(beside.map(lambda text: add(sdk, upload_id, text), texts))
    unused = sdk.uploads.parts.create(upload_id, data=b"sent twice")
    assert (unused.object, unused.upload_id) == ("upload.part", upload_id)
    done = sdk.uploads.complete(upload_id, part_ids=part_ids[::-1])
    assert done.file is not None
    assert sdk.files.content(done.file.id).content == b"".join(texts[::-1])
    assert done.file.expires_at == done.file.created_at + 7200


def test_the_file_is_in_the_audit_log_once(sdk: openai.OpenAI, house: House) -> None:
    upload_id = create(sdk, 3)
    part = add(sdk, upload_id, b"one")
    done = [sdk.uploads.complete(upload_id, part_ids=[part]) for _ in range(2)]
    assert done[0].file is not None
    with house.database.superuser() as connection:
        rows = connection.execute("select action from audit_log where subject = %s", [done[0].file.id]).fetchall()
    assert rows == [("file.create",)]


def test_completing_again_gives_the_same_file_and_no_other(sdk: openai.OpenAI) -> None:
    upload_id = create(sdk, 6)
    one, two = add(sdk, upload_id, b"one"), add(sdk, upload_id, b"two")
    done = sdk.uploads.complete(upload_id, part_ids=[one, two])
    assert sdk.uploads.complete(upload_id, part_ids=[one, two]).file == done.file
    with pytest.raises(openai.ConflictError, match="completed with other parts"):
        sdk.uploads.complete(upload_id, part_ids=[two, one])
    with pytest.raises(openai.ConflictError, match="is completed"):
        add(sdk, upload_id, b"x")
    with pytest.raises(openai.ConflictError, match="is completed"):
        sdk.uploads.cancel(upload_id)
    assert [file.id for file in sdk.files.list()] == [done.file.id if done.file else ""]


def test_two_completions_at_once_make_one_file(sdk: openai.OpenAI, store: ObjectStore, customer: Customer) -> None:
    upload_id = create(sdk, len(CONTENT))
    part_ids = [add(sdk, upload_id, CONTENT)]

    def complete() -> str | None:
        try:
            file = sdk.uploads.complete(upload_id, part_ids=part_ids).file
        except openai.ConflictError:
            return None
        return file.id if file else ""

    with ThreadPoolExecutor(3) as beside:
        made = {one.result() for one in [beside.submit(complete) for _ in range(3)]} - {None}
    assert made == {file.id for file in sdk.files.list()}
    assert len(made) == len(_keys(store, f"{customer.tenant_id}/files/")) == 1


def test_an_upload_that_is_being_completed_cannot_be_completed_too(sdk: openai.OpenAI, house: House) -> None:
    upload_id = create(sdk, 3)
    part_ids = [add(sdk, upload_id, b"one")]
    with house.database.superuser() as connection, connection.transaction():
        name = str(ids.from_wire(ids.UPLOAD, upload_id))
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        with pytest.raises(openai.ConflictError, match="being completed"):
            sdk.uploads.complete(upload_id, part_ids=part_ids)
    assert sdk.uploads.complete(upload_id, part_ids=part_ids).status == "completed"


def test_a_part_is_listed_once(sdk: openai.OpenAI) -> None:
    upload_id = create(sdk, 6)
    part_id = add(sdk, upload_id, b"one")
    with pytest.raises(openai.BadRequestError, match="listed twice") as refused:
        sdk.uploads.complete(upload_id, part_ids=[part_id, part_id])
    assert refused.value.param == "part_ids"


def test_two_are_joined_at_once_and_others_wait_or_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def join() -> None:
        may_end = threading.Event()
        joiners = joining.Joiners()
        running = [asyncio.create_task(joiners.run(may_end.wait)) for _ in range(joining.MOST_AT_ONCE)]
        await asyncio.sleep(0)
        with monkeypatch.context() as impatient:
            impatient.setattr(joining, "PATIENCE", timedelta(seconds=0.01))
            with pytest.raises(ServiceUnavailable, match="Other uploads are being completed"):
                await joiners.run(may_end.wait)
        waiting = asyncio.create_task(joiners.run(may_end.wait))
        may_end.set()
        assert await asyncio.gather(*running, waiting) == [True] * 3

    asyncio.run(join())


def test_what_is_not_the_announced_file_stays_an_upload(
    sdk: openai.OpenAI, store: ObjectStore, customer: Customer
) -> None:
    upload_id = create(sdk, 6)
    one, two = add(sdk, upload_id, b"one"), add(sdk, upload_id, b"two")
    with pytest.raises(openai.BadRequestError, match="3 bytes together") as short:
        sdk.uploads.complete(upload_id, part_ids=[one])
    assert short.value.param == "part_ids"
    with pytest.raises(openai.BadRequestError, match="MD5") as damaged:
        sdk.uploads.complete(upload_id, part_ids=[one, two], md5="0" * 32)
    assert damaged.value.param == "md5"
    for unknown in (ids.to_wire(ids.UPLOAD_PART, ids.uuid7()), "part_x", "\x00"):
        with pytest.raises(openai.BadRequestError):
            sdk.uploads.complete(upload_id, part_ids=[unknown])
    assert list(sdk.files.list()) == []
    assert _keys(store, f"{customer.tenant_id}/files/") == []
    assert sdk.uploads.complete(upload_id, part_ids=[one, two]).status == "completed"


def test_a_cancelled_upload_takes_nothing_more(sdk: openai.OpenAI) -> None:
    upload_id = create(sdk, 3)
    part_id = add(sdk, upload_id, b"one")
    assert sdk.uploads.cancel(upload_id).status == "cancelled"
    assert sdk.uploads.cancel(upload_id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        add(sdk, upload_id, b"two")
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        sdk.uploads.complete(upload_id, part_ids=[part_id])


def test_an_upload_expires_after_an_hour(sdk: openai.OpenAI, house: House) -> None:
    upload_id = create(sdk, 3)
    part_id = add(sdk, upload_id, b"one")
    _age(house, upload_id, "1 hour")
    for refused in (
        lambda: add(sdk, upload_id, b"two"),
        lambda: sdk.uploads.complete(upload_id, part_ids=[part_id]),
        lambda: sdk.uploads.cancel(upload_id),
    ):
        with pytest.raises(openai.ConflictError, match="is expired"):
            refused()
    assert sdk.get(f"/uploads/{upload_id}", cast_to=openai.types.Upload).status == "expired"


def test_parts_are_swept_when_their_upload_has_ended(
    customer: Customer, batch_workers: Workers, store: ObjectStore, house: House
) -> None:
    sdk = customer.sdk
    uploads = completed, cancelled, expired, just_expired, _ = [create(sdk, 3) for _ in range(5)]
    part_ids = [add(sdk, upload_id, b"one") for upload_id in uploads]
    done = sdk.uploads.complete(completed, part_ids=part_ids[:1])
    sdk.uploads.cancel(cancelled)
    for upload_id, by in (
        (completed, "20 minutes"),
        (cancelled, "20 minutes"),
        (expired, "2 hours"),
        (just_expired, "1 hour"),  # somebody may be joining its parts
    ):
        _age(house, upload_id, by)
    batch_workers.drain()
    left = [len(_keys(store, _prefix(customer, upload_id))) for upload_id in uploads]
    assert left == [0, 0, 0, 1, 1]
    assert done.file is not None
    assert sdk.files.content(done.file.id).content == b"one"


def test_an_upload_of_another_tenant_does_not_exist(sdk: openai.OpenAI, rival: Customer) -> None:
    upload_id = create(sdk, 3)
    part_id = add(sdk, upload_id, b"one")
    own = create(rival.sdk, 3)
    for forbidden in (
        lambda: add(rival.sdk, upload_id, b"x"),
        lambda: rival.sdk.uploads.complete(upload_id, part_ids=[part_id]),
        lambda: rival.sdk.uploads.cancel(upload_id),
        lambda: rival.sdk.get(f"/uploads/{upload_id}", cast_to=openai.types.Upload),
    ):
        with pytest.raises(openai.NotFoundError):
            forbidden()
    with pytest.raises(openai.BadRequestError, match="has no part"):
        rival.sdk.uploads.complete(own, part_ids=[part_id])


def test_more_than_a_file_may_have_is_refused_at_once(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="may have at most") as refused:
        create(sdk, 10**12)
    assert (refused.value.status_code, refused.value.code) == (413, "payload_too_large")


def test_parts_beyond_what_the_file_needs_are_refused(
    sdk: openai.OpenAI, store: ObjectStore, customer: Customer
) -> None:
    upload_id = create(sdk, 10)
    add(sdk, upload_id, b"x" * (parts.PART_BYTES - 1))
    with pytest.raises(openai.BadRequestError, match="already"):
        add(sdk, upload_id, b"x" * 100)
    with pytest.raises(openai.APIStatusError, match="`data` may have at most"):
        add(sdk, upload_id, b"x" * (parts.PART_BYTES + 1))
    assert len(_keys(store, _prefix(customer, upload_id))) == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": "many"}, "bytes"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after.seconds"),
    ],
)
def test_a_wrong_announcement_names_its_field(
    batch_gateway: GatewayProcess, customer: Customer, change: dict[str, Any], param: str
) -> None:
    good = {"filename": "a", "purpose": "batch", "bytes": 3, "mime_type": "text/plain"}
    headers = {"authorization": f"Bearer {customer.key.text}"}
    answer = httpx.post(f"{batch_gateway.url}/v1/uploads", json=good | change, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_without_a_key_there_are_no_uploads(batch_gateway: GatewayProcess) -> None:
    for path in ("", "/upload_x/parts", "/upload_x/complete", "/upload_x/cancel"):
        assert httpx.post(f"{batch_gateway.url}/v1/uploads{path}").status_code == 401


def test_files_that_are_only_kept_are_good_for_no_work(sdk: openai.OpenAI) -> None:
    for purpose in ("assistants", "vision", "user_data", "evals"):
        file = sdk.files.create(file=("a.jsonl", b"{}"), purpose=purpose)
        assert (file.purpose, file.expires_at) == (purpose, None)
        assert [one.id for one in sdk.files.list(purpose=purpose)] == [file.id]
        with pytest.raises(openai.BadRequestError, match="purpose"):
            sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def _age(house: House, upload_id: str, by: str) -> None:
    with house.database.superuser() as connection:
        connection.execute(
            "update uploads set expires_at = expires_at - %s::interval, ended_at = ended_at - %s::interval"
            " where id = %s",
            [by, by, ids.from_wire(ids.UPLOAD, upload_id)],
        )


def _prefix(customer: Customer, upload_id: str) -> str:
    return parts.parts_prefix(customer.tenant_id, ids.from_wire(ids.UPLOAD, upload_id))


def _keys(store: ObjectStore, prefix: str) -> list[str]:
    found = store.client.list_objects_v2(Bucket=store.name(Bucket.FILES), Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]
