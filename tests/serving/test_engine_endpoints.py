"""What engines speak beside OpenAI's endpoints: rerank and score, and their tokenizer. And what nothing here speaks."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from studio.budgets import put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, wait_until
from tests.serving.ledger import events
from tests.serving.test_http import BODY, assert_envelope, bearer
from tests.stub_engine import StubEngine

DOCUMENTS = ["one", "two words", "three more words"]
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "one two"}]}]
IMAGE = {"type": "image_url", "image_url": {"url": "http://inside"}}


class TestRerankAndScore:
    """Which engines with an embedding model answer."""

    def test_documents_come_back_with_the_best_first(self, api: httpx.Client) -> None:
        body = {"model": EMBEDDING, "query": "a question", "documents": DOCUMENTS}
        answer = api.post("/v1/rerank", json=body).json()
        assert answer["id"].startswith("rerank-")
        assert answer["model"] == EMBEDDING
        assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
        scores = [result["relevance_score"] for result in answer["results"]]
        assert scores == sorted(scores, reverse=True)
        assert {result["document"]["text"] for result in answer["results"]} == set(DOCUMENTS)
        assert len(api.post("/v1/rerank", json=body | {"top_n": 1}).json()["results"]) == 1

    def test_texts_are_scored_in_pairs(self, api: httpx.Client) -> None:
        answer = api.post("/v1/score", json={"model": EMBEDDING, "text_1": "a question", "text_2": DOCUMENTS}).json()
        assert (answer["object"], answer["model"]) == ("list", EMBEDDING)
        assert answer["id"].startswith("score-")
        assert [one["index"] for one in answer["data"]] == [0, 1, 2]
        assert answer["usage"]["prompt_tokens"] == 8

    def test_both_are_metered_as_what_the_engine_read(
        self, api: httpx.Client, house: House, engine: StubEngine, gateway: GatewayProcess
    ) -> None:
        wait_until(lambda: gateway.health()["usage_pending"] == 0)
        counted, known = engine.counters().prompt_tokens, len(events(house.database))
        api.post("/v1/rerank", json={"model": EMBEDDING, "query": "a question", "documents": DOCUMENTS, "n": 3})
        api.post("/v1/score", json={"model": EMBEDDING, "text_1": "one", "text_2": "two words"})
        wait_until(lambda: len(events(house.database)) == known + 2)
        new = events(house.database)[known:]
        found = [(event.endpoint, event.prompt_tokens, event.completion_tokens) for event in new]
        assert found == [("/v1/rerank", 8, 0), ("/v1/score", 3, 0)]
        assert sum(event.engine_prompt_tokens for event in new) == engine.counters().prompt_tokens - counted

    @pytest.mark.parametrize(
        ("path", "body", "param"),
        [
            ("/v1/rerank", {"query": "x"}, "documents"),
            ("/v1/rerank", {"query": "x", "documents": []}, "documents"),
            ("/v1/rerank", {"query": "x", "documents": ["a"], "top_n": -1}, "top_n"),
            (
                "/v1/rerank",
                {"query": "x", "documents": [{"content": [{"image_url": "http://inside"}]}]},
                "documents[0]",
            ),
            ("/v1/score", {"text_1": "x"}, "queries"),
            ("/v1/score", {"text_1": "x", "documents": "y"}, "queries"),
            ("/v1/score", {"text_1": {"content": []}, "text_2": "y"}, "text_1"),
        ],
    )
    def test_what_cannot_be_compared_is_400(
        self, api: httpx.Client, path: str, body: dict[str, Any], param: str
    ) -> None:
        response = api.post(path, json={"model": EMBEDDING} | body)
        assert_envelope(response, 400, "invalid_request")
        assert response.json()["error"]["param"].startswith(param)

    def test_a_chat_model_compares_nothing(self, api: httpx.Client) -> None:
        response = api.post("/v1/rerank", json={"model": CHAT, "query": "x", "documents": DOCUMENTS})
        assert_envelope(response, 400, "invalid_request")


class TestTokenizer:
    """What a client counts before it asks."""

    @pytest.mark.parametrize("prefix", ["", "/v1"])
    def test_a_text_becomes_tokens_and_tokens_a_text(self, api: httpx.Client, prefix: str) -> None:
        answer = api.post(f"{prefix}/tokenize", json={"model": CHAT, "prompt": "one two three"}).json()
        assert (answer["model"], answer["count"], len(answer["tokens"])) == (CHAT, 3, 3)
        assert answer["token_strs"] is None
        assert api.post(f"{prefix}/detokenize", json={"model": CHAT, "tokens": answer["tokens"]}).json() == {
            "prompt": "word word word ",
            "model": CHAT,
        }

    def test_messages_and_words_are_counted_too(self, api: httpx.Client) -> None:
        body = {"model": CHAT, "messages": MESSAGES, "return_token_strs": True, "prompt": None}
        answer = api.post("/v1/tokenize", json=body).json()
        assert (answer["count"], answer["token_strs"]) == (2, ["one", "two"])
        assert api.post("/v1/tokenize", json={"model": EMBEDDING, "prompt": "one"}).json()["count"] == 1

    def test_nothing_of_it_is_billed_not_even_to_a_key_without_money(
        self, api: httpx.Client, gateway: GatewayProcess, house: House
    ) -> None:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "poor", "tests", requests_per_second=2)
            session.flush()
            put_budget(session, house.tenant_id, key.id, "prepaid", Decimal("0.000001"), "tests")
        headers = bearer(key.text)
        wait_until(lambda: api.get("/v1/models", headers=headers).status_code == 200, seconds=1)
        before = len(events(house.database))
        answers = [api.post("/tokenize", json={"model": CHAT, "prompt": "one"}, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
        time.sleep(int(answers[2].headers["retry-after-ms"]) / 1000)
        assert_envelope(api.post("/v1/chat/completions", json=BODY, headers=headers), 429, "credit_balance_exhausted")
        wait_until(lambda: gateway.health()["usage_pending"] == 0)
        assert len(events(house.database)) == before

    def test_an_embedding_of_messages_is_not_smuggled_in(self, api: httpx.Client) -> None:
        body = {"model": EMBEDDING, "input": "x", "messages": [{"role": "user", "content": [IMAGE]}]}
        assert_envelope(api.post("/v1/embeddings", json=body), 400, "invalid_request")

    @pytest.mark.parametrize(
        ("path", "body", "param"),
        [
            ("/tokenize", {}, "prompt"),
            ("/tokenize", {"prompt": "x", "messages": MESSAGES}, "prompt"),
            ("/tokenize", {"messages": [{"role": "king", "content": "x"}]}, "messages"),
            (
                "/tokenize",
                {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
                "messages",
            ),
            (
                "/tokenize",
                {"messages": [{"role": "user", "content": [IMAGE | {"type": "text", "text": "x", "uuid": "1"}]}]},
                "messages",
            ),
            ("/detokenize", {"tokens": [-1]}, "tokens"),
            ("/detokenize", {"tokens": [2**40]}, "tokens"),
            ("/detokenize", {"tokens": "one"}, "tokens"),
        ],
    )
    def test_what_cannot_be_counted_is_400(
        self, api: httpx.Client, path: str, body: dict[str, Any], param: str
    ) -> None:
        response = api.post(path, json={"model": CHAT} | body)
        assert_envelope(response, 400, "invalid_request")
        assert response.json()["error"]["param"].startswith(param)

    def test_a_sleeping_and_an_unknown_model(self, api: httpx.Client) -> None:
        assert_envelope(api.post("/tokenize", json={"model": "qwen3-32b", "prompt": "x"}), 503, "model_asleep")
        assert_envelope(api.post("/tokenize", json={"model": "gpt-17", "prompt": "x"}), 404, "model_not_found")

    def test_a_huge_text_is_413(self, api: httpx.Client) -> None:
        assert_envelope(
            api.post("/tokenize", json={"model": CHAT, "prompt": "x" * (33 << 20)}), 413, "payload_too_large"
        )


class TestAbsentKinds:
    """Kinds of models that OpenAI has and the catalog does not."""

    def test_moderations_say_what_there_is_instead(self, sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="models for chat, completion, embedding") as refused:
            sdk.moderations.create(input="x", model="omni-moderation-latest")
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")

    def test_images_say_what_there_is_instead(self, sdk: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="image generation") as refused:
            sdk.images.generate(prompt="a cat")
        assert refused.value.code == "model_not_found"

    @pytest.mark.parametrize("path", ["/v1/moderations", "/v1/images/generations"])
    def test_a_malformed_body_is_400(self, api: httpx.Client, path: str) -> None:
        for body in (b"", b"{", b"[]", b"{}", b'{"input": 5, "prompt": 5}'):
            response = api.post(path, content=body, headers={"content-type": "application/json"})
            assert_envelope(response, 400, "invalid_request")
