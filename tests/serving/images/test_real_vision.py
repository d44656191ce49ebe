"""Images on vLLM itself: a tiny random vision model behind a gateway."""

from __future__ import annotations

import base64
import os
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.engine_command import EngineSpec
from studio.settings import REPOSITORY, settings
from tests.server import free_port
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess, attach, wait_until
from tests.serving.images import tiny_vision_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SEEING = "qwen2.5-vl-7b"
START_SECONDS = 400  # about 40 s on two quiet cores
FLAGS = ("--dtype=bfloat16", "--enforce-eager")
SPEC = EngineSpec(SEEING, "stub", "tiny", "chat", 512, 4, FLAGS, {"VLLM_CPU_KVCACHE_SPACE": "1"})


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the engine, started as the node agent starts one."""
    folder, port, python = tmp_path_factory.mktemp("vision"), free_port(), settings().engine_python
    tokenizer = REPOSITORY / "build" / "models" / "smollm2-135m-instruct"
    script = Path(tiny_vision_model.__file__)
    subprocess.run([str(python), str(script), str(folder / "model"), str(tokenizer)], check=True, capture_output=True)
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            SPEC.arguments(python, folder / "model", port),
            env=SPEC.environment(os.environ),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _is_healthy(url):
            assert process.poll() is None, (folder / "engine.log").read_text()[-5_000:]
            assert time.monotonic() < deadline, (folder / "engine.log").read_text()[-5_000:]
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def png(red: int) -> str:
    """A red square as a data: URL."""
    rows = (b"\0" + bytes((red, 0, 0)) * 16) * 16
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_an_image_is_read_and_counted_and_no_engine_asks_for_one(
    vllm: str, house: House, gateway: GatewayProcess, api: httpx.Client
) -> None:
    attach(house.operator, vllm, SEEING)
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
    refused = httpx.post(f"{vllm}/v1/chat/completions", json=direct, timeout=120)
    assert refused.status_code == 400
    assert "allowed domains" in refused.text
