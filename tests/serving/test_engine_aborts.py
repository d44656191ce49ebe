"""Engines that take a request and do not carry it out: that are shut down, or die before the first token. As long as
the caller has seen nothing another replica answers; afterwards it is told, and pays for what it has.

Each test has a model of the catalog to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, attach, wait_until
from tests.serving.odd_engine import DONE, STREAM, Caller, Script, chunk, closing, odd_engine, whole
from tests.stub_engine import StubEngine

OPENING = chunk(0, role="assistant", content="")
MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]
TOKENS = 5


def takes_nothing_more(body: dict[str, Any], caller: Caller) -> None:
    """As vLLM 0.32 while it drains (`EngineCore._reject_add_in_shutdown`)."""
    if body.get("stream"):
        caller.send(STREAM + OPENING)
        caller.send(chunk(0, finish="abort") + closing(0) + DONE)
    else:
        caller.send(whole("abort", 0))


def is_killed_at_work(body: dict[str, Any], caller: Caller) -> None:
    """Before anything of its work was seen."""
    if body.get("stream"):
        caller.send(STREAM + OPENING)


def hangs_up(body: dict[str, Any], caller: Caller) -> None:
    """Without a word."""


@pytest.fixture
def key(house: House, gateway: GatewayProcess) -> CreatedKey:
    """Of this test alone, so that its events are."""
    with unit_of_work(house.operator) as session:
        key = create_key(session, house.tenant_id, "test", "tests")
    headers = {"authorization": f"Bearer {key.text}"}
    wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200)
    return key


@pytest.fixture
def sdk(gateway: GatewayProcess, key: CreatedKey) -> Iterator[openai.OpenAI]:
    """With that key; it tries once."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0) as client:
        yield client


@contextmanager
def attached(house: House, sdk: openai.OpenAI, model: str, script: Script) -> Iterator[None]:
    """The only replica of a model, which the gateway knows."""
    with odd_engine(script) as url:
        attach(house.operator, url, model)
        wait_until(lambda: _state(sdk, model) == "warm")
        yield


def known_replicas(gateway: GatewayProcess, model: str) -> int:
    """How many replicas of a model the gateway knows."""
    exposition = httpx.get(f"{gateway.internal_url}/metrics").text
    return sum(line.startswith("studio_replica_healthy{") and f'"{model}"' in line for line in exposition.split("\n"))


def _state(sdk: openai.OpenAI, model: str) -> Any:
    return (sdk.models.retrieve(model).model_extra or {})["state"]


@pytest.mark.parametrize(
    ("model", "script"),
    [
        ("qwen3-32b", takes_nothing_more),
        ("baichuan2-13b-chat", is_killed_at_work),
        ("deepseek-v2-236b", hangs_up),
    ],
)
def test_until_the_first_token_another_replica_answers_and_it_is_billed_once(
    house: House, gateway: GatewayProcess, key: CreatedKey, sdk: openai.OpenAI, model: str, script: Script
) -> None:
    asked: list[bool] = []

    def counted(body: dict[str, Any], caller: Caller) -> None:
        asked.append(bool(body.get("stream")))
        script(body, caller)

    with attached(house, sdk, model, counted):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as refused:
                sdk.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
            assert refused.value.status_code == 503
            assert refused.value.code == "server_is_overloaded"
        asked.clear()
        answers = 0

        def ask_each_way() -> bool:
            """Of another conversation each time, which may begin at either; until the odd one was asked both ways."""
            nonlocal answers
            fields: dict[str, Any] = {"model": model, "max_tokens": TOKENS}
            fields["messages"] = [{"role": "user", "content": f"{answers} two three"}]
            whole = sdk.chat.completions.create(**fields)
            chunks = list(sdk.chat.completions.create(**fields, stream=True))
            answers += 2
            assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
            assert sum(bool(one.choices[0].delta.content) for one in chunks) == TOKENS
            return set(asked) == {False, True}

        with StubEngine() as steady:
            attach(house.operator, steady.url, model)
            wait_until(lambda: known_replicas(gateway, model) == 2)
            wait_until(ask_each_way, seconds=30)
            wait_until(lambda: len(ledger.events(house.database, key.id)) == answers)
            billed = {(e.completion_tokens, e.end_reason) for e in ledger.events(house.database, key.id)}
            assert billed == {(TOKENS, "complete")}
            assert steady.counters().generation_tokens == answers * TOKENS


def test_a_stream_of_an_engine_that_is_shut_down_ends_with_an_error_and_bills_what_there_is(
    house: House, gateway: GatewayProcess, key: CreatedKey, sdk: openai.OpenAI
) -> None:
    """vLLM calls it a good end: its clients would take half an answer for a whole one."""
    model, was_seen = "qwen2-vl-72b", threading.Event()

    def is_shut_down(body: dict[str, Any], caller: Caller) -> None:
        caller.send(STREAM + OPENING + chunk(1, content="one") + chunk(2, content=" two"))
        was_seen.wait(30)
        caller.send(chunk(2, finish="abort") + closing(2, cached=1) + DONE)

    with attached(house, sdk, model, is_shut_down):
        body = {"model": model, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        headers = {"authorization": f"Bearer {key.text}"}
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as answer:
            events = (line for line in answer.iter_lines() if line)
            assert "two" in [next(events) for _ in range(3)][-1]
            was_seen.set()
            error, done = events
        assert "was shut down in the middle of the stream; what arrived before is billed" in error
        assert done == "data: [DONE]"
        wait_until(lambda: len(ledger.events(house.database, key.id)) == 1)
    (event,) = ledger.events(house.database, key.id)
    assert (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (3, 1, 2)
    assert event.end_reason == "engine_died"
