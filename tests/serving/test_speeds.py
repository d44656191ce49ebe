"""How fast variants were: figures over twenty streams or more of all tenants, from hand-made events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from serving.speeds import Speeds
from studio import clock, ids
from studio.db.sessions import engine_for, unit_of_work
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine


def streamed(house: House, variant: str, started_at: datetime, ttft_ms: int, tokens: int, seconds: float) -> None:
    """A stream as a gateway records it. `seconds` from the first token to the last."""
    id = ids.uuid7_of(started_at, ids.uuid7().bytes)
    first = started_at + timedelta(milliseconds=ttft_ms)
    with house.database.superuser() as connection:
        connection.execute(
            "insert into usage_events (usage_day_utc, id, source_id, source_seq, tenant_id, api_key_id, request_id,"
            " endpoint, model_id, variant_id, tier_requested, tier_served, replica_id, started_at, first_token_at,"
            " ended_at, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, http_status, end_reason,"
            " usage_origin) select %s, %s, %s, 1, k.tenant_id, k.id, 'req', '/v1/chat/completions', %s, %s, 'base',"
            " 'base', (select id from replicas limit 1), %s, %s, %s, 5, 0, %s, 0, 200, 'complete', 'engine'"
            " from api_keys k where k.id = %s",
            (
                *(ids.day_utc_of(id), id, ids.uuid7(), CHAT, variant, started_at, first),
                *(first + timedelta(seconds=seconds), tokens, house.key.id),
            ),
        )


@pytest.fixture
def gateway_role(house: House) -> Iterator[Engine]:
    engine = engine_for(house.database.url("gateway"))
    yield engine
    engine.dispose()


async def test_percentiles_and_tokens_per_second_are_those_of_the_streams(
    house: House, engine: StubEngine, gateway_role: Engine
) -> None:
    now = clock.now()
    for number in range(1, 22):  # TTFT 10 ... 210 ms: half of them below 110, 95 % below 200; 100 tokens a second
        streamed(house, CHAT, now - timedelta(minutes=number), number * 10, 51, 0.5)
    for number in range(30):  # slow, but of the day before
        streamed(house, CHAT, now - timedelta(hours=25, minutes=number), 9_000, 2, 5)
    for _ in range(19):  # one too few to say anything
        streamed(house, CHAT_FAST, now - timedelta(minutes=1), 10, 51, 0.5)
    speeds = Speeds(gateway_role)
    assert speeds.now() == {}  # nobody waits for the first reading
    assert speeds._reading is not None
    await speeds._reading
    assert set(speeds.now()) == {CHAT}
    measured = speeds.now()[CHAT]
    assert (measured.requests, round(measured.ttft_ms_p50), round(measured.ttft_ms_p95)) == (21, 110, 200)
    assert measured.tokens_per_second_p50 == pytest.approx(100)
    streamed(house, CHAT_FAST, now - timedelta(minutes=2), 10, 1, 0)
    with unit_of_work(gateway_role) as session:
        # Fewer than twenty cannot be asked for.
        rows = session.execute(
            text("select variant_id, requests from measured_speeds(:since, 1)"), {"since": now}
        ).all()
    assert rows == []


def test_the_gateway_may_not_read_the_streams_themselves(gateway_role: Engine, house: House) -> None:
    with unit_of_work(gateway_role) as session:
        assert session.scalar(text("select count(*) from usage_events")) == 0  # row-level security: no tenant, no rows
    shipper = engine_for(house.database.url("shipper"))
    with pytest.raises(ProgrammingError, match="permission denied"), unit_of_work(shipper) as session:
        session.execute(text("select * from measured_speeds(now(), 20)"))
    shipper.dispose()


def test_the_catalog_says_them_to_everybody(house: House, gateway: GatewayProcess) -> None:
    attach(house.operator, "http://127.0.0.1:9")

    def tiers() -> dict[str, object]:
        models = httpx.get(f"{gateway.url}/v1/catalog", trust_env=False).json()["models"]
        return {tier["id"]: tier["speed"] for model in models for tier in model["tiers"]}

    wait_until(lambda: tiers()[CHAT] is not None)
    speed = tiers()[CHAT]
    assert isinstance(speed, dict)
    assert speed["requests"] == 21
    assert tiers()["qwen3-32b"] is None
