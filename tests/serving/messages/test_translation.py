"""What an engine is asked for a message, and how its answers are told. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from serving.messages.dialect import MessagesDialect
from serving.messages.wire import read_count, read_messages
from studio import ids
from studio.errors import ServiceUnavailable, StudioError

ID: UUID = ids.uuid7()
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def asked(**fields: Any) -> dict[str, Any]:
    """The chat completion for a message with these fields."""
    required = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    return read_messages(orjson.dumps(required | fields)).payload


def dialect() -> MessagesDialect:
    call = read_messages(b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}')
    return MessagesDialect(call, ID)


def told(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream of these deltas; the last chunk has the reasons why it ended."""
    speaker = dialect()
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": usage}
    parts = [speaker.event(first)]
    parts += [speaker.event({"choices": [{"index": 0, "delta": {}} | chunk], "usage": usage}) for chunk in chunks]
    total = usage | {"prompt_tokens_details": {"cached_tokens": 4}}
    parts += [speaker.event({"choices": [], "usage": total}), speaker.end()]
    return [orjson.loads(event.split(b"\ndata: ")[1]) for event in b"".join(parts).strip().split(b"\n\n")]


class TestRequests:
    def test_system_texts_are_one_message_in_front(self) -> None:
        messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}]
        system = [
            {"type": "text", "text": "x-anthropic-billing-header: cch=1"},
            {"type": "text", "text": "first"},
        ]
        chat = asked(system=system, messages=messages)
        assert chat["messages"] == [{"role": "system", "content": "first\nlate"}, {"role": "user", "content": "a"}]

    def test_results_of_tools_come_right_after_the_calls_and_their_images_later(self) -> None:
        blocks = [
            {"type": "text", "text": "look"},
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": PNG}]},
            {"type": "tool_result", "tool_use_id": "b"},
        ]
        chat = asked(messages=[{"role": "user", "content": blocks}])
        assert [message["role"] for message in chat["messages"]] == ["tool", "tool", "user"]
        assert [part["type"] for part in chat["messages"][2]["content"]] == ["text", "image_url"]
        url = chat["messages"][2]["content"][1]["image_url"]["url"]
        assert url == "data:image/png;base64,iVBORw0KGgo="

    def test_an_answer_that_has_begun_is_continued(self) -> None:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        for chat in (asked(messages=messages), read_count(orjson.dumps({"model": "m", "messages": messages})).payload):
            assert chat["continue_final_message"] is True
            assert chat["add_generation_prompt"] is False

    def test_a_forced_tool_is_held_to_its_schema(self) -> None:
        tools = [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {}, "strict": False}]
        chat = asked(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
        assert [tool["function"].get("strict") for tool in chat["tools"]] == [True, False]
        assert chat["tool_choice"] == "required"
        assert chat["parallel_tool_calls"] is False
        assert asked(tools=tools)["tool_choice"] == "auto"

    def test_thinking_and_formats_are_passed_on(self) -> None:
        schema = {"type": "object"}
        chat = asked(thinking={"type": "disabled"}, output_config={"format": {"type": "json_schema", "schema": schema}})
        assert chat["chat_template_kwargs"] == {"enable_thinking": False}
        assert chat["response_format"]["json_schema"]["schema"] == schema


class TestAnswers:
    def test_thoughts_words_and_tools_are_blocks_of_their_own(self) -> None:
        events = told(
            {"delta": {"reasoning": "hm"}},
            {"delta": {"content": "yes"}},
            {"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}},
            {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}},
            {"delta": {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}},
            {"finish_reason": "tool_calls"},
        )
        blocks = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
        assert blocks == ["thinking", "text", "tool_use", "tool_use"]
        numbers = [event["index"] for event in events if event["type"] == "content_block_stop"]
        assert numbers == [0, 1, 2, 3]
        json = "".join(e["delta"].get("partial_json", "") for e in events if e.get("index") == 2 and "delta" in e)
        assert json == "{}"

    @pytest.mark.parametrize(
        ("ended", "stop_reason", "stop_sequence"),
        [
            ({"finish_reason": "stop", "stop_reason": None}, "end_turn", None),
            ({"finish_reason": "stop", "stop_reason": 151645}, "end_turn", None),
            ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
            ({"finish_reason": "length"}, "max_tokens", None),
            ({"finish_reason": "content_filter"}, "refusal", None),
        ],
    )
    def test_why_it_ended(self, ended: dict[str, Any], stop_reason: str, stop_sequence: str | None) -> None:
        *_, delta, stop = told({"delta": {"content": "a"}}, ended)
        assert delta["delta"] == {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        assert stop == {"type": "message_stop"}
        answer = {"choices": [{"message": {"content": "a"}} | ended], "usage": {"prompt_tokens": 1}}
        whole = orjson.loads(dialect().whole(answer))
        assert (whole["stop_reason"], whole["stop_sequence"]) == (stop_reason, stop_sequence)

    def test_input_excludes_what_came_from_the_cache(self) -> None:
        start, *_, delta, _ = told({"delta": {"content": "a"}}, {"finish_reason": "stop"})
        assert start["message"]["usage"]["input_tokens"] == 7
        assert delta["usage"]["input_tokens"] == 3
        assert delta["usage"]["cache_read_input_tokens"] == 4

    def test_a_tool_input_that_was_cut_is_empty_and_the_reason_tells_it(self) -> None:
        calls = [{"id": "a", "function": {"name": "f", "arguments": '{"text": "wo'}}]
        choice = {"message": {"content": None, "tool_calls": calls}, "finish_reason": "length"}
        whole = orjson.loads(dialect().whole({"choices": [choice], "usage": {"prompt_tokens": 1}}))
        assert whole["content"][0]["input"] == {}
        assert whole["stop_reason"] == "max_tokens"

    @pytest.mark.parametrize(
        ("error", "kind", "message"),
        [
            (StudioError("x"), "api_error", "x"),
            (ServiceUnavailable("x.", retry_after=timedelta(seconds=1)), "overloaded_error", "x. Try again in 1 s."),
        ],
    )
    def test_a_failure_is_an_error_event(self, error: StudioError, kind: str, message: str) -> None:
        name, data = dialect().failure(error).strip().split(b"\ndata: ")
        assert name == b"event: error"
        assert orjson.loads(data)["error"] == {"type": kind, "message": message}
