"""Which endpoints a key can be confined to: those that there are. A mistyped one would lock its key out."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from serving.languages import TOKEN_ENDPOINTS
from studio.errors import InvalidRequest


def require_known_endpoints(app: FastAPI, endpoints: Collection[str] | None) -> None:
    """InvalidRequest for a path at and below which nothing is."""
    if endpoints is None:
        return
    paths = [endpoint.path for endpoint in TOKEN_ENDPOINTS]
    paths += [route.path for route in iter_route_contexts(app.routes) if route.path]
    ours = [path for path in paths if path.startswith("/v1/")]
    for endpoint in endpoints:
        if not any(path == endpoint or path.startswith(f"{endpoint}/") for path in ours) or endpoint == "/v1":
            raise InvalidRequest(
                f"there is no endpoint {endpoint}; write a path such as /v1/chat/completions", param="endpoints"
            )
