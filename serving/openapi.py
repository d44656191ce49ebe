"""The token endpoints in the OpenAPI document. FastAPI does not know them; their types say what they take."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from serving.identity.needs import Need, described, in_words, needs_of
from serving.identity.permissions import Permission
from serving.responses.request import ENDPOINTS as RESPONSES
from serving.tokens import waiting
from serving.tokens.absent import ABSENT
from serving.tokens.tokenizer import DETOKENIZE, TOKENIZE
from serving.tokens.wire import ENDPOINTS, TAG_LENGTH, Endpoint

_TAG: dict[str, Any] = {
    "name": "x-studio-tag",
    "in": "header",
    "required": False,
    "description": "what `/v1/usage` groups by as `tag`",
    "schema": {"type": "string", "maxLength": TAG_LENGTH},
}
_DECLARED = (*ENDPOINTS, *RESPONSES, *ABSENT, TOKENIZE, DETOKENIZE)
_REF = "#/components/schemas/{name}"

_MAX_WAIT = {
    "name": waiting.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "number", "minimum": 0, "maximum": waiting.LONGEST_SECONDS},
    "description": "How many seconds the request may wait for the model to be ready, instead of a 503 at once",
}


def declare_token_endpoints(app: FastAPI) -> None:
    """Make `/openapi.json` complete."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, components = msgspec.json.schema_components([one.request for one in _DECLARED], ref_template=_REF)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            schema["paths"].update({endpoint.path: _operation(endpoint) for endpoint in _DECLARED})
            schema["paths"].update({one.engine_path: _operation(one) for one in (TOKENIZE, DETOKENIZE)})
            _declare_needs(app, schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _declare_needs(app: FastAPI, schema: dict[str, Any]) -> None:
    """What each route asks of its caller, in every operation, for programs and for people."""
    schema["components"].setdefault("securitySchemes", {})["bearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`xpu_...`), or an access token (JWT) of the OpenID provider.",
    }
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = schema["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                needs = described(needs_of(route))
                operation.update(needs)
                operation["description"] = f"{operation.get('description', '')}\n\n{in_words(needs)}".strip()


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    body = {"$ref": _REF.format(name=endpoint.request.__name__)}
    needs = described(frozenset({Need(Permission.INFERENCE)}))
    return {
        "post": {
            "tags": ["tokens"],
            "summary": f"{endpoint.path}; fields not listed here are passed to the engine",
            "description": in_words(needs),
            **needs,
            "parameters": [_TAG, _MAX_WAIT] if endpoint.is_metered else [_MAX_WAIT],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"404": {"description": "The catalog has no model of this kind"}}
            if endpoint in ABSENT
            else {"200": {"description": "The object that clients of this path expect, or its stream of events"}},
        }
    }
