"""Chat through the official SDK and over a real socket."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import orjson
import pytest

from tests.serving.gateway_process import CHAT, CHAT_FAST

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    assert "[DONE]" not in lines[:-1]
    return [orjson.loads(line) for line in lines[:-1]]


def chat(api: httpx.Client, **fields: Any) -> httpx.Response:
    return api.post("/v1/chat/completions", json={"model": CHAT, "messages": MESSAGES} | fields)


def test_an_answer_names_the_model_that_was_asked_for(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(model=CHAT_FAST, messages=MESSAGES, max_tokens=5)
    assert completion.model == CHAT_FAST
    assert completion.id.startswith("chatcmpl-")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 5)
    assert completion._request_id is not None
    assert completion._request_id.removeprefix("req_") == completion.id.removeprefix("chatcmpl-")


def test_nothing_of_the_engine_is_in_an_answer(api: httpx.Client) -> None:
    answer = chat(api).json()
    assert not {"kv_transfer_params", "prompt_token_ids", "prompt_logprobs"} & answer.keys()
    assert not {"token_ids", "stop_reason"} & answer["choices"][0].keys()


class TestStream:
    def test_without_asking_there_is_no_usage(self, api: httpx.Client) -> None:
        response = chat(api, stream=True, max_tokens=3)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        chunks = events(response)
        assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"

    def test_usage_is_in_the_last_chunk_and_null_before(self, api: httpx.Client) -> None:
        *others, last = events(chat(api, stream=True, max_tokens=3, stream_options={"include_usage": True}))
        assert all(chunk["usage"] is None for chunk in others)
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == 3

    def test_running_usage_is_shown_to_who_asks(self, api: httpx.Client) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        chunks = events(chat(api, stream=True, max_tokens=3, stream_options=options))
        assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3, 3]

    def test_the_deltas_are_the_whole_answer(self, sdk: openai.OpenAI) -> None:
        whole = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=7)
        stream = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=7, stream=True)
        joined = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert joined == whole.choices[0].message.content


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"messages": []}, "messages"),
            ({"messages": None}, "messages"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"content": "x"}]}, "messages[0].role"),
            ({"model": None}, "model"),
            ({"n": 0}, "n"),
            ({"n": 100_000}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_completion_tokens": -1}, "max_completion_tokens"),
            ({"temperature": 2.1}, "temperature"),
            ({"stream": "yes"}, "stream"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ],
    )
    def test_a_wrong_field_is_400_and_named(self, api: httpx.Client, fields: dict[str, Any], param: str) -> None:
        response = chat(api, **fields)
        assert response.status_code == 400
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", param)

    def test_every_optional_field_may_be_null(self, api: httpx.Client) -> None:
        optional = ("n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stream", "stop", "user")
        assert chat(api, **dict.fromkeys((*optional, "stream_options", "logprobs"))).status_code == 200

    def test_an_unknown_model_is_404(self, sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            sdk.chat.completions.create(model="gpt-17", messages=MESSAGES)
        assert refused.value.code == "model_not_found"

    def test_a_model_that_is_not_deployed_says_so(self, api: httpx.Client) -> None:
        response = chat(api, model="qwen3-32b")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) <= 120
        assert response.json()["error"]["code"] == "model_asleep"
        assert "not deployed" in response.json()["error"]["message"]

    def test_chat_with_an_embedding_model_is_400(self, api: httpx.Client) -> None:
        assert chat(api, model="all-minilm-l6-v2").json()["error"]["param"] == "model"

    def test_a_body_that_is_no_json_is_400(self, api: httpx.Client) -> None:
        headers = {"content-type": "application/json"}
        response = api.post("/v1/chat/completions", content=b'{"model":', headers=headers)
        assert response.status_code == 400
        assert "JSON" in response.json()["error"]["message"]
