"""Why an engine refuses a request, as its caller can use it: one sentence and one field. Pure.

vLLM says it in three ways (seen with 0.32), and this is the only place that knows them:

    1 validation error:\\n  {'type': 'int_parsing', 'loc': 'body.seed', 'msg': 'Input should be ...', 'input': 'x'}
        one line for each way in which the body could have been meant, so eleven for one mistake in an embedding
    7 validation errors for ValidatorIterator\\n0.SomeType.type\\n  Input should be 'text' [type=..., input_value=...]
        pydantic's own words, of what it looks at late
    top_k must be 0 (disable), or at least 1, got -5. (parameter=top_k, value=-5)
        a sentence, often without the field's name behind it
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

_MOST_READ = 20_000  # characters of a refusal; a caller's own words may stand in it
_LINES = re.compile(
    r"'type': '(?P<kind>\w+)', 'loc': '(?P<loc>[^']*)',"
    r" 'msg': (?:'(?P<single>(?:[^'\\]|\\.)*)'|\"(?P<double>(?:[^\"\\]|\\.)*)\")"
)
_PYDANTIC = re.compile(r"^(?P<loc>\S+)\n {2}(?P<msg>.+?) \[type=(?P<kind>\w+)", re.MULTILINE)
_PARAMETER = re.compile(r"\s*\(parameter=(\w+)(?:, value=.*)?\)\s*$", re.DOTALL)
_TYPE_NAME = re.compile(r"[A-Z]|.*\[")  # of a branch that a body could have been meant as
_GRAMMAR = re.compile(r"grammar|structured output|^Choice '", re.IGNORECASE)
_NO_REASON = "The engine refused the request without giving a reason."


class Refusal(NamedTuple):
    """What a caller is told."""

    message: str
    param: str | None


class _Violation(NamedTuple):
    path: str
    kind: str
    says: str


def read_refusal(body: bytes, payload: Mapping[str, Any]) -> Refusal:
    """Of the body of an engine's refusal to answer `payload`."""
    try:
        error = orjson.loads(body)["error"]
        text, param = str(error["message"])[:_MOST_READ], error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Refusal(_NO_REASON, None)
    if (violation := _main(text, payload)) is not None:
        says = violation.says.rstrip(".")
        where: str | None = violation.path
        if _field(violation.path) not in payload:  # what it looks at late are parts of messages
            where = "messages" if "messages" in payload else None
        return Refusal(f"{says} in `{where}`." if where else f"{says}.", where)
    if (behind := _PARAMETER.search(text)) is not None:
        text, param = text[: behind.start()], param or behind[1]
    if isinstance(param, str) and _field(path := _path(param)) in payload:
        return Refusal(text, path)
    return Refusal(text, _named(text, payload))


def _main(text: str, payload: Mapping[str, Any]) -> _Violation | None:
    """The one of many that says what is wrong, however the body was meant."""
    found = [
        _Violation(_path(line["loc"]), line["kind"], line["single"] or line["double"] or "Input is not valid")
        for line in _LINES.finditer(text)
    ]
    if not found and "validation error" in text[:80]:
        found = [_Violation(_path(line["loc"]), line["kind"], line["msg"]) for line in _PYDANTIC.finditer(text)]
    for is_beside_the_point in (
        lambda one: one.kind == "missing",  # in another meaning of the body
        lambda one: one.kind == "literal_error" and one.path.endswith((".role", ".type")),
        lambda one: _field(one.path) not in payload,
    ):
        found = [one for one in found if not is_beside_the_point(one)] or found
    if not found:
        return None
    most_often = Counter(one.path for one in found).most_common(1)[0][0]
    return next(one for one in found if one.path == most_often)


def _path(loc: str) -> str:
    """`body.messages.0.ChatCompletionUserMessageParam.content` as `messages[0].content`."""
    parts = [part for part in loc.removeprefix("body.").split(".") if not _TYPE_NAME.match(part)]
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".")


def _field(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _named(text: str, payload: Mapping[str, Any]) -> str | None:
    """The field that a sentence is about: the first that it names as a name, and not as a word like any other."""
    if "out of vocabulary" in text:
        return next((name for name in ("prompt", "input") if name in payload), None)
    places = {}
    for name in payload:
        exact = re.escape(name)
        as_name = rf"\b{exact}\b" if "_" in name else rf"^{exact} |[`'\"]{exact}[`'\"]|\b{exact}(?:=| must )"
        if (found := re.search(as_name, text)) is not None:
            places[name] = found.start()
    if places:
        return min(places, key=lambda name: places[name])
    if _GRAMMAR.search(text):
        return next((name for name in ("structured_outputs", "response_format") if name in payload), None)
    return None
