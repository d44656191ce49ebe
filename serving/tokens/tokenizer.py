"""`/v1/tokenize` and `/v1/detokenize`: a model's tokenizer, in vLLM's shapes. Nothing is produced, nothing is billed.

An engine answers, since only it knows its model's tokenizer and chat template; what it says of itself stays here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Annotated, Any

import orjson
from msgspec import Meta, Struct

from serving.engines import Answer
from serving.fleet.view import Replica
from serving.keys import KeyRecord
from serving.tokens import answers
from serving.tokens.client import Client
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.engine_request import engine_body
from serving.tokens.relay import JSON
from serving.tokens.request import Request
from serving.tokens.usage import counted
from serving.tokens.wire import Call, Endpoint, Message, is_text, parse, typed
from studio.errors import InvalidRequest, ServiceUnavailable

_ANY_TASK = frozenset({"chat", "completion", "embedding"})
Token = Annotated[int, Meta(ge=0, lt=2**31)]


class TokenizeRequest(Struct, kw_only=True):
    """`/v1/tokenize`: a prompt, or messages as the model's chat template writes them."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Struct, kw_only=True):
    """`/v1/detokenize`"""

    model: Annotated[str, Meta(min_length=1)]
    tokens: list[Token]


TOKENIZE = Endpoint("/v1/tokenize", "/tokenize", TokenizeRequest, _ANY_TASK, "", is_metered=False)
DETOKENIZE = Endpoint("/v1/detokenize", "/detokenize", DetokenizeRequest, _ANY_TASK, "", is_metered=False)


class TokenizerEndpoint(TokenEndpoint, ABC):
    """What all that ask a tokenizer share: an engine is asked and its answer reduced to `_shown`."""

    @abstractmethod
    def _shown(self, answer: dict[str, Any], request: Request) -> dict[str, Any]:
        """The caller's answer. ValueError, KeyError and TypeError say that the engine's cannot be read."""

    async def answer(self, client: Client, request: Request) -> None:
        def body_for(replica: Replica) -> bytes:
            return engine_body(request.call, request.target, replica, "", None)

        answer = await self._gateway.engines.ask(
            self._gateway.view.fleet, request.target, self._endpoint.engine_path, body_for, stream=False
        )
        try:
            body = self._read_answer(answer, request)
        finally:
            answer.close()
        await client.answer(200, JSON + request.headers, body)

    def _read_answer(self, answer: Answer, request: Request) -> bytes:
        if answer.status != 200:
            raise answers.engine_error(
                answer.status, answer.first, request.target, answer.replica, request.call.payload
            )
        try:
            return orjson.dumps(self._shown(orjson.loads(answer.first), request))
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceUnavailable(
                "The engine gave an answer that cannot be read.", retry_after=timedelta(seconds=1)
            ) from error


class Tokenizer(TokenizerEndpoint):
    """Texts to tokens."""

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        payload = parse(body)
        request = typed(payload, TokenizeRequest)
        if (request.prompt is None) == (request.messages is None):
            raise InvalidRequest("Give either `prompt` or `messages`.", param="prompt")
        if request.messages is not None and not all(_is_text(message) for message in payload["messages"]):
            raise InvalidRequest("Only text can be counted: a part of `messages` is of another kind.", param="messages")
        return _call(TOKENIZE, payload, request.model)

    def _shown(self, answer: dict[str, Any], request: Request) -> dict[str, Any]:
        shown = {"count": counted(answer), "max_model_len": request.variant.context_tokens, "tokens": answer["tokens"]}
        return shown | {"token_strs": answer.get("token_strs"), "model": request.call.model}


class Detokenizer(TokenizerEndpoint):
    """Tokens to a text."""

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        payload = parse(body)
        return _call(DETOKENIZE, payload, typed(payload, DetokenizeRequest).model)

    def _shown(self, answer: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"prompt": answer["prompt"], "model": request.call.model}


def _call(endpoint: Endpoint, payload: dict[str, Any], model: str) -> Call:
    # The engine's defaults hold for what is absent, and it refuses `null`.
    given = {name: value for name, value in payload.items() if value is not None}
    return Call(endpoint, given, model, "", stream=False, include_usage=False, continuous_usage=False)


def _is_text(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return not isinstance(content, list) or all(is_text(part) for part in content)
