"""Several gateways of one machine that answer on one port."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, wait_until
from tests.serving.ledger import events, numbers_have_no_gap
from tests.stub_engine import StubEngine


def answered(gateway: GatewayProcess) -> bool:
    """Whether it has answered any token request."""
    return 'status="200"' in httpx.get(f"{gateway.internal_url}/metrics").text


def test_gateways_share_a_port_and_a_journal_folder_and_one_may_die(
    house: House, engine: StubEngine, tmp_path: Path
) -> None:
    shares = {"STUDIO_GATEWAY_SHARES_PORT": "true"}
    first = GatewayProcess(house.database, tmp_path, settings=shares)
    second = GatewayProcess(house.database, tmp_path, settings=shares | {"STUDIO_GATEWAY_PORT": str(first.port)})
    asked = 0

    def ask() -> None:
        nonlocal asked
        body = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx.post(
            f"{first.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {house.key.text}"}
        )
        assert answer.status_code == 200
        asked += 1

    def both_have_answered() -> bool:
        ask()  # on a connection of its own, which the kernel gives to either
        return answered(first) and answered(second)

    with first, second:
        wait_until(both_have_answered)
        wait_until(lambda: len(events(house.database)) == asked)
        first.kill()
        for _ in range(8):
            ask()
        second.stop()
    assert len({one.request_id for one in events(house.database)}) == asked
    assert numbers_have_no_gap(house.database)
