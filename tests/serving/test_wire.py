"""What an engine is sent, and what of its answers a caller sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fleet.view import Replica, Variant
from serving.routing import Target
from serving.tokens import answers, wire
from serving.tokens.answers import CompletionsDialect, WholeEvents
from serving.tokens.engine_request import BATCH_PRIORITY, cache_salt, engine_body
from serving.tokens.usage import StreamMeter, TokenCounts, read_usage
from serving.tokens.wire import CHAT, COMPLETIONS, EMBEDDINGS, RERANK, SCORE, Endpoint
from studio import clock, ids
from studio.errors import ContextLengthExceeded, InvalidRequest, ServiceUnavailable

NOW = clock.now()
BASE = Variant(
    id="m",
    model_id="m",
    name="M",
    publisher="P",
    task="chat",
    tier="base",
    licence="MIT",
    licence_url="https://example.com",
    context_tokens=4096,
    max_output_tokens=None,
    deployed=True,
    served_by=None,
    takes_adapters=False,
    sunset_on=None,
    notice=None,
    listed_at=NOW,
    desired_replicas=0,
    site_replicas=0,
    closed_replicas=0,
    calendar_id=None,
    warmup_seconds=[],
)
REPLICA = Replica(ids.uuid7(), "m", "ready", "http://engine", "weights", NOW)


def sent(endpoint: Endpoint, variant: Variant = BASE, **fields: Any) -> dict[str, Any]:
    """What the engine gets for a request with these fields."""
    required: dict[str, dict[str, Any]] = {
        CHAT.path: {"messages": [{"role": "user", "content": "hello"}]},
        COMPLETIONS.path: {"prompt": "hello"},
        EMBEDDINGS.path: {"input": "hello"},
        RERANK.path: {"query": "hello", "documents": ["hello"]},
        SCORE.path: {"queries": "hello", "documents": ["hello"]},
    }
    call = wire.read_call(endpoint, orjson.dumps({"model": "m"} | required[endpoint.path] | fields))
    body: dict[str, Any] = orjson.loads(engine_body(call, Target(variant), REPLICA, "salt", None))
    return body


class TestEngineBody:
    def test_steering_of_the_client_is_replaced_by_ours(self) -> None:
        body = sent(CHAT, priority=-5, cache_salt="x", request_id="mine", kv_transfer_params={"a": 1}, vllm_xargs={})
        assert (body["priority"], body["cache_salt"], body["model"]) == (1, "salt", "weights")
        assert not {"request_id", "kv_transfer_params", "vllm_xargs"} & body.keys()

    def test_a_stream_cannot_be_made_to_tell_its_usage_seldom(self) -> None:
        assert (
            not {"stream_interval", "session_id"} & sent(CHAT, stream=True, stream_interval=1000, session_id="x").keys()
        )

    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
    def test_what_cannot_be_metered_or_holds_up_others_is_refused_by_name(self, endpoint: Endpoint) -> None:
        several: list[dict[str, Any]] = [
            {"use_beam_search": True},
            {"use_beam_search": "yes"},
            {"bad_words": ["x"] * 129},
        ]
        for fields in several:
            with pytest.raises(InvalidRequest) as refused:
                sent(endpoint, **fields)
            assert {refused.value.param} == fields.keys()
        assert sent(endpoint, use_beam_search=False, bad_words=["x"] * 128)["bad_words"] == ["x"] * 128

    @pytest.mark.parametrize(
        ("endpoint", "fields"),
        [
            (CHAT, {"prompt_logprobs": 0}),
            (CHAT, {"echo": True}),
            (COMPLETIONS, {"echo": "true", "logprobs": 0}),
            (COMPLETIONS, {"prompt_logprobs": 1}),
        ],
    )
    def test_an_engine_with_adapters_is_never_asked_for_what_it_dies_of(
        self, endpoint: Endpoint, fields: dict[str, Any]
    ) -> None:
        """Also by the tier that takes no adapters itself, and is answered by the same engine."""
        loads = replace(BASE, runs='weights ["--dtype=bfloat16", "--enable-lora"] {}')
        with pytest.raises(InvalidRequest, match="cannot give log probabilities of a prompt"):
            sent(endpoint, loads, **fields)
        assert sent(endpoint, **fields).items() >= fields.items()
        assert sent(COMPLETIONS, loads, echo=True)["echo"] is True

    def test_fast_goes_before_base_and_batches_come_last(self) -> None:
        assert sent(CHAT, replace(BASE, tier="fast"))["priority"] < sent(CHAT)["priority"] < BATCH_PRIORITY

    def test_a_stream_always_carries_usage(self) -> None:
        wanted = {"include_usage": True, "continuous_usage_stats": True}
        assert sent(CHAT, stream=True)["stream_options"] == wanted
        assert sent(COMPLETIONS, stream=True, stream_options={"include_usage": False})["stream_options"] == wanted

    def test_what_can_be_read_but_not_written_again_is_refused(self) -> None:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "metadata": %s}' % (
            b"[" * 300 + b"]" * 300
        )
        call = wire.read_call(CHAT, body)
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            engine_body(call, Target(BASE), REPLICA, "salt", None)

    def test_unknown_fields_pass(self) -> None:
        assert sent(CHAT, top_k=5, reasoning_effort="low")["top_k"] == 5

    @pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, EMBEDDINGS, RERANK, SCORE], ids=lambda one: one.path)
    def test_whatever_an_engine_reads_has_our_salt(self, endpoint: Endpoint) -> None:
        assert sent(endpoint, cache_salt="of the client")["cache_salt"] == "salt"

    @pytest.mark.parametrize(
        ("endpoint", "given", "expected"),
        [
            (CHAT, {}, {"max_completion_tokens": 100}),
            (CHAT, {"max_tokens": 7}, {"max_tokens": 7}),
            (CHAT, {"max_tokens": 700}, {"max_tokens": 100}),
            (
                CHAT,
                {"max_tokens": 700, "max_completion_tokens": 9},
                {"max_tokens": 100, "max_completion_tokens": 9},
            ),
            (COMPLETIONS, {}, {"max_tokens": 16}),
            (COMPLETIONS, {"max_tokens": 700}, {"max_tokens": 100}),
            (EMBEDDINGS, {}, {}),
        ],
    )
    def test_the_variant_caps_the_answer(
        self, endpoint: Endpoint, given: dict[str, int], expected: dict[str, int]
    ) -> None:
        body = sent(endpoint, replace(BASE, max_output_tokens=100), **given)
        assert {name: value for name, value in body.items() if name.startswith("max_")} == expected


class TestCacheSalt:
    def test_it_differs_by_tenant_and_by_the_clients_own(self) -> None:
        one, two = ids.uuid7(), ids.uuid7()
        salts = {cache_salt(b"key", tenant, own) for tenant in (one, two) for own in ("", "a")}
        assert len(salts) == 4
        assert cache_salt(b"key", one, "a") == cache_salt(b"key", one, "a")

    def test_a_key_with_a_cache_of_its_own_shares_it_with_nobody_whatever_others_send(self) -> None:
        tenant, key, other = UUID(int=1), UUID(int=2), UUID(int=3)
        foreign = {cache_salt(b"key", tenant, own) for own in ("", "a", key.bytes.decode(), f"{key}")}
        foreign |= {
            cache_salt(b"key", tenant, "", other),
            cache_salt(b"key", other, "", key),
        }
        own = [cache_salt(b"key", tenant, salt, key) for salt in ("", "", "a")]
        assert own[0] == own[1] != own[2]
        assert not foreign & set(own)


def test_null_model_is_refused_before_anything_is_routed() -> None:
    with pytest.raises(InvalidRequest) as refused:
        wire.read_call(CHAT, b'{"messages": [{"role": "user", "content": "x"}]}')
    assert (refused.value.param, refused.value.message) == ("model", "Missing required field `model`.")


class TestStreamMeter:
    def event(self, index: int, prompt: int, completion: int) -> dict[str, Any]:
        return {"choices": [{"index": index}], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}

    def test_an_unfinished_stream_is_the_sum_of_its_choices(self) -> None:
        meter = StreamMeter(choices_per_prompt=2)
        for index, prompt, completion in [(0, 5, 1), (1, 5, 1), (0, 5, 2), (2, 7, 1)]:
            meter.observe(self.event(index, prompt, completion))
        assert meter.counts() == TokenCounts(prompt=12, cached=0, completion=4, reasoning=0, engine_prompt=17)

    def test_the_last_event_is_the_truth(self) -> None:
        meter = StreamMeter(choices_per_prompt=1)
        meter.observe(self.event(0, 5, 1))
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
        meter.observe({"choices": [], "usage": usage})
        assert meter.counts() == TokenCounts(prompt=5, cached=4, completion=3, reasoning=0, engine_prompt=5)

    def test_an_engine_counts_the_prompt_once_for_each_choice(self) -> None:
        """As vLLM 0.32 was seen to do: n=3 on 34 prompt tokens is 34 in `usage` and 102 in its metrics."""
        counts = read_usage({"prompt_tokens": 34, "completion_tokens": 15}, choices_per_prompt=3)
        assert (counts.prompt, counts.engine_prompt) == (34, 102)

    def test_without_a_word_from_the_engine_nothing_is_known(self) -> None:
        assert StreamMeter(choices_per_prompt=1).counts() is None

    def test_a_part_is_never_more_than_its_whole(self) -> None:
        assert read_usage({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}).cached == 5


@given(st.lists(st.binary(min_size=1).filter(lambda one: b"\n" not in one), max_size=8), st.data())
def test_events_are_found_wherever_the_network_cuts(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(b"data: " + payload + b"\n\n" for payload in payloads)
    events, found, rest = WholeEvents(), b"", stream
    while rest:
        size = data.draw(st.integers(min_value=1, max_value=len(rest)))
        whole = events.feed(rest[:size])
        assert not whole or whole.endswith(b"\n\n")
        found, rest = found + whole, rest[size:]
        # As soon as an event is complete it is there, and nothing of the next.
        assert found == stream[: len(stream) - len(rest)].rpartition(b"\n\n")[0] + (b"\n\n" if found else b"")
    assert found == stream


class TestEngineErrors:
    def error(self, status: int, message: str) -> Exception:
        body = orjson.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}})
        return answers.engine_error(status, body, Target(BASE), REPLICA, {})

    def test_an_overflow_has_code_and_words(self) -> None:
        sentence = "This model's maximum context length is 4096 tokens. However, your prompt contains 5000."
        error = self.error(400, sentence)
        assert isinstance(error, ContextLengthExceeded)
        assert error.message == f"{sentence} (context_length_exceeded)"

    def test_an_answer_longer_than_the_context_is_an_overflow_too(self) -> None:
        error = self.error(400, "max_tokens=9000 cannot be greater than max_total_tokens=4096.")
        assert isinstance(error, ContextLengthExceeded)
        assert error.message.startswith("This model's maximum context length is 4096 tokens. However, max_tokens=9000")

    def test_the_engines_name_of_the_model_is_not_shown(self) -> None:
        for quote in "`'\"":
            assert "weights" not in str(self.error(400, f"The model {quote}weights{quote} cannot do that."))

    def test_what_is_our_fault_is_503(self) -> None:
        for status in (404, 429, 500):
            assert isinstance(self.error(status, "secret paths"), ServiceUnavailable)
            assert "secret" not in str(self.error(status, "secret paths"))


def test_a_visible_event_keeps_what_the_client_asked_of_the_engine() -> None:
    event = {"choices": [{"index": 0, "token_ids": [1, 2], "stop_reason": None}], "metrics": {}}
    shown = orjson.loads(CompletionsDialect("chatcmpl-1", "m", False, False).event(event)[6:])
    assert shown["choices"] == [{"index": 0, "token_ids": [1, 2]}]
    assert "metrics" not in shown


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("a", ["b", "c"]), (["a"], ["b", "c"]), (["a", "b"], ["c", "d"])]
)
def test_texts_are_scored_one_against_all_or_one_by_one(one: Any, other: Any) -> None:
    assert wire.read_call(SCORE, orjson.dumps({"model": "m", "text_1": one, "text_2": other})).model == "m"


@pytest.mark.parametrize("other", ["c", ["c", "d", "e"], ["c"]])
def test_texts_that_do_not_pair_up_are_refused(other: Any) -> None:
    body = orjson.dumps({"model": "m", "text_1": ["a", "b"], "text_2": other})
    with pytest.raises(InvalidRequest, match="as many as `text_2`") as refused:
        wire.read_call(SCORE, body)
    assert refused.value.param == "text_1"


def test_structured_outputs_of_another_type_are_refused_before_an_engine_fails_of_them() -> None:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "structured_outputs": 5})
    with pytest.raises(InvalidRequest) as refused:
        wire.read_call(CHAT, body)
    assert refused.value.param == "structured_outputs"


def test_the_likeliest_token_is_told_first_whichever_was_drawn() -> None:
    tops = [{"token": "drawn", "logprob": -6.4}, {"token": "likely", "logprob": -1.0}]
    content = [{"token": "drawn", "logprob": -6.4, "top_logprobs": tops}, {"token": "x", "logprob": -1.0}]
    event = {"choices": [{"index": 0, "logprobs": {"content": content}}]}
    shown = orjson.loads(CompletionsDialect("chatcmpl-1", "m", False, False).event(event)[6:])
    told = shown["choices"][0]["logprobs"]["content"]
    assert [[top["token"] for top in one["top_logprobs"]] for one in told] == [["likely", "drawn"], []]


class TestBounds:
    """What is set aside before a request must be more than its engine can read."""

    def test_a_query_may_be_read_again_with_each_document(self) -> None:
        body = orjson.dumps({"model": "m", "query": "q" * 1000, "documents": ["d"] * 50})
        assert wire.read_call(RERANK, body).most_prompt_tokens(len(body), 100_000) >= 50 * 1000
        assert wire.read_call(RERANK, body).most_prompt_tokens(len(body), 256) == 50 * 2 * 256
        one = orjson.dumps({"model": "m", "text_1": "q", "text_2": "d"})
        assert wire.read_call(SCORE, one).most_prompt_tokens(len(one), 100_000) == len(one) + wire.TEMPLATE_TOKENS

    def test_an_image_may_fill_the_context_however_it_is_disguised(self) -> None:
        for disguise in ({}, {"uuid": "1", "text": "x", "type": "text"}):
            part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}, **disguise}
            body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]})
            assert wire.read_call(CHAT, body).most_prompt_tokens(len(body), 100_000) == 100_000

    def test_what_is_no_field_of_an_endpoint_changes_nothing(self) -> None:
        body = orjson.dumps({"model": "m", "input": "x", "n": "many"})
        call = wire.read_call(EMBEDDINGS, body)
        assert call.choices_per_prompt == 1
        body = orjson.dumps({"model": "m", "prompt": "x", "messages": 5})
        call = wire.read_call(COMPLETIONS, body)
        assert call.most_prompt_tokens(len(body), 100) == len(body) + wire.TEMPLATE_TOKENS


@pytest.mark.parametrize("tag", ["x" * 64, "team a/b-c_d", None, ""])
def test_a_printable_tag_is_kept(tag: str | None) -> None:
    assert wire.read_tag(tag) == (tag or None)
