"""The billing canary on a real gateway: equal where billing is right, red where a count or a price is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from billing import dry_run, unsealed
from serving.billing_canary import canary
from serving.billing_canary.canary import NOTHING_WARM, REQUESTS, fly
from serving.billing_canary.own_count import cheapest_warm
from studio.db.sessions import engine_for, unit_of_work
from studio.db.tenancy import Tenant
from studio.db.usage import UsageEvent
from tests.serving.conftest import House
from tests.serving.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Engine]:
    engine = engine_for(house.database.url("worker"))
    yield engine
    engine.dispose()


def test_the_bill_is_what_the_requests_counted(house: House, gateway: GatewayProcess, worker: Engine) -> None:
    flight = fly(worker, gateway.url)
    assert flight.agrees, flight
    assert (flight.events, flight.own > 0) == (len(REQUESTS), True)
    with unit_of_work(worker) as session:
        tenant = session.scalars(select(Tenant).where(Tenant.slug == "billing-canary")).one()
        assert tenant.is_internal
        days = session.scalars(select(UsageEvent.usage_day_utc).where(UsageEvent.tenant_id == tenant.id)).all()
        assert len(days) == len(REQUESTS)
        assert tenant.id not in {window.tenant_id for window in unsealed.of_all_days(session)}  # so it is never billed
    with house.database.superuser() as connection:
        live = connection.execute("select count(*) from api_keys k join tenants t on t.id = k.tenant_id"
                                  " where t.slug = 'billing-canary' and k.revoked_at is null").fetchone()  # fmt: skip
    assert live == (0,)


@pytest.mark.parametrize(
    "corruption",
    [
        "update usage_events set completion_tokens = completion_tokens + 1",
        "update usage_events set prompt_tokens = prompt_tokens - 1 where cached_tokens = 0",
        "update prices set per_million = per_million + 0.000001 where currency = 'EUR'",
    ],
)
def test_one_token_or_a_millionth_of_a_price_is_red(
    house: House, gateway: GatewayProcess, worker: Engine, corruption: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the answers and the bill, something that the bill is made from is changed."""
    count = canary._bill

    def corrupted(*arguments: Any) -> dry_run.DryBill:
        count(*arguments)  # all events are there
        with house.database.superuser() as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(corruption.encode())
        return count(*arguments)

    monkeypatch.setattr(canary, "_bill", corrupted)
    flight = fly(worker, gateway.url)
    assert (flight.agrees, flight.skipped, flight.events) == (False, None, len(REQUESTS))


def test_nothing_warm_is_not_green() -> None:
    asleep = {"id": "a", "task": "chat", "state": "asleep", "prices_per_million_tokens": {"EUR": {}}}
    assert cheapest_warm([asleep]) is None
    flight = canary.Flight(NOTHING_WARM)
    assert (flight.agrees, flight.skipped) == (False, "skipped: nothing warm")


def test_the_cheapest_is_asked() -> None:
    def model(id: str, prompt: str, state: str = "warm") -> dict[str, object]:
        prices = {"EUR": {"prompt": prompt, "completion": "1", "cached_prompt": "0"}}
        return {"id": id, "task": "chat", "state": state, "prices_per_million_tokens": prices}

    chosen = cheapest_warm([model("dear", "2"), model("cheap", "1"), model("asleep", "0", "asleep")])
    assert chosen is not None
    assert chosen.model == "cheap"
