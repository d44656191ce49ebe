"""The life of one request for a response: read with what it continues, relayed as a chat, kept before its end is told.

What fails in the store after the answer is complete costs nobody the answer: it goes out with `store: false`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError

from serving.gateway import Gateway
from serving.keys import KeyRecord
from serving.responses import chat
from serving.responses.answer import outline
from serving.responses.background import Background
from serving.responses.dialect import ResponsesDialect
from serving.responses.items import Item, read_input, with_ids
from serving.responses.request import (
    INPUT_TOKENS,
    RESPONSES,
    AskedAlways,
    ResponsesRequest,
    others,
    read_request,
    read_tokens_request,
)
from serving.responses.store import Kept, ResponseStore
from serving.tokens.client import Client
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.relay import JSON, Relay
from serving.tokens.request import Request
from serving.tokens.tokenizer import TokenizerEndpoint
from serving.tokens.usage import counted
from serving.tokens.wire import Call, parse
from studio import ids
from studio.errors import InvalidRequest, ServiceUnavailable, StudioError

PATIENCE = timedelta(seconds=10)  # with the database; a connection that hears nothing would wait for minutes

Result = TypeVar("Result")

log = structlog.get_logger()


class ResponsesCall(Call, frozen=True, kw_only=True):
    """A chat, and the request for a response that it stands for."""

    request: ResponsesRequest
    tools: chat.Tools
    items: list[Item]  # of this request, without what it continues
    chat_bytes: int  # of all that the model reads

    def bytes_read(self, body_bytes: int) -> int:
        """What is continued is no part of the body."""
        return self.chat_bytes


class ResponsesEndpoint(TokenEndpoint):
    """`POST /v1/responses`"""

    def __init__(self, gateway: Gateway, store: ResponseStore) -> None:
        super().__init__(RESPONSES, gateway)
        self._store = store
        self._background = Background(store)

    async def read(self, caller: KeyRecord, body: bytes) -> ResponsesCall:
        payload = parse(body)
        request = read_request(payload)
        tools, items, messages = await _read_conversation(self._store, caller, request)
        chat_payload = chat.chat_payload(request, messages, tools, others(payload))
        return ResponsesCall(
            endpoint=RESPONSES,
            payload=chat_payload,
            model=request.model,
            client_salt=request.cache_salt or "",
            stream=chat_payload["stream"],
            include_usage=False,
            continuous_usage=False,
            request=request,
            tools=tools,
            items=items,
            chat_bytes=_size(chat_payload),
        )

    def dialect(self, call: Call, id: UUID) -> ResponsesDialect:
        assert isinstance(call, ResponsesCall)
        response = outline(call.request, call.tools, call.request.previous_response_id, id)
        return ResponsesDialect(id, response)

    async def keep(self, request: Request, content: dict[str, Any] | None) -> None:
        call, dialect = _parts(request)
        dialect.conclude() if content is None else dialect.read(content)
        if call.request.background or not call.request.is_stored:
            return
        try:
            await self._add(request.caller, _kept(request))
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("response_not_stored", response=dialect.response["id"], error=type(error).__name__)
            dialect.response["store"] = False

    async def answer(self, client: Client, request: Request) -> None:
        if not _parts(request)[0].request.background:
            await super().answer(client, request)
            return
        kept = _kept(request)
        try:
            await self._add(request.caller, kept)
        except (SQLAlchemyError, TimeoutError) as error:
            raise _unreachable(error) from error
        await client.answer(200, JSON + request.headers, orjson.dumps(kept.response))
        await self._run(request)

    async def _add(self, caller: KeyRecord, kept: Kept) -> None:
        """Add a row in time. Otherwise raise, and see to it that there is none: the caller will hear so."""
        adding = asyncio.create_task(asyncio.to_thread(self._store.add, caller, kept))
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await asyncio.shield(adding)  # a thread cannot be ended from outside
        except (SQLAlchemyError, TimeoutError):
            self._background.withdraw(adding, caller, kept)
            raise

    async def _run(self, request: Request) -> None:
        """Nobody listens any more, so whatever happens is written down and raised no further."""
        _, dialect = _parts(request)
        async with self._background.running(request.caller, request.id) as nobody:
            try:
                await Relay(self._gateway, nobody.client, request, self.keep).run()
            except StudioError as error:
                dialect.fail(error)
            except asyncio.CancelledError:
                # The gateway stops and no token has come yet. What is left of its time is enough for a row.
                dialect.fail(ServiceUnavailable("The gateway is stopping.", retry_after=timedelta(seconds=1)))
            except Exception:
                log.exception("request_failed", request=dialect.response["id"])
                dialect.fail(StudioError("The gateway failed."))
            await self._background.end(request.caller, _kept(request))


class InputTokensEndpoint(TokenizerEndpoint):
    """`POST /v1/responses/input_tokens`: how long a prompt is, in the words of its model's own tokenizer. Free."""

    def __init__(self, gateway: Gateway, store: ResponseStore) -> None:
        super().__init__(INPUT_TOKENS, gateway)
        self._store = store

    async def read(self, caller: KeyRecord, body: bytes) -> Call:
        request = read_tokens_request(parse(body))
        tools, _, messages = await _read_conversation(self._store, caller, request)
        payload = {"messages": messages, **tools.for_engine()}
        payload.pop("tool_choice", None)
        _size(payload)
        return Call(INPUT_TOKENS, payload, request.model, "", False, False, False)

    def _shown(self, answer: dict[str, Any], request: Request) -> dict[str, Any]:
        return {"object": "response.input_tokens", "input_tokens": counted(answer)}


async def _read_conversation(
    store: ResponseStore, caller: KeyRecord, request: AskedAlways
) -> tuple[chat.Tools, list[Item], list[chat.Message]]:
    """What is asked, with what it continues: tools, the items of this request, and all of it as a chat."""
    tools = chat.read_tools(request)
    items = read_input(request.input)
    if any(item["type"] == "item_reference" for item in items):
        items = await from_store(store.resolve, caller.tenant_id, items)
    earlier: list[Item] = []
    if request.previous_response_id is not None:
        earlier = await from_store(store.conversation, caller.tenant_id, request.previous_response_id)
    return tools, items, chat.chat_messages(request.instructions, [*earlier, *items])


async def from_store(read: Callable[..., Result], *arguments: Any) -> Result:
    """What a request cannot do without; ServiceUnavailable while the store is away."""
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await asyncio.to_thread(read, *arguments)
    except (SQLAlchemyError, TimeoutError) as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> ServiceUnavailable:
    log.warning("responses_unreachable", error=type(error).__name__)
    return ServiceUnavailable(
        "Stored responses cannot be reached at the moment.",
        retry_after=timedelta(seconds=2),
        way_out="Try again in 2 s; `store: false` without `previous_response_id` works now.",
    )


def _parts(request: Request) -> tuple[ResponsesCall, ResponsesDialect]:
    assert isinstance(request.call, ResponsesCall)
    assert isinstance(request.dialect, ResponsesDialect)
    return request.call, request.dialect


def _kept(request: Request) -> Kept:
    call, dialect = _parts(request)
    previous = call.request.previous_response_id
    return Kept(
        request.id,
        with_ids(call.items, request.id),
        dialect.response,
        ids.from_wire(ids.RESPONSE, previous) if previous is not None else None,
    )


def _size(chat_payload: dict[str, Any]) -> int:
    try:
        return len(orjson.dumps([chat_payload]))
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
