"""Files as a customer has them, and forms that try something."""

from __future__ import annotations

import hashlib
import os
import time
from decimal import Decimal
from pathlib import Path

import httpx
import openai
import pytest

from local.objects import EmbeddedObjectStore
from serving.files.arrival import label
from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.objects import Bucket
from studio.tenants import CreatedKey
from tests.local.servers import client
from tests.serving.batches.conftest import Customer
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess

LARGE = os.urandom(1024) * 20 * 1024  # 20 MiB: three parts of a multipart upload


def test_a_file_comes_back_as_it_was_sent(sdk: openai.OpenAI) -> None:
    before = int(time.time())
    file = sdk.files.create(file=("large.jsonl", LARGE), purpose="batch")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(LARGE), "large.jsonl", "batch")
    assert file.status == "processed"
    assert before <= file.created_at <= time.time()
    assert file.expires_at == pytest.approx(before + 30 * 86_400, abs=5)
    assert sdk.files.retrieve(file.id) == file
    answer = sdk.files.with_raw_response.content(file.id)
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(LARGE).digest()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_deleted_file_is_gone_with_its_bytes(sdk: openai.OpenAI, objects: EmbeddedObjectStore) -> None:
    file = sdk.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune", expires_after=_after(3600))
    assert file.expires_at == file.created_at + 3600
    assert _objects(objects, file.id) == 1
    assert sdk.files.delete(file.id).deleted
    assert _objects(objects, file.id) == 0
    for gone in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)
    assert list(sdk.files.list()) == []


def test_lists_are_paged_in_both_directions(sdk: openai.OpenAI) -> None:
    made = [sdk.files.create(file=(f"{n}.jsonl", b"x"), purpose="batch").id for n in range(5)]
    sdk.files.create(file=("other.jsonl", b"x"), purpose="fine-tune")
    assert [file.id for file in sdk.files.list(purpose="batch", limit=2)] == made[::-1]
    assert [file.id for file in sdk.files.list(purpose="batch", limit=2, order="asc")] == made
    page = sdk.files.list(purpose="batch", limit=5)
    assert not page.has_more


def test_files_of_another_tenant_do_not_exist(sdk: openai.OpenAI, rival: Customer) -> None:
    file = sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    assert list(rival.sdk.files.list()) == []
    for forbidden in (rival.sdk.files.retrieve, rival.sdk.files.content, rival.sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            forbidden(file.id)
    assert sdk.files.retrieve(file.id).id == file.id


def test_nothing_more_is_stored_while_a_budget_has_nothing_left_and_storage_is_sold(
    house: House, customer: Customer
) -> None:
    """What lies there stays and is read."""
    kept = customer.sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    with unit_of_work(house.operator) as session:
        put_budget(session, customer.tenant_id, None, "prepaid", Decimal(0), "tests")
    for store in (
        lambda: customer.sdk.files.create(file=("c.jsonl", b"{}"), purpose="batch"),
        lambda: customer.sdk.uploads.create(bytes=1, filename="c", mime_type="text/plain", purpose="batch"),
    ):
        with pytest.raises(openai.RateLimitError, match="what is stored costs by the day") as refused:
            store()
        assert refused.value.code == "insufficient_quota"
    assert customer.sdk.files.content(kept.id).content == b"{}"


def test_a_file_name_is_a_label(sdk: openai.OpenAI) -> None:
    assert sdk.files.create(file=("../../etc/passwd", b"{}"), purpose="batch").filename == "passwd"
    assert label('C:\\x\\pa"ss\x00w\r\nd') == "passwd"
    assert label("../") == "file"


def test_without_a_key_there_are_no_files(batch_gateway: GatewayProcess) -> None:
    for method, path in (("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/batches"), ("POST", "/v1/batches")):
        assert httpx.request(method, f"{batch_gateway.url}{path}").status_code == 401


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "`purpose` must be one of"),
        ({"purpose": "batch_output"}, "`purpose` must be one of"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "must lie between"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "9"},
            "must lie between",
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 5_000},
            "must lie between",
        ),
        (
            {"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            "must be `created_at`",
        ),
    ],
)
def test_a_form_with_a_wrong_field_leaves_nothing(
    batch_gateway: GatewayProcess,
    customer: Customer,
    objects: EmbeddedObjectStore,
    fields: dict[str, str],
    message: str,
) -> None:
    before = _objects(objects)
    answer = _post(batch_gateway, customer.key, data=fields, files={"file": ("a.jsonl", b"{}")})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert _objects(objects) == before


def test_a_file_that_the_database_refuses_leaves_nothing(
    batch_gateway: GatewayProcess, customer: Customer, house: House, objects: EmbeddedObjectStore
) -> None:
    before = _objects(objects)
    with house.database.superuser() as connection:
        connection.execute("alter table files add constraint of_a_bad_day check (filename <> 'bad') not valid")
        answer = _post(batch_gateway, customer.key, files={"file": ("bad", b"{}")}, data={"purpose": "batch"})
        connection.execute("alter table files drop constraint of_a_bad_day")
    assert answer.status_code == 500
    assert _objects(objects) == before


def test_a_purpose_that_cannot_be_is_refused(batch_gateway: GatewayProcess, customer: Customer) -> None:
    headers = {"authorization": f"Bearer {customer.key.text}"}
    for purpose in ("%00", "homework"):
        answer = httpx.get(f"{batch_gateway.url}/v1/files?purpose={purpose}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")


def test_what_is_no_form_is_refused(batch_gateway: GatewayProcess, customer: Customer) -> None:
    assert _post(batch_gateway, customer.key, json={"purpose": "batch"}).status_code == 415
    assert _post(batch_gateway, customer.key, files={"other": b"x"}, data={"purpose": "batch"}).status_code == 400
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for broken in (b"", b"no form", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'):
        assert _post(batch_gateway, customer.key, content=broken, headers=headers).status_code == 400


def test_a_file_over_the_limit_is_refused_before_it_has_arrived(
    house: House, customer: Customer, objects: EmbeddedObjectStore, tmp_path: Path
) -> None:
    before = _objects(objects)
    small = objects.environment | {"STUDIO_MAX_FILE_BYTES": "1000000"}
    with GatewayProcess(house.database, tmp_path, settings=small) as gateway:
        answer = _post(gateway, customer.key, files={"file": ("a.jsonl", LARGE)}, data={"purpose": "batch"})
    assert answer.status_code == 413
    assert _objects(objects) == before


def _post(
    gateway: GatewayProcess, key: CreatedKey, headers: dict[str, str] | None = None, **body: object
) -> httpx.Response:
    authorization = {"authorization": f"Bearer {key.text}"} | (headers or {})
    return httpx.post(f"{gateway.url}/v1/files", headers=authorization, timeout=30, **body)  # type: ignore[arg-type]  # httpx has one parameter for each form of body


def _objects(server: EmbeddedObjectStore, file_id: str = "") -> int:
    store = client(server, server.secrets.s3_secret_key)
    found = store.client.list_objects_v2(Bucket=store.name(Bucket.FILES)).get("Contents", [])
    return sum(file_id.removeprefix("file-") in one["Key"].replace("-", "") for one in found)


def _after(seconds: int) -> openai.types.file_create_params.ExpiresAfter:
    return {"anchor": "created_at", "seconds": seconds}
