"""Events that are rewritten as bytes say what they would say had they been parsed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tokens.answers import CompletionsDialect
from serving.tokens.patching import EventPatcher
from serving.tokens.usage import StreamMeter, TokenCounts

HEAD = {"id": "chatcmpl-engine", "object": "chat.completion.chunk", "created": 1760000000, "model": "weights"}
# vLLM 0.32's chunk of a token, with running usage.
CHOICE = {"index": 0, "delta": {"content": "x"}, "logprobs": None, "finish_reason": None, "token_ids": None}
USAGE = {"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3}
SHOWN = ["usage", "no usage"]


def chunk(choice: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps(HEAD | {"choices": [CHOICE | choice], "usage": USAGE} | more)


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def patcher_and_dialect(shown: str) -> tuple[EventPatcher, CompletionsDialect]:
    include_usage = shown == "usage"
    patcher = EventPatcher("chatcmpl-ours", 'name/with "quotes"', include_usage)
    patcher.learn(chunk({}))
    return patcher, CompletionsDialect("chatcmpl-ours", 'name/with "quotes"', include_usage, False)


HOSTILE = st.sampled_from(
    [
        '","token_ids":null',
        ',"usage":{"prompt_tokens":',
        '"finish_reason":null',
        'token_ids"',
        "\\",
        "}}",
        "data: [DONE]",
    ]
)


@pytest.mark.parametrize("shown", SHOWN)
@given(texts=st.lists(st.lists(st.text() | HOSTILE, max_size=6).map("".join), min_size=1, max_size=3))
def test_patched_events_are_the_parsed_ones(shown: str, texts: list[str]) -> None:
    patcher, dialect = patcher_and_dialect(shown)
    payloads = [
        chunk({"delta": {"content": text}}, usage=USAGE | {"completion_tokens": number})
        for number, text in enumerate(texts)
    ]
    events = b"".join(map(event, payloads))
    run = patcher.patch(events, 0)
    assert run is not None
    assert run.end == len(events)
    assert orjson.loads(run.usage) == USAGE | {"completion_tokens": len(texts) - 1}
    long_way = [dialect.event(orjson.loads(payload)) for payload in payloads]
    assert run.visible.count(b"\n") == 2 * len(texts)
    assert [orjson.loads(one[6:]) for one in run.visible.split(b"\n\n")[:-1]] == [
        orjson.loads(one[6:]) for one in long_way
    ]


def test_a_run_ends_before_what_is_not_common() -> None:
    patcher, _ = patcher_and_dialect("usage")
    common, last = event(chunk({})), event(chunk({"finish_reason": "stop"}))
    events = last + common + common + last + common
    run = patcher.patch(events, len(last))
    assert run is not None
    assert events[run.end :] == last + common
    assert patcher.patch(events, run.end) is None


@pytest.mark.parametrize(
    "payload",
    [
        chunk({"finish_reason": "length", "stop_reason": None}),
        chunk({"token_ids": [1, 2]}),
        chunk({}, prompt_token_ids=None),
        chunk({"delta": {"content": "x", "reasoning": "y"}}),
        chunk({"delta": {"role": "assistant", "content": ""}}),
        chunk({"logprobs": {"content": []}}),
        chunk({"index": 1}),
        chunk({}, usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 1}}),
        chunk({"delta": {"content": "x"}}) + b" ",
        chunk({}, kv_transfer_params={"a": {}}),
        chunk({"routed_experts": []}),
        orjson.dumps(HEAD | {"choices": [CHOICE]}),
        orjson.dumps(HEAD | {"choices": [], "usage": USAGE}),
        orjson.dumps(HEAD | {"id": "another", "choices": [CHOICE], "usage": USAGE}),
        orjson.dumps({"error": {"message": "x", "code": 500}}),
        b"[DONE]",
        b"{",
    ],
)
def test_what_is_not_common_goes_the_long_way(payload: bytes) -> None:
    patcher, _ = patcher_and_dialect("usage")
    assert patcher.patch(event(payload), 0) is None


def test_nothing_is_patched_before_a_stream_has_shown_its_head() -> None:
    patcher = EventPatcher("chatcmpl-ours", "m", False)
    assert patcher.patch(event(chunk({})), 0) is None
    patcher.learn(orjson.dumps(HEAD | {"system_fingerprint": "x", "choices": [CHOICE], "usage": USAGE}))
    assert patcher.patch(event(chunk({})), 0) is None


def test_a_stream_that_stops_is_counted_by_its_latest_event_whichever_way_that_went() -> None:
    meter = StreamMeter(1)
    meter.observe(orjson.loads(chunk({})))
    meter.note(orjson.dumps(USAGE | {"completion_tokens": 7}))
    assert meter.counts() == TokenCounts(prompt=5, cached=0, completion=7, reasoning=0, engine_prompt=5)
    meter.observe(orjson.loads(chunk({}, usage=USAGE | {"completion_tokens": 8})))
    assert meter.counts() == TokenCounts(prompt=5, cached=0, completion=8, reasoning=0, engine_prompt=5)
