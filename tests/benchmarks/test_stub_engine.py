"""The stub engine itself: its counters are the truth of the money tests, so what it streams must equal what it counts.
Spoken to over a socket, since a client that leaves is half of its purpose."""

import base64
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.stub_engine import StubEngine

CHAT = "/v1/chat/completions"
PROMPT = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Count to four"}]
PROMPT_TOKENS = 6
USAGE_IN_EVERY_CHUNK = {"include_usage": True, "continuous_usage_stats": True}


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    with StubEngine() as running:
        yield running


@pytest.fixture
def slow_engine() -> Iterator[StubEngine]:
    with StubEngine(tokens_per_second=50) as running:
        yield running


def post(engine: StubEngine, path: str, **body: object) -> httpx.Response:
    return httpx.post(engine.url + path, json={"model": "any-name", **body})


def open_stream(engine: StubEngine, **body: object) -> AbstractContextManager[httpx.Response]:
    return httpx.stream("POST", engine.url + CHAT, json={"messages": PROMPT, "stream": True, **body})


def events(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    *all_but_done, done = events(response)
    assert done == "[DONE]"
    return [json.loads(event) for event in all_but_done]


class TestChat:
    def test_a_stream_has_a_role_its_tokens_and_one_usage(self, engine: StubEngine) -> None:
        role, *tokens, usage = chunks(
            post(engine, CHAT, messages=PROMPT, max_tokens=4, stream=True, stream_options={"include_usage": True})
        )
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [token["choices"][0]["finish_reason"] for token in tokens] == [None, None, None, "length"]
        assert all("usage" not in chunk for chunk in (role, *tokens))
        assert usage["choices"] == []
        assert usage["usage"] == {
            "prompt_tokens": PROMPT_TOKENS,
            "total_tokens": PROMPT_TOKENS + 4,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def test_running_usage_is_written_as_vllm_writes_it(self, engine: StubEngine) -> None:
        response = post(engine, CHAT, messages=PROMPT, max_tokens=4, stream=True, stream_options=USAGE_IN_EVERY_CHUNK)
        raw = list(events(response))
        assert (
            '"usage":{"prompt_tokens":6,"total_tokens":7,"completion_tokens":1,"completion_tokens_details":null}'
            in raw[1]
        )
        counted = [json.loads(event)["usage"]["completion_tokens"] for event in raw[:-1]]
        assert counted == [0, 1, 2, 3, 4, 4]  # the sequence that vLLM 0.32 was seen to send

    def test_without_stream_options_no_chunk_has_usage(self, engine: StubEngine) -> None:
        stream = chunks(post(engine, CHAT, messages=PROMPT, max_tokens=3, stream=True))
        assert len(stream) == 1 + 3
        assert all("usage" not in chunk for chunk in stream)

    def test_choices_share_the_prompt_and_are_all_counted(self, engine: StubEngine) -> None:
        stream = chunks(
            post(engine, CHAT, messages=PROMPT, max_tokens=3, n=2, stream=True, stream_options=USAGE_IN_EVERY_CHUNK)
        )
        assert stream[-2]["usage"]["completion_tokens"] == 3  # of its own choice
        assert stream[-1]["usage"]["completion_tokens"] == 6
        assert engine.counters().generation_tokens == 6

    def test_an_answer_without_stream_has_the_same_figures(self, engine: StubEngine) -> None:
        answer = post(engine, CHAT, messages=PROMPT, max_completion_tokens=5).json()
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "any-name"
        assert len(answer["choices"][0]["message"]["content"].split()) == 5
        assert answer["usage"]["completion_tokens"] == 5
        assert engine.counters().prompt_tokens == PROMPT_TOKENS

    def test_cached_tokens_never_exceed_the_prompt(self) -> None:
        with StubEngine(cached=100) as engine:
            answer = post(engine, CHAT, messages=PROMPT).json()
            assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": PROMPT_TOKENS}
            assert engine.counters().cached_tokens == PROMPT_TOKENS

    def test_a_malformed_body_gets_vllms_envelope(self, engine: StubEngine) -> None:
        response = post(engine, CHAT, messages="not a list")
        assert response.status_code == 400
        assert response.json()["error"]["code"] == 400
        assert engine.counters().prompt_tokens == 0


class TestScript:
    """What a prompt asks for in its last message."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_answer_may_end_by_itself_think_and_call(self, engine: StubEngine, stream: bool) -> None:
        messages = [{"role": "user", "content": "think 2 words, call look, answer 3 words"}]
        tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
        options = {"stream_options": {"include_usage": True}} if stream else {}
        answer = post(engine, CHAT, messages=messages, tools=tools, max_tokens=9, stream=stream, **options)
        if stream:
            *parts, last, usage = chunks(answer)
            deltas = [part["choices"][0]["delta"] for part in (*parts, last)]
            assert "".join(delta.get("reasoning", "") for delta in deltas) == "word word "
            calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
            names = [call["function"]["name"] for call in calls if "name" in call["function"]]
            arguments = "".join(call["function"]["arguments"] for call in calls)
            finish_reason, counted = last["choices"][0]["finish_reason"], usage["usage"]
        else:
            (choice,) = answer.json()["choices"]
            assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("word word ", None)
            names = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
            arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
            finish_reason, counted = choice["finish_reason"], answer.json()["usage"]
        assert (names, json.loads(arguments), finish_reason) == (["look"], {"text": "word word word "}, "tool_calls")
        assert (counted["completion_tokens"], counted["completion_tokens_details"]["reasoning_tokens"]) == (5, 2)
        assert engine.counters().generation_tokens == 5

    def test_a_limit_cuts_it(self, engine: StubEngine) -> None:
        messages = [{"role": "user", "content": "answer 30 words"}]
        (choice,) = post(engine, CHAT, messages=messages, max_tokens=9).json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "word " * 9)

    def test_tokens_are_counted_without_an_answer(self, engine: StubEngine) -> None:
        assert post(engine, "/tokenize", messages=PROMPT).json()["count"] == PROMPT_TOKENS
        assert post(engine, "/tokenize", prompt="one two").json()["count"] == 2
        assert engine.counters().prompt_tokens == 0


class TestOtherEndpoints:
    def test_completions_count_every_prompt(self, engine: StubEngine) -> None:
        answer = post(engine, "/v1/completions", prompt=["one two", "three"], max_tokens=2).json()
        assert len(answer["choices"]) == 2
        assert answer["usage"] == {
            "prompt_tokens": 3,
            "total_tokens": 7,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": None,
        }

    def test_completions_stream_text(self, engine: StubEngine) -> None:
        *tokens, usage = chunks(
            post(engine, "/v1/completions", prompt=[1, 2, 3], stream=True, stream_options=USAGE_IN_EVERY_CHUNK)
        )
        assert len(tokens) == 16
        assert tokens[0]["usage"] == {"prompt_tokens": 3, "total_tokens": 4, "completion_tokens": 1}
        assert usage["usage"]["total_tokens"] == 19

    def test_embeddings_are_the_same_vector_in_both_formats(self, engine: StubEngine) -> None:
        floats = post(engine, "/v1/embeddings", input=["one two", "three"]).json()
        packed = post(engine, "/v1/embeddings", input=["one two"], encoding_format="base64").json()
        raw = base64.b64decode(packed["data"][0]["embedding"])
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == floats["data"][0]["embedding"]
        assert floats["data"][0]["embedding"] != floats["data"][1]["embedding"]
        assert floats["usage"]["prompt_tokens"] == 3
        assert engine.counters().prompt_tokens == 5

    def test_unknown_paths_are_404_and_other_methods_405(self, engine: StubEngine) -> None:
        assert post(engine, "/v1/elsewhere").status_code == 404
        assert post(engine, "/health").status_code == 405


class TestCounters:
    def test_a_stream_read_to_its_end_equals_the_counters(self, engine: StubEngine) -> None:
        for max_tokens in (1, 17, 5_000):  # the last one is longer than the socket's buffers
            before = engine.counters()
            stream = chunks(post(engine, CHAT, messages=PROMPT, max_tokens=max_tokens, stream=True))
            after = engine.counters()
            assert len(stream) - 1 == max_tokens == after.generation_tokens - before.generation_tokens
            assert after.prompt_tokens - before.prompt_tokens == PROMPT_TOKENS
            assert after.requests_running == 0

    def test_a_client_that_leaves_stops_its_stream_at_once(self, slow_engine: StubEngine) -> None:
        with open_stream(slow_engine, max_tokens=1_000, stream_options=USAGE_IN_EVERY_CHUNK) as response:
            stream = events(response)
            seen = [json.loads(next(stream))["usage"]["completion_tokens"] for _ in range(6)]
            assert seen == [0, 1, 2, 3, 4, 5]
            assert slow_engine.counters().requests_running == 1
        time.sleep(0.1)
        after = slow_engine.counters()
        assert after.requests_running == 0
        assert 5 <= after.generation_tokens <= 7  # a token may have left while we looked
        time.sleep(0.1)
        assert slow_engine.counters() == after

    def test_a_client_that_half_closes_reads_exactly_what_was_counted(self) -> None:
        body = json.dumps({"messages": PROMPT, "max_tokens": 1_000_000, "stream": True})
        request = f"POST {CHAT} HTTP/1.1\r\nhost: stub\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        with StubEngine() as engine:
            address = urlsplit(engine.url)
            with socket.create_connection((address.hostname, address.port), timeout=10) as client:
                client.sendall(request.encode())
                received = client.recv(65_536)
                client.shutdown(socket.SHUT_WR)
                while more := client.recv(65_536):
                    received += more
            counted = engine.counters()
        assert counted.requests_running == 0
        assert 0 < counted.generation_tokens < 1_000_000
        assert received.count(b'"content":"word "') == counted.generation_tokens

    def test_a_client_that_leaves_an_answer_is_counted_up_to_then(self, slow_engine: StubEngine) -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(slow_engine.url + CHAT, json={"messages": PROMPT, "max_tokens": 1_000}, timeout=0.2)
        time.sleep(0.05)
        after = slow_engine.counters()
        assert after.requests_running == 0
        assert 5 <= after.generation_tokens <= 15

    def test_an_engine_that_dies_has_counted_what_it_sent(self) -> None:
        with StubEngine(die_after=3) as engine, open_stream(engine, max_tokens=10) as response:
            stream = events(response)
            received = [json.loads(next(stream)) for _ in range(1 + 3)]
            assert received[-1]["choices"][0]["finish_reason"] is None
            with pytest.raises(httpx.RemoteProtocolError):
                next(stream)
            assert engine.counters().generation_tokens == 3

    def test_a_pace_is_kept(self, slow_engine: StubEngine) -> None:
        started = time.monotonic()
        stream = chunks(post(slow_engine, CHAT, messages=PROMPT, max_tokens=26, stream=True))
        assert len(stream) == 1 + 26
        assert 0.49 <= time.monotonic() - started < 1.0
