"""OpenAI's parameters on vLLM itself, by OpenAI's SDK: what the stub engine cannot judge.

All are asked at once, as many callers would, and each test looks at its answers: an engine works on a batch in the time
that one answer takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.e2e.conftest import Cloud
from tests.local.eventually import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
TURN: dict[str, Any] = {
    "type": "object",
    "properties": {"to": {"enum": ["N", "S"]}},
    "required": ["to"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "turn", "parameters": TURN}}
# What the hermes parser takes for a call, whatever so small a model would rather say.
CALLS: Any = {"structured_outputs": {"regex": r'<tool_call>\{"name": "turn", "arguments": \{"to": "N"\}\}</tool_call>'}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bonn", "Rome"]}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
FORM: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
COUNT: Any = [{"role": "user", "content": "Count: one, two, three, four."}]
BUDGET = "0.044"  # EUR: for the prompt, at the most that it can be, and some thirty tokens

Whole = Callable[[str], ChatCompletion]
Stream = Callable[[str], list[ChatCompletionChunk]]


def wanted(sdk: openai.OpenAI, poor: openai.OpenAI) -> dict[str, Callable[[], Any]]:
    """Every request, by the name under which its answer is looked at."""

    def chat(**fields: Any) -> Callable[[], ChatCompletion]:
        return lambda: sdk.chat.completions.create(
            **{"model": CHAT, "messages": COUNT, "temperature": 0, "max_tokens": 12} | fields
        )

    def stream(**fields: Any) -> Callable[[], list[ChatCompletionChunk]]:
        return lambda: list(
            sdk.chat.completions.create(
                **{"model": CHAT, "messages": COUNT, "temperature": 0, "max_tokens": 12, "stream": True} | fields
            )
        )

    def text(**fields: Any) -> Callable[[], Completion]:
        asked: dict[str, Any] = {"model": CHAT, "prompt": "One, two,", "max_tokens": 2} | fields
        return lambda: sdk.completions.create(**asked)

    running = {"include_usage": True, "continuous_usage_stats": True}
    spent: dict[str, Any] = {"max_tokens": 1000, "extra_body": {"ignore_eos": True}}
    return {
        "plain": chat(),
        "streamed": stream(),
        "logprobs": chat(max_tokens=3, logprobs=True, top_logprobs=4),
        "logprobs streamed": stream(max_tokens=3, logprobs=True, top_logprobs=4),
        "n streamed": stream(n=3, temperature=1, max_tokens=4, stream_options={"include_usage": True}),
        "running": stream(max_tokens=4, stream_options=running),
        "limit": chat(max_tokens=openai.NOT_GIVEN, max_completion_tokens=3),
        "seed": chat(temperature=1.5, seed=7, max_tokens=8),
        "seed again": chat(temperature=1.5, seed=7, max_tokens=8),
        "another seed": chat(temperature=1.5, seed=8, max_tokens=8),
        "bias": chat(max_tokens=2, logit_bias={"28": 100}),
        "auto": chat(tools=[TOOL], tool_choice="auto", max_tokens=100, extra_body=CALLS),
        "auto streamed": stream(tools=[TOOL], tool_choice="auto", max_tokens=100, extra_body=CALLS),
        "required": chat(tools=[TOOL], tool_choice="required", max_tokens=100),
        "required streamed": stream(tools=[TOOL], tool_choice="required", max_tokens=100),
        "schema": chat(response_format=FORM, max_tokens=100),
        "schema streamed": stream(response_format=FORM, max_tokens=100),
        "text": text(logprobs=2, n=2, temperature=1),
        "budget": lambda: poor.chat.completions.create(**{"model": CHAT, "messages": COUNT} | spent),
        "echo": text(echo=True, logprobs=1),
        "suffix": text(suffix="four"),
        "dimensions": lambda: sdk.embeddings.create(model=EMBEDDING, input="one", dimensions=64),
        "tokens": lambda: sdk.embeddings.create(model=EMBEDDING, input=[[2028], [2028, 2048]]),
        "base64": lambda: sdk.embeddings.create(model=EMBEDDING, input="one"),
        "floats": lambda: sdk.embeddings.create(model=EMBEDDING, input="one", encoding_format="float"),
    }


@pytest.fixture(scope="module")
def answers(cloud: Cloud) -> Iterator[dict[str, Future[Any]]]:
    """All of them, with a key of a tenant that nobody else uses, and one that has little money."""
    address = ("--city", "10115 Berlin", "--email", "ap@a.example")
    cloud.studio("tenant", "create", "parameters", "--name", "Parameters GmbH", *address)
    keys = [cloud.studio("key", "create", "--tenant", "parameters") for _ in range(2)]
    cloud.studio("budget", "set", BUDGET, "--tenant", "parameters", "--key", keys[1]["id"], "--prepaid")
    url = f"{cloud.status['gateway_url']}/v1"
    sdk, poor = (openai.OpenAI(base_url=url, api_key=key["key"], max_retries=0, timeout=600) for key in keys)
    for key in keys:
        headers = {"authorization": f"Bearer {key['key']}"}
        for model in (CHAT, EMBEDDING):
            eventually(
                lambda model=model, headers=headers: (  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    httpx.get(f"{url}/models/{model}", headers=headers).json().get("state") == "warm"
                ),
                f"{model} is up",
                300,
            )
    with sdk, poor, ThreadPoolExecutor(40) as pool:
        yield {name: pool.submit(ask) for name, ask in {"sdk": lambda: sdk, **wanted(sdk, poor)}.items()}


@pytest.fixture
def whole(answers: dict[str, Future[Any]]) -> Whole:
    def named(name: str) -> ChatCompletion:
        answer = answers[name].result()
        assert isinstance(answer, ChatCompletion)
        return answer

    return named


@pytest.fixture
def stream(answers: dict[str, Future[Any]]) -> Stream:
    def named(name: str) -> list[ChatCompletionChunk]:
        chunks: list[ChatCompletionChunk] = answers[name].result()
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
        return chunks

    return named


def tokens_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    """What one choice of a stream says."""
    return "".join(one.delta.content or "" for chunk in chunks for one in chunk.choices if one.index == index)


def call_of(chunks: list[ChatCompletionChunk]) -> tuple[str, str]:
    """Name and arguments of the only call in a stream, whose fragments must be as OpenAI's are."""
    first, *rest = [one for chunk in chunks for choice in chunk.choices for one in choice.delta.tool_calls or ()]
    assert (first.index, first.type) == (0, "function")
    assert first.id
    assert first.function is not None
    assert first.function.name is not None
    assert all(one.index == 0 and (one.function is None or one.function.name is None) for one in rest)
    pieces = [one.function.arguments or "" for one in (first, *rest) if one.function is not None]
    return first.function.name, "".join(pieces)


def test_log_probabilities_are_of_the_tokens_that_are_said_and_sorted(whole: Whole, stream: Stream) -> None:
    [choice] = whole("logprobs").choices
    assert choice.logprobs is not None
    said = choice.logprobs.content or []
    assert len(said) == 3
    assert bytes(b for one in said for b in one.bytes or ()).decode() == choice.message.content
    for one in said:
        ranked = [other.logprob for other in one.top_logprobs]
        assert len(ranked) == 4
        assert ranked == sorted(ranked, reverse=True)
        assert one.logprob == ranked[0]  # the best is taken
    streamed = [
        one
        for chunk in stream("logprobs streamed")
        for choice in chunk.choices
        for one in (choice.logprobs and choice.logprobs.content) or ()
    ]
    assert [one.token for one in streamed] == [one.token for one in said]
    assert all(len(one.top_logprobs) == 4 for one in streamed)


def test_a_stop_is_not_said_wherever_the_chunks_are_cut(answers: dict[str, Future[Any]], whole: Whole) -> None:
    """Asked after the others, since it is cut from what the model says."""
    said = whole("plain").choices[0].message.content or ""
    assert len(said) > 8
    stop = said[4:8]  # across tokens, at a place that is none of theirs
    sdk: openai.OpenAI = answers["sdk"].result()
    asked: dict[str, Any] = {"model": CHAT, "messages": COUNT, "temperature": 0, "max_tokens": 12}
    asked["stop"] = ["never said", stop]
    [choice] = sdk.chat.completions.create(**asked).choices
    chunks = list(sdk.chat.completions.create(**asked, stream=True))
    assert choice.message.content == tokens_of(chunks) == said[: said.index(stop)]
    assert choice.finish_reason == chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_says_what_the_whole_answer_says(whole: Whole, stream: Stream) -> None:
    [choice], chunks = whole("plain").choices, stream("streamed")
    assert tokens_of(chunks) == choice.message.content
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason
    assert not any(chunk.usage for chunk in chunks)


def test_choices_of_a_stream_come_between_each_other_with_one_usage(stream: Stream) -> None:
    chunks = stream("n streamed")
    assert {one.index for chunk in chunks for one in chunk.choices} == {0, 1, 2}
    assert all(tokens_of(chunks, index) for index in range(3))
    ends = [one.index for chunk in chunks for one in chunk.choices if one.finish_reason]
    assert sorted(ends) == [0, 1, 2]
    usages = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(usages) == 1
    assert 3 <= usages[0] <= 12


def test_running_usage_is_shown_to_who_asks_for_it(stream: Stream) -> None:
    *chunks, last = stream("running")
    running = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(running) == len(chunks)
    assert running == sorted(running)
    assert last.usage is not None
    assert running[-1] == last.usage.completion_tokens == 4


def test_both_names_of_the_limit_hold_and_a_seed_repeats(whole: Whole) -> None:
    limited = whole("limit")
    assert limited.usage is not None
    assert limited.usage.completion_tokens == 3
    first, again, another = (whole(name).choices[0].message.content for name in ("seed", "seed again", "another seed"))
    assert first == again != another
    assert len(set(whole("bias").choices[0].message.content or "")) == 1  # one token, whatever else it would say


def test_a_tool_that_the_model_may_choose_is_called_whole_and_streamed(whole: Whole, stream: Stream) -> None:
    [choice] = whole("auto").choices
    call = (choice.message.tool_calls or [])[0]
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("turn", {"to": "N"})
    assert not (choice.message.content or "").strip()
    chunks = stream("auto streamed")
    name, arguments = call_of(chunks)
    assert (name, json.loads(arguments)) == ("turn", {"to": "N"})
    assert "tool_call" not in tokens_of(chunks)
    assert choice.finish_reason == chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_tool_that_must_be_called_gets_an_object_of_its_schema(whole: Whole, stream: Stream) -> None:
    call = (whole("required").choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    streamed = call_of(stream("required streamed"))
    for name, arguments in ((call.function.name, call.function.arguments), streamed):
        assert name == "turn"
        assert jsonschema_rs.is_valid(TURN, json.loads(arguments)), arguments


def test_an_answer_of_a_schema_is_one_also_when_it_is_streamed(whole: Whole, stream: Stream) -> None:
    for text in (whole("schema").choices[0].message.content or "", tokens_of(stream("schema streamed"))):
        assert jsonschema_rs.is_valid(SCHEMA, json.loads(text)), text


def test_money_that_ends_an_answer_says_so_and_is_not_overdrawn(whole: Whole) -> None:
    answer = whole("budget")
    [choice] = answer.choices
    assert (choice.finish_reason, (choice.model_extra or {})["stop_reason"]) == ("length", "budget")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens < 1000
    cost = Decimal(answer.usage.prompt_tokens * 100 + answer.usage.completion_tokens * 200) / 1_000_000
    assert cost <= Decimal(BUDGET)


def test_old_completions_have_their_log_probabilities_and_suffixes_are_refused_by_name(
    answers: dict[str, Future[Any]],
) -> None:
    text: Completion = answers["text"].result()
    assert [choice.index for choice in text.choices] == [0, 1]
    for choice in text.choices:
        assert choice.logprobs is not None
        lists = (choice.logprobs.tokens, choice.logprobs.token_logprobs, choice.logprobs.text_offset)
        assert [len(one or ()) for one in lists] == [2, 2, 2]
        assert "".join(choice.logprobs.tokens or ()) == choice.text
    refused = answers["suffix"].exception()
    assert isinstance(refused, openai.BadRequestError)
    assert refused.param == "suffix"


def test_what_would_kill_the_engine_is_refused_while_it_goes_on(answers: dict[str, Future[Any]], whole: Whole) -> None:
    """It is sent beside all the others, which is when vLLM with adapters dies of it."""
    refused = answers["echo"].exception()
    assert isinstance(refused, openai.BadRequestError)
    assert refused.param == "echo"
    assert "log probabilities of a prompt" in refused.message
    assert whole("plain").choices[0].message.content


def test_embeddings_come_in_both_encodings_and_from_tokens_and_dimensions_are_honoured_or_refused(
    answers: dict[str, Future[Any]],
) -> None:
    tokens, packed, floats = (answers[name].result() for name in ("tokens", "base64", "floats"))
    for answer in (tokens, packed, floats):
        assert isinstance(answer, CreateEmbeddingResponse)
    assert [one.index for one in tokens.data] == [0, 1]
    assert packed.data[0].embedding == floats.data[0].embedding
    assert len(floats.data[0].embedding) == 384
    refused = answers["dimensions"].exception()
    assert isinstance(refused, openai.BadRequestError)
    assert "dimensions" in refused.message
