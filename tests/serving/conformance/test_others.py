"""`/v1/completions`, `/v1/embeddings` and `/v1/models`: what OpenAI's clients send and expect."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import openai
import pytest

from tests.serving.gateway_process import CHAT, EMBEDDING


class TestCompletions:
    @pytest.mark.parametrize("prompt", ["a text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
    def test_all_four_shapes_of_a_prompt(self, sdk: openai.OpenAI, prompt: Any) -> None:
        answer = sdk.completions.create(model=CHAT, prompt=prompt, max_tokens=2, n=2)
        assert answer.object == "text_completion"
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
        assert [choice.index for choice in answer.choices] == list(range(2 * prompts))

    def test_without_a_limit_there_are_sixteen_tokens(self, sdk: openai.OpenAI) -> None:
        usage = sdk.completions.create(model=CHAT, prompt="a").usage
        assert usage is not None
        assert usage.completion_tokens == 16

    def test_a_stream_is_the_same_text(self, sdk: openai.OpenAI) -> None:
        whole = sdk.completions.create(model=CHAT, prompt="a", max_tokens=4)
        stream = sdk.completions.create(model=CHAT, prompt="a", max_tokens=4, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text

    @pytest.mark.parametrize("prompt", ["", [], [[]], ["a", 1], [-1], None, 7])
    def test_an_empty_or_mixed_prompt_is_400(self, api: httpx.Client, prompt: Any) -> None:
        response = api.post("/v1/completions", json={"model": CHAT, "prompt": prompt})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt"

    @pytest.mark.parametrize("name", ["suffix", "echo", "logprobs", "best_of", "stop", "seed", "stream", "n", "user"])
    def test_a_null_is_as_good_as_nothing(self, api: httpx.Client, name: str) -> None:
        assert api.post("/v1/completions", json={"model": CHAT, "prompt": "a", name: None}).status_code == 200


class TestEmbeddings:
    def embed(self, api: httpx.Client, **fields: Any) -> Any:
        response = api.post("/v1/embeddings", json={"model": EMBEDDING, "input": "some text"} | fields)
        assert response.status_code == 200, response.text
        return response.json()["data"][0]["embedding"]

    def test_both_formats_are_the_same_numbers(self, api: httpx.Client) -> None:
        floats = self.embed(api, encoding_format="float")
        packed = base64.b64decode(self.embed(api, encoding_format="base64"))
        assert list(struct.unpack(f"<{len(packed) // 4}f", packed)) == floats

    @pytest.mark.parametrize("fields", [{}, {"encoding_format": None, "dimensions": None, "user": None}])
    def test_without_a_format_it_is_a_list(self, api: httpx.Client, fields: dict[str, Any]) -> None:
        assert all(isinstance(number, float) for number in self.embed(api, **fields))

    def test_the_sdk_which_asks_for_base64_gets_the_list(self, api: httpx.Client, sdk: openai.OpenAI) -> None:
        assert sdk.embeddings.create(model=EMBEDDING, input="some text").data[0].embedding == self.embed(api)

    def test_the_order_is_kept_and_every_token_counted(self, sdk: openai.OpenAI) -> None:
        answer = sdk.embeddings.create(model=EMBEDDING, input=["one", "two words", "one"])
        assert [one.index for one in answer.data] == [0, 1, 2]
        assert answer.data[0].embedding == answer.data[2].embedding != answer.data[1].embedding
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"encoding_format": "hex"}, "encoding_format"),
            ({"dimensions": 0}, "dimensions"),
            ({"input": None}, "input"),
            ({"input": ["x"] * 2_049}, "input"),
            ({"model": CHAT}, "model"),
        ],
    )
    def test_the_wrong_field_is_named(self, api: httpx.Client, fields: dict[str, Any], param: str) -> None:
        response = api.post("/v1/embeddings", json={"model": EMBEDDING, "input": "a"} | fields)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


class TestModels:
    def test_ids_are_unique_and_nothing_of_an_engine_is_shown(self, api: httpx.Client) -> None:
        body = api.get("/v1/models").json()
        ids = [model["id"] for model in body["data"]]
        assert body["object"] == "list"
        assert len(ids) == len(set(ids))
        for model in body["data"]:
            assert model["object"] == "model"
            assert isinstance(model["created"], int)
            assert isinstance(model["owned_by"], str)
            assert not {"root", "permission", "max_model_len"} & model.keys()

    @pytest.mark.parametrize("path", ["org/name", "org%2Fname", "a%2Fb%2Fc", "%F0%9F%98%80", "a%00b"])
    def test_an_id_with_anything_in_it_is_404(self, api: httpx.Client, path: str) -> None:
        response = api.get(f"/v1/models/{path}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"

    def test_a_model_of_the_catalog_cannot_be_deleted(self, api: httpx.Client) -> None:
        assert api.delete(f"/v1/models/{CHAT}").status_code == 403
