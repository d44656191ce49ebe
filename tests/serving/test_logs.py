"""Logs: one event a line, found by request and tenant, and nothing of what anybody said, however it ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio import ids
from studio.settings import REPOSITORY
from tests.server import TestServer
from tests.serving.conftest import furnished
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

MARKER = "Zanzibar-marker-4711"


def events(log: Path) -> list[dict[str, Any]]:
    """Every line, which must be one whole event."""
    found: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"event", "level", "timestamp"} <= event.keys() for event in found)
    return found


def asks(client: httpx.Client, path: str, body: Any, **headers: str) -> int:
    """The status; 0 when the connection broke."""
    with contextlib.suppress(httpx.HTTPError):
        return client.post(path, json=body, headers=headers).status_code
    return 0


def test_no_log_says_what_was_said(server: TestServer, tmp_path: Path) -> None:
    said = [{"role": "user", "content": MARKER}]
    chat = {"model": CHAT, "messages": said, "max_tokens": 20}
    with (
        furnished(server) as house,
        StubEngine() as embedding,
        GatewayProcess(
            house.database, tmp_path, settings={"STUDIO_LOG_FORMAT": "json", "STUDIO_CROSS_CHECK_SHARE": "1"}
        ) as gateway,
        httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {house.key.text}"}, trust_env=False, timeout=60
        ) as client,
    ):
        attach(house.operator, embedding.url, EMBEDDING)
        with StubEngine() as good:
            replica = attach(house.operator, good.url)
            wait_until(lambda: asks(client, "/v1/chat/completions", chat) == 200)
            assert asks(client, "/v1/chat/completions", chat | {"stream": True}) == 200
            assert asks(client, "/v1/embeddings", {"model": EMBEDDING, "input": MARKER}) == 200
            assert asks(client, "/v1/responses", {"model": CHAT, "input": MARKER}) == 200
            assert asks(client, "/v1/messages", {"model": CHAT, "messages": said, "max_tokens": 5}) == 200
            # Refused: wrong shapes, names and headers that quote it.
            assert asks(client, "/v1/chat/completions", chat | {"messages": MARKER}) == 400
            assert asks(client, "/v1/chat/completions", chat | {"temperature": MARKER}) == 400
            assert asks(client, "/v1/chat/completions", chat | {"model": MARKER}) == 404
            assert asks(client, "/v1/batches", {"input_file_id": MARKER, "endpoint": 1}) == 400
            assert asks(client, f"/v1/{MARKER}", {}) == 404
            picture = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MARKER}"}}]
            assert (
                asks(client, "/v1/chat/completions", chat | {"messages": [{"role": "user", "content": picture}]}) >= 400
            )
            assert client.get(f"/v1/models?{MARKER}", headers={"authorization": f"Bearer {MARKER}"}).status_code == 401
        # The engine is gone; then one that dies in the middle of each answer; then the gateway itself.
        assert asks(client, "/v1/chat/completions", chat) >= 500
        with house.database.superuser() as connection:
            connection.execute("update replicas set state = 'stopped' where id = %s", [replica])
        with StubEngine(die_after=3) as dying:
            attach(house.operator, dying.url)
            wait_until(lambda: asks(client, "/v1/chat/completions", chat | {"stream": True}) == 200)
            wait_until(lambda: any(event["event"] == "stream_broke_off" for event in events(gateway.log_path)))
        gateway.kill()
        gateway.start()  # adopts the journal of the one that was killed
        gateway.stop()
        found = events(gateway.log_path)
    text = gateway.log_path.read_text()
    assert MARKER not in text
    assert MARKER.lower() not in text.lower()
    assert house.key.text not in text
    broken = next(event for event in found if event["event"] == "stream_broke_off")
    assert broken["request"].startswith("req_")
    assert broken["tenant"] == ids.to_wire(ids.TENANT, house.tenant_id)
    assert {"gateway_starting", "gateway_stopped", "journal_adopted"} <= {event["event"] for event in found}


CAUGHT = "try:\n    int(MARKER)\nexcept ValueError:\n    "
LOST_TASK = """
async def bad():
    raise RuntimeError(MARKER)
async def main():
    task = asyncio.create_task(bad())
    await asyncio.sleep(0.01)
    del task
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("class M(pydantic.BaseModel):\n    n: int\nM(n=MARKER)", "pydantic_core._pydantic_core.ValidationError"),
        (CAUGHT + "structlog.get_logger().exception('failed')", "builtins.ValueError"),
        (CAUGHT + "logging.getLogger('library').exception('odd')", "builtins.ValueError"),
        (LOST_TASK, "builtins.RuntimeError"),
    ],
    ids=["it ends the process", "it is caught", "a library logs it", "nobody waits for the task"],
)
def test_an_exception_is_told_by_its_place_and_kind_without_its_words(code: str, kind: str) -> None:
    program = (
        "import asyncio, logging, pydantic, structlog\nfrom studio import logs\n"
        f"logs.configure('json', whole_process=True)\nMARKER = {MARKER!r}\n{code}"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert MARKER not in ended.stderr
    (event,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert event["exception"].startswith("<string>:")
    assert event["exception"].splitlines()[-1] == kind
