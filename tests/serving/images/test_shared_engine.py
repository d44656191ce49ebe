"""One real engine that several callers share: the fast tier goes first, and all are told when it is shut down."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import attach, wait_until
from tests.serving.images.conftest import SLOTS, TinyEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

BASE, FAST = "qwen2.5-vl-7b", "qwen2.5-vl-7b-fast"


@pytest.fixture(scope="module")
def shared(vllm: TinyEngine, house: House) -> TinyEngine:
    """The engine, as that of both tiers."""
    for model in (BASE, FAST):
        attach(house.operator, vllm.url, model)
    return vllm


@pytest.fixture
def warm(shared: TinyEngine, api: httpx.Client) -> None:
    for model in (BASE, FAST):
        wait_until(lambda model=model: api.get(f"/v1/models/{model}").json()["state"] == "warm", seconds=60)


def asked(model: str, tokens: int) -> dict[str, Any]:
    """For so many tokens, whatever a model of random weights would say."""
    messages = [{"role": "user", "content": "what is it"}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True}


def test_the_fast_tier_overtakes_what_waits_at_a_full_engine(warm: None, shared: TinyEngine, api: httpx.Client) -> None:
    """It comes last, and has its first token first."""
    order: list[str] = []

    def ask(name: str, model: str, tokens: int) -> None:
        with api.stream("POST", "/v1/chat/completions", json=asked(model, tokens), timeout=300) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()
            next(lines)  # an opening arrives together with its first token
            order.append(name)
            assert [line for line in lines if line][-1] == "data: [DONE]"

    with ThreadPoolExecutor(SLOTS + 3) as pool:
        runs = [pool.submit(ask, f"held {n}", BASE, tokens) for n, tokens in enumerate((250, *[450] * (SLOTS - 1)))]
        wait_until(lambda: shared.requests("running") == SLOTS, seconds=120)
        runs += [pool.submit(ask, f"base {n}", BASE, 2) for n in range(2)]
        wait_until(lambda: shared.requests("waiting") == 2, seconds=120)
        runs.append(pool.submit(ask, "fast", FAST, 60))
        for run in runs:
            run.result()
    assert order.index("fast") == SLOTS, order


def test_an_engine_that_is_shut_down_at_work_is_no_good_end(
    warm: None, shared: TinyEngine, house: House, api: httpx.Client
) -> None:
    """The last of this folder. vLLM itself calls what it has written an answer, with `finish_reason` "abort"."""
    usage = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    with api.stream("POST", "/v1/chat/completions", json=asked(BASE, 450) | usage, timeout=300) as answer:
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        next(lines)
        os.kill(shared.pid, signal.SIGTERM)
        *events, error, done = lines
    assert done == "[DONE]"
    assert "in the middle of the stream; what arrived before is billed" in json.loads(error)["error"]["message"]
    assert not any(choice["finish_reason"] for event in events for choice in json.loads(event)["choices"])
    delivered = json.loads(events[-1])["usage"]["completion_tokens"]
    name = answer.headers["x-request-id"]
    wait_until(lambda: any(event.request_id == name for event in ledger.events(house.database)))
    [event] = [event for event in ledger.events(house.database) if event.request_id == name]
    assert (event.completion_tokens, event.end_reason) == (delivered, "engine_died")
    assert 0 < delivered < 450
