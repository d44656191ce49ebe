"""What happens at bounds that are far away otherwise: of kept answers, of patience, of conversations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from serving.idempotency.store import KeptAnswer, Mine, Request
from studio import ids
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving import ledger
from tests.serving.claims import claims_of
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, wait_until
from tests.serving.small_bounds import LONGEST_CHAIN, MOST_JOINS
from tests.stub_engine import StubEngine


@pytest.fixture(scope="module")
def gateway(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One with small bounds."""
    folder = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(house.database, folder, "tests.serving.small_bounds") as process:
        yield process


def answer(api: httpx.Client, words: int, key: str, **fields: Any) -> httpx.Response:
    messages = [{"role": "user", "content": f"answer {words} words"}]
    body = {"model": CHAT, "messages": messages, "max_tokens": 1_000} | fields
    return api.post("/v1/chat/completions", json=body, headers={"idempotency-key": key})


def respond(api: httpx.Client, **fields: Any) -> httpx.Response:
    return api.post("/v1/responses", json={"model": CHAT, "input": "one", "max_output_tokens": 2} | fields)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_too_large_to_be_kept_is_not_run_and_billed_again(
    api: httpx.Client, house: House, stream: bool
) -> None:
    def large_ones() -> int:
        return sum(event.completion_tokens >= 900 for event in ledger.events(house.database))

    key, arrived = f"large-{stream}", large_ones()
    assert answer(api, 5, f"small-{stream}").status_code == 200
    first = answer(api, 900, key, stream=stream)
    assert (first.status_code, len(first.content) > 2_000) == (200, True)
    wait_until(lambda: large_ones() == arrived + 1)
    again = answer(api, 900, key, stream=stream)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotent_answer_too_large")
    assert again.headers["x-should-retry"] == "false"
    assert answer(api, 901, key, stream=stream).json()["error"]["code"] == "idempotency_key_reused"
    assert large_ones() == arrived + 1
    assert api.delete(f"/v1/idempotency-keys/{key}").status_code == 200
    assert answer(api, 5, f"small-{stream}").headers["idempotent-replayed"] == "true"


def test_few_wait_for_an_answer_that_another_run_is_to_give(api: httpx.Client, house: House) -> None:
    body = b'{"model": "nobody asks an engine"}'
    headers = {"idempotency-key": "joined", "content-type": "application/json"}

    def join() -> httpx.Response:
        return api.post("/v1/chat/completions", content=body, headers=headers, timeout=60)

    with claims_of(house) as (store, caller), ThreadPoolExecutor(MOST_JOINS + 1) as pool:
        request = Request.of(caller, "joined", "/v1/chat/completions", body)
        mine = store.claim(request, ids.uuid7())
        assert isinstance(mine, Mine)
        asked = [pool.submit(join) for _ in range(MOST_JOINS + 1)]
        wait_until(lambda: any(one.done() for one in asked), seconds=25)
        store.keep(request, mine, KeptAnswer(200, b"application/json", b"{}"))
        told = sorted((one.result() for one in asked), key=lambda one: one.status_code)
    refused = told.pop()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "2"
    assert "Idempotency-Key" in refused.json()["error"]["message"]
    assert [(one.status_code, one.content) for one in told] == [(200, b"{}")] * MOST_JOINS


def test_a_row_that_comes_after_its_answer_was_told_as_not_stored_goes_again(api: httpx.Client, house: House) -> None:
    count = "select count(*) from responses"
    with house.database.superuser() as connection:
        before = connection.execute(count).fetchone()
        with connection.transaction():
            connection.execute("lock table responses in share mode")  # it can be read, and its writers wait
            told = respond(api)
            assert (told.status_code, told.json()["store"]) == (200, False)
            assert respond(api, background=True).status_code == 503
        time.sleep(1)
        assert connection.execute(count).fetchone() == before
    assert api.get(f"/v1/responses/{told.json()['id']}").status_code == 404


def test_a_conversation_that_is_too_long_is_refused_as_that(api: httpx.Client) -> None:
    last = respond(api).json()["id"]
    first = last
    for _ in range(LONGEST_CHAIN):
        last = respond(api, previous_response_id=last).json()["id"]
    refused = respond(api, previous_response_id=last)
    assert refused.status_code == 400
    assert f"longer than {LONGEST_CHAIN} responses" in refused.json()["error"]["message"]
    assert api.delete(f"/v1/responses/{first}").status_code == 200


def test_the_text_of_a_key_is_never_kept(gateway: GatewayProcess, house: House) -> None:
    with unit_of_work(house.operator) as session:
        owner = create_key(session, house.tenant_id, "owner", "tests", scopes=["keys", "inference"])
    headers = {"authorization": f"Bearer {owner.text}", "idempotency-key": "a-key"}
    with httpx.Client(base_url=gateway.url, headers=headers) as api:
        wait_until(lambda: api.get("/v1/models").status_code == 200, seconds=5)
        assert api.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}).status_code == 400
        first = api.post("/v1/keys", json={"name": "x", "scopes": ["inference"]})
        again = api.post("/v1/keys", json={"name": "x", "scopes": ["inference"]})
        assert first.status_code == 201
        assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotent_answer_not_kept")
        assert again.headers["x-should-retry"] == "false"
        assert len([one for one in api.get("/v1/keys").json()["data"] if one["name"] == "x"]) == 1


def test_what_a_caller_ends_or_deletes_is_in_the_audit_log(api: httpx.Client, house: House) -> None:
    deleted = respond(api).json()["id"]
    api.delete(f"/v1/responses/{deleted}")
    answer(api, 2, "forgotten")
    api.delete("/v1/idempotency-keys/forgotten")
    upload = {"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "text/plain"}
    cancelled = api.post("/v1/uploads", json=upload).json()["id"]
    for _ in range(2):
        api.post(f"/v1/uploads/{cancelled}/cancel")
    with house.database.superuser() as connection:
        rows = connection.execute(
            "select action, subject from audit_log where actor = %s order by at, id",
            [house.key.prefix],
        ).fetchall()
    assert ("response.delete", deleted) in rows
    assert [action for action, _ in rows].count("idempotent_answer.delete") >= 1
    assert [row for row in rows if row[1] == cancelled] == [("upload.create", cancelled), ("upload.cancel", cancelled)]


@pytest.mark.parametrize(
    ("path", "table", "param"),
    [
        ("/v1/usage?costs=true", "prices", "costs"),
        ("/v1/usage", "usage_events", "start"),
        ("/v1/organization/usage/completions?start_time=1790000000", "usage_events", "start_time"),
        ("/v1/organization/costs?start_time=1790000000", "rated_lines", "start_time"),
    ],
)
def test_usage_that_takes_too_long_to_look_at_is_refused_with_a_way_out(
    api: httpx.Client, house: House, path: str, table: str, param: str
) -> None:
    with house.database.superuser() as connection:
        connection.execute("begin")
        connection.execute(f"lock table {table} in access exclusive mode".encode())  # whoever reads it waits
        refused = api.get(path, timeout=60)
        connection.execute("rollback")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert "too much usage to be looked at in 0.5 s: ask for " in error["message"]
    assert api.get(path).status_code == 200


def test_nothing_else_keeps_a_worker_waiting_for_the_database(api: httpx.Client, house: House) -> None:
    with house.database.superuser() as connection:
        connection.execute("begin")
        connection.execute("lock table files in access exclusive mode")
        refused = api.get("/v1/files", timeout=60)
        connection.execute("rollback")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
    assert refused.json()["error"]["message"] == "The database took too long over this. Try again in 5 s."
    assert api.get("/v1/files").status_code == 200
