"""Answers that are lost: nobody pays for them, and reconciliation is told that an engine counted tokens for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import create_engine

from serving import engines
from serving.batches import asking
from serving.batches.asking import Asker, PutBack
from serving.batches.lines import read_request
from serving.batches.shards import Shard
from serving.budgets.book import Budgets
from serving.budgets.draws import Draws
from serving.engines import Engines
from serving.fleet.view import Fleet
from serving.tokens.engine_request import cache_salt
from serving.tokens.wire import CHAT
from tests.serving.batches.orders import line
from tests.serving.test_wire import BASE, REPLICA

SHARD = Shard(
    batch_id=uuid4(), shard_no=1, attempt=1, tenant_id=uuid4(), api_key_id=uuid4(), own_cache=False,
    endpoint=CHAT.path, variant_id=BASE.id, input_key="", line_from=1, line_until=2, byte_from=0, byte_until=1,
)  # fmt: skip


@asynccontextmanager
async def asker_of(response: bytes, heard: list[bytes] | None = None) -> AsyncIterator[Asker]:
    """Somebody who asks an engine that says this and then nothing more. `heard` gets the bodies sent to it."""

    handlers: set[asyncio.Task[None] | None] = set()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            length = next(
                line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            heard.append(await reader.readexactly(int(length)))
        writer.write(response)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    replica = replace(REPLICA, url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connections = Engines()
    try:
        budgets = Budgets(Draws(create_engine("postgresql+psycopg://"), uuid4()))  # none is known, so nobody asks it
        fleet = Fleet({BASE.id: BASE}, {BASE.id: (replica,)})
        yield Asker(connections, lambda: fleet, budgets, b"a secret of the tests")
    finally:
        await connections.close()
        server.close()
        await asyncio.wait([handler for handler in handlers if handler])


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("response", "is_lost"),
    [
        pytest.param(b"", True, id="none in time"),
        pytest.param(http("200 OK", b"{"), True, id="broken"),
        pytest.param(http("200 OK", b'{"choices": []}'), True, id="without usage"),
        pytest.param(http("500 Internal Server Error", b"{}"), False, id="refused"),
    ],
)
async def test_a_lost_answer_is_noticed_and_its_line_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, response: bytes, is_lost: bool
) -> None:
    monkeypatch.setattr(engines, "WHOLE_ANSWER", timedelta(seconds=0.2))
    monkeypatch.setattr(asking, "PAUSES", (timedelta(0),))
    async with asker_of(response) as asker:
        said = await asker.ask(SHARD, 1, read_request(line("a", model=BASE.id).encode(), CHAT))
        assert said == PutBack(had_its_chance=True)
        assert asker.has_lost_work is is_lost


async def test_lines_of_a_key_with_a_cache_of_its_own_use_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSES", ())
    heard: list[bytes] = []
    async with asker_of(http("500 Internal Server Error", b"{}"), heard) as asker:
        for shard in (SHARD, replace(SHARD, own_cache=True), replace(SHARD, own_cache=True, api_key_id=uuid4())):
            await asker.ask(shard, 1, read_request(line("a", model=BASE.id).encode(), CHAT))
    salts = [orjson.loads(body)["cache_salt"] for body in heard]
    assert salts == [
        cache_salt(b"a secret of the tests", SHARD.tenant_id, ""),
        cache_salt(b"a secret of the tests", SHARD.tenant_id, "", SHARD.api_key_id),
        salts[2],
    ]
    assert len(set(salts)) == 3
