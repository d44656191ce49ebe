"""`/v1/catalog`: what everybody may know of the models, and nothing of who asks or of whose they are."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from sqlalchemy import text

from billing import price_book
from serving.fleet.desired import Override, SiteVariant
from serving.fleet.hours import assemble
from studio import clock, ids
from studio.db.sessions import engine_for, unit_of_work
from studio.tenants import create_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, EMBEDDING, GatewayProcess, wait_until


def tiers_of(client: httpx.Client) -> dict[str, Any]:
    """All tiers by id, each with its model."""
    models = client.get("/v1/catalog").json()["models"]
    return {tier["id"]: tier | {"model": model} for model in models for tier in model["tiers"]}


def test_everybody_sees_what_is_sold(stranger: httpx.Client, api: httpx.Client) -> None:
    answer = stranger.get("/v1/catalog")
    assert answer.status_code == 200
    catalog = answer.json()
    assert catalog["api_url"] == str(stranger.base_url).rstrip("/")
    assert abs(datetime.fromisoformat(catalog["read_at"]) - clock.now()) < timedelta(minutes=1)
    tiers = tiers_of(stranger)
    assert tiers.keys() == {model["id"] for model in api.get("/v1/models").json()["data"]}
    assert len({model["id"] for model in catalog["models"]}) == len(catalog["models"])
    assert [tier["tier"] for tier in tiers[CHAT]["model"]["tiers"]] == ["base", "fast"]
    assert tiers[EMBEDDING]["week"]["spans"][0] == {"weekday": 1, "opens": "08:00", "closes": "18:00"}
    assert tiers[EMBEDDING]["week"]["time_zone"] == "Europe/Berlin"


def test_a_model_whose_vision_was_not_verified_says_so(api: httpx.Client) -> None:
    seeing = [model for model in api.get("/v1/models").json()["data"] if model["vision"]]
    assert {model["owned_by"] for model in seeing} == {"Qwen"}
    assert all(model["notice"].startswith("Vision not verified") for model in seeing)


def test_it_says_what_the_list_for_callers_says(stranger: httpx.Client, api: httpx.Client) -> None:
    tiers = tiers_of(stranger)
    for model in api.get("/v1/models").json()["data"]:
        tier = tiers[model["id"]]
        for field in ("state", "state_reason", "prices_per_million_tokens", "opens_at"):
            assert tier[field] == model[field], field
        for field in ("context_tokens", "max_output_tokens"):
            assert tier[field] == model[field], field
        for field in ("name", "task", "vision", "licence", "notice", "shutdown_date"):
            assert tier["model"][field] == model[field], field


def test_the_stages_of_a_start_are_those_of_the_last_ones(stranger: httpx.Client, house: House) -> None:
    with house.database.superuser() as connection:
        replica = connection.execute("select id from replicas where variant_id = %s limit 1", [CHAT]).fetchone()
        assert replica is not None
        for weights in (10, 20, 60):
            connection.execute(
                "insert into warmups (id, replica_id, variant_id, started_at, weights_seconds, start_seconds,"
                " first_token_seconds, ready_at) values (gen_random_uuid(), %s, %s, now(), %s, 30, 1.5, now())",
                [replica[0], CHAT, weights],
            )

    def told() -> bool:
        usual = tiers_of(stranger)[CHAT]["usual_warmup_stages"]
        return bool(usual == {"weights_seconds": 20.0, "start_seconds": 30.0, "first_answer_seconds": 1.5})

    wait_until(told)


def test_a_price_that_begins_is_shown_without_a_restart(stranger: httpx.Client, house: House) -> None:
    with house.database.superuser() as connection, connection.transaction():
        connection.execute(
            "update prices set valid_until = now() where variant_id = %s and unit = 'prompt' and currency = 'EUR'",
            [CHAT],
        )
        connection.execute(
            "insert into prices (variant_id, unit, currency, per_million, valid_from)"
            " values (%s, 'prompt', 'EUR', 123.456789, now())",
            [CHAT],
        )

    def shown() -> str:
        price: str = tiers_of(stranger)[CHAT]["prices_per_million_tokens"]["EUR"]["prompt"]
        return price

    wait_until(lambda: Decimal(shown()) == Decimal("123.456789"))


def test_an_open_variant_says_when_it_closes() -> None:
    now = clock.now()
    tonight, variant = now + timedelta(hours=3), SiteVariant("v", deployed=True, site_replicas=1)
    closing = Override(ids.uuid7(), "v", tonight, tonight + timedelta(hours=9), 0, "works", "tests", now)
    hours = assemble([], [], [], [closing], timedelta(0))
    assert hours.closes_at(variant, now) == tonight
    assert hours.opens_at(variant, tonight) == tonight + timedelta(hours=9)
    assert assemble([], [], [], [], timedelta(0)).closes_at(variant, now) is None


def test_a_tenant_sees_what_it_is_billed_and_everybody_else_the_list(
    api: httpx.Client, stranger: httpx.Client, house: House, gateway: GatewayProcess
) -> None:
    def shown(client: httpx.Client) -> Any:
        return client.get(f"/v1/models/{EMBEDDING}").json().get("prices_per_million_tokens")

    listed, tenant, now = shown(api), new_tenant(house.operator, "contract"), clock.now()
    with unit_of_work(house.operator) as session:
        key = create_key(session, tenant, "test", "tests")
        price_book.set_price(
            session, tenant_id=tenant, variant_id=EMBEDDING, unit="embedding", per_million=Decimal("0.012345"),
            tiers=[], valid_from=now, valid_until=None, retroactive=False, by="tests", reason="contract", now=now,
        )  # fmt: skip
    own = listed | {"EUR": listed["EUR"] | {"embedding": "0.012345"}}
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key.text}"}) as client:
        wait_until(lambda: shown(client) == own)
        data = client.get("/v1/models").json()["data"]
        assert [one["prices_per_million_tokens"] for one in data if one["id"] == EMBEDDING] == [own]
    assert shown(api) == tiers_of(stranger)[EMBEDDING]["prices_per_million_tokens"] == listed

    rated = text("select per_million from price_at(:tenant, 'EUR', :variant, :unit, now())")
    auditor = engine_for(house.database.url("auditor"))
    with auditor.connect() as connection:
        for unit, per_million in own["EUR"].items():
            values = {"tenant": tenant, "variant": EMBEDDING, "unit": unit}
            assert connection.scalar(rated, values) == Decimal(per_million), unit
    auditor.dispose()
