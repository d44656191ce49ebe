"""Responses through the official SDK and over a real socket, before a stub engine."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, wait_until
from tests.serving.responses import strict
from tests.stub_engine import StubEngine

PATH = "/v1/responses"
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


def ask(api: httpx.Client, input: Any = "one two three", **fields: Any) -> httpx.Response:
    return api.post(PATH, json={"model": CHAT, "input": input, "max_output_tokens": 20} | fields)


@pytest.fixture(scope="module")
def other_key(house: House) -> str:
    """Of another tenant."""
    tenant = new_tenant(house.operator, "globex")
    with unit_of_work(house.operator) as session:
        return create_key(session, tenant, "theirs", "tests").text


@pytest.fixture
def other(gateway: GatewayProcess, other_key: str, api: httpx.Client) -> Iterator[httpx.Client]:
    """HTTP with another tenant's key, once the gateway knows it."""
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {other_key}"}) as client:
        while client.get("/v1/models").status_code == 401:
            pass
        yield client


class TestStrangers:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", ""),
            ("POST", "/input_tokens"),
            ("GET", "/resp_x"),
            ("DELETE", "/resp_x"),
            ("POST", "/resp_x/cancel"),
            ("GET", "/resp_x/input_items"),
        ],
    )
    def test_without_a_key_is_401(self, stranger: httpx.Client, method: str, path: str) -> None:
        refused = stranger.request(method, PATH + path, json={"model": CHAT, "input": "x"})
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"

    def test_a_response_of_another_tenant_does_not_exist(self, api: httpx.Client, other: httpx.Client) -> None:
        id = ask(api).json()["id"]
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            assert other.request(method, f"{PATH}/{id}{path}").status_code == 404
        continued = ask(other, previous_response_id=id)
        assert continued.status_code == 400
        assert continued.json()["error"]["code"] == "previous_response_not_found"
        item = api.get(f"{PATH}/{id}/input_items").json()["data"][0]["id"]
        assert ask(other, [{"type": "item_reference", "id": item}]).status_code == 400
        assert api.get(f"{PATH}/{id}").status_code == 200


class TestCreate:
    def test_a_whole_answer(self, api: httpx.Client) -> None:
        answered = ask(api, "please answer 5 words", metadata={"a": "b"}, user="u")
        response = strict.response(answered.content)
        assert (response["status"], response["model"], response["metadata"]) == ("completed", CHAT, {"a": "b"})
        assert response["output"][0]["content"][0]["text"] == "word " * 5
        assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (4, 5)
        assert response["id"].removeprefix("resp_") == answered.headers["x-request-id"].removeprefix("req_")

    def test_a_cut_answer_is_incomplete(self, sdk: openai.OpenAI) -> None:
        response = sdk.responses.create(model=CHAT, input="one", max_output_tokens=3)
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.output_text == "word " * 3

    def test_reasoning_is_an_item_of_its_own(self, api: httpx.Client) -> None:
        response = strict.response(ask(api, "think 2 words answer 3 words").content)
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
        assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 2

    def test_a_model_for_something_else_is_400(self, api: httpx.Client) -> None:
        assert ask(api, model=EMBEDDING).json()["error"]["param"] == "model"

    def test_an_unknown_model_is_404(self, sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            sdk.responses.create(model="gpt-17", input="x")
        assert refused.value.code == "model_not_found"

    def test_a_hosted_tool_is_400_and_named(self, sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="web_search"):
            sdk.responses.create(model=CHAT, input="x", tools=[{"type": "web_search"}])

    def test_only_post_creates(self, api: httpx.Client) -> None:
        assert api.get(PATH).status_code == 405


class TestStream:
    def test_every_event_is_openais(self, api: httpx.Client) -> None:
        events = strict.stream(ask(api, "think 2 words answer 3 words", stream=True))
        assert events[-1]["type"] == "response.completed"
        response = strict.response(events[-1]["response"])
        assert strict.response(api.get(f"{PATH}/{response['id']}").content) == response

    def test_a_cut_stream_is_incomplete(self, api: httpx.Client) -> None:
        assert strict.stream(ask(api, stream=True))[-1]["type"] == "response.incomplete"

    def test_the_sdk_puts_it_together(self, sdk: openai.OpenAI) -> None:
        with sdk.responses.stream(model=CHAT, input="answer 4 words") as stream:
            kinds = [event.type for event in stream]
            response = stream.get_final_response()
        assert kinds.count("response.output_text.delta") == 4
        assert response.output_text == "word " * 4

    def test_a_call_of_a_function_is_streamed(self, sdk: openai.OpenAI) -> None:
        with sdk.responses.stream(model=CHAT, input="call weather answer 4 words", tools=[WEATHER]) as stream:
            response = stream.get_final_response()
        (call,) = response.output
        assert call.type == "function_call"
        assert (call.name, call.arguments) == ("weather", '{"text": "word word word word "}')


class TestConversation:
    def test_calls_are_kept_for_what_continues_them(self, sdk: openai.OpenAI, api: httpx.Client) -> None:
        first = sdk.responses.create(model=CHAT, input="call weather answer 4 words", tools=[WEATHER])
        (call,) = first.output
        assert call.type == "function_call"
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        second = sdk.responses.create(
            model=CHAT, input=[result], previous_response_id=first.id, tools=[WEATHER], max_output_tokens=5
        )
        assert second.previous_response_id == first.id
        items = sdk.responses.input_items.list(second.id, order="asc").data
        assert [item.type for item in items] == ["message", "function_call", "function_call_output"]
        page = api.get(f"{PATH}/{second.id}/input_items", params={"limit": 1})
        assert (page.json()["data"][0]["type"], page.json()["has_more"]) == ("function_call_output", True)
        assert len(list(sdk.responses.input_items.list(second.id, limit=1))) == 3

    def test_it_is_billed_as_long_as_it_is(self, sdk: openai.OpenAI) -> None:
        first = sdk.responses.create(model=CHAT, input="answer 5 words", instructions="Be brief.")
        second = sdk.responses.create(model=CHAT, input="one two", previous_response_id=first.id, max_output_tokens=5)
        third = sdk.responses.create(model=CHAT, input="one", previous_response_id=second.id, max_output_tokens=5)
        usages = [response.usage for response in (first, second, third)]
        # The stub counts words; instructions are not carried over.
        assert [usage and usage.input_tokens for usage in usages] == [5, 3 + 5 + 2, 3 + 5 + 2 + 5 + 1]

    def test_a_deleted_link_ends_it(self, sdk: openai.OpenAI) -> None:
        first = sdk.responses.create(model=CHAT, input="one", max_output_tokens=5)
        second = sdk.responses.create(model=CHAT, input="two", previous_response_id=first.id, max_output_tokens=5)
        sdk.responses.delete(first.id)
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.responses.create(model=CHAT, input="three", previous_response_id=second.id)
        assert refused.value.code == "previous_response_not_found"
        assert len(sdk.responses.input_items.list(second.id).data) == 1

    def test_an_item_can_be_referred_to(self, sdk: openai.OpenAI) -> None:
        first = sdk.responses.create(model=CHAT, input="answer 5 words")
        referred: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "and"}]
        second = sdk.responses.create(model=CHAT, input=referred, max_output_tokens=5)
        assert second.usage is not None
        assert second.usage.input_tokens == 6
        referred[0]["id"] = "msg_nowhere"
        with pytest.raises(openai.BadRequestError, match="msg_nowhere"):
            sdk.responses.create(model=CHAT, input=referred)


class TestKept:
    def test_it_is_there_until_it_is_deleted(self, sdk: openai.OpenAI) -> None:
        response = sdk.responses.create(model=CHAT, input="one", max_output_tokens=5)
        assert sdk.responses.retrieve(response.id).output_text == response.output_text
        sdk.responses.delete(response.id)
        for action in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                action(response.id)

    def test_what_is_not_to_be_stored_is_not(self, sdk: openai.OpenAI) -> None:
        response = sdk.responses.create(model=CHAT, input="one", store=False, max_output_tokens=5)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(response.id)

    def test_no_column_tells_what_was_said(self, house: House, api: httpx.Client) -> None:
        ask(api, "a very secret prompt", instructions="a secret order", metadata={"key": "a secret note"})
        with house.database.superuser() as connection:
            rows = connection.execute("select r::text, r.content from responses r").fetchall()
        assert rows
        assert not [row for row, content in rows if "secret" in row or b"secret" in content or b"word " in content]

    def test_nothing_of_it_is_in_the_log(self, gateway: GatewayProcess, api: httpx.Client) -> None:
        ask(api, "a very secret prompt", tools=[{"type": "web_search"}])
        ask(api, "a very secret prompt", model="gpt-17")
        assert "secret" not in gateway.log_path.read_text()

    def test_a_stored_stream_is_not_streamed_again(self, api: httpx.Client) -> None:
        id = ask(api).json()["id"]
        assert api.get(f"{PATH}/{id}", params={"stream": True}).status_code == 400

    def test_what_has_ended_with_its_connection_is_not_cancelled(self, sdk: openai.OpenAI) -> None:
        response = sdk.responses.create(model=CHAT, input="one", max_output_tokens=5)
        with pytest.raises(openai.BadRequestError, match="background"):
            sdk.responses.cancel(response.id)


class TestMoney:
    @pytest.fixture
    def poor(self, gateway: GatewayProcess, house: House) -> Iterator[httpx.Client]:
        """HTTP with a key that can afford some 300 tokens."""
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "poor", "tests")
            session.flush()
            put_budget(session, house.tenant_id, key.id, "prepaid", Decimal("0.1"), "tests")
        with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key.text}"}) as client:
            wait_until(lambda: client.get("/v1/models").status_code == 200)
            yield client

    @pytest.mark.parametrize("streams", [False, True])
    def test_an_answer_ends_where_the_money_does(self, poor: httpx.Client, streams: bool) -> None:
        answered = ask(poor, max_output_tokens=1_000, stream=streams)
        response = strict.stream(answered)[-1]["response"] if streams else strict.response(answered.content)
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens", "stop_reason": "budget"}
        assert 1 <= response["usage"]["output_tokens"] < 1_000

    def test_what_is_continued_is_paid_for(self, poor: httpx.Client) -> None:
        long = ask(poor, "word " * 60, max_output_tokens=1).json()["id"]
        for _ in range(5):
            refused = ask(poor, "and", previous_response_id=long, max_output_tokens=1)
            if refused.status_code == 429:
                break
        assert refused.json()["error"]["code"] == "credit_balance_exhausted"

    def test_the_same_request_twice_is_one_response(self, api: httpx.Client, house: House) -> None:
        for fields in ({}, {"background": True}, {"stream": True}):
            headers = {"idempotency-key": f"twice {fields}"}
            body = {"model": CHAT, "input": "one", "max_output_tokens": 5} | fields
            first, second = (api.post(PATH, json=body, headers=headers) for _ in range(2))
            assert first.content == second.content
            assert second.headers["idempotent-replayed"] == "true"


class TestCount:
    def test_a_prompt_is_counted_by_its_own_model_for_nothing(self, sdk: openai.OpenAI, engine: StubEngine) -> None:
        before = engine.counters()
        counted = sdk.responses.input_tokens.count(model=CHAT, input="one two three", instructions="Be brief.")
        assert (counted.object, counted.input_tokens) == ("response.input_tokens", 5)
        assert engine.counters() == before

    def test_a_wrong_field_is_400(self, api: httpx.Client) -> None:
        refused = api.post(f"{PATH}/input_tokens", json={"model": CHAT, "input": [7]})
        assert refused.json()["error"]["param"] == "input[0]"


def test_the_document_lists_all_of_it(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    mine = {path for path in document["paths"] if path.startswith(PATH)}
    suffixes = ("", "/input_tokens", "/{response_id}", "/{response_id}/cancel", "/{response_id}/input_items")
    assert mine == {PATH + suffix for suffix in suffixes}
    assert "ResponsesRequest" in document["components"]["schemas"]
