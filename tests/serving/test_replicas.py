"""Replicas that die, come back, are full or not there yet, as callers of a running gateway see it.

Each test has a model of the catalog to itself.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, LiteralString

import httpx
import pytest
from sqlalchemy import update

from studio import clock
from studio.db.fleet import Replica
from studio.db.sessions import unit_of_work
from tests.server import free_port
from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

DYING, FULL, WAKING = "qwen3-32b", "qwen2.5-vl-7b", "deepseek-v2-236b"
SLEEPING, LEFT, DRAINED = "baichuan2-13b-chat", "qwen2-vl-72b", "codellama-13b"
CLOSED, ABORTED = "qwen2.5-vl-7b-fast", "qwen3-32b-fast"


def ask(api: httpx.Client, model: str, *, wait: str | None = None, max_tokens: int = 1) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": max_tokens}
    headers = {} if wait is None else {"x-max-wait": wait}
    return api.post("/v1/chat/completions", json=body, headers=headers, timeout=30)


def state(api: httpx.Client, model: str) -> tuple[str, int | None]:
    shown = api.get(f"/v1/models/{model}").json()
    return shown["state"], shown["eta_seconds"]


def metric(gateway: GatewayProcess, name: str, model: str = "") -> list[float]:
    exposition = httpx.get(f"{gateway.internal_url}/metrics").text
    labels = rf'{{.*variant="{re.escape(model)}".*}}' if model else ""
    return sorted(float(value) for value in re.findall(rf"^{name}{labels} (\S+)$", exposition, re.MULTILINE))


def in_flight(gateway: GatewayProcess) -> int:
    (requests,) = metric(gateway, "studio_requests_in_flight")
    return int(requests)


def test_a_dead_engine_is_left_alone_and_comes_back_by_itself(
    gateway: GatewayProcess, api: httpx.Client, house: House
) -> None:
    def health() -> list[float]:
        return metric(gateway, "studio_replica_healthy", DYING)

    port = free_port()
    with StubEngine() as steady:
        attach(house.operator, steady.url, DYING)
        with StubEngine(port=port) as frail:
            attach(house.operator, frail.url, DYING)
            wait_until(lambda: health() == [1, 1])
        assert {ask(api, DYING).status_code for _ in range(10)} == {200}
        wait_until(lambda: health() == [0, 1], seconds=30)
        assert "replica_ejected" in gateway.log_path.read_text()
        with StubEngine(port=port):
            wait_until(lambda: health() == [1, 1], seconds=30)
            assert "replica_back" in gateway.log_path.read_text()
            assert state(api, DYING) == ("warm", 0)
    wait_until(lambda: ask(api, DYING).status_code == 503 and state(api, DYING) == ("unreachable", None))
    assert (DYING, "unreachable") in [(model["id"], model["state"]) for model in api.get("/v1/models").json()["data"]]


def test_an_engine_of_a_cluster_is_closed_at_night_starts_in_the_morning_and_says_what_keeps_it(
    api: httpx.Client, house: House
) -> None:
    """Its row says for ever that it is ready. Its pods come and go with its hours."""
    port, opens_at = free_port(), clock.now().replace(microsecond=0) + timedelta(hours=3)

    def fleet(statement: LiteralString, *values: object) -> None:
        with house.database.superuser() as connection:
            connection.execute(statement, values)

    fleet("update model_variants set deployed = true, site_replicas = 1 where id = %s", CLOSED)
    attach(house.operator, f"http://127.0.0.1:{port}", CLOSED)
    wait_until(lambda: state(api, CLOSED)[0] == "unreachable")  # it is silent, and nobody has decided on it
    for replicas, since, until in ((0, clock.now() - timedelta(hours=1), opens_at), (1, opens_at, None)):
        fleet(
            "insert into hours_overrides (id, variant_id, starts_at, ends_at, replicas, reason, created_by)"
            " values (uuidv7(), %s, %s, %s, %s, 'night', 'tests')",
            *(CLOSED, since, until, replicas),
        )
    fleet("insert into desired_replicas values (%s, 0, 'night', now())", CLOSED)
    wait_until(lambda: state(api, CLOSED)[0] == "cold")
    shown = api.get(f"/v1/models/{CLOSED}").json()
    assert datetime.fromisoformat(shown["opens_at"]) == opens_at
    assert shown["eta_seconds"] > 3 * 3600 - 120
    refused = ask(api, CLOSED)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_asleep")
    assert "it is closed and opens" in refused.json()["error"]["message"]
    assert int(refused.headers["x-model-ready-in-seconds"]) > 3 * 3600 - 120

    fleet(
        "update desired_replicas set replicas = 1, reason = 'opens', decided_at = now() where variant_id = %s", CLOSED
    )
    wait_until(lambda: state(api, CLOSED)[0] == "starting")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, api, CLOSED, wait="60")
        with StubEngine(port=port):
            assert asked.result().status_code == 200
            wait_until(lambda: state(api, CLOSED) == ("warm", 0))

    # It goes away in the day, and the driver of its cluster says why it does not come back.
    fleet(
        "insert into engine_pods values (%s, 'stuck', 'image', 'engine: ErrImagePull: registry.example says no',"
        " now(), now(), now())",
        CLOSED,
    )
    wait_until(lambda: ask(api, CLOSED).status_code == 503 and state(api, CLOSED) == ("unreachable", None))
    shown = api.get(f"/v1/models/{CLOSED}").json()
    assert shown["state_reason"] == "Its image cannot be pulled."
    tiers = [tier for model in api.get("/v1/catalog").json()["models"] for tier in model["tiers"]]
    assert [tier["state_reason"] for tier in tiers if tier["id"] == CLOSED] == ["Its image cannot be pulled."]
    assert ": its image cannot be pulled. Try again" in ask(api, CLOSED).json()["error"]["message"]
    assert "registry.example" not in api.get("/v1/models").text
    fleet("insert into cluster_contact values (1, now() - interval '10 minutes', 'refused')")
    wait_until(lambda: "has not been heard of" in api.get(f"/v1/models/{CLOSED}").json()["state_reason"])


def test_a_full_engine_refuses_early_and_who_comes_back_when_told_is_served(
    gateway: GatewayProcess, api: httpx.Client, house: House
) -> None:
    with StubEngine(tokens_per_second=20) as slow, ThreadPoolExecutor(8) as pool:
        attach(house.operator, slow.url, FULL, max_num_seqs=2)
        wait_until(lambda: ask(api, FULL).status_code == 200)
        assert {ask(api, FULL, max_tokens=10).status_code for _ in range(6)} == {200}  # two a second, by which it tells
        held = [pool.submit(ask, api, FULL, max_tokens=tokens) for tokens in (9, 17, 25, 33)]
        wait_until(lambda: metric(gateway, "studio_replica_outstanding", FULL) == [4])
        refused = [ask(api, FULL) for _ in held]
        for one in refused:
            assert one.status_code == 503
            assert one.json()["error"]["code"] == "server_is_overloaded"
            assert "queues are full" in one.json()["error"]["message"]

        def come_back(one: httpx.Response) -> int:
            time.sleep(int(one.headers["retry-after"]))
            return ask(api, FULL, max_tokens=20).status_code

        assert list(pool.map(come_back, refused)) == [200] * 4
        assert {one.result().status_code for one in held} == {200}
        # A crowd that is told the same comes at once.
        assert {int(one.headers["retry-after"]) for one in refused} != {1}


def test_a_draining_replica_ends_the_stream_that_it_has_begun_and_gets_nothing_new(
    api: httpx.Client, house: House
) -> None:
    tokens, path = 120, "/v1/completions"

    def is_served() -> bool:
        return api.post(path, json={"model": DRAINED, "prompt": "hi", "max_tokens": 1}).status_code == 200

    body = {"model": DRAINED, "prompt": "hi", "max_tokens": tokens, "stream": True}
    with StubEngine(tokens_per_second=50) as engine:
        draining = attach(house.operator, engine.url, DRAINED)
        wait_until(is_served)
        with api.stream("POST", path, json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            with unit_of_work(house.operator) as session:
                session.execute(update(Replica).where(Replica.id == draining).values(state="draining"))
            wait_until(lambda: not is_served())
            assert engine.counters().requests_running == 1
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert sum('"text":"word ' in line for line in rest) == tokens - 1  # and the first was read before
    id = answer.headers["x-request-id"]
    wait_until(lambda: any(event.request_id == id for event in ledger.events(house.database)))
    (event,) = (event for event in ledger.events(house.database) if event.request_id == id)
    assert (event.completion_tokens, event.end_reason) == (tokens, "complete")


class TestMaxWait:
    def test_a_request_waits_for_a_replica_and_is_answered(
        self, gateway: GatewayProcess, api: httpx.Client, house: House
    ) -> None:
        with StubEngine() as engine, ThreadPoolExecutor(1) as pool:
            starting = attach(house.operator, engine.url, WAKING, state="starting")
            asked = pool.submit(ask, api, WAKING, wait="20.5")
            wait_until(lambda: in_flight(gateway) == 1)
            time.sleep(0.3)
            assert not asked.done()
            with unit_of_work(house.operator) as session:
                session.execute(update(Replica).where(Replica.id == starting).values(state="ready"))
            assert asked.result().status_code == 200

    def test_when_its_patience_is_over_it_is_told_how_long_it_still_takes(
        self, api: httpx.Client, house: House
    ) -> None:
        attach(house.operator, "http://127.0.0.1:9", SLEEPING, state="starting")
        wait_until(lambda: "starting" in ask(api, SLEEPING).text)
        began = time.monotonic()
        refused = ask(api, SLEEPING, wait="0.6")
        assert time.monotonic() - began >= 0.6
        assert refused.status_code == 503
        assert refused.json()["error"].keys() == {"message", "type", "param", "code"}
        assert refused.json()["error"]["code"] == "model_asleep"
        assert 1 <= int(refused.headers["x-model-ready-in-seconds"]) <= 60
        assert int(refused.headers["retry-after"]) <= 120

    def test_a_caller_that_leaves_is_let_go_at_once(self, gateway: GatewayProcess, api: httpx.Client) -> None:
        body: dict[str, Any] = {"model": LEFT, "messages": [{"role": "user", "content": "hi"}]}
        with pytest.raises(httpx.ReadTimeout):
            api.post("/v1/chat/completions", json=body, headers={"x-max-wait": "60"}, timeout=1)
        wait_until(lambda: in_flight(gateway) == 0, seconds=5)

    @pytest.mark.parametrize("wait", ["-1", "121", "soon", "nan", ""])
    def test_another_header_is_refused_by_name(self, api: httpx.Client, wait: str) -> None:
        refused = ask(api, CHAT, wait=wait)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "x-max-wait"
        assert "0 to 120" in refused.json()["error"]["message"]

    def test_a_warm_model_answers_at_once(self, api: httpx.Client) -> None:
        assert ask(api, CHAT, wait="120").status_code == 200
