"""Each request that an engine worked on becomes one event with the engine's own counts, however it ended."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from sqlalchemy import Engine

from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, attach, wait_until
from tests.serving.ledger import events, numbers_have_no_gap, open_sources, outage
from tests.stub_engine import StubEngine

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def stream(gateway: GatewayProcess, key: CreatedKey, **fields: Any) -> Any:
    return httpx.stream(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        json={"model": CHAT, "messages": MESSAGES, "stream": True} | fields,
        headers={"authorization": f"Bearer {key.text}"},
        timeout=30,
    )


def test_every_kind_of_request_is_one_event(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(cached=2) as engine:
        attach(operator, engine.url)
        attach(operator, engine.url, EMBEDDING)
        with own_gateway, openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text) as sdk:
            sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=5)
            list(sdk.chat.completions.create(model=CHAT_FAST, messages=MESSAGES, max_tokens=6, stream=True))
            sdk.completions.create(model=CHAT, prompt=["one", "two words"], n=2, max_tokens=7)
            list(sdk.completions.create(model=CHAT, prompt="one two", n=3, max_tokens=4, stream=True))
            sdk.embeddings.create(model=EMBEDDING, input=["one", "two words"])
            thinking: list[Any] = [{"role": "user", "content": "think 4 words"}]
            sdk.chat.completions.create(model=CHAT, messages=thinking, max_tokens=9)
            list(sdk.chat.completions.create(model=CHAT, messages=thinking, max_tokens=9, stream=True))
            wait_until(lambda: len(events(database)) == 7)
            found = [
                (e.variant_id, e.prompt_tokens, e.cached_tokens, e.completion_tokens, e.reasoning_tokens)
                for e in events(database)
            ]
            assert found == [
                (CHAT, 3, 2, 5, 0),
                (CHAT_FAST, 3, 2, 6, 0),
                (CHAT, 3, 2, 28, 0),
                (CHAT, 2, 2, 12, 0),
                (EMBEDDING, 3, 0, 0, 0),
                (CHAT, 3, 2, 9, 4),
                (CHAT, 3, 2, 9, 4),
            ]
            counters = engine.counters()
            assert sum(event.engine_prompt_tokens for event in events(database)) == counters.prompt_tokens
            assert sum(event.completion_tokens for event in events(database)) == counters.generation_tokens
            own_gateway.stop()
    assert numbers_have_no_gap(database)
    assert open_sources(database) == 0
    assert list(own_gateway.journal_dir.iterdir()) == []


@pytest.mark.parametrize("choices", [1, 3])
def test_a_client_that_leaves_pays_for_what_the_engine_produced(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey, choices: int
) -> None:
    with StubEngine(tokens_per_second=100, cached=2) as engine:
        attach(operator, engine.url)
        with own_gateway:
            for _ in range(3):
                with stream(own_gateway, api_key, max_tokens=10_000, n=choices) as response:
                    for _, _line in zip(range(20), response.iter_lines(), strict=False):
                        pass
            wait_until(lambda: len(events(database)) == 3)
            wait_until(lambda: engine.counters().requests_running == 0)
            assert {event.end_reason for event in events(database)} == {"client_left"}
            # What of the prompt was cached an engine says at the end alone, so all of it is billed as not cached.
            assert {(event.prompt_tokens, event.cached_tokens) for event in events(database)} == {(3, 0)}
            assert all(event.completion_tokens > 0 for event in events(database))
            counters = engine.counters()
            assert sum(event.completion_tokens for event in events(database)) == counters.generation_tokens
            assert sum(event.engine_prompt_tokens for event in events(database)) == counters.prompt_tokens


def test_a_client_that_leaves_several_prompts_pays_for_every_choice_of_each(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    body = {"model": CHAT, "prompt": ["one", "two words"], "n": 2, "max_tokens": 10_000, "stream": True}
    headers = {"authorization": f"Bearer {api_key.text}"}
    with StubEngine(tokens_per_second=100) as engine:
        attach(operator, engine.url)
        with own_gateway:
            with httpx.stream(
                "POST", f"{own_gateway.url}/v1/completions", json=body, headers=headers, timeout=30
            ) as response:
                for _, _line in zip(range(20), response.iter_lines(), strict=False):
                    pass
            wait_until(lambda: len(events(database)) == 1)
            wait_until(lambda: engine.counters().requests_running == 0)
            (event,) = events(database)
            assert (event.end_reason, event.prompt_tokens) == ("client_left", 3)
            assert event.completion_tokens == engine.counters().generation_tokens >= 10


def test_a_caller_that_reads_late_misses_nothing(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    tokens = 30_000  # more than its socket and the gateway's hold
    body = orjson.dumps({"model": CHAT, "messages": MESSAGES, "max_tokens": tokens, "stream": True})
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    head += f"authorization: Bearer {api_key.text}\r\ncontent-length: {len(body)}\r\n\r\n"
    with StubEngine() as engine, socket.socket() as caller:
        attach(operator, engine.url)
        with own_gateway:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.settimeout(30)
            caller.connect(("127.0.0.1", httpx.URL(own_gateway.url).port))
            caller.sendall(head.encode() + body)
            written = [-1, 0]
            while written[-1] != written[-2] or not written[-1]:  # until nobody can write any more
                time.sleep(0.3)
                written.append(engine.counters().generation_tokens)
            received = b"".join(iter(lambda: caller.recv(1 << 20), b""))
            wait_until(lambda: len(events(database)) == 1)
            (event,) = events(database)
    assert (event.end_reason, event.completion_tokens) == ("complete", tokens)
    assert received.count(b'"content":"word ') == tokens
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_an_engine_that_dies_bills_the_sum_over_all_choices(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(die_after=11) as engine:
        attach(operator, engine.url)
        with own_gateway, openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text, max_retries=0) as sdk:
            chat = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=50, n=3, stream=True)
            with pytest.raises(openai.APIError, match="billed"):
                list(chat)
            texts = sdk.completions.create(model=CHAT, prompt=["one", "two words"], n=2, max_tokens=50, stream=True)
            with pytest.raises(openai.APIError, match="billed"):
                list(texts)
            wait_until(lambda: len(events(database)) == 2)
            found = [(event.end_reason, event.prompt_tokens, event.completion_tokens) for event in events(database)]
            assert found == [("engine_died", 3, 11), ("engine_died", 3, 11)]
            assert engine.counters().generation_tokens == 22


def test_a_client_that_leaves_before_a_whole_answer_pays_for_it(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(tokens_per_second=20) as engine:
        attach(operator, engine.url)
        with own_gateway:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{own_gateway.url}/v1/chat/completions",
                    json={"model": CHAT, "messages": MESSAGES, "max_tokens": 20},
                    headers={"authorization": f"Bearer {api_key.text}"},
                    timeout=0.3,
                )
            wait_until(lambda: len(events(database)) == 1)
    (event,) = events(database)
    assert (event.end_reason, event.completion_tokens) == ("client_left", 20)


def test_an_engine_that_dies_in_mid_stream_ends_it_with_an_error(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine(die_after=5) as engine:
        attach(operator, engine.url)
        with own_gateway:
            with stream(own_gateway, api_key, max_tokens=50) as response:
                lines = [line for line in response.iter_lines() if line]
            assert lines[-1] == "data: [DONE]"
            assert '"error"' in lines[-2]
            assert '"code":"server_is_overloaded"' in lines[-2]
            assert sum('"content":"' in line and '"content":""' not in line for line in lines) == 5
            wait_until(lambda: len(events(database)) == 1)
            (event,) = events(database)
            assert (event.end_reason, event.completion_tokens, event.prompt_tokens) == ("engine_died", 5, 3)
            with openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text, max_retries=0) as sdk:
                broken = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=50, stream=True)
                with pytest.raises(openai.APIError, match="billed"):
                    list(broken)


def test_a_stop_in_mid_stream_tells_the_client_and_bills_what_it_has(
    database: TestDatabase, catalog: None, operator: Engine, api_key: CreatedKey, tmp_path: Path
) -> None:
    gateway = GatewayProcess(database, tmp_path, "tests.serving.short_grace")
    with StubEngine(tokens_per_second=50) as engine, gateway:
        attach(operator, engine.url)
        with stream(gateway, api_key, max_tokens=10_000) as response, ThreadPoolExecutor() as beside:
            lines = response.iter_lines()
            next(lines)
            stopped = beside.submit(gateway.stop)
            rest = [line for line in lines if line]
            stopped.result()
        assert rest[-1] == "data: [DONE]"
        assert "The gateway is stopping" in rest[-2]
        (event,) = events(database)
        assert event.completion_tokens == sum('"content":"' in line and '"content":""' not in line for line in rest)
    assert numbers_have_no_gap(database)
    assert open_sources(database) == 0


def test_a_dead_replica_costs_nobody_an_answer(
    own_gateway: GatewayProcess, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine() as dying, StubEngine() as healthy:
        attach(operator, dying.url)
        attach(operator, healthy.url)
        with own_gateway, openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text, max_retries=0) as sdk:
            for _ in range(4):
                sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
            dying.kill()
            for _ in range(8):
                sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
            healthy.kill()
            with pytest.raises(openai.InternalServerError) as refused:
                sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
            assert refused.value.status_code == 503
            assert refused.value.code == "server_is_overloaded"


def test_without_the_database_requests_go_on_and_usage_waits(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine() as engine:
        attach(operator, engine.url)
        with own_gateway, openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text) as sdk:
            with outage(database):
                for _ in range(10):
                    sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
                wait_until(lambda: own_gateway.health()["database"] == "away")
                assert own_gateway.health()["status"] == "ready"
                assert own_gateway.health()["usage_pending"] == 10
            wait_until(lambda: len(events(database)) == 10)
            wait_until(lambda: own_gateway.health()["usage_pending"] == 0)
            assert numbers_have_no_gap(database)


def test_an_event_is_in_the_database_within_a_second(
    own_gateway: GatewayProcess, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    with StubEngine() as engine:
        attach(operator, engine.url)
        with own_gateway, openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=api_key.text) as sdk:
            sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
            answered_at = time.monotonic()
            wait_until(lambda: len(events(database)) == 1)
            assert time.monotonic() - answered_at < 1
