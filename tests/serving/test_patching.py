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
@given(text=st.lists(st.text() | HOSTILE).map("".join))
def test_a_patched_event_is_the_parsed_one(shown: str, text: str) -> None:
    patcher, dialect = patcher_and_dialect(shown)
    payload = chunk({"delta": {"content": text}})
    patched = patcher.patch(payload)
    assert patched is not None
    visible, usage = patched
    assert visible.startswith(b"data: ")
    assert visible.endswith(b"\n\n")
    assert visible.count(b"\n") == 2
    long_way = dialect.event(orjson.loads(payload))
    assert orjson.loads(visible[6:]) == orjson.loads(long_way[6:])
    assert orjson.loads(usage) == USAGE


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
    assert patcher.patch(payload) is None


def test_nothing_is_patched_before_a_stream_has_shown_its_head() -> None:
    patcher = EventPatcher("chatcmpl-ours", "m", False)
    assert patcher.patch(chunk({})) is None
    patcher.learn(orjson.dumps(HEAD | {"system_fingerprint": "x", "choices": [CHOICE], "usage": USAGE}))
    assert patcher.patch(chunk({})) is None


def test_a_stream_that_stops_is_counted_by_its_latest_event_whichever_way_that_went() -> None:
    meter = StreamMeter(1)
    meter.observe(orjson.loads(chunk({})))
    meter.note(orjson.dumps(USAGE | {"completion_tokens": 7}))
    assert meter.counts() == TokenCounts(prompt=5, cached=0, completion=7, reasoning=0, engine_prompt=5)
    meter.observe(orjson.loads(chunk({}, usage=USAGE | {"completion_tokens": 8})))
    assert meter.counts() == TokenCounts(prompt=5, cached=0, completion=8, reasoning=0, engine_prompt=5)
