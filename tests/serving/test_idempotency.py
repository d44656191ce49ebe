"""The same Idempotency-Key and body is one request: run once, billed once, answered as often as it is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from sqlalchemy import Engine

from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

SECRET_WORDS = "the eagle lands at noon"
BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": SECRET_WORDS}], "max_tokens": 5}


def ask(api: httpx.Client, key: str, body: dict[str, Any] = BODY, path: str = "/v1/chat/completions") -> httpx.Response:
    return api.post(path, json=body, headers={"idempotency-key": key})


def events_of(house: House, answer: httpx.Response) -> int:
    """How many events there are of the request that an answer belongs to."""
    request_id = "req_" + answer.json()["id"].removeprefix("chatcmpl-")
    return sum(event.request_id == request_id for event in ledger.events(house.database))


class TestOneGateway:
    def test_a_repetition_is_the_same_answer_and_costs_nothing(self, api: httpx.Client, house: House) -> None:
        first = ask(api, "order-1")
        second = ask(api, "order-1")
        assert first.status_code == second.status_code == 200
        assert second.content == first.content
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        wait_until(lambda: events_of(house, first) == 1, seconds=5)
        time.sleep(0.5)
        assert events_of(house, first) == 1

    def test_a_stream_is_repeated_whole(self, api: httpx.Client) -> None:
        body = BODY | {"stream": True}
        first, second = ask(api, "stream-1", body), ask(api, "stream-1", body)
        assert second.content == first.content
        assert second.content.endswith(b"data: [DONE]\n\n")
        assert second.headers["content-type"] == first.headers["content-type"]

    def test_another_body_or_path_is_a_conflict_that_is_not_retried(self, api: httpx.Client) -> None:
        ask(api, "order-2")
        completion = {"model": CHAT, "prompt": "x", "max_tokens": 1}
        for answer in (
            ask(api, "order-2", BODY | {"max_tokens": 6}),
            ask(api, "order-2", completion, "/v1/completions"),
        ):
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] == "idempotency_key_reused"
            assert answer.headers["x-should-retry"] == "false"

    def test_a_refused_request_may_be_mended_under_the_same_key(self, api: httpx.Client) -> None:
        assert ask(api, "order-3", {"model": CHAT}).status_code == 400
        assert ask(api, "order-3").status_code == 200

    def test_a_key_that_cannot_be_one_is_refused(self, api: httpx.Client) -> None:
        for key in ("", "x" * 256, "tab\there"):
            answer = ask(api, key)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")

    def test_without_an_api_key_it_is_401(self, stranger: httpx.Client) -> None:
        assert ask(stranger, "order-1").status_code == 401

    def test_what_is_kept_is_sealed_and_can_be_deleted(self, api: httpx.Client, house: House) -> None:
        first = ask(api, "order-4")
        with house.database.superuser() as connection:
            kept = connection.execute("select string_agg(t::text, '') from idempotent_answers t").fetchone()
            contents = connection.execute("select content from idempotent_answers").fetchall()
        assert kept is not None
        assert SECRET_WORDS not in kept[0]
        assert "order-4" not in kept[0]
        assert not any(b"word" in content for (content,) in contents if content)
        assert api.delete("/v1/idempotency-keys/order-4").json()["deleted"] is True
        assert api.delete("/v1/idempotency-keys/order-4").status_code == 404
        assert ask(api, "order-4").content != first.content

    def test_after_a_day_it_is_forgotten(self, api: httpx.Client, house: House) -> None:
        first = ask(api, "order-5")
        with house.database.superuser() as connection:
            connection.execute("update idempotent_answers set expires_at = now()")
            connection.commit()
        assert ask(api, "order-5").content != first.content
        with house.database.superuser() as connection:
            connection.execute("update idempotent_answers set expires_at = now()")
            connection.execute("select forget_idempotent_answers()")
            assert connection.execute("select count(*) from idempotent_answers").fetchone() == (0,)
            connection.commit()

    def test_a_key_of_another_caller_is_another_key(self, api: httpx.Client, sdk: openai.OpenAI, house: House) -> None:
        """The SDK sends one only if told to."""
        answer = sdk.chat.completions.create(**BODY, extra_headers={"Idempotency-Key": "order-6"})
        again = sdk.chat.completions.create(**BODY, extra_headers={"Idempotency-Key": "order-6"})
        assert again.id == answer.id


class TestTwoGateways:
    @pytest.fixture
    def two(
        self, database: TestDatabase, catalog: None, operator: Engine, tmp_path: Path
    ) -> Iterator[list[GatewayProcess]]:
        with ExitStack() as stack:
            attach(operator, stack.enter_context(StubEngine(tokens_per_second=20)).url)
            folders = [tmp_path / str(number) for number in range(2)]
            for folder in folders:
                folder.mkdir()
            yield [
                stack.enter_context(GatewayProcess(database, folder, "tests.serving.short_lease")) for folder in folders
            ]

    def test_it_runs_once_wherever_it_is_asked_and_whoever_leaves_or_dies(
        self, two: list[GatewayProcess], database: TestDatabase, tenant: UUID, api_key: CreatedKey
    ) -> None:
        headers = {"authorization": f"Bearer {api_key.text}"}
        clients = [httpx.Client(base_url=one.url, headers=headers, timeout=30) for one in two]
        wait_until(lambda: all(one.get("/v1/models").status_code == 200 for one in clients), seconds=5)
        slow = BODY | {"max_tokens": 20}  # a second

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda number: ask(clients[number % 2], "together", slow), range(6)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1

        # The first client leaves; the second gets what the first had begun.
        with pytest.raises(httpx.ReadTimeout):
            clients[0].post(
                "/v1/chat/completions",
                json=slow,
                headers={"idempotency-key": "left"},
                timeout=httpx.Timeout(5, read=0.3),
            )
        joined = ask(clients[1], "left", slow)
        assert joined.headers["idempotent-replayed"] == "true"

        two[0].stop()
        two[0].start()
        assert ask(clients[0], "left", slow).content == joined.content
        wait_until(lambda: len(ledger.events(database)) == 2, seconds=5)

        # A gateway dies in the middle; the other one takes the request over and answers it.
        begun = threading.Thread(target=_ask_and_be_cut_off, args=(clients[0], slow))
        begun.start()
        time.sleep(0.4)
        two[0].kill()
        begun.join()
        taken_over = ask(clients[1], "killed", slow)
        assert taken_over.status_code == 200
        two[0].start()
        wait_until(lambda: ledger.open_sources(database) == 2, seconds=10)
        wait_until(lambda: len(ledger.events(database)) == 3, seconds=5)
        assert ledger.numbers_have_no_gap(database)
        for client in clients:
            client.close()

    def test_without_the_database_it_is_503_and_other_requests_go_on(
        self, two: list[GatewayProcess], database: TestDatabase, tenant: UUID, api_key: CreatedKey
    ) -> None:
        with httpx.Client(base_url=two[0].url, headers={"authorization": f"Bearer {api_key.text}"}) as client:
            wait_until(lambda: client.get("/v1/models").status_code == 200, seconds=5)
            with ledger.outage(database):
                refused = ask(client, "order")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
                assert "Idempotency-Key" in refused.json()["error"]["message"]
                assert client.post("/v1/chat/completions", json=BODY | {"model": CHAT_FAST}).status_code == 200


def _ask_and_be_cut_off(client: httpx.Client, body: dict[str, Any]) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(client, "killed", body)
