"""The token endpoints in the OpenAPI document. FastAPI does not know them; their types say what they take."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.responses.request import ENDPOINTS as RESPONSES_ENDPOINTS
from serving.tokens.wire import ENDPOINTS as CHAT_ENDPOINTS
from serving.tokens.wire import Endpoint

ENDPOINTS = (*CHAT_ENDPOINTS, *RESPONSES_ENDPOINTS)
_REF = "#/components/schemas/{name}"


def declare_token_endpoints(app: FastAPI) -> None:
    """Make `/openapi.json` complete."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, components = msgspec.json.schema_components([one.request for one in ENDPOINTS], ref_template=_REF)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            schema["paths"].update({endpoint.path: _operation(endpoint) for endpoint in ENDPOINTS})
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    body = {"$ref": _REF.format(name=endpoint.request.__name__)}
    return {
        "post": {
            "tags": ["tokens"],
            "summary": f"OpenAI's {endpoint.path}; fields not listed here are passed to the engine",
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": {"description": "OpenAI's object, or its stream of events"}},
        }
    }
