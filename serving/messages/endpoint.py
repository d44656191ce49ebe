"""`/v1/messages` and its count: token endpoints with Anthropic's key header, envelope and events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from serving.gateway import Gateway
from serving.keys import KeyRecord
from serving.messages import envelope
from serving.messages.dialect import MessagesDialect
from serving.messages.wire import COUNT_TOKENS, MESSAGES, read_count, read_messages
from serving.tokens.answers import Dialect
from serving.tokens.client import Scope
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.request import Request
from serving.tokens.tokenizer import TokenizerEndpoint
from serving.tokens.usage import counted
from serving.tokens.wire import Call
from studio.errors import StudioError


def take_key(scope: Scope) -> None:
    """Anthropic's clients send the key in a header of its own. It is the same key, so it goes where all others are.
    On the paths that others ask, too, what they themselves send for a key is the key."""
    key = next((value for name, value in scope["headers"] if name == b"x-api-key"), None)
    is_theirs = scope["path"].startswith(MESSAGES.path)
    if key is not None and (is_theirs or all(name != b"authorization" for name, _ in scope["headers"])):
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


class CountTokensEndpoint(_AnthropicEndpoint, TokenizerEndpoint):
    """`/v1/messages/count_tokens`: the model's own tokenizer counts. Nothing is generated, so nothing is billed."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(COUNT_TOKENS, gateway)

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        return read_count(body)

    def _shown(self, answer: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"input_tokens": counted(answer)}
