"""Endpoints of OpenAI's whose kind of model the catalog does not have: who may call is told so, and what there is."""

from __future__ import annotations

from typing import Annotated, Any, Never

from msgspec import Meta, Struct

from serving.keys import KeyRecord
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.wire import Endpoint, parse, typed
from studio.errors import NotFound


class ModerationRequest(Struct, kw_only=True):
    """`/v1/moderations`"""

    input: str | Annotated[list[Any], Meta(min_length=1)]
    model: str | None = None


class ImageRequest(Struct, kw_only=True):
    """`/v1/images/generations`"""

    prompt: Annotated[str, Meta(min_length=1)]
    model: str | None = None


ABSENT = (
    Endpoint("/v1/moderations", "", ModerationRequest, frozenset({"moderation"}), "", is_metered=False),
    Endpoint("/v1/images/generations", "", ImageRequest, frozenset({"image generation"}), "", is_metered=False),
)


class AbsentEndpoint(TokenEndpoint):
    """A path that nothing answers yet."""

    async def read(self, caller: KeyRecord, body: bytes) -> Never:
        typed(parse(body), self._endpoint.request)
        (kind,) = self._endpoint.tasks
        there = ", ".join(sorted({variant.task for variant in self._gateway.view.fleet.variants.values()}))
        raise NotFound(
            f"No model for {kind} is in the catalog, so {self._endpoint.path} has nothing to answer with. There are"
            f" models for {there or 'nothing yet'}; `GET /v1/models` lists them.",
            way_out="",
            code="model_not_found",
            param="model",
        )
