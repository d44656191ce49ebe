"""Rerank, score and the tokenizer as vLLM itself answers them, through the gateway of the cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Cloud
from tests.local.eventually import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
QUERY = "How do I cook pasta?"
DOCUMENTS = ["The moon has no air.", "Boil the noodles in salted water for ten minutes.", "Stocks fell on Monday."]


@pytest.fixture(scope="module")
def key(cloud: Cloud) -> str:
    """Of a tenant that nobody else uses."""
    address = ("--city", "10115 Berlin", "--email", "ap@reader.example")
    cloud.studio("tenant", "create", "reader", "--name", "Reader GmbH", *address)
    text: str = cloud.studio("key", "create", "--tenant", "reader")["key"]
    return text


@pytest.fixture(scope="module")
def api(cloud: Cloud, key: str) -> Iterator[httpx.Client]:
    """HTTP with that key, once the gateway knows it and both engines answer."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=cloud.status["gateway_url"], headers=headers, timeout=120) as client:
        for model in (CHAT, EMBEDDING):
            body = {"model": model, "prompt": "ready?"}
            eventually(lambda body=body: client.post("/tokenize", json=body).status_code == 200, f"{model} is up", 300)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        yield client


def test_what_fits_the_question_comes_first_and_costs_what_was_read(cloud: Cloud, api: httpx.Client, key: str) -> None:
    ranked = api.post(
        "/v1/rerank", json={"model": EMBEDDING, "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    ).json()
    assert ranked["model"] == EMBEDDING
    assert len(ranked["results"]) == 2
    assert ranked["results"][0]["index"] == 1
    scored = api.post("/v1/score", json={"model": EMBEDDING, "queries": QUERY, "documents": DOCUMENTS}).json()
    scores = [one["score"] for one in scored["data"]]
    assert scores.index(max(scores)) == 1
    assert scores[1] == pytest.approx(ranked["results"][0]["relevance_score"])
    read = sum(
        api.post("/tokenize", json={"model": EMBEDDING, "prompt": text}).json()["count"] for text in (QUERY, *DOCUMENTS)
    )
    assert ranked["usage"]["prompt_tokens"] == scored["usage"]["prompt_tokens"] == read
    query = (
        "select endpoint, prompt_tokens, completion_tokens from usage_events"
        " where api_key_id = (select id from api_keys where prefix = %s) order by id"
    )
    eventually(lambda: len(cloud.query(query, key[:12])) == 2, "both are metered")
    assert cloud.query(query, key[:12]) == [("/v1/rerank", read, 0), ("/v1/score", read, 0)]


def test_counted_before_is_what_is_billed_after(api: httpx.Client) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Say hello to the world."}]}]
    counted = api.post("/v1/tokenize", json={"model": CHAT, "messages": messages, "return_token_strs": True}).json()
    assert counted["count"] == len(counted["tokens"]) == len(counted["token_strs"])
    answer = api.post("/v1/chat/completions", json={"model": CHAT, "messages": messages, "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == counted["count"]
    text = api.post("/v1/detokenize", json={"model": CHAT, "tokens": counted["tokens"]}).json()
    assert "Say hello to the world." in text["prompt"]
    assert text["model"] == CHAT


def test_what_is_cached_is_what_the_engine_says_and_its_tokens_add_up(api: httpx.Client) -> None:
    """vLLM's own numbers: float32, in both encodings, and counted by its tokenizer as it bills them."""
    texts = ["one", "Zwei Wörter – and an eagle 🦅", "中文 text", "word " * 100]
    cached = {"x-studio-cache": "use"}

    def embed(texts: list[str], encoding: str, headers: dict[str, str]) -> httpx.Response:
        body = {"model": EMBEDDING, "input": texts, "encoding_format": encoding}
        return api.post("/v1/embeddings", json=body, headers=headers)

    embed(texts[:2], "float", cached)
    for encoding in ("base64", "float"):
        told = embed(texts, encoding, cached)
        assert told.headers["x-studio-cache-hits"] == ("2" if encoding == "base64" else "4")
        plain = embed(texts, encoding, {})
        assert told.json()["usage"]["prompt_tokens"] == plain.json()["usage"]["prompt_tokens"]
        assert told.json()["data"][:2] == plain.json()["data"][:2]
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": CHAT, "messages": messages, "max_tokens": 8, "temperature": 0}
    first, second = (api.post("/v1/chat/completions", json=body, headers=cached) for _ in range(2))
    assert [answer.headers["x-studio-cache"] for answer in (first, second)] == ["miss", "hit"]
    assert second.json()["choices"] == first.json()["choices"]


def test_the_tokenizer_counts_what_is_metered(cloud: Cloud, api: httpx.Client, key: str) -> None:
    """Prompts to the token, and texts but for those that are cut into other tokens than they were written in."""

    def ask(text: str, **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        return api.post("/v1/chat/completions", json={"model": CHAT, "messages": messages, "max_tokens": 40} | fields)

    short = [ask(f"What is the capital of {country}?", temperature=0) for country in ("France", "Italy", "Japan")]
    ends = [answer.json()["choices"][0]["finish_reason"] for answer in short]
    assert "stop" in ends, "none ended by itself, so nothing shows that the token that ends an answer is counted"
    asked = [*short, *(ask("Write about the sea.", stream=True, seed=seed) for seed in range(3))]
    asked.append(api.post("/v1/embeddings", json={"model": EMBEDDING, "input": DOCUMENTS}))
    texts = {"model": CHAT, "prompt": ["Once upon a time", "def main():"], "n": 2, "max_tokens": 20, "seed": 1}
    asked.append(api.post("/v1/completions", json=texts))
    requests = [answer.headers["x-request-id"] for answer in asked]
    counts = (
        "select metered_prompt_tokens, counted_prompt_tokens, metered_completion_tokens, counted_completion_tokens"
        " from usage_counts where 'req_' || replace(id::text, '-', '') = any (%s) order by id"
    )
    eventually(lambda: len(cloud.query(counts, requests)) == len(requests), "all are counted again")
    rows = cloud.query(counts, requests)
    assert all(metered == counted for metered, counted, *_ in rows), rows
    assert all(metered == counted for *_, metered, counted in rows[:3]), "at temperature 0 cut as it was written"
    differing = sum(abs(metered - counted) for *_, metered, counted in rows)
    assert differing < 0.02 * sum(prompt + completion for _, prompt, _, completion in rows), rows


def test_what_the_engine_refuses_keeps_its_names_to_itself(api: httpx.Client) -> None:
    template = api.post(
        "/tokenize", json={"model": CHAT, "messages": [{"role": "user", "content": "x"}], "chat_template": "{{ x }}"}
    )
    odd = api.post("/v1/score", json={"model": EMBEDDING, "text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
    wrong = {"input": "a", "truncate_prompt_tokens": "q"}  # vLLM says it once for each of its eleven kinds of body
    typed = api.post("/v1/embeddings", json={"model": EMBEDDING} | wrong)
    small = api.post("/v1/embeddings", json={"model": EMBEDDING, "input": "a", "dimensions": 64})
    for refused in (template, odd, typed, small):
        assert refused.status_code == 400, refused.text
        assert "/weights" not in refused.text
        assert "validation error" not in refused.text
    told = [refused.json()["error"]["param"] for refused in (odd, typed, small)]
    assert told == ["text_1", "truncate_prompt_tokens", "dimensions"]
    assert f"`{EMBEDDING}`" in small.json()["error"]["message"]
