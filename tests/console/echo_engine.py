"""An engine that answers with what it was asked, whole: for answers that no stub would think of, such as hostile ones.

It speaks as much of vLLM's chat stream as the gateway reads. A word is a token.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from aiohttp import web

PIECE = 400  # characters of one event


async def _chat(request: web.Request) -> web.StreamResponse:
    asked = orjson.loads(await request.read())
    text: str = asked["messages"][-1]["content"]
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    usage = {"prompt_tokens": len(text.split()), "completion_tokens": 0, "total_tokens": 0}
    chunk = {"id": "chatcmpl-echo", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
    for number, piece in enumerate(pieces, 1):
        usage = usage | {"completion_tokens": number, "total_tokens": usage["prompt_tokens"] + number}
        finish = "stop" if number == len(pieces) else None
        choice = {"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": finish}
        await response.write(b"data: " + orjson.dumps(chunk | {"choices": [choice], "usage": usage}) + b"\n\n")
    await response.write(b"data: " + orjson.dumps(chunk | {"choices": [], "usage": usage}) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def _health(_: web.Request) -> web.Response:
    return web.Response()


@contextmanager
def echo_engine() -> Iterator[str]:
    """Its address."""
    loop = asyncio.new_event_loop()
    application = web.Application(client_max_size=1 << 24)
    application.router.add_post("/v1/chat/completions", _chat)
    application.router.add_get("/health", _health)
    runner = web.AppRunner(application)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    host, port = runner.addresses[0][:2]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://{host}:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
