"""However a response ends, with a client or in the background: billed as the engine counts, and kept as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response
from sqlalchemy import Engine

from serving.responses.sweep import sweep
from studio import clock
from studio.db.sessions import engine_for, unit_of_work
from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.ledger import Event, events, numbers_have_no_gap, outage
from tests.serving.responses import strict
from tests.stub_engine import StubEngine


@pytest.fixture(scope="module")
def engine(house: House) -> Iterator[StubEngine]:
    """One that takes its time: 100 tokens a second."""
    with StubEngine(tokens_per_second=100, cached=2) as stub:
        attach(house.operator, stub.url)
        yield stub


@pytest.fixture(scope="module")
def other_sdk(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The same tenant at another gateway."""
    with (
        GatewayProcess(house.database, tmp_path_factory.mktemp("other")) as process,
        client(process, house.key) as sdk,
    ):
        yield sdk


def client(gateway: GatewayProcess, key: CreatedKey) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0)


def stream(gateway: GatewayProcess, key: CreatedKey, **fields: Any) -> Any:
    body = {"model": CHAT, "input": "one two three", "stream": True} | fields
    headers = {"authorization": f"Bearer {key.text}"}
    return httpx.stream("POST", f"{gateway.url}/v1/responses", json=body, headers=headers, timeout=30)


def begin(sdk: openai.OpenAI, **fields: Any) -> Response:
    asked: dict[str, Any] = {"model": CHAT, "input": "one two three", "background": True}
    response: Response = sdk.responses.create(**asked | fields)
    assert response.status == "queued"
    return response


def wait_until_it_runs(sdk: openai.OpenAI, engine: StubEngine, id: str) -> None:
    wait_until(lambda: sdk.responses.retrieve(id).status == "in_progress")
    before = engine.counters().generation_tokens
    wait_until(lambda: engine.counters().generation_tokens > before + 5)


def ended(sdk: openai.OpenAI, id: str) -> Response:
    wait_until(lambda: sdk.responses.retrieve(id).status not in ("queued", "in_progress"), seconds=15)
    response = sdk.responses.with_raw_response.retrieve(id)
    strict.response(response.http_response.content)
    return response.parse()


def billed(database: TestDatabase, id: str) -> Event:
    def found() -> list[Event]:
        return [
            event for event in events(database) if event.request_id.removeprefix("req_") == id.removeprefix("resp_")
        ]

    wait_until(lambda: len(found()) == 1)
    return found()[0]


def assert_billed_as_counted(database: TestDatabase, engine: StubEngine) -> None:
    wait_until(lambda: engine.counters().requests_running == 0)

    def difference() -> tuple[int, int]:
        counters, all = engine.counters(), events(database)
        prompt = counters.prompt_tokens - sum(event.engine_prompt_tokens for event in all)
        return prompt, counters.generation_tokens - sum(event.completion_tokens for event in all)

    wait_until(lambda: difference() == (0, 0))


def test_with_a_client_events_equal_the_engines_counters(
    gateway: GatewayProcess, house: House, engine: StubEngine, sdk: openai.OpenAI
) -> None:
    whole = sdk.responses.create(model=CHAT, input="answer 5 words")
    with sdk.responses.stream(model=CHAT, input="answer 5 words", previous_response_id=whole.id) as told:
        last = told.get_final_response()
    left = []
    for _ in range(2):
        with stream(gateway, house.key, max_output_tokens=10_000) as response:
            left.append(response.headers["x-request-id"].replace("req_", "resp_"))
            for _, _line in zip(range(40), response.iter_lines(), strict=False):
                pass
    assert [billed(house.database, id).end_reason for id in left] == ["client_left"] * 2
    assert_billed_as_counted(house.database, engine)
    event, usage = billed(house.database, last.id), last.usage
    assert usage is not None
    shown = (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens)
    assert shown == (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (11, 2, 5)
    assert event.endpoint == "/v1/responses"
    for id in left:
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(id)


class TestBackground:
    def test_it_is_queued_at_once_and_completed_later(
        self, house: House, engine: StubEngine, sdk: openai.OpenAI
    ) -> None:
        response = begin(sdk, input="answer 200 words", max_output_tokens=1_000)
        wait_until_it_runs(sdk, engine, response.id)
        with pytest.raises(openai.BadRequestError, match="in_progress"):
            sdk.responses.create(model=CHAT, input="and", previous_response_id=response.id)
        done = ended(sdk, response.id)
        assert (done.status, done.output_text) == ("completed", "word " * 200)
        assert sdk.responses.cancel(response.id).status == "completed"
        assert ended(sdk, begin(sdk, max_output_tokens=5, previous_response_id=done.id).id).status == "incomplete"
        assert billed(house.database, response.id).end_reason == "complete"
        assert_billed_as_counted(house.database, engine)

    def test_who_cancels_it_at_another_gateway_pays_for_what_was_produced(
        self, house: House, engine: StubEngine, sdk: openai.OpenAI, other_sdk: openai.OpenAI
    ) -> None:
        response = begin(sdk, max_output_tokens=10_000)
        wait_until_it_runs(other_sdk, engine, response.id)
        for _ in range(2):
            assert other_sdk.responses.cancel(response.id).status == "cancelled"
        with house.database.superuser() as connection:
            audited = connection.execute("select action, actor from audit_log where subject = %s", [response.id])
            assert audited.fetchall() == [("response.cancel", house.key.prefix)]
        assert billed(house.database, response.id).end_reason == "client_left"
        assert_billed_as_counted(house.database, engine)
        wait_until(lambda: sdk.responses.retrieve(response.id).output_text != "")
        kept = ended(sdk, response.id)
        assert (kept.status, kept.error) == ("cancelled", None)
        assert kept.output_text.count("word") == billed(house.database, response.id).completion_tokens

    def test_deleting_it_ends_it(self, house: House, engine: StubEngine, sdk: openai.OpenAI) -> None:
        response = begin(sdk, max_output_tokens=10_000)
        wait_until_it_runs(sdk, engine, response.id)
        sdk.responses.delete(response.id)
        assert billed(house.database, response.id).end_reason == "client_left"
        assert_billed_as_counted(house.database, engine)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(response.id)


def test_what_has_expired_is_swept(house: House, sdk: openai.OpenAI) -> None:
    old, new = (sdk.responses.create(model=CHAT, input="one", max_output_tokens=2) for _ in range(2))
    with house.database.superuser() as connection:
        connection.execute("update responses set expires_at = now() where right(id::text, 12) = %s", [old.id[-12:]])
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(old.id)
    worker = engine_for(house.database.url("worker"))
    with unit_of_work(worker) as session:
        assert sweep(session, clock.now()).expired == 1
    worker.dispose()
    with house.database.superuser() as connection:
        there = connection.execute("select replace(id::text, '-', '') from responses").fetchall()
    assert (new.id[5:],) in there
    assert (old.id[5:],) not in there


def test_without_the_database_an_answer_goes_out_and_says_that_it_is_not_kept(
    gateway: GatewayProcess, house: House, sdk: openai.OpenAI
) -> None:
    first = sdk.responses.create(model=CHAT, input="one", max_output_tokens=2)
    with outage(house.database):
        whole = sdk.responses.with_raw_response.create(model=CHAT, input="one", max_output_tokens=2)
        assert strict.response(whole.http_response.content)["store"] is False
        with sdk.responses.stream(model=CHAT, input="answer 2 words") as told:
            assert told.get_final_response().to_dict()["store"] is False
        for fields in ({"previous_response_id": first.id}, {"background": True}):
            with pytest.raises(openai.InternalServerError, match="store: false") as refused:
                sdk.responses.create(**{"model": CHAT, "input": "one"} | fields)
            assert refused.value.status_code == 503
        with pytest.raises(openai.InternalServerError):
            sdk.responses.retrieve(first.id)
    for id in (whole.parse().id, told.get_final_response().id):
        assert billed(house.database, id).end_reason == "complete"
    assert "response_not_stored" in gateway.log_path.read_text()


def test_an_engine_that_dies_fails_it_and_is_paid_as_far_as_it_came(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(die_after=5) as dying, own_gateway, client(own_gateway, api_key) as sdk:
        attach(operator, dying.url)
        with stream(own_gateway, api_key, max_output_tokens=50) as response:
            *_, failed = strict.events(response.read().decode())
        assert failed["type"] == "response.failed"
        assert "billed" in failed["response"]["error"]["message"]
        assert failed["response"]["output"][0]["content"][0]["text"] == "word " * 5
        kept = ended(sdk, begin(sdk, max_output_tokens=50).id)
        assert kept.error is not None
        assert (kept.status, kept.error.code, kept.output_text) == ("failed", "server_error", "word " * 5)
        for id in (failed["response"]["id"], kept.id):
            assert billed(database, id).completion_tokens == 5
            assert billed(database, id).end_reason == "engine_died"
        dying.kill()
        refused = ended(sdk, begin(sdk).id)
        assert refused.error is not None
        assert "No replica" in refused.error.message


def test_a_gateway_that_ends_fails_what_it_ran(
    database: TestDatabase, operator: Engine, worker: Engine, api_key: CreatedKey, tmp_path: Path
) -> None:
    gateway = GatewayProcess(database, tmp_path, "tests.serving.short_grace")
    with StubEngine(tokens_per_second=100) as engine:
        attach(operator, engine.url)  # before it starts: it is asked at once
        with gateway, client(gateway, api_key) as sdk:
            stopped = begin(sdk, max_output_tokens=10_000)
            wait_until_it_runs(sdk, engine, stopped.id)
            gateway.stop()
            gateway.start()
            failed = ended(sdk, stopped.id)
            assert failed.error is not None
            assert "The gateway is stopping" in failed.error.message
            assert failed.output_text.count("word") == billed(database, stopped.id).completion_tokens

            killed = begin(sdk, max_output_tokens=10_000)
            wait_until_it_runs(sdk, engine, killed.id)
            gateway.kill()
            with unit_of_work(worker) as session:
                assert sweep(session, clock.now()).failed == 0
            with database.superuser() as connection:
                connection.execute("update responses set heard_at = heard_at - interval '2 minutes'")
            with unit_of_work(worker) as session:
                assert sweep(session, clock.now()).failed == 1
            gateway.start()
            lost = ended(sdk, killed.id)
            assert lost.error is not None
            assert "ended before it was complete" in lost.error.message
            gateway.stop()
        assert numbers_have_no_gap(database)
