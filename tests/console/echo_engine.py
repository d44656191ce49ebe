"""An engine that answers with what it was asked, whole: for answers that no stub would think of, such as hostile ones.

It speaks as much of vLLM's chat stream as the gateway reads. A word is a token. Offered a tool, it calls the first with
what it was asked; asked for the probabilities of tokens, it is sure of each; asked for `endless`, it never ends. Of
several answers each but the first says its number.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web

PIECE = 400  # characters of one event
ENDLESS = "and so on " * 2_000


def _said(message: dict[str, Any]) -> str:
    """A message's text; each picture as a word."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return " ".join(part["text"] if part["type"] == "text" else "[picture]" for part in content)


def _deltas(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What an answer consists of."""
    last = asked["messages"][-1]
    text = _said(last)
    if asked.get("tools") and last["role"] == "user":
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": function}]}
        yield {"tool_calls": [{"index": 0, "function": {"arguments": orjson.dumps({"asked": text}).decode()}}]}
        return
    while text == "endless":
        yield {"content": ENDLESS}
    for at in range(0, len(text), PIECE):
        yield {"content": text[at : at + PIECE]}


async def _chat(request: web.Request) -> web.StreamResponse:
    asked = orjson.loads(await request.read())
    text = _said(asked["messages"][-1])
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    usage = {"prompt_tokens": len(text.split()), "completion_tokens": 0, "total_tokens": 0}
    chunk = {"id": "chatcmpl-echo", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
    written = 0
    for index in range(asked.get("n") or 1):
        # As in vLLM a running count is of one answer, and only the closing one of all.
        running = usage
        for number, delta in enumerate(_deltas(asked), 1):
            if index and delta.get("content"):
                delta["content"] += f", number {index + 1}"
            running = usage | {"completion_tokens": number, "total_tokens": usage["prompt_tokens"] + number}
            one = {"token": delta.get("content", ""), "logprob": 0.0, "bytes": None, "top_logprobs": []}
            logprobs = {"content": [one]} if asked.get("logprobs") else None
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
            await response.write(b"data: " + orjson.dumps(chunk | {"choices": [choice], "usage": running}) + b"\n\n")
        written += running["completion_tokens"]
        reason = "tool_calls" if asked.get("tools") else "stop"
        finish = {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}
        await response.write(b"data: " + orjson.dumps(chunk | {"choices": [finish], "usage": running}) + b"\n\n")
    usage |= {"completion_tokens": written, "total_tokens": usage["prompt_tokens"] + written}
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
