"""A gateway whose volume is really full: no work is taken, nothing that was told as done is lost, and it comes back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from serving.full_disk import RoomAgain, end_when_there_is_room, takes_writes
from serving.journal_segments import read_records
from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.journals import event
from tests.serving.ledger import events, numbers_have_no_gap, open_sources, outage
from tests.serving.test_shipped_twice import shipped, shipping
from tests.stub_engine import StubEngine

BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "volume"
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small volume needs root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def grow(path: Path, step: int) -> None:
    """A file, until its volume takes no more of it."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(b"\n" * step):
            pass


def test_a_full_disk_refuses_work_and_loses_nothing_and_room_ends_it(
    volume: Path, database: TestDatabase, catalog: None, operator: Engine, api_key: CreatedKey
) -> None:
    """The log is on the same volume, as on one machine."""
    delivered: set[str] = set()
    with (
        StubEngine() as engine,
        GatewayProcess(database, volume) as gateway,
        httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {api_key.text}"}) as api,
    ):

        def ask(**fields: Any) -> httpx.Response:
            answer = api.post("/v1/chat/completions", json=BODY | fields)
            if answer.status_code == 200 and '"error"' not in answer.text:
                delivered.add(answer.headers["x-request-id"])
            return answer

        attach(operator, engine.url)
        wait_until(lambda: ask().status_code == 200)
        with outage(database):
            for _ in range(5):
                assert ask().status_code == 200
            filler = volume / "filler"
            grow(filler, 4096)
            grow(gateway.log_path, 1)  # to the end of its page
            assert shutil.disk_usage(volume).free == 0
            # The journal has a little room yet, too.
            wait_until(lambda: ask(stream=True).text.count('"error"') == 1)
            refused = ask()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            assert "Usage cannot be recorded" in refused.json()["error"]["message"]
            ready = httpx.get(f"{gateway.internal_url}/health/ready")
            assert (ready.status_code, ready.json()["reasons"]) == (503, ["journal_broken"])
            assert ready.json()["usage_pending"] == len(delivered)
            assert httpx.get(f"{gateway.internal_url}/health/live").status_code == 200
        # With the database back all is shipped, although there is no room yet.
        wait_until(lambda: {one.request_id for one in events(database)} == delivered, seconds=20)
        assert not gateway.has_ended
        filler.unlink()
        wait_until(lambda: gateway.has_ended, seconds=20)
        gateway.start()
        wait_until(lambda: ask().status_code == 200)
        gateway.stop()
        assert list(gateway.journal_dir.iterdir()) == []
    assert sorted(one.request_id for one in events(database)) == sorted(delivered)
    assert numbers_have_no_gap(database)
    assert open_sources(database) == 0


async def test_a_journal_that_fills_its_own_volume_makes_room_once_it_is_shipped(
    volume: Path, database: TestDatabase
) -> None:
    told: list[str] = []
    async with shipping(volume / "journal", database) as (journal, shipper):

        async def record() -> None:
            one = event()
            await journal.append(one)
            told.append(one.request_id)

        while not journal.broken:
            await asyncio.gather(*(record() for _ in range(64)), return_exceptions=True)
        # Of those whose callers were refused nothing stands there, not even a part.
        assert journal.path.stat().st_size == journal.end.bytes
        assert sum(1 for _ in read_records(journal.path)) == len(told) > 1000
        assert not takes_writes(volume)
        async with asyncio.timeout(60):
            with pytest.raises(RoomAgain):
                await end_when_there_is_room(journal, shipper)
    assert shipped(database) == Counter(told)
    assert numbers_have_no_gap(database)
