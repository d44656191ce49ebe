"""The Messages API through Anthropic's own SDK and over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import orjson
import pytest
from anthropic.types import MessageParam, RawMessageStreamEvent, ToolParam

from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

MESSAGES: list[MessageParam] = [{"role": "user", "content": "one two three"}]
LOOK_UP: ToolParam = {
    "name": "look_up",
    "description": "Looks a text up.",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


@pytest.fixture
def claude(gateway: GatewayProcess, house: House) -> Iterator[anthropic.Anthropic]:
    """The official SDK, which tries once and checks what it is told."""
    with anthropic.Anthropic(
        base_url=gateway.url, api_key=house.key.text, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def post(api: httpx.Client, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    return api.post(path, json={"model": CHAT, "max_tokens": 4, "messages": MESSAGES} | fields)


def assert_refused(response: httpx.Response, status: int, kind: str) -> str:
    """The message."""
    assert response.status_code == status
    body = response.json()
    assert body["type"] == "error"
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["type"] == kind
    assert body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    message: str = body["error"]["message"]
    return message


class TestWhole:
    def test_an_answer_in_words(self, claude: anthropic.Anthropic) -> None:
        message = claude.messages.create(model=CHAT_FAST, max_tokens=4, messages=MESSAGES, system="be brief")
        assert (message.type, message.role, message.model) == ("message", "assistant", CHAT_FAST)
        assert [block.text for block in message.content if block.type == "text"] == ["word word word word "]
        assert message.stop_reason == "max_tokens"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 4)
        assert message.usage.cache_read_input_tokens == 0
        assert message._request_id is not None
        assert message._request_id.removeprefix("req_") == message.id.removeprefix("msg_")

    def test_a_tool_that_must_be_used(self, claude: anthropic.Anthropic) -> None:
        choice: Any
        for choice in ({"type": "any"}, {"type": "tool", "name": "look_up", "disable_parallel_tool_use": True}):
            message = claude.messages.create(
                model=CHAT, max_tokens=2, messages=MESSAGES, tools=[LOOK_UP], tool_choice=choice
            )
            (block,) = message.content
            assert block.type == "tool_use"
            assert (block.name, block.input) == ("look_up", {"text": "word word "})
            assert block.id
            assert message.stop_reason == "tool_use"

    def test_a_conversation_with_all_blocks_goes_round(self, claude: anthropic.Anthropic) -> None:
        called = claude.messages.create(
            model=CHAT, max_tokens=2, messages=MESSAGES, tools=[LOOK_UP], tool_choice={"type": "any"}
        )
        (block,) = called.content
        assert block.type == "tool_use"
        results: Any = [{"type": "tool_result", "tool_use_id": block.id, "content": "four five", "is_error": True}]
        thinking: Any = [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
        ]
        answer = claude.messages.create(
            model=CHAT,
            max_tokens=2,
            system=[{"type": "text", "text": "six", "cache_control": {"type": "ephemeral"}}],
            messages=[
                *MESSAGES,
                {"role": "assistant", "content": [*thinking, *called.content]},
                {"role": "user", "content": [*results, {"type": "text", "text": "seven"}]},
            ],
            tools=[LOOK_UP],
            temperature=0.5,
            top_k=5,
            top_p=0.9,
            stop_sequences=["stop"],
            metadata={"user_id": "somebody"},
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        # system, three words, the error's sign and text, and the last word
        assert answer.usage.input_tokens == 1 + 3 + 3 + 1

    def test_a_bearer_key_is_as_good(self, gateway: GatewayProcess, house: House) -> None:
        with anthropic.Anthropic(base_url=gateway.url, auth_token=house.key.text, api_key=None) as client:
            assert client.messages.create(model=CHAT, max_tokens=1, messages=MESSAGES).usage.output_tokens == 1


class TestStream:
    def test_the_events_come_in_anthropics_order(self, claude: anthropic.Anthropic) -> None:
        events: list[RawMessageStreamEvent] = list(
            claude.messages.create(model=CHAT, max_tokens=2, messages=MESSAGES, stream=True)
        )
        assert [event.type for event in events] == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]

    def test_each_event_is_named_as_its_type(self, api: httpx.Client) -> None:
        response = post(api, stream=True)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        for event in response.text.strip().split("\n\n"):
            name, data = event.split("\n")
            assert name.removeprefix("event: ") == orjson.loads(data.removeprefix("data: "))["type"]
        assert "[DONE]" not in response.text

    def test_the_helper_joins_it_to_what_a_whole_answer_says(self, claude: anthropic.Anthropic) -> None:
        whole = claude.messages.create(model=CHAT, max_tokens=5, messages=MESSAGES)
        with claude.messages.stream(model=CHAT, max_tokens=5, messages=MESSAGES) as stream:
            text = "".join(stream.text_stream)
            joined = stream.get_final_message()
        assert [text] == [block.text for block in whole.content if block.type == "text"]
        assert joined.content[0].to_dict().items() >= whole.content[0].to_dict().items()
        assert (joined.stop_reason, joined.usage) == (whole.stop_reason, whole.usage)

    def test_the_helper_reads_a_tools_input(self, claude: anthropic.Anthropic) -> None:
        with claude.messages.stream(
            model=CHAT, max_tokens=3, messages=MESSAGES, tools=[LOOK_UP], tool_choice={"type": "any"}
        ) as stream:
            message = stream.get_final_message()
        (block,) = message.content
        assert block.type == "tool_use"
        assert (block.name, block.input) == ("look_up", {"text": "word word word "})
        assert message.stop_reason == "tool_use"

    def test_an_engine_that_dies_is_an_error_event(self, house: House, gateway: GatewayProcess) -> None:
        variant = "qwen3-32b"
        with StubEngine(tokens_per_second=200, die_after=3) as deadly:
            attach(house.operator, deadly.url, variant)
            headers = {"x-api-key": house.key.text}
            body = {"model": variant, "max_tokens": 9, "messages": MESSAGES, "stream": True}
            with httpx.Client(base_url=gateway.url, headers=headers) as client:
                wait_until(lambda: client.post("/v1/messages", json=body).status_code == 200)
                last = client.post("/v1/messages", json=body).text.strip().split("\n\n")[-1]
        name, data = last.split("\n")
        assert name == "event: error"
        error = orjson.loads(data.removeprefix("data: "))
        assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")


class TestModels:
    def test_its_client_lists_them_with_the_same_key(self, gateway: GatewayProcess, house: House) -> None:
        with anthropic.Anthropic(base_url=gateway.url, api_key=house.key.text, max_retries=0) as client:
            assert CHAT in [model.id for model in client.models.list()]
            assert client.models.retrieve(CHAT).id == CHAT

    def test_where_others_ask_their_own_header_counts(self, gateway: GatewayProcess, api: httpx.Client) -> None:
        headers = {"x-api-key": "of a proxy in between"}
        assert api.get("/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 401


class TestCount:
    def test_it_is_what_an_answer_would_be_billed_for(self, claude: anthropic.Anthropic) -> None:
        counted = claude.messages.count_tokens(model=CHAT, messages=MESSAGES, system="be brief", tools=[LOOK_UP])
        answered = claude.messages.create(model=CHAT, max_tokens=1, messages=MESSAGES, system="be brief")
        assert counted.input_tokens == answered.usage.input_tokens

    def test_it_costs_nothing_not_even_a_key_without_money(
        self, gateway: GatewayProcess, house: House, api: httpx.Client
    ) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "counter", "tests")
            session.flush()
            put_budget(session, house.tenant_id, key.id, "prepaid", Decimal(0), "tests")
        headers = {"x-api-key": key.text}
        body = {"model": CHAT, "messages": MESSAGES}
        wait_until(lambda: api.post("/v1/messages/count_tokens", json=body, headers=headers).status_code == 200)
        wait_until(lambda: gateway.health()["usage_pending"] == 0)
        with house.database.superuser() as connection:
            rows = connection.execute("select count(*) from usage_events where api_key_id = %s", [key.id]).fetchall()
        assert rows == [(0,)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"max_tokens": None}, "max_tokens"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "video"),
            ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "source"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text"),
            ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
            ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, "id"),
            ({"system": [{"type": "image"}]}, "system"),
            ({"temperature": 1.5}, "temperature"),
            ({"stop_sequences": [""]}, "stop_sequences"),
            ({"tool_choice": {"type": "any"}}, "tools"),
            ({"tools": [LOOK_UP], "tool_choice": {"type": "tool", "name": "other"}}, "other"),
            ({"tools": [{"name": "x"}]}, "input_schema"),
            ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
            ({"mcp_servers": [{"url": "https://example.com"}]}, "MCP"),
            ({"model": EMBEDDING}, "embedding"),
        ],
    )
    def test_a_wrong_field_is_400_and_named(self, api: httpx.Client, fields: dict[str, Any], word: str) -> None:
        assert word in assert_refused(post(api, **fields), 400, "invalid_request_error")

    @pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
    def test_every_refusal_has_anthropics_envelope(self, api: httpx.Client, stranger: httpx.Client, path: str) -> None:
        assert_refused(post(stranger, path), 401, "authentication_error")
        wrong = {"x-api-key": "sk-ant-wrong"}
        assert_refused(stranger.post(path, json={}, headers=wrong), 401, "authentication_error")
        assert_refused(post(api, path, model="claude-17"), 404, "not_found_error")
        assert_refused(post(api, path, model="qwen3-32b-fast"), 503, "overloaded_error")
        assert_refused(api.get(path), 405, "invalid_request_error")
        assert_refused(api.post(path, content=b"{"), 400, "invalid_request_error")
        assert_refused(post(api, path, user="x" * (33 << 20)), 413, "invalid_request_error")
        deep = b'{"model":"%s","max_tokens":1,"messages":[{"role":"assistant","content":[' % CHAT.encode()
        deep += b'{"type":"tool_use","id":"a","name":"b","input":{"a":' + b"[" * 500 + b"]" * 500 + b"}}]}]}"
        assert_refused(api.post(path, content=deep), 400, "invalid_request_error")

    def test_so_have_refusals_for_the_sake_of_an_idempotency_key(self, api: httpx.Client) -> None:
        def ask(key: str, **fields: Any) -> httpx.Response:
            body = {"model": CHAT, "max_tokens": 4, "messages": MESSAGES} | fields
            return api.post("/v1/messages", json=body, headers={"idempotency-key": key})

        first = ask("a-message")
        assert first.headers["request-id"].removeprefix("req_") == first.json()["id"].removeprefix("msg_")
        again = ask("a-message")
        assert (again.headers["idempotent-replayed"], again.content) == ("true", first.content)
        assert again.headers["request-id"] == again.headers["x-request-id"]
        assert "Idempotency-Key" in assert_refused(ask("a-message", max_tokens=5), 409, "invalid_request_error")
        assert "Idempotency-Key" in assert_refused(ask("x" * 256), 400, "invalid_request_error")

    def test_the_sdk_raises_its_own_exceptions(self, claude: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as refused:
            claude.messages.create(model="claude-17", max_tokens=1, messages=MESSAGES)
        assert refused.value.request_id is not None
        assert refused.value.request_id.startswith("req_")

    def test_over_the_limit_is_429_and_says_when(self, api: httpx.Client, house: House) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "slow-claude", "tests", requests_per_second=1)
        headers = {"x-api-key": key.text}
        wait_until(lambda: api.get("/v1/models", headers={"authorization": f"Bearer {key.text}"}).status_code == 200)
        body = {"model": CHAT, "max_tokens": 1, "messages": MESSAGES}
        answers = [api.post("/v1/messages", json=body, headers=headers) for _ in range(2)]
        assert_refused(answers[1], 429, "rate_limit_error")
        assert int(answers[1].headers["retry-after"]) == 1
