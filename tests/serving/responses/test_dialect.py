"""A chat as vLLM streams it, told in the events of the Responses API. Each is judged by the SDK's own types."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from serving.responses import answer, chat
from serving.responses.dialect import ResponsesDialect
from serving.responses.request import read_request
from studio import ids
from studio.errors import ServiceUnavailable
from tests.serving.responses import strict

SETTINGS: dict[str, Any] = {
    "model": "m",
    "input": "hi",
    "instructions": "Be brief.",
    "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
    "metadata": {"a": "b"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "user": "u",
    "temperature": 0.5,
    "service_tier": "auto",
    "truncation": "auto",
}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LOGPROBS = {"content": [{"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}]}


def dialect() -> ResponsesDialect:
    request = read_request(SETTINGS)
    id = ids.uuid7()
    return ResponsesDialect(id, answer.outline(request, chat.read_tools(request), None, id))


def chunk(finish_reason: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
    return {"choices": [choice], "usage": USAGE}


def tool_chunk(index: int, arguments: str, **names: str) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": names["name"]} if names else {})
    call = {"index": index, "function": function} | ({"id": names["id"], "type": "function"} if names else {})
    return chunk(tool_calls=[call])


def told(*chunks: dict[str, Any]) -> list[strict.Event]:
    to = dialect()
    text = b"".join(to.event(one) for one in chunks) + to.event({"choices": [], "usage": USAGE}) + to.end()
    return strict.events(text.decode())


def types(events: list[strict.Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_text_is_told_in_openais_order() -> None:
    events = told(chunk(role="assistant", content=""), chunk(content="A"), chunk("stop", content="B"))
    assert types(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    response = events[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "AB"
    assert response["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    assert events[0]["response"]["status"] == "in_progress"
    assert all(event["response"]["metadata"] == {"a": "b"} for event in events if "response" in event)


def test_reasoning_text_and_calls_are_items_one_after_the_other() -> None:
    events = told(
        chunk(role="assistant", content=""),
        chunk(reasoning="Let me "),
        chunk(reasoning_content="see."),
        chunk(content="I look."),
        tool_chunk(0, "", name="weather", id="call_a"),
        tool_chunk(0, '{"city":'),
        tool_chunk(0, '"Berlin"}'),
        tool_chunk(1, "{}", name="weather", id="call_b"),
        chunk("tool_calls"),
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"][0]["text"] == "Let me see."
    assert [(item["call_id"], item["arguments"]) for item in output[2:]] == [
        ("call_a", '{"city":"Berlin"}'),
        ("call_b", "{}"),
    ]
    assert len({item["id"] for item in output}) == 4
    assert types(events)[2:8] == [
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done"),
    ]
    assert types(events)[-4:] == [
        *("function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed"),
    ]
    assert events[-1]["response"]["status"] == "completed"


def test_a_cut_answer_is_incomplete() -> None:
    events = told(chunk(role="assistant", content=""), chunk("length", content="A"))
    assert types(events)[-1] == "incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-1]["response"]["output"][0]["status"] == "incomplete"


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    events = told(chunk(role="assistant", content=""), chunk("stop"))
    assert [item["content"][0]["text"] for item in events[-1]["response"]["output"]] == [""]


def test_probabilities_are_told_with_their_text() -> None:
    events = told(chunk(role="assistant", content=""), chunk("stop", LOGPROBS, content="A"))
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["logprob"] == -0.1
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"][0]["bytes"] == [65]


def test_what_breaks_off_has_failed_with_what_it_had() -> None:
    to = dialect()
    text = to.event(chunk(role="assistant", content="")) + to.event(chunk(content="A"))
    text += to.failure(ServiceUnavailable("The engine died.", retry_after=timedelta(seconds=1)))
    events = strict.events(text.decode())
    assert types(events)[-1] == "failed"
    response = events[-1]["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["output"][0]["content"][0]["text"] == "A"
    assert response["usage"]["output_tokens"] == 5


def test_a_whole_answer_has_the_same_items_as_a_stream() -> None:
    to = dialect()
    message = {
        "role": "assistant",
        "content": "I look.",
        "reasoning": "Let me see.",
        "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    }
    content = {"choices": [{"message": message, "finish_reason": "tool_calls", "logprobs": None}], "usage": USAGE}
    to.read(content)
    whole = strict.response(to.whole(content))
    streamed = told(
        chunk(reasoning="Let me see."),
        chunk(content="I look."),
        tool_chunk(0, "{}", name="weather", id="call_a"),
        chunk("tool_calls"),
    )[-1]["response"]
    for response in (whole, streamed):
        for item in response["output"]:
            item.pop("id")
    assert whole["output"] == streamed["output"]
    assert whole.keys() == streamed.keys()
