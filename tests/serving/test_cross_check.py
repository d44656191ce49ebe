"""Sampled requests are counted again by their model's tokenizer, and of those that cannot be it is said why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import ProgrammingError

from serving.cross_check.checker import HELD_AT_MOST, CrossCheck
from serving.cross_check.sample import MOST_BYTES, Sample, prompts_of, why_skipped
from serving.metrics import Metrics
from serving.routing import Target
from serving.tokens.wire import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, read_call
from studio import clock, ids
from studio.db.sessions import engine_for, tenant_scope
from studio.db.usage import UsageCount
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT as MODEL
from tests.serving.gateway_process import CHAT_FAST, EMBEDDING, GatewayProcess, wait_until
from tests.serving.test_wire import BASE
from tests.stub_engine import StubEngine

WORDS: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 5}
CALL, TARGET = read_call(CHAT, httpx.Request("POST", "http://x", json=WORDS).content), Target(BASE)
TOOLS = [{"type": "function", "function": {"name": "weather"}}]


@pytest.fixture(scope="module")
def gateway(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that counts everything again."""
    settings = {"STUDIO_CROSS_CHECK_SHARE": "1"}
    with GatewayProcess(house.database, tmp_path_factory.mktemp("gateway"), settings=settings) as process:
        yield process


def counts(house: House) -> dict[str, list[int]]:
    """Prompt metered and counted, completion metered and counted, by request id."""
    with house.database.superuser() as connection:
        rows = connection.execute(
            "select id, metered_prompt_tokens, counted_prompt_tokens, metered_completion_tokens,"
            " counted_completion_tokens from usage_counts"
        )
        return {f"req_{id.hex}": figures for id, *figures in rows}


def skipped(gateway: GatewayProcess, reason: str) -> float:
    """How many requests the gateway has said it cannot count again for this reason."""
    exposition = httpx.get(f"{gateway.internal_url}/metrics").text
    found = re.search(rf'studio_cross_checks_skipped_total{{.*reason="{reason}".*}} (\S+)', exposition)
    return float(found[1]) if found else 0


@pytest.mark.parametrize(
    ("path", "asked", "prompt", "completion"),
    [
        ("chat/completions", WORDS, 3, 5),
        ("chat/completions", WORDS | {"model": CHAT_FAST, "stream": True, "max_tokens": 40}, 3, 40),
        ("chat/completions", WORDS | {"stream": True, "n": 3}, 3, 15),
        ("completions", {"model": MODEL, "prompt": ["one", "two words"], "n": 2, "max_tokens": 7}, 3, 28),
        ("completions", {"model": MODEL, "prompt": [[1, 2, 3], [4]], "max_tokens": 2, "stream": True}, 4, 4),
        ("embeddings", {"model": EMBEDDING, "input": ["one", "two words"]}, 3, 0),
        ("responses", {"model": MODEL, "input": "one two", "max_output_tokens": 6, "stream": True}, 2, 6),
        ("messages", WORDS, 3, 5),
    ],
)
def test_what_is_metered_is_counted_again_from_the_text(
    api: httpx.Client, house: House, path: str, asked: dict[str, Any], prompt: int, completion: int
) -> None:
    answer = api.post(f"/v1/{path}", json=asked)
    assert answer.status_code == 200, answer.text
    request = answer.headers["x-request-id"]
    wait_until(lambda: request in counts(house))
    assert counts(house)[request] == [prompt, prompt, completion, completion]


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        ("chat/completions", {"tools": TOOLS}, "tools"),
        ("chat/completions", {"response_format": {"type": "json_object"}}, "other_fields"),
        ("chat/completions", {"ignore_eos": True}, "other_fields"),
        ("chat/completions", {"messages": [{"role": "user", "content": "think 3 words answer 2 words"}]}, "reasoning"),
        ("rerank", {"model": EMBEDDING, "query": "one", "documents": ["two"]}, "pairs"),
    ],
)
def test_what_cannot_be_counted_again_is_skipped_with_its_reason(
    api: httpx.Client, gateway: GatewayProcess, house: House, path: str, fields: dict[str, Any], reason: str
) -> None:
    before = skipped(gateway, reason)
    answer = api.post(f"/v1/{path}", json=WORDS | fields if path.startswith("chat") else fields)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: skipped(gateway, reason) == before + 1)
    assert answer.headers["x-request-id"] not in counts(house)


def test_a_stream_whose_client_has_left_is_not_compared(
    api: httpx.Client, gateway: GatewayProcess, house: House
) -> None:
    before = skipped(gateway, "broken_off")
    with api.stream("POST", "/v1/chat/completions", json=WORDS | {"stream": True, "max_tokens": 1_000_000}) as answer:
        next(answer.iter_lines())
    wait_until(lambda: skipped(gateway, "broken_off") == before + 1)
    assert answer.headers["x-request-id"] not in counts(house)


def test_prometheus_sees_the_difference_of_each_model() -> None:
    metrics = Metrics()
    metrics.cross_checked("m", "prompt", metered=90, counted=90)
    metrics.cross_checked("m", "completion", metered=11, counted=10)
    metrics.cross_checked("m", "completion", metered=10, counted=11)  # makes nothing good
    read = metrics.registry.get_sample_value
    assert read("studio_cross_check_difference", {"model": "m"}) == pytest.approx(2 / 111)
    tokens = {by: read("studio_cross_checked_tokens_total", {"model": "m", "kind": "completion", "by": by})
              for by in ("meter", "tokenizer")}  # fmt: skip
    assert tokens == {"meter": 21, "tokenizer": 21}


def drawing(share: float) -> tuple[CrossCheck, Metrics]:
    """A cross-check that draws and never counts."""
    metrics = Metrics()
    return CrossCheck(None, None, metrics, None, share), metrics  # type: ignore[arg-type]  # nothing is asked


def test_a_burst_is_held_up_to_a_bound_and_no_further() -> None:
    check, metrics = drawing(share=1)
    held = [check.begin(ids.uuid7(), CALL, TARGET, 100) for _ in range(HELD_AT_MOST)]
    assert None not in held
    assert check.begin(ids.uuid7(), CALL, TARGET, 100) is None
    labels = {"model": BASE.model_id, "reason": "busy"}
    assert metrics.registry.get_sample_value("studio_cross_checks_skipped_total", labels) == 1
    check.release(held[0])  # type: ignore[arg-type]  # not None, as asserted
    assert check.begin(ids.uuid7(), CALL, TARGET, 100) is not None


def test_the_share_is_a_share() -> None:
    check, _ = drawing(share=0.25)
    drawn = 0
    for _ in range(4_000):
        if (sample := check.begin(ids.uuid7(), CALL, TARGET, 100)) is not None:
            drawn += 1
            check.release(sample)
    assert 800 < drawn < 1200


def test_the_token_that_ends_an_answer_counts_and_a_stop_string_cannot() -> None:
    ended, stopped = (Sample(CALL, TARGET) for _ in range(2))
    ended.observe({"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]})
    ended.observe({"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop", "stop_reason": None}]})
    assert (ended.texts, ended.unseen_tokens, ended.skipped) == (["Hello"], 1, None)
    stopped.observe({"choices": [{"index": 0, "text": "a", "finish_reason": "stop", "stop_reason": "\n"}]})
    assert (stopped.texts, stopped.skipped) == ([], "stop_string")


def test_a_long_text_is_let_go() -> None:
    sample = Sample(CALL, TARGET)
    for _ in range(2):
        sample.observe({"choices": [{"index": 0, "delta": {"content": "x" * (MOST_BYTES // 2 + 1)}}]})
    assert (sample.texts, sample.skipped) == ([], "too_long")
    assert why_skipped(CALL, MOST_BYTES + 1) == "too_long"


@pytest.mark.parametrize(
    ("endpoint", "asked", "known", "texts"),
    [
        (CHAT, WORDS, 0, [{"messages": WORDS["messages"]}]),
        (
            CHAT,
            WORDS | {"add_generation_prompt": False},
            0,
            [{"messages": WORDS["messages"], "add_generation_prompt": False}],
        ),
        (COMPLETIONS, {"model": "m", "prompt": "one"}, 0, [{"prompt": "one"}]),
        (COMPLETIONS, {"model": "m", "prompt": [1, 2]}, 2, []),
        (EMBEDDINGS, {"model": "m", "input": ["one", "two"]}, 0, [{"prompt": "one"}, {"prompt": "two"}]),
    ],
)
def test_the_tokenizer_is_asked_what_the_engine_was(
    endpoint: Endpoint, asked: dict[str, Any], known: int, texts: list[Any]
) -> None:
    call = read_call(endpoint, httpx.Request("POST", "http://x", json=asked).content)
    assert why_skipped(call, 100) is None
    assert prompts_of(call) == (known, texts)


def test_a_count_is_its_tenants_own(house: House) -> None:
    other = new_tenant(house.operator, "globex")
    gateway = engine_for(house.database.url("gateway"))
    figures = {f"{by}_{kind}_tokens": 1 for by in ("metered", "counted") for kind in ("prompt", "completion")}
    row = {"model_id": MODEL, "variant_id": MODEL, "replica_id": ids.uuid7(), "started_at": clock.now()} | figures
    with pytest.raises(ProgrammingError, match="row-level security"), tenant_scope(gateway, other) as session:
        session.execute(insert(UsageCount).values(id=ids.uuid7(), tenant_id=house.tenant_id, **row))
    gateway.dispose()
