"""What vLLM 0.32 says when it refuses a body, word for word, and what is made of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from serving.tokens.engine_refusals import read_refusal

MESSAGES = [{"role": "user", "content": None}]
NO_INT = "Input should be a valid integer, unable to parse string as an integer"
INT_LINE = f"\n  {{'type': 'int_parsing', 'loc': 'body.truncate_prompt_tokens', 'msg': '{NO_INT}', 'input': 'q'}}"
MISSING_LINE = "\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 5 items>'}"
EFFORTS = "Input should be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'"
CONTENT = (
    "19 validation errors:"
    "\n  {'type': 'string_type', 'loc': 'body.messages.0.ChatCompletionDeveloperMessageParam.content',"
    " 'msg': 'Input should be a valid string', 'input': 'None'}"
    "\n  {'type': 'iterable_type', 'loc': 'body.messages.0.ChatCompletionDeveloperMessageParam.content',"
    " 'msg': 'Input should be iterable', 'input': 'None'}"
    "\n  {'type': 'literal_error', 'loc': 'body.messages.0.ChatCompletionDeveloperMessageParam.role',"
    " 'msg': \"Input should be 'developer'\", 'input': 'user', 'ctx': {'expected': \"'developer'\"}}"
    "\n  {'type': 'string_type', 'loc': 'body.messages.0.ChatCompletionUserMessageParam.content',"
    " 'msg': 'Input should be a valid string', 'input': 'None'}"
)
LATE = (
    "7 validation errors for ValidatorIterator\n0.ChatCompletionContentPartTextParam.type\n"
    "  Input should be 'text' [type=literal_error, input_value='x', input_type=str]\n"
    "    For further information visit https://errors.pydantic.dev/2.14/v/literal_error\n"
    "0.ChatCompletionContentPartImageParam.image_url\n"
    "  Field required [type=missing, input_value={'type': 'x', 'text': 'a'}, input_type=dict]\n"
)


def refusal(message: str, param: str | None = None, **payload: Any) -> tuple[str, str | None]:
    body = {"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}}
    return read_refusal(orjson.dumps(body), payload)


@pytest.mark.parametrize(
    ("message", "param", "payload", "said", "named"),
    [
        (
            "1 validation error:" + INT_LINE.replace("truncate_prompt_tokens", "seed"),
            *("body.seed", {"seed": "q"}, f"{NO_INT} in `seed`.", "seed"),
        ),
        (
            "11 validation errors:" + (INT_LINE + MISSING_LINE + INT_LINE) * 3,
            *(None, {"input": "a", "truncate_prompt_tokens": "q"}),
            *(f"{NO_INT} in `truncate_prompt_tokens`.", "truncate_prompt_tokens"),
        ),
        (
            f"1 validation error:\n  {{'type': 'literal_error', 'loc': 'body.reasoning_effort', 'msg': \"{EFFORTS}\"}}",
            *("body.reasoning_effort", {"reasoning_effort": "zz"}),
            *(f"{EFFORTS} in `reasoning_effort`.", "reasoning_effort"),
        ),
        (
            *(CONTENT, "body.messages.0.ChatCompletionDeveloperMessageParam.content", {"messages": MESSAGES}),
            *("Input should be a valid string in `messages[0].content`.", "messages[0].content"),
        ),
        (LATE, None, {"messages": MESSAGES}, "Input should be 'text' in `messages`.", "messages"),
        (
            *("bad (parameter=logit_bias, value=['(a)'])", "logit_bias", {"logit_bias": {"(a)": 1}}),
            *("bad", "logit_bias"),
        ),
        ("Too long. (parameter=input_text, value=6000)", None, {"input": "a"}, "Too long.", None),
    ],
)
def test_it_is_one_sentence_about_one_field(
    message: str, param: str | None, payload: dict[str, Any], said: str, named: str | None
) -> None:
    assert refusal(message, param, **payload) == (said, named)


@pytest.mark.parametrize(
    ("message", "payload", "named"),
    [
        ("top_k must be 0 (disable), or at least 1, got -5.", {"top_k": -5}, "top_k"),
        ("min_tokens must be less than or equal to max_tokens=3.", {"max_tokens": 3, "min_tokens": 9}, "min_tokens"),
        ("stop cannot contain an empty string.", {"stop": ""}, "stop"),
        ("Model `m` has no Matryoshka; dimensions must be unset (dimensions=64).", {"dimensions": 64}, "dimensions"),
        ("Token id 99999999 is out of vocabulary", {"model": "m", "input": [99999999]}, "input"),
        ("Grammar error: Invalid type: nope", {"response_format": {}, "tools": []}, "response_format"),
        ("Choice '[]' cannot be an empty list", {"structured_outputs": {"choice": []}}, "structured_outputs"),
        (
            "Cannot set both `continue_final_message` and `x`.",
            {"continue_final_message": True},
            "continue_final_message",
        ),
        ("Please stop here, user.", {"stop": ["a"], "user": "b", "n": 1, "messages": []}, None),
    ],
)
def test_a_sentence_that_names_a_field_is_about_it(message: str, payload: dict[str, Any], named: str | None) -> None:
    assert refusal(message, **payload) == (message, named)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"error":"text"}', b'{"error":{}}', b'{"error":null}'])
def test_what_cannot_be_read_is_said_to_be_so(body: bytes) -> None:
    assert read_refusal(body, {}) == ("The engine refused the request without giving a reason.", None)


def test_a_refusal_that_a_caller_has_blown_up_is_read_in_no_time() -> None:
    blown = "9 validation errors:" + "\n  {'type': 'a', 'loc': '" + "\\'" * 1_000_000
    assert refusal(blown + "', 'msg': '" + "\\" * 1_000_001, n=1)[1] is None
