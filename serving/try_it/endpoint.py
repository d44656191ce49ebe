"""`POST /v1/try-it/ask`: a visitor's question becomes a chat request with our limits; its stream passes through."""

from __future__ import annotations

import orjson

from serving import envelope
from serving.gateway import Gateway
from serving.sign_in.cookies import Cookies
from serving.tokens.client import Client, ClientLeft, Message, Receive, Scope, Send
from serving.tokens.endpoint import TokenEndpoint
from serving.tokens.wire import CHAT
from serving.try_it.allowance import visitor_address
from serving.try_it.box import MOST_CHARACTERS, MOST_TOKENS
from serving.try_it.choice import cheapest_warm
from studio import clock
from studio.errors import InvalidRequest, MethodNotAllowed, StudioError

PATH = "/v1/try-it/ask"
_MOST_BODY_BYTES = 16 * 1024
_AT_ONCE = 4  # of one gateway: visitors must not take the places of who pays
_TEMPLATE_TOKENS = 64  # what a chat template adds at most


class TryItEndpoint:
    """An ASGI application ahead of the chat endpoint."""

    def __init__(self, gateway: Gateway, chat: TokenEndpoint, cookies: Cookies, proxies: int) -> None:
        self._gateway = gateway
        self._chat = chat
        self._cookies = cookies
        self._proxies = proxies
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        box, now = self._gateway.try_it, clock.now()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(scope["method"], PATH, ("POST",))
            word = await box.open()
            self._cookies.require_same_origin(scope["headers"])  # another site must not spend what is for our visitors
            prompt = _prompt(await client.read_body(_MOST_BODY_BYTES))
            fleet, health = self._gateway.view.fleet, self._gateway.engines.balancer.health
            variant = cheapest_warm(fleet, now, health)
            if self._running >= _AT_ONCE:
                raise Busy
            tokens = MOST_TOKENS + len(prompt.encode()) + _TEMPLATE_TOKENS  # a token has at least one byte
            address = visitor_address(
                (scope.get("client") or ("",))[0], client.header(b"x-forwarded-for"), self._proxies
            )
            await box.allowance.take(address, tokens, now)
        except ClientLeft:
            return
        except StudioError as error:
            await client.answer(error.status, envelope.headers_of(error), envelope.body_of(error))
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        try:
            inner = {**scope, "path": CHAT.path, "raw_path": CHAT.path.encode()}
            inner["headers"] = [(b"authorization", word), (b"content-type", b"application/json")]
            await self._chat(inner, _with_body(_body(variant.id, prompt), receive), watched)
        finally:
            self._running -= 1
            if status != 200:
                box.allowance.give_back(tokens, now)


class Busy(StudioError):
    """As many visitors as may ask at once are asking."""

    status, type, default_code = 429, "rate_limit_error", "try_it_busy"

    def __init__(self) -> None:
        super().__init__("Several visitors are asking at the moment. Try again in some seconds.")


def _prompt(body: bytes) -> str:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body must be JSON.") from error
    prompt = asked.get("prompt") if isinstance(asked, dict) else None
    if not isinstance(prompt, str) or not 0 < len(prompt.strip()) <= len(prompt) <= MOST_CHARACTERS:
        raise InvalidRequest(f"`prompt` must have 1 to {MOST_CHARACTERS} characters.", param="prompt")
    return prompt


def _body(model: str, prompt: str) -> bytes:
    return orjson.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MOST_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
    )


def _with_body(body: bytes, receive: Receive) -> Receive:
    is_read = False

    async def received() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()  # which tells when the visitor leaves
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received
