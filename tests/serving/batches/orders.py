"""Batch files as customers write them, and results as they read them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import openai
from openai.types import Batch

from tests.serving.gateway_process import CHAT

ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, url: str = "/v1/chat/completions", method: str = "POST", **body: Any) -> str:
    """One good line, unless told otherwise."""
    request: dict[str, Any] = {"model": CHAT, "max_tokens": 10}
    if url == "/v1/chat/completions":
        request["messages"] = [{"role": "user", "content": f"say {custom_id}"}]
    request |= body
    return json.dumps({"custom_id": custom_id, "method": method, "url": url, "body": request})


def submit(sdk: openai.OpenAI, lines: Iterable[str], endpoint: str = "/v1/chat/completions", **options: Any) -> Batch:
    """Upload and create."""
    file = sdk.files.create(file=("orders.jsonl", "\n".join(lines).encode()), purpose="batch")
    window = options.pop("window", "24h")
    return sdk.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]  # one of the SDK's own
        completion_window=window,
        **options,
    )


def wait_for_state(sdk: openai.OpenAI, batch: Batch, *states: str, seconds: float = 30) -> Batch:
    """Poll until the batch is in one of the states."""
    deadline = time.monotonic() + seconds
    while (now := sdk.batches.retrieve(batch.id)).status not in states:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def results(sdk: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a result file; none when there is no file."""
    if file_id is None:
        return []
    return [json.loads(text) for text in sdk.files.content(file_id).text.splitlines()]
