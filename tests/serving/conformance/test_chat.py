"""`/v1/chat/completions`: what OpenAI's clients send and expect. What only an engine decides is not here."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import orjson
import pytest

from tests.serving.gateway_process import CHAT

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]
LOOK_UP: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CHOICE: Any = {"type": "function", "function": {"name": "look_up"}}


def chat(api: httpx.Client, **fields: Any) -> httpx.Response:
    return api.post("/v1/chat/completions", json={"model": CHAT, "max_tokens": 2, "messages": MESSAGES} | fields)


def refused(response: httpx.Response) -> str | None:
    """The field that it names."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    param: str | None = error["param"]
    return param


class TestAccepted:
    @pytest.mark.parametrize(
        "name",
        [
            *("audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "metadata"),
            *("modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key"),
            *("reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store"),
            *("stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user"),
            *("verbosity", "functions", "function_call", "web_search_options", "top_k", "min_p"),
        ],
    )
    def test_a_null_is_as_good_as_nothing(self, api: httpx.Client, name: str) -> None:
        assert chat(api, **{name: None}).status_code == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
            {"prompt_cache_key": "k", "verbosity": "low", "modalities": ["text"], "reasoning_effort": "low"},
            {"parallel_tool_calls": True, "tools": [LOOK_UP]},
            {"tools": [LOOK_UP], "tool_choice": "none"},
            {"tool_choice": "none"},
            {"stop": "a"},
            {"stop": ["a", "b", "c", "d"]},
            {"n": 128, "max_tokens": 1},
            {"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
            {"temperature": 2.0, "seed": 2**40, "logit_bias": {"50256": -100}},
            {"logprobs": True, "top_logprobs": 20},
            {"top_logprobs": 0},
            {"response_format": {"type": "text"}},
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}},
            {"something_new": {"a": [1]}},
            {"stream_options": None, "stream": False},
        ],
    )
    def test_what_clients_send(self, api: httpx.Client, fields: dict[str, Any]) -> None:
        assert chat(api, **fields).status_code == 200

    @pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function"])
    def test_every_role(self, api: httpx.Client, role: str) -> None:
        message = {"role": role, "content": "a", "name": "n", "tool_call_id": "c"}
        assert chat(api, messages=[message]).status_code == 200

    def test_parts_of_text_are_as_good_as_a_text(self, api: httpx.Client) -> None:
        parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]
        both = [chat(api, messages=[{"role": "user", "content": one}]).json() for one in (parts, "one two three")]
        assert both[0]["usage"] == both[1]["usage"]

    def test_a_call_of_a_tool_and_its_result(self, api: httpx.Client) -> None:
        call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
        called = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "c", "content": "four"}
        assert chat(api, messages=[*MESSAGES, called, result], tools=[LOOK_UP]).status_code == 200


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"model": ""}, "model"),
            ({"model": 7}, "model"),
            ({"messages": "hello"}, "messages"),
            ({"messages": ["hello"]}, "messages[0]"),
            ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
            ({"messages": [{"role": None, "content": "a"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages[0].content[0].text"),
            ({"n": -1}, "n"),
            ({"n": 129}, "n"),
            ({"n": 1.5}, "n"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_tokens": "many"}, "max_tokens"),
            ({"max_tokens": 1e30}, "max_tokens"),
            ({"max_completion_tokens": 0}, "max_completion_tokens"),
            ({"temperature": -0.1}, "temperature"),
            ({"top_p": 1.1}, "top_p"),
            ({"presence_penalty": 2.1}, "presence_penalty"),
            ({"frequency_penalty": -2.1}, "frequency_penalty"),
            ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
            ({"top_logprobs": 2}, "top_logprobs"),
            ({"logprobs": False, "top_logprobs": 2}, "top_logprobs"),
            ({"stop": 7}, "stop"),
            ({"stop": ["a", 7]}, "stop[1]"),
            ({"stream_options": {}}, "stream_options"),
            ({"stream": False, "stream_options": {"include_usage": False}}, "stream_options"),
            ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
            ({"stream": 1}, "stream"),
            ({"tools": []}, "tools"),
            ({"tools": {}}, "tools"),
            ({"tools": [{"type": "function"}]}, "tools[0].function"),
            ({"tools": [{"type": "magic", "function": {"name": "a"}}]}, "tools[0].type"),
            ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
            ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
            ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
            (
                {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
                "tools[0].function.parameters",
            ),
            ({"tool_choice": "auto"}, "tool_choice"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tool_choice": CHOICE}, "tool_choice"),
            ({"tools": [LOOK_UP], "tool_choice": "sometimes"}, "tool_choice"),
            ({"tools": [LOOK_UP], "tool_choice": {"type": "function"}}, "tool_choice.function"),
            (
                {"tools": [LOOK_UP], "tool_choice": {"type": "function", "function": {"name": "other"}}},
                "tool_choice.function.name",
            ),
            ({"functions": [{"name": "a"}]}, "functions"),
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
            ({"response_format": "json"}, "response_format"),
        ],
    )
    def test_the_field_is_named(self, api: httpx.Client, fields: dict[str, Any], param: str) -> None:
        assert refused(chat(api, **fields)) == param


class TestAnswers:
    def test_as_many_as_were_asked_for(self, sdk: openai.OpenAI) -> None:
        answer = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=2, n=3)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6

    def test_both_limits_hold(self, sdk: openai.OpenAI) -> None:
        answer = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=9, max_completion_tokens=2)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2

    @pytest.mark.parametrize(("choice", "finish"), [("required", "tool_calls"), (CHOICE, "stop")])
    def test_a_forced_tool_is_the_same_with_and_without_a_stream(
        self, sdk: openai.OpenAI, choice: Any, finish: str
    ) -> None:
        asked: Any = {"model": CHAT, "messages": MESSAGES, "max_tokens": 3, "tools": [LOOK_UP], "tool_choice": choice}
        whole = sdk.chat.completions.create(**asked).choices[0]
        assert whole.message.tool_calls is not None
        (call,) = whole.message.tool_calls
        assert call.type == "function"
        assert isinstance(orjson.loads(call.function.arguments), dict)
        chunks = list(sdk.chat.completions.create(**asked, stream=True))
        fragments = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
        assert fragments[0].id
        assert [fragment.function.name for fragment in fragments if fragment.function] == ["look_up", None, None]
        joined = "".join(fragment.function.arguments or "" for fragment in fragments if fragment.function)
        assert joined == call.function.arguments
        assert whole.finish_reason == chunks[-1].choices[0].finish_reason == finish

    def test_without_tools_there_are_no_calls_of_tools(self, api: httpx.Client) -> None:
        assert not chat(api).json()["choices"][0]["message"].get("tool_calls")


class TestStreams:
    def events(self, api: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
        response = chat(api, stream=True, **fields)
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in response.headers
        lines = response.text.split("\n")
        # Another field, or a comment, would be an event of its own to older SDKs.
        assert all(not line or line.startswith("data: ") for line in lines)
        payloads = [line.removeprefix("data: ") for line in lines if line]
        assert payloads.count("[DONE]") == 1
        assert payloads[-1] == "[DONE]"
        return [orjson.loads(payload) for payload in payloads[:-1]]

    def test_the_order_is_openais(self, api: httpx.Client) -> None:
        first, *middle, last, usage = self.events(api, max_tokens=3, stream_options={"include_usage": True})
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert all(chunk["choices"][0]["finish_reason"] is None for chunk in (first, *middle))
        assert last["choices"][0]["finish_reason"] == "length"
        assert [chunk["usage"] for chunk in (first, *middle, last)] == [None] * 4
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 3

    def test_the_choices_come_between_each_other_with_one_usage(self, api: httpx.Client) -> None:
        chunks = self.events(api, n=2, stream_options={"include_usage": True})
        ends = [one["index"] for chunk in chunks for one in chunk["choices"] if one["finish_reason"]]
        assert sorted(ends) == [0, 1]
        assert [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk["usage"]] == [4]

    @pytest.mark.parametrize("fields", [{"model": "gpt-17"}, {"n": 0}, {"model": "qwen3-32b"}])
    def test_what_is_known_before_the_first_byte_is_a_status(self, api: httpx.Client, fields: dict[str, Any]) -> None:
        response = chat(api, stream=True, **fields)
        assert response.status_code in (400, 404, 503)
        assert response.headers["content-type"] == "application/json"
