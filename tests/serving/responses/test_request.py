"""What a request for a response becomes for the engine, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from serving.responses import chat
from serving.responses.items import output_id, read_input, response_of, with_ids
from serving.responses.request import others, read_request
from studio import ids
from studio.errors import InvalidRequest

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def payload(**fields: Any) -> dict[str, Any]:
    asked = {"model": "m", "input": "hi"} | fields
    request = read_request(asked)
    messages = chat.chat_messages(request.instructions, read_input(request.input))
    return chat.chat_payload(request, messages, chat.read_tools(request), others(asked))


def messages(items: list[Any], instructions: str | None = None) -> list[dict[str, Any]]:
    return chat.chat_messages(instructions, read_input(items))


class TestConversation:
    def test_a_text_is_what_the_user_says(self) -> None:
        assert payload()["messages"] == [{"role": "user", "content": "hi"}]

    def test_instructions_come_first_and_a_developers_message_joins_them(self) -> None:
        items = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "hi"}]
        assert messages(items, "Be brief.") == [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            {"role": "user", "content": "hi"},
        ]

    def test_images_go_on_as_parts(self) -> None:
        content = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA"},
        ]
        assert messages([{"role": "user", "content": content}])[0]["content"] == [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "auto"}},
        ]

    def test_one_turn_of_the_assistant_is_one_message(self) -> None:
        turn = [
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "sun"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "rain"}]},
        ]
        function = {"name": "weather", "arguments": "{}"}
        calls = [{"id": id, "type": "function", "function": function} for id in ("a", "b")]
        assert messages(turn)[0]["reasoning"] == "hm"
        assert messages(turn[1:]) == [
            {"role": "assistant", "content": "I look.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "a", "content": "sun"},
            {"role": "tool", "tool_call_id": "b", "content": "rain"},
        ]

    def test_what_a_function_said_needs_its_call(self) -> None:
        with pytest.raises(InvalidRequest, match="call_id lost"):
            messages([{"type": "function_call_output", "call_id": "lost", "output": "sun"}])

    def test_an_item_leads_to_its_response(self) -> None:
        id = ids.uuid7()
        (item,) = with_ids(read_input("hi"), id)
        assert response_of(item["id"]) == id == response_of(output_id("function_call", id, 3))
        assert response_of("msg_of_somebody_else") is None


class TestSettings:
    def test_they_have_other_names_in_a_chat(self) -> None:
        asked = payload(
            max_output_tokens=7,
            temperature=0.5,
            reasoning={"effort": "low"},
            include=["message.output_text.logprobs"],
            top_logprobs=2,
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
            top_k=5,
            user="u",
            store=False,
        )
        assert asked == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "reasoning_effort": "low",
            "logprobs": True,
            "top_logprobs": 2,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            "top_k": 5,
        }

    def test_every_optional_field_may_be_null(self) -> None:
        fields = (
            *("instructions", "tools", "tool_choice", "text", "reasoning", "metadata", "include", "store", "stream"),
            *("background", "temperature", "top_p", "max_output_tokens", "truncation", "user", "previous_response_id"),
            *("conversation", "prompt", "parallel_tool_calls", "top_logprobs", "service_tier", "max_tool_calls"),
        )
        assert payload(**dict.fromkeys(fields)) == payload()

    @pytest.mark.parametrize(
        ("choice", "sent", "strict"),
        [
            (None, "auto", None),
            ("none", "none", None),
            ("required", "required", True),
            ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}, True),
            (
                {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
                "auto",
                None,
            ),
        ],
    )
    def test_a_forced_call_follows_its_schema(self, choice: Any, sent: Any, strict: bool | None) -> None:
        asked = payload(tools=[TOOL], tool_choice=choice)
        assert asked["tool_choice"] == sent
        assert asked["tools"][0]["function"].get("strict") is strict

    def test_only_allowed_tools_are_sent(self) -> None:
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
        asked = payload(tools=[TOOL, TOOL | {"name": "news"}], tool_choice=allowed)
        assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather"]
        assert asked["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"input": None}, "input", ""),
        ({"input": []}, "input", ""),
        ({"input": [7]}, "input[0]", "object"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role", ""),
        ({"input": [{"role": "user"}]}, "input[0].content", ""),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type", "input_file"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, None, "image_url"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "web_search_call"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
        ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1].type", "mcp"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", ""),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "news"}}, "tool_choice", "tools"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "`input`"),
        ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"n": 2}, "n", "one request"),
        ({"max_output_tokens": 0}, "max_output_tokens", ""),
        ({"temperature": 3}, "temperature", ""),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", ""),
        ({"metadata": {"a": 1}}, "metadata[...]", ""),
        ({"include": ["everything"]}, "include", "everything"),
        ({"background": True, "store": False}, "background", "store"),
        ({"background": True, "stream": True}, "stream", "GET"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format", "schema"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", ""),
    ],
)
def test_what_cannot_be_done_is_named(fields: dict[str, Any], param: str | None, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        payload(**fields)
    assert says in refused.value.message
    if param is not None:
        assert refused.value.param == param
