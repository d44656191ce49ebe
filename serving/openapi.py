"""The OpenAPI document: the routes that FastAPI knows, the token endpoints that it does not, and what all can refuse.

The token endpoints' types say what they take. What they answer is OpenAI's or Anthropic's; here stand the keys that a
client may rely on. `tests/serving/conformance/test_openapi.py` holds every answer against this document.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from serving.cache.wish import HEADER as CACHE_HEADER
from serving.cache.wish import PATTERN as CACHE_PATTERN
from serving.identity.needs import Need, described, in_words, needs_of
from serving.identity.permissions import Permission
from serving.languages import TOKEN_ENDPOINTS
from serving.messages.wire import COUNT_TOKENS, MESSAGES
from serving.tokens import waiting
from serving.tokens.absent import ABSENT
from serving.tokens.tokenizer import DETOKENIZE, TOKENIZE
from serving.tokens.wire import BATCHED, CHAT, COMPLETIONS, EMBEDDINGS, TAG_LENGTH, Endpoint
from studio.settings import settings

_REF = "#/components/schemas/{name}"
_ANTHROPIC = (MESSAGES, COUNT_TOKENS)

_REFUSALS = {
    "400": "The request cannot be right; `param` names the field.",
    "401": "No key, or one that is mistyped, unknown, expired or revoked.",
    "403": "The key lacks the scope that this needs.",
    "404": "There is no such thing, or it is not yours.",
    "409": "It exists already, or is in a state that does not allow this.",
    "413": "The body is too large.",
    "415": "The body is in a form that is not read here.",
    "429": "Over your limit, or out of money; `code` tells which.",
    "500": "The gateway failed; the header `x-request-id` names the case.",
    "503": "No engine can answer now; `retry-after` and the message say when.",
}

_TAG: dict[str, Any] = {
    "name": "x-studio-tag",
    "in": "header",
    "required": False,
    "description": "what `/v1/usage` groups by as `tag`",
    "schema": {"type": "string", "maxLength": TAG_LENGTH},
}
_MAX_WAIT = {
    "name": waiting.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "number", "minimum": 0, "maximum": waiting.LONGEST_SECONDS},
    "description": "How many seconds the request may wait for the model to be ready, instead of a 503 at once",
}
_CACHE = {
    "name": CACHE_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": f"^{CACHE_PATTERN}$"},
    "description": "`use`: a deterministic request may be answered from your organization's cache and kept there, for"
    " an hour or `ttl` seconds; `always`: a sampled one, too. `Cache-Control` of the request bounds it. The answer's"
    " header of the same name says `hit`, `miss` or `bypass`",
}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_USAGE = _object(prompt_tokens=_COUNT, total_tokens=_COUNT)
_SCHEMAS = {
    "Error": _object(
        error=_object(message=_TEXT, type=_TEXT, param={"type": ["string", "null"]}, code=_TEXT),
    )
    | {"description": "OpenAI's error envelope. The message names reason and way out."},
    "MessagesError": _object(type={"const": "error"}, error=_object(type=_TEXT, message=_TEXT), request_id=_TEXT)
    | {"description": "Anthropic's error envelope."},
    "ChatCompletion": _object(
        id=_TEXT,
        object={"const": "chat.completion"},
        created=_COUNT,
        model=_TEXT,
        choices=_list_of(_object(index=_COUNT, message={"type": "object"}, finish_reason=_TEXT)),
        usage=_USAGE,
    ),
    "Completion": _object(
        id=_TEXT,
        object={"const": "text_completion"},
        created=_COUNT,
        model=_TEXT,
        choices=_list_of(_object(index=_COUNT, text=_TEXT, finish_reason=_TEXT)),
        usage=_USAGE,
    ),
    "Embeddings": _object(
        object={"const": "list"},
        model=_TEXT,
        data=_list_of(
            _object(
                index=_COUNT,
                object={"const": "embedding"},
                embedding={"oneOf": [_list_of({"type": "number"}), _TEXT]},
            )
        ),
        usage=_USAGE,
    ),
    "AnthropicMessage": _object(
        id=_TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        model=_TEXT,
        content=_list_of(_object(type=_TEXT)),
        stop_reason=_TEXT,
        stop_sequence={"type": ["string", "null"]},
        usage=_object(input_tokens=_COUNT, output_tokens=_COUNT),
    ),
    "TokenCount": _object(input_tokens=_COUNT),
}
_ANSWERS = {
    CHAT.path: "ChatCompletion",
    COMPLETIONS.path: "Completion",
    EMBEDDINGS.path: "Embeddings",
    MESSAGES.path: "AnthropicMessage",
    COUNT_TOKENS.path: "TokenCount",
}
_EXAMPLE_MODEL = "smollm2-135m-instruct"
_HELLO = {"model": _EXAMPLE_MODEL, "messages": [{"role": "user", "content": "Hello"}]}
_EXAMPLES: dict[str, dict[str, Any]] = {
    CHAT.path: _HELLO | {"max_tokens": 32},
    COMPLETIONS.path: {"model": _EXAMPLE_MODEL, "prompt": "Once upon a time", "max_tokens": 32},
    EMBEDDINGS.path: {"model": "all-minilm-l6-v2", "input": "Hello"},
    MESSAGES.path: _HELLO | {"max_tokens": 32},
    COUNT_TOKENS.path: _HELLO,
}


def complete(app: FastAPI) -> None:
    """Make `/openapi.json` true for every path of this process."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        routes=app.routes,
        servers=[{"url": settings().gateway_url}],
        description="OpenAI's and Anthropic's APIs over our own models, and what operators need.",
    )
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    _, types = msgspec.json.schema_components([one.request for one in TOKEN_ENDPOINTS], ref_template=_REF)
    for more in (types, _SCHEMAS):
        assert not schemas.keys() & more.keys(), "two types of the document have the same name"
        schemas.update(more)
    # FastAPI's own words for a wrong field; ours are an envelope with status 400.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`xpu_...`), or an access token (JWT) of the OpenID provider.",
        },
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key."},
    }
    components["responses"] = {
        f"{family}{status}": {
            "description": why,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=family)}}},
        }
        for status, why in _REFUSALS.items()
        for family in ("Error", "MessagesError")
    }
    paths = {endpoint.path: {"post": _operation(endpoint)} for endpoint in TOKEN_ENDPOINTS}
    paths |= {one.engine_path: {"post": _operation(one) | _at_the_root(one)} for one in (TOKENIZE, DETOKENIZE)}
    document["paths"] = paths | document["paths"]
    _declare_needs(app, document["paths"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
    return document


def _declare_needs(app: FastAPI, paths: dict[str, Any]) -> None:
    """What each route asks of its caller, for programs and for people."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = paths.get(route.path_format or "", {}).get(method.lower())
            if operation is not None:
                needs = described(needs_of(route))
                operation.update(needs)
                operation["description"] = f"{operation.get('description', '')}\n\n{in_words(needs)}".strip()


def _at_the_root(endpoint: Endpoint) -> dict[str, Any]:
    return {"operationId": "post" + endpoint.engine_path.replace("/", "_")}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": {"$ref": _REF.format(name=endpoint.request.__name__)}}
    if endpoint.path in _EXAMPLES:
        body["example"] = _EXAMPLES[endpoint.path]
    answer = _ANSWERS.get(endpoint.path)
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": _REF.format(name=answer)} if answer else {"type": "object"}}
    }
    if endpoint.generates:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    needs = described(frozenset({Need(Permission.INFERENCE)}))
    if endpoint in _ANTHROPIC:
        needs["security"] = [*needs["security"], {"x-api-key": []}]
    good = {"200": {"description": "The object that clients of this path expect, or its stream", "content": content}}
    return {
        "tags": ["tokens"],
        "operationId": "post" + endpoint.path.replace("/", "_"),
        "summary": (endpoint.request.__doc__ or endpoint.path).strip("`"),
        "description": f"Fields that are not listed here are passed to the engine.\n\n{in_words(needs)}",
        **needs,
        "parameters": [_TAG, _MAX_WAIT, *([_CACHE] if endpoint in BATCHED else [])]
        if endpoint.is_metered
        else [_MAX_WAIT],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {} if endpoint in ABSENT else good,
    }


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    """What it may refuse."""
    is_anthropic = path in {endpoint.path for endpoint in _ANTHROPIC}
    is_tokens = "tokens" in operation.get("tags", ())
    statuses = {"400", "500"}
    if operation["security"]:
        statuses |= {"401", "403", "429", "503"}
    if "sign-in" in operation.get("tags", ()):  # by cookie, which the document has no word for
        statuses |= {"401", "403", "503"}
    if is_tokens or operation.get("parameters"):
        statuses.add("404")
    if method != "get" and not is_tokens:
        statuses |= {"404", "409"}
    if "requestBody" in operation:
        statuses |= {"413", "415"}
    responses = operation["responses"]
    responses.pop("422", None)
    family = "MessagesError" if is_anthropic else "Error"
    for status in sorted(statuses - responses.keys()):
        responses[status] = {"$ref": f"#/components/responses/{family}{status}"}
