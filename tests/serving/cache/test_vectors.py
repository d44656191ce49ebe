"""Embeddings input by input: the engine is asked for what is not known, and nobody can tell by the vectors."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import openai
import pytest

from tests.serving.cache.conftest import Customer, Shop, outcome
from tests.serving.gateway_process import EMBEDDING

TEXTS = ["one", "two words", "and three words", "four words are here", "one"]
TOKENS = [1, 2, 3, 4, 1]


def told(answer: httpx.Response) -> tuple[str | None, str]:
    return outcome(answer), answer.headers["x-studio-cache-hits"]


def asked(shop: Shop, customer: Customer, *inputs: Any, **more: Any) -> tuple[httpx.Response, int]:
    """The answer and the tokens that the engine read for it."""
    before = shop.embedding.counters().prompt_tokens
    answer = customer.embed(*inputs, **more)
    return answer, shop.embedding.counters().prompt_tokens - before


def test_only_unknown_inputs_are_asked_for_and_the_answer_is_whole(shop: Shop, customer: Customer) -> None:
    plain = customer.embed(TEXTS, cache=None).json()
    assert told(customer.embed(["two words", "four words are here"])) == ("miss", "0")
    partly, read = asked(shop, customer, TEXTS)
    assert told(partly) == ("miss", "2")
    assert read == 1 + 3 + 1
    whole, read = asked(shop, customer, TEXTS)
    assert told(whole) == ("hit", "5")
    assert read == 0
    for answer in (partly.json(), whole.json()):
        assert answer["data"] == plain["data"]
        assert answer["usage"] == plain["usage"]
        assert {name: answer[name] for name in ("object", "model")} == {"object": "list", "model": EMBEDDING}
        assert answer.keys() == plain.keys()
    assert (plain["usage"]["prompt_tokens"], plain["usage"]["total_tokens"]) == (11, 11)


def test_each_request_is_one_event_with_what_was_reused_of_it(shop: Shop, customer: Customer) -> None:
    customer.embed(TEXTS[:2])
    customer.embed(TEXTS[:4])
    customer.embed(TEXTS)
    found = [
        (event.prompt_tokens, event.reused_prompt_tokens, event.engine_prompt_tokens, event.has_engine)
        for event in customer.events(3)
    ]
    assert found == [(3, 0, 3, True), (10, 3, 7, True), (11, 11, 0, False)]


@pytest.mark.parametrize("first", ["float", "base64", None])
@pytest.mark.parametrize("second", ["float", "base64", None])
def test_both_encodings_come_from_one_vector(customer: Customer, first: str | None, second: str | None) -> None:
    customer.embed(TEXTS[:2], encoding_format=first)
    mixed = customer.embed(TEXTS[:3], encoding_format=second)
    assert told(mixed) == ("miss", "2")
    plain = customer.embed(TEXTS[:3], cache=None, encoding_format=second)
    assert mixed.json()["data"] == plain.json()["data"]


def test_texts_and_token_ids_are_known_each_in_their_own_shape(shop: Shop, customer: Customer) -> None:
    assert told(customer.embed([7, 8, 9])) == ("miss", "0")
    assert told(customer.embed([7, 8, 9])) == ("hit", "1")
    both, read = asked(shop, customer, [[7, 8], [7, 8, 9], [9]])
    assert (told(both), read) == (("miss", "1"), 3)
    assert both.json()["data"] == customer.embed([[7, 8], [7, 8, 9], [9]], cache=None).json()["data"]
    assert told(customer.embed([[9], [7, 8]])) == ("hit", "2")
    assert told(customer.embed("7 8 9")) == ("miss", "0")
    assert told(customer.embed(["7 8 9"])) == ("hit", "1")
    assert told(customer.embed(["[7,8,9]"])) == ("miss", "0")


def test_dimensions_and_other_fields_are_another_vector(customer: Customer) -> None:
    customer.embed("one")
    assert told(customer.embed("one", dimensions=4)) == ("miss", "0")
    assert told(customer.embed("one", truncate_prompt_tokens=1)) == ("miss", "0")
    assert told(customer.embed("one", user="somebody", encoding_format="base64")) == ("hit", "1")
    told_otherwise = customer.embed("one", embed_dtype="float16")
    assert outcome(told_otherwise) == "bypass"
    assert told_otherwise.headers["x-studio-cache-why"] == "encoding"


def test_another_tenant_knows_nothing_of_it_and_another_key_all(shop: Shop, customer: Customer) -> None:
    colleague, stranger = shop.customer(customer.tenant_id), shop.customer()
    customer.embed(TEXTS)
    assert told(colleague.embed(TEXTS)) == ("hit", "5")
    assert told(stranger.embed(TEXTS)) == ("miss", "0")


def test_no_store_no_cache_and_age(shop: Shop, customer: Customer) -> None:
    assert outcome(customer.embed("one", headers={"cache-control": "no-store"})) == "bypass"
    assert shop.keys_in_valkey(customer.tenant_id) == []
    customer.embed("one")
    assert told(customer.embed("one", headers={"cache-control": "no-cache"})) == ("miss", "0")
    assert told(customer.embed("one", headers={"cache-control": "max-age=0"})) == ("miss", "0")
    hit = customer.embed("one")
    assert told(hit) == ("hit", "1")
    assert int(hit.headers["age"]) >= 0


def test_vectors_are_sealed_and_deleted_with_the_rest(shop: Shop, customer: Customer) -> None:
    answer = customer.embed("secret", encoding_format="base64")
    (name,) = shop.keys_in_valkey(customer.tenant_id)
    raw = shop.valkey.call("GET", name)
    vector = base64.b64decode(answer.json()["data"][0]["embedding"])
    assert len(vector) == 4 * len(struct.unpack(f"<{len(vector) // 4}f", vector)) > 0
    assert vector not in raw
    assert b"secret" not in raw
    assert customer.client.delete("/v1/cache").json()["entries"] == 1
    assert told(customer.embed("secret")) == ("miss", "0")


def test_many_inputs_at_once(shop: Shop, customer: Customer) -> None:
    """More than one reply of Valkey holds, in an order that is theirs."""
    texts = [f"text {number}" for number in range(100)]
    customer.embed(texts[::2])
    partly, read = asked(shop, customer, texts)
    assert (told(partly), read) == (("miss", "50"), 100)
    assert partly.json()["data"] == customer.embed(texts, cache=None).json()["data"]
    assert partly.json()["usage"]["prompt_tokens"] == 200


def test_the_official_sdk_gets_floats_of_what_it_asks_in_base64(shop: Shop, customer: Customer) -> None:
    with openai.OpenAI(base_url=f"{shop.gateway.url}/v1", api_key=customer.key, max_retries=0) as sdk:
        plain = sdk.embeddings.create(model=EMBEDDING, input=TEXTS)
        for _ in range(2):
            raw = sdk.embeddings.with_raw_response.create(
                model=EMBEDDING, input=TEXTS, extra_headers={"x-studio-cache": "use; ttl=60"}
            )
        assert raw.headers["x-studio-cache"] == "hit"
        assert raw.parse().data == plain.data
        assert raw.parse().usage == plain.usage


def test_what_the_tokenizer_does_not_confirm_is_not_kept(shop: Shop, customer: Customer) -> None:
    """The engine takes an empty word for a token, its tokenizer for none: nobody could say what the others cost."""
    assert told(customer.embed([" ", "two words"])) == ("miss", "0")
    assert shop.keys_in_valkey(customer.tenant_id) == []
    assert told(customer.embed([" "])) == ("miss", "0")  # alone it is the whole sum
    assert told(customer.embed([" "])) == ("hit", "1")


def test_a_refusal_of_the_engine_keeps_nothing(shop: Shop, customer: Customer) -> None:
    assert customer.embed([[1], []]).status_code == 400
    assert shop.keys_in_valkey(customer.tenant_id) == []
