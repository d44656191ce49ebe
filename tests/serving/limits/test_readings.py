"""What callers are told of their limits, and how many tokens a request is taken for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from serving.limits.buckets import Buckets
from serving.limits.estimate import ANSWER_TOKENS, MEDIA_TOKENS, likely_tokens
from serving.limits.readings import go_duration, headers, refusal
from serving.limits.rules import Rule, RuleBook
from serving.tokens.wire import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint, read_call
from studio import ids
from tests.serving.test_wire import BASE

TENANT, KEY = ids.uuid7(), ids.uuid7()


def rule(*ceilings: int, key: bool = False, model: str | None = None) -> Rule:
    second, minute, tokens, concurrent = ceilings
    return Rule(ids.uuid7(), TENANT, KEY if key else None, model, (second, minute, tokens, concurrent))


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (20, "20ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (90_250, "1m30.25s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_durations_are_in_gos_notation(milliseconds: int, text: str) -> None:
    assert go_duration(milliseconds) == text


def test_headers_are_of_the_limit_of_which_least_is_left() -> None:
    rules, buckets = (rule(10, 600, 0, 0), rule(0, 5, 1_000, 0, key=True)), Buckets()
    told = dict(headers(rules, buckets.take(rules, "a", 250, 0), 250))
    assert told == {
        b"x-ratelimit-limit-requests": b"5",
        b"x-ratelimit-remaining-requests": b"4",
        b"x-ratelimit-reset-requests": b"12s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"750",
        b"x-ratelimit-reset-tokens": b"15s",
    }


def test_a_limit_of_concurrency_alone_has_no_headers() -> None:
    rules = (rule(0, 0, 0, 2),)
    assert headers(rules, Buckets().take(rules, "a", 0, 0)) == []


def test_a_refusal_names_what_holds_it_back_longest() -> None:
    rules, buckets = (rule(1, 0, 0, 0), rule(0, 2, 0, 0, key=True, model="qwen3-32b")), Buckets()
    assert buckets.take(rules, "a", 0, 0).admitted
    assert buckets.take(rules, "b", 0, 1_000).admitted
    told = refusal(rules, buckets.take(rules, "c", 0, 1_000), 0)
    assert told.message == (
        "Rate limit reached: 2 requests per minute for this API key with the model `qwen3-32b`. Please retry in 29 s."
    )
    assert told.retry_after is not None
    assert buckets.take(rules, "c", 0, 1_000 + told.retry_after.seconds * 1_000).admitted


def test_a_wait_beyond_two_minutes_is_told_in_words_only() -> None:
    rules, buckets = (rule(0, 0, 1_000, 0),), Buckets()
    buckets.take(rules, "a", 0, 0)
    buckets.correct(rules, 4_000, [0], 0)
    told = refusal(rules, buckets.take(rules, "b", 1, 0), 1)
    assert "retry in 180.06 s" in told.message
    assert told.retry_after is not None
    assert told.retry_after.total_seconds() == 120


class TestRuleBook:
    def test_a_request_meets_its_tenants_rules_its_keys_and_its_models(self) -> None:
        of_tenant, of_key = rule(1, 0, 0, 0), rule(2, 0, 0, 0, key=True)
        of_model, of_both = rule(3, 0, 0, 0, model="a"), rule(4, 0, 0, 0, key=True, model="a")
        book = RuleBook([of_tenant, of_key, of_model, of_both])
        assert book.rules_for(TENANT, KEY, "a") == (of_tenant, of_key, of_model, of_both)
        assert book.rules_for(TENANT, KEY, "b") == (of_tenant, of_key)
        assert book.rules_for(TENANT, ids.uuid7(), "a") == (of_tenant, of_model)
        assert book.rules_for(ids.uuid7(), KEY, "a") == ()


class TestEstimate:
    @staticmethod
    def tokens(endpoint: Endpoint, **body: Any) -> int:
        encoded = orjson.dumps({"model": BASE.id} | body)
        return likely_tokens(read_call(endpoint, encoded), BASE, len(encoded))

    def test_a_prompt_is_a_quarter_of_its_bytes_and_the_answer_as_long_as_it_may_be(self) -> None:
        short = [{"role": "user", "content": "hi"}]
        assert 100 < self.tokens(CHAT, messages=short, max_tokens=100) < 130
        assert 300 < self.tokens(CHAT, messages=short, max_tokens=100, n=3) < 330
        assert ANSWER_TOKENS < self.tokens(CHAT, messages=short) < ANSWER_TOKENS + 30
        assert 1_000 < self.tokens(EMBEDDINGS, input="word" * 1_000) < 1_030

    def test_it_never_exceeds_the_context_of_each_answer(self) -> None:
        endless = [{"role": "user", "content": "word" * 100_000}]
        assert self.tokens(CHAT, messages=endless, max_tokens=50) == BASE.context_tokens + 1
        short = [{"role": "user", "content": "hi"}]
        assert self.tokens(CHAT, messages=short, max_tokens=10**9) <= BASE.context_tokens
        assert self.tokens(COMPLETIONS, prompt=["a", "b"], max_tokens=10**9) <= 2 * BASE.context_tokens

    def test_an_image_is_not_a_quarter_of_its_bytes(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
        content = [{"type": "text", "text": "what is this?"}, image]
        tokens = self.tokens(CHAT, messages=[{"role": "user", "content": content}], max_tokens=10)
        assert MEDIA_TOKENS < tokens < MEDIA_TOKENS + 100
