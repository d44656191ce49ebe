"""One real engine that several callers share: the fast tier goes first, and all are told when it is shut down."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import attach, wait_until
from tests.serving.images.conftest import SLOTS, TinyEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

BASE, FAST = "qwen2.5-vl-7b", "qwen2.5-vl-7b-fast"
GRACE_SECONDS = 5.0
LONG = 8000  # tokens, some ten seconds of this engine: nobody reads such an answer to its end here


@pytest.fixture(scope="module")
def shared(vllm: TinyEngine, house: House) -> TinyEngine:
    """The engine, as that of both tiers."""
    for model in (BASE, FAST):
        attach(house.operator, vllm.url, model)
    return vllm


@pytest.fixture
def warm(shared: TinyEngine, api: httpx.Client) -> None:
    """Until the gateway knows of it."""
    for model in (BASE, FAST):
        wait_until(lambda model=model: api.get(f"/v1/models/{model}").json()["state"] == "warm", seconds=60)


def asked(model: str, tokens: int) -> dict[str, Any]:
    """For so many tokens, whatever a model of random weights would say."""
    messages = [{"role": "user", "content": "what is it"}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True}


def test_the_fast_tier_overtakes_what_waits_at_a_full_engine(warm: None, shared: TinyEngine, api: httpx.Client) -> None:
    """It comes last, and is answered first."""
    order: list[str] = []
    guard = threading.Lock()

    def ask(name: str, model: str) -> None:
        with api.stream("POST", "/v1/chat/completions", json=asked(model, 300), timeout=300) as answer:
            assert answer.status_code == 200
            next(answer.iter_lines())  # an opening arrives together with its first token
            with guard:
                order.append(name)

    with ExitStack() as held, ThreadPoolExecutor(3) as pool:
        streams = [
            held.enter_context(api.stream("POST", "/v1/chat/completions", json=asked(BASE, LONG), timeout=300))
            for _ in range(SLOTS)
        ]
        wait_until(lambda: shared.requests("running") == SLOTS, seconds=120)
        waiting = [pool.submit(ask, f"base {n}", BASE) for n in range(2)]
        wait_until(lambda: shared.requests("waiting") == 2, seconds=120)
        waiting.append(pool.submit(ask, "fast", FAST))
        wait_until(lambda: shared.requests("waiting") == 3, seconds=120)
        assert shared.requests("running") == SLOTS, "the engine has not been full all the time"
        streams[0].close()  # who leaves gives the place to the next
        for one in waiting:
            one.result()
    assert order[0] == "fast", order
    assert sorted(order) == ["base 0", "base 1", "fast"]


def test_an_engine_that_is_shut_down_at_work_is_no_good_end(
    warm: None, shared: TinyEngine, house: House, api: httpx.Client
) -> None:
    """The last of this folder. vLLM says one of three things: that what it has written is an answer, with the reason
    "abort"; that it has failed; or nothing more, until its supervisor kills it."""
    supervisor = threading.Timer(GRACE_SECONDS, os.killpg, (shared.pid, signal.SIGKILL))
    usage = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    with api.stream("POST", "/v1/chat/completions", json=asked(BASE, LONG) | usage, timeout=300) as answer:
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        begun = [next(lines) for _ in range(5)]
        os.kill(shared.pid, signal.SIGTERM)
        supervisor.start()
        *events, error, done = [*begun, *lines]
    supervisor.cancel()
    assert done == "[DONE]"
    assert "in the middle of the stream; what arrived before is billed" in json.loads(error)["error"]["message"]
    assert not any(choice["finish_reason"] for event in events for choice in json.loads(event)["choices"])
    delivered = json.loads(events[-1])["usage"]["completion_tokens"]
    name = answer.headers["x-request-id"]
    wait_until(lambda: any(event.request_id == name for event in ledger.events(house.database)))
    [event] = [event for event in ledger.events(house.database) if event.request_id == name]
    assert (event.completion_tokens, event.end_reason) == (delivered, "engine_died")
    assert 0 < delivered < LONG
