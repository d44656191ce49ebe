"""`/v1/messages` and its count: token endpoints with Anthropic's key header, envelope and events."""

from __future__ import annotations

from uuid import UUID

import orjson

from serving.gateway import Gateway
from serving.keys import KeyRecord
from serving.messages import envelope
from serving.messages.dialect import MessagesDialect
from serving.messages.wire import COUNT_TOKENS, MESSAGES, read_count, read_messages
from serving.tokens import answers
from serving.tokens.answers import Dialect
from serving.tokens.client import Client, Scope
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.relay import JSON, Request
from serving.tokens.wire import Call, engine_body
from studio.errors import StudioError


def take_key(scope: Scope) -> None:
    """Anthropic's clients send the key in a header of its own. It is the same key, so it goes where all others are."""
    key = next((value for name, value in scope["headers"] if name == b"x-api-key"), None)
    if key is not None:
        scope["headers"] = [(b"authorization", b"Bearer " + key), *scope["headers"]]


class _AnthropicEndpoint(TokenEndpoint):
    """What both have in common."""

    def refusal(self, error: StudioError, id: UUID) -> bytes:
        return envelope.body_of(error, id)


class MessagesEndpoint(_AnthropicEndpoint):
    """`/v1/messages`"""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(MESSAGES, gateway)

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        return read_messages(body)

    def dialect(self, call: Call, id: UUID) -> Dialect:
        return MessagesDialect(call, id)


class CountTokensEndpoint(_AnthropicEndpoint):
    """`/v1/messages/count_tokens`: the model's own tokenizer counts. Nothing is generated, so nothing is billed."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(COUNT_TOKENS, gateway)

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        return read_count(body)

    async def answer(self, client: Client, request: Request) -> None:
        gateway, call, target = self._gateway, request.call, request.target
        counted = await gateway.engines.ask(
            gateway.view.fleet,
            target,
            call.endpoint.engine_path,
            lambda replica: engine_body(call, target, replica, "", None),
            stream=False,
        )
        try:
            if counted.status != 200:
                raise answers.engine_error(counted.status, counted.first, target, counted.replica)
            count = orjson.loads(counted.first)["count"]
        finally:
            counted.close()
        await client.answer(200, JSON + request.headers, orjson.dumps({"input_tokens": count}))
