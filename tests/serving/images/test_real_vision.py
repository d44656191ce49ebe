"""Images on vLLM itself: a tiny random vision model behind a gateway."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import httpx
import pytest

from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, attach, wait_until
from tests.serving.images import tiny_vision_model
from tests.serving.images.conftest import TinyEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SEEING = "qwen2.5-vl-7b"


def png(red: int) -> str:
    """A red square as a data: URL."""
    rows = (b"\0" + bytes((red, 0, 0)) * 16) * 16
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_an_image_is_read_and_counted_and_no_engine_asks_for_one(
    vllm: TinyEngine, house: House, gateway: GatewayProcess, api: httpx.Client
) -> None:
    attach(house.operator, vllm.url, SEEING)
    wait_until(lambda: api.get(f"/v1/models/{SEEING}").json()["state"] == "warm")
    text = {"type": "text", "text": "what is it"}

    def ask(*parts: dict[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": [text, *parts]}]
        body = {"model": SEEING, "messages": messages, "max_tokens": 2, "temperature": 0}
        answer: dict[str, Any] = api.post("/v1/chat/completions", json=body, timeout=120).json()
        return answer

    without, with_image = ask(), ask({"type": "image_url", "image_url": {"url": png(200)}})
    grown = with_image["usage"]["prompt_tokens"] - without["usage"]["prompt_tokens"]
    assert grown == tiny_vision_model.QUERY_TOKENS

    # What would make vLLM fetch an address arrives there as the mere text that it claims to be...
    smuggled = {"type": "text", "text": "", "uuid": "u", "image_url": "http://127.0.0.1:9/"}
    assert ask(smuggled)["usage"]["prompt_tokens"] <= without["usage"]["prompt_tokens"] + 1
    # ... and the engine itself would refuse it.
    direct = {"model": "stub", "messages": [{"role": "user", "content": [text, smuggled]}], "max_tokens": 1}
    refused = httpx.post(f"{vllm.url}/v1/chat/completions", json=direct, timeout=120)
    assert refused.status_code == 400
    assert "allowed domains" in refused.text
