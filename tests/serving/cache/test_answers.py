"""The same deterministic request is answered again without an engine: for its tenant alone, and not for ever."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from studio.db.sessions import unit_of_work
from studio.limits import Ceilings, Scope, set_limits
from tests.serving.cache.conftest import Customer, Shop, outcome
from tests.serving.gateway_process import CHAT, CHAT_FAST, EMBEDDING, wait_until

SECRET_WORDS = "the eagle lands at noon"


def outcomes(*answers: httpx.Response) -> list[str | None]:
    return [outcome(answer) for answer in answers]


class TestAHit:
    def test_is_the_same_answer_without_an_engine(self, shop: Shop, customer: Customer) -> None:
        first = customer.ask("to be told again")
        worked = shop.chat.counters()
        second = customer.ask("to be told again")
        assert outcomes(first, second) == ["miss", "hit"]
        assert shop.chat.counters() == worked
        assert second.json()["choices"] == first.json()["choices"]
        assert second.json()["model"] == CHAT
        assert second.json()["id"] == "chatcmpl-" + second.headers["x-request-id"].removeprefix("req_")
        assert second.json()["id"] != first.json()["id"]
        assert int(second.headers["age"]) >= 0
        assert "age" not in first.headers
        usage = second.json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (4, 5)
        assert usage["prompt_tokens_details"] is None  # the engine's prefix cache had no part in it

    def test_is_one_event_of_its_own_tokens_and_no_engines(self, customer: Customer) -> None:
        customer.ask()
        customer.ask()
        first, second = customer.events(2)
        assert (first.reused_prompt_tokens, first.reused_completion_tokens, first.has_engine) == (0, 0, True)
        assert (second.prompt_tokens, second.completion_tokens, second.cached_tokens) == (3, 5, 0)
        assert (second.reused_prompt_tokens, second.reused_completion_tokens, second.has_engine) == (3, 5, False)
        assert (second.end_reason, second.endpoint) == ("complete", "/v1/chat/completions")
        (row,) = customer.client.get("/v1/usage", params={"group_by": ""}).json()["data"]
        assert (row["requests"], row["prompt_tokens"], row["completion_tokens"], row["reused_tokens"]) == (2, 6, 10, 8)

    def test_is_for_every_key_of_the_tenant_and_for_no_other(self, shop: Shop, customer: Customer) -> None:
        colleague, stranger = shop.customer(customer.tenant_id), shop.customer()
        assert outcomes(customer.ask(), colleague.ask(), stranger.ask(), stranger.ask()) == [
            *("miss", "hit", "miss", "hit")
        ]

    def test_needs_no_engine_that_is_awake(self, shop: Shop, customer: Customer) -> None:
        customer.ask()
        _set_state(shop, "draining")
        try:
            wait_until(lambda: customer.ask(cache=None).status_code == 503, seconds=5)
            assert outcome(customer.ask()) == "hit"
        finally:
            _set_state(shop, "ready")
            wait_until(lambda: customer.ask(cache=None).status_code == 200, seconds=5)

    def test_may_hold_tools_choices_and_log_probabilities(self, customer: Customer) -> None:
        tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
        calls = [customer.ask("call find", tools=tools, n=2) for _ in range(2)]
        assert outcomes(*calls) == ["miss", "hit"]
        assert calls[1].json()["choices"] == calls[0].json()["choices"]
        assert {choice["finish_reason"] for choice in calls[0].json()["choices"]} == {"tool_calls"}
        completion: dict[str, Any] = {"path": "/v1/completions", "prompt": ["one", "two words"], "n": 2, "logprobs": 3}
        again = [customer.ask(**completion) for _ in range(2)]
        assert outcomes(*again) == ["miss", "hit"]
        assert [choice["index"] for choice in again[1].json()["choices"]] == [0, 1, 2, 3]

    def test_counts_as_a_request_and_takes_no_tokens(self, shop: Shop, customer: Customer) -> None:
        with unit_of_work(shop.house.operator) as session:
            ceilings = Ceilings(requests_per_minute=60, tokens_per_minute=1_000_000)
            set_limits(session, Scope(customer.tenant_id, customer.key_id, None), ceilings, "tests")
        wait_until(lambda: customer.client.get("/v1/limits").json()["data"], seconds=5)

        def used() -> dict[str, int]:
            return {one["kind"]: one["used"] for one in customer.client.get("/v1/limits").json()["data"]}

        customer.ask("word " * 400, max_tokens=3)
        before = used()
        assert outcome(customer.ask("word " * 400, max_tokens=3)) == "hit"
        after = used()
        assert after["requests_per_minute"] == before["requests_per_minute"] + 1
        assert after["tokens_per_minute"] <= before["tokens_per_minute"]  # it drains meanwhile


class TestOnlyWhatIsAskedFor:
    def test_is_kept(self, shop: Shop, customer: Customer) -> None:
        assert outcomes(customer.ask(cache=None), customer.ask(cache=None)) == [None, None]
        assert shop.keys_in_valkey(customer.tenant_id) == []
        assert outcome(customer.ask()) == "miss"

    def test_no_store_neither_keeps_nor_reads(self, shop: Shop, customer: Customer) -> None:
        told = customer.ask(headers={"cache-control": "private, no-store"})
        assert (outcome(told), told.headers["x-studio-cache-why"]) == ("bypass", "no-store")
        assert shop.keys_in_valkey(customer.tenant_id) == []
        customer.ask()
        assert outcome(customer.ask(headers={"cache-control": "no-store"})) == "bypass"

    def test_no_cache_asks_the_engine_and_keeps_its_answer(self, shop: Shop, customer: Customer) -> None:
        customer.ask()
        (name,) = shop.keys_in_valkey(customer.tenant_id)
        kept = shop.valkey.call("GET", name)
        assert outcome(customer.ask(headers={"cache-control": "no-cache"})) == "miss"
        assert shop.valkey.call("GET", name) != kept
        assert outcome(customer.ask()) == "hit"

    def test_an_answer_that_is_too_old_for_the_caller_is_none(self, customer: Customer) -> None:
        customer.ask()
        assert outcome(customer.ask(headers={"cache-control": "max-age=3600"})) == "hit"
        assert outcome(customer.ask(headers={"cache-control": "max-age=0"})) == "miss"

    def test_a_header_that_says_something_else_is_refused(self, customer: Customer) -> None:
        refused = customer.ask(cache="yes")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-studio-cache")

    def test_a_model_without_a_price_for_it_refuses(self, customer: Customer) -> None:
        refused = customer.ask(model="qwen3-32b")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "x-studio-cache")
        assert "no price for cached answers" in refused.json()["error"]["message"]
        assert customer.ask(model="qwen3-32b", cache=None).status_code == 503


class TestWhatIsNotTheSame:
    def test_a_key_with_a_cache_of_its_own_shares_it_with_no_other(self, shop: Shop, customer: Customer) -> None:
        alone, also = (shop.customer(customer.tenant_id, own_cache=True) for _ in range(2))
        assert outcomes(customer.ask(), alone.ask(), also.ask()) == ["miss", "miss", "miss"]
        assert outcomes(customer.ask(), alone.ask(), also.ask()) == ["hit", "hit", "hit"]
        sharing = shop.customer(customer.tenant_id)
        assert outcome(sharing.ask()) == "hit"
        given = {"model": EMBEDDING, "input": "hi"}
        told = [one.client.post("/v1/embeddings", json=given, headers={"x-studio-cache": "use"})
                for one in (customer, alone, also, sharing, alone)]  # fmt: skip
        assert outcomes(*told) == ["miss", "miss", "miss", "hit", "hit"]

    def test_sampled_answers_only_when_the_caller_wants_those_too(self, customer: Customer) -> None:
        for sampled in ({"temperature": None}, {"temperature": 0.7}):
            told = customer.ask("sampled", **sampled)
            assert (outcome(told), told.headers["x-studio-cache-why"]) == ("bypass", "sampled")
        assert outcomes(*(customer.ask("sampled", cache="always", temperature=0.7) for _ in range(2))) == [
            *("miss", "hit")
        ]
        assert outcomes(*(customer.ask("seeded", temperature=0.7, seed=5) for _ in range(2))) == ["miss", "hit"]

    @pytest.mark.parametrize(
        "change",
        [
            {"max_tokens": 6},
            {"model": CHAT_FAST},
            {"seed": 1},
            {"stop": "x"},
            {"n": 2},
            {"cache_salt": "another user"},
            {"messages": [{"role": "system", "content": "one two three"}]},
            {"guided_choice": ["a", "b"]},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_another_field_is_another_request(self, customer: Customer, change: dict[str, Any]) -> None:
        assert outcomes(customer.ask(), customer.ask(**change), customer.ask(**change), customer.ask()) == [
            *("miss", "miss", "hit", "hit")
        ]

    def test_what_changes_no_answer_is_no_difference(self, customer: Customer) -> None:
        customer.ask()
        more: dict[str, Any] = {"user": "u", "metadata": {"a": "b"}, "stop": None, "priority": -5, "stream": False}
        assert outcome(customer.ask(**more)) == "hit"

    def test_the_order_of_a_tools_properties_is_part_of_the_prompt(self, customer: Customer) -> None:
        def tool(*names: str) -> list[dict[str, Any]]:
            properties = {name: {"type": "string"} for name in names}
            parameters = {"type": "object", "properties": properties}
            return [{"type": "function", "function": {"name": "find", "parameters": parameters}}]

        assert outcomes(customer.ask(tools=tool("a", "b")), customer.ask(tools=tool("b", "a"))) == ["miss", "miss"]

    def test_other_weights_are_another_model(self, shop: Shop, customer: Customer) -> None:
        customer.ask()
        with shop.house.database.superuser() as connection:
            connection.execute("update model_variants set weights_id = 'other' where id = %s", [CHAT])
        try:
            wait_until(lambda: outcome(customer.ask()) == "miss", seconds=5)
        finally:
            with shop.house.database.superuser() as connection:
                connection.execute("update model_variants set weights_id = %s where id = %s", [CHAT, CHAT])

    def test_streams_images_and_other_endpoints_are_left_out(self, customer: Customer) -> None:
        stream = customer.ask(stream=True)
        assert (outcome(stream), stream.headers["x-studio-cache-why"]) == ("bypass", "stream")
        assert stream.text.endswith("data: [DONE]\n\n")
        body = {"model": CHAT, "input": "one two", "max_output_tokens": 3, "temperature": 0, "store": False}
        headers = {"x-studio-cache": "use"}
        response = customer.client.post("/v1/responses", json=body, headers=headers)
        assert (outcome(response), response.headers["x-studio-cache-why"]) == ("bypass", "endpoint")


class TestWhatIsKept:
    def test_is_sealed_and_says_nothing_by_its_name(self, shop: Shop, customer: Customer) -> None:
        customer.ask(SECRET_WORDS)
        (name,) = shop.keys_in_valkey(customer.tenant_id)
        raw = shop.valkey.call("GET", name)
        for secret in (*SECRET_WORDS.encode().split(), b"word word", b"choices", CHAT.encode()):
            assert secret not in raw
            assert secret not in name.encode()
        stranger = shop.customer()
        stranger.ask(SECRET_WORDS)
        (other,) = shop.keys_in_valkey(stranger.tenant_id)
        assert other.rpartition(":")[2] != name.rpartition(":")[2]

    def test_opens_for_no_other_tenant_even_under_its_name(self, shop: Shop, customer: Customer) -> None:
        """Somebody who can write to Valkey cannot move an answer."""
        stranger = shop.customer()
        customer.ask()
        stranger.ask()
        (mine,), (theirs,) = shop.keys_in_valkey(customer.tenant_id), shop.keys_in_valkey(stranger.tenant_id)
        shop.valkey.call("COPY", mine, theirs, "REPLACE")
        assert outcome(stranger.ask()) == "miss"

    def test_goes_when_its_time_is_over(self, shop: Shop, customer: Customer) -> None:
        customer.ask("an hour")
        (hour,) = shop.keys_in_valkey(customer.tenant_id)
        assert 3_500_000 < shop.valkey.call("PTTL", hour) <= 3_600_000
        customer.ask("a second", cache="use; ttl=1")
        assert len(shop.keys_in_valkey(customer.tenant_id)) == 2
        wait_until(lambda: shop.keys_in_valkey(customer.tenant_id) == [hour], seconds=5)
        assert outcomes(customer.ask("an hour"), customer.ask("another")) == ["hit", "miss"]
        books = f"studio:{{{customer.tenant_id.hex}}}:cache"
        assert shop.valkey.call("ZCARD", books) == 2  # what is gone takes no room any more
        assert shop.valkey.call("HLEN", f"{books}:sizes") == 3  # with the total

    def test_is_bounded_and_what_ends_first_makes_room(self, shop: Shop, customer: Customer) -> None:
        neighbour = shop.customer()
        neighbour.ask("kept by another tenant")
        long: dict[str, Any] = {"max_tokens": 1_000}  # 5 kB each, and 40 kB for all
        for number in range(20):
            customer.ask(f"number {number}", **long)
        kept = shop.keys_in_valkey(customer.tenant_id)
        assert 5 <= len(kept) < 8
        sizes = f"studio:{{{customer.tenant_id.hex}}}:cache:sizes"
        assert sum(shop.valkey.call("STRLEN", name) for name in kept) < int(shop.valkey.call("HGET", sizes, "total"))
        assert int(shop.valkey.call("HGET", sizes, "total")) <= 40_000
        assert outcomes(customer.ask("number 0", **long), customer.ask("number 19", **long)) == ["miss", "hit"]
        assert outcome(neighbour.ask("kept by another tenant")) == "hit"

    def test_one_that_is_larger_than_all_is_left_out(self, shop: Shop, customer: Customer) -> None:
        assert outcomes(*(customer.ask("large", max_tokens=10_000) for _ in range(2))) == ["miss", "miss"]
        assert shop.keys_in_valkey(customer.tenant_id) == []

    def test_leaves_valkey_room_for_limits(self, shop: Shop, customer: Customer) -> None:
        used = int(shop.valkey.call("INFO", "memory")["used_memory"])
        shop.valkey.call("CONFIG", "SET", "maxmemory", str(used * 6 // 5))
        try:
            assert outcomes(customer.ask(), customer.ask()) == ["miss", "miss"]
        finally:
            shop.valkey.call("CONFIG", "SET", "maxmemory", "64mb")
        assert outcomes(customer.ask(), customer.ask()) == ["miss", "hit"]

    def test_is_deleted_when_the_tenant_says_so(self, shop: Shop, customer: Customer) -> None:
        neighbour = shop.customer()
        for words in ("one", "two"):
            customer.ask(words)
            neighbour.ask(words)
        assert customer.client.delete("/v1/cache").json() == {"object": "cache", "deleted": True, "entries": 2}
        assert shop.keys_in_valkey(customer.tenant_id) == []
        assert shop.valkey.call("KEYS", f"*{customer.tenant_id.hex}*") == []
        assert outcomes(customer.ask("one"), neighbour.ask("one")) == ["miss", "hit"]
        with shop.house.database.superuser() as connection:
            query = "select tenant_id from audit_log where action = 'cache.delete'"
            assert (customer.tenant_id,) in connection.execute(query).fetchall()

    def test_a_key_deletes_what_it_could_be_given_and_an_owner_all(self, shop: Shop, customer: Customer) -> None:
        alone, also = (shop.customer(customer.tenant_id, own_cache=True) for _ in range(2))
        owner = shop.customer(customer.tenant_id, scopes=("inference", "keys"))

        def fill() -> None:
            for one in (customer, alone, also):
                one.ask("kept")
                one.embed("kept")

        def left() -> list[str | None]:
            return outcomes(*(one.ask("kept", headers={"cache-control": "max-age=3600"}) for one in (customer, alone)))

        fill()
        assert alone.client.delete("/v1/cache").json()["entries"] == 2
        assert len(shop.keys_in_valkey(customer.tenant_id)) == 4
        assert left() == ["hit", "miss"]
        assert customer.client.delete("/v1/cache").json()["entries"] == 2
        assert left() == ["miss", "hit"]
        fill()
        assert owner.client.delete("/v1/cache").json()["entries"] == 6
        assert shop.valkey.call("KEYS", f"*{customer.tenant_id.hex}*") == []


def test_without_valkey_every_request_goes_to_an_engine(shop: Shop, customer: Customer) -> None:
    customer.ask()
    shop.valkey.stop()
    try:
        assert outcomes(customer.ask(), customer.ask()) == ["miss", "miss"]
        assert customer.embed(["one", "two"]).headers["x-studio-cache"] == "miss"
        refused = customer.client.delete("/v1/cache")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
    finally:
        shop.valkey.start()
    wait_until(lambda: shop.gateway.health()["cache"] == "on", seconds=10)
    assert outcomes(customer.ask(), customer.ask()) == ["miss", "hit"]


def test_the_official_sdk_asks_by_a_header(shop: Shop, customer: Customer) -> None:
    with openai.OpenAI(
        base_url=f"{shop.gateway.url}/v1",
        api_key=customer.key,
        max_retries=0,
        default_headers={"x-studio-cache": "use"},
    ) as sdk:
        create = sdk.chat.completions.with_raw_response.create
        ask: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
        first, second = create(**ask), create(**ask)
        bypass = create(**ask, extra_headers={"cache-control": "no-store"})
        told = [raw.headers["x-studio-cache"] for raw in (first, second, bypass)]
        assert told == ["miss", "hit", "bypass"]
        assert second.parse().choices == first.parse().choices


def test_a_stranger_deletes_nothing(shop: Shop) -> None:
    assert httpx.delete(f"{shop.gateway.url}/v1/cache").status_code == 401


def _set_state(shop: Shop, state: str) -> None:
    with shop.house.database.superuser() as connection:
        connection.execute("update replicas set state = %s where id = %s", [state, shop.replicas[CHAT]])
