"""The try-it box: visitors without a key get a short answer of the cheapest warm model, within limits of all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.try_it.allowance import Allowance, DayIsSpent, VisitorIsDone, visitor_address
from studio import clock
from studio.errors import ServiceUnavailable
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, wait_until
from tests.serving.limits.valkey_server import ValkeyServer
from tests.stub_engine import StubEngine

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def box(house: House, engine: StubEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway on which it is on; alone, and behind one proxy, so that a test may come from several addresses."""
    settings = {"STUDIO_TRY_IT": "true", "STUDIO_TRY_IT_REQUESTS_PER_VISITOR": "2", "STUDIO_TRY_IT_PROXIES": "1"}
    with GatewayProcess(house.database, tmp_path_factory.mktemp("box"), settings=settings) as process:
        yield process


def ask(box: GatewayProcess, address: str, prompt: Any = "Say hello", **headers: str) -> httpx.Response:
    sent = SAME_ORIGIN | {"x-forwarded-for": f"6.6.6.6, {address}"} | headers
    return httpx.post(f"{box.url}/v1/try-it/ask", json={"prompt": prompt}, headers=sent, trust_env=False, timeout=30)


def test_a_visitor_gets_a_stream_of_the_cheapest_warm_model_and_it_is_metered(
    house: House, box: GatewayProcess
) -> None:
    state = httpx.get(f"{box.url}/v1/try-it", trust_env=False).json()
    assert (state["is_on"], state["model"], state["most_tokens"]) == (True, CHAT, 120)
    answer = ask(box, "10.0.0.1")
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    request = answer.headers["x-request-id"]

    def events() -> list[tuple[str, bool, int]]:
        with house.database.superuser() as connection:
            return connection.execute(
                "select t.slug, t.is_internal, e.completion_tokens from usage_events e join tenants t"
                " on t.id = e.tenant_id where e.request_id = %s",
                (request,),
            ).fetchall()

    wait_until(lambda: len(events()) == 1)
    slug, is_internal, tokens = events()[0]
    assert (slug, is_internal) == ("try-it", True)  # so nobody is billed
    assert tokens <= 120


def test_each_address_has_its_own_few_questions(box: GatewayProcess) -> None:
    assert [ask(box, "10.0.0.2").status_code for _ in range(3)] == [200, 200, 429]
    refused = ask(box, "10.0.0.2")
    assert refused.json()["error"]["code"] == "try_it_visitor_limit"
    assert ask(box, "10.0.0.3").status_code == 200


@pytest.mark.parametrize("prompt", ["", "   ", "x" * 401, 7, None, ["a"]])
def test_only_a_short_text_is_a_question(box: GatewayProcess, prompt: Any) -> None:
    assert ask(box, "10.0.0.4", prompt).status_code == 400


def test_another_site_cannot_ask_for_its_visitors(box: GatewayProcess) -> None:
    for site in ("cross-site", "same-site", "none"):
        assert ask(box, "10.0.0.5", **{"sec-fetch-site": site}).status_code == 403


def test_the_visitors_key_opens_nothing_from_outside(box: GatewayProcess) -> None:
    for word in ("TryIt", "TryIt x", "Session x", "Bearer try_it"):
        refused = httpx.get(f"{box.url}/v1/models", headers={"authorization": word}, trust_env=False)
        assert refused.status_code == 401


def test_it_is_off_unless_somebody_switches_it_on(gateway: GatewayProcess) -> None:
    assert httpx.get(f"{gateway.url}/v1/try-it", trust_env=False).json()["is_on"] is False
    assert ask(gateway, "10.0.0.6").status_code == 404


def test_who_revokes_the_visitors_key_switches_it_off(house: House, box: GatewayProcess, tmp_path: Path) -> None:
    """Last of its house: it ends the key."""
    with house.database.superuser() as connection:
        connection.execute("update api_keys set revoked_at = now() where prefix = 'try_it'")
    with GatewayProcess(house.database, tmp_path, settings={"STUDIO_TRY_IT": "true"}) as another:
        assert httpx.get(f"{another.url}/v1/try-it", trust_env=False).json()["is_on"] is False
        assert ask(another, "10.0.0.7").status_code == 404


class TestTheAllowance:
    @pytest.fixture(scope="class")
    def valkey(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
        server.start()
        yield server.url
        server.stop()

    async def test_holds_over_all_gateways_and_never_passes_the_day(self, valkey: str) -> None:
        gateways = [Allowance(valkey, b"s", tokens_per_day=1_000, requests_per_visitor=3) for _ in range(2)]
        now = clock.now()
        for number in range(3):
            await gateways[number % 2].take("10.0.0.1", 100, now)
        with pytest.raises(VisitorIsDone) as done:
            await gateways[1].take("10.0.0.1", 100, now)
        assert done.value.retry_after is not None
        with pytest.raises(DayIsSpent):
            await gateways[0].take("10.0.0.2", 701, now)
        await gateways[0].take("10.0.0.2", 700, now)
        gateways[1].give_back(700, now)  # not answered
        await gateways[1].take("10.0.0.3", 700, now)
        await gateways[1].take("10.0.0.3", 1_000, now + timedelta(days=1))
        for gateway in gateways:
            gateway.close()
        await asyncio.sleep(0)  # the transports end in the loop

    async def test_without_the_valkey_that_it_was_given_nothing_is_given(self) -> None:
        with pytest.raises(ServiceUnavailable):
            await Allowance("redis://127.0.0.1:9", b"s", 1_000, 3).take("10.0.0.1", 1, clock.now())

    async def test_alone_it_counts_the_same(self) -> None:
        alone, now = Allowance(None, b"s", 1_000, 2), clock.now()
        await alone.take("2001:db8::1", 400, now)
        await alone.take("2001:db8::2", 400, now)  # of the same /64
        with pytest.raises(VisitorIsDone):
            await alone.take("2001:db8::3", 1, now)
        with pytest.raises(DayIsSpent):
            await alone.take("10.0.0.1", 201, now)
        await alone.take("2001:db8::3", 1, now + timedelta(hours=2))


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("1.1.1.1", 0, "9.9.9.9"),  # nobody of ours writes it, so anybody may have
        (None, 1, "9.9.9.9"),
        ("1.1.1.1, 2.2.2.2", 1, "2.2.2.2"),
        ("1.1.1.1, 2.2.2.2", 2, "1.1.1.1"),
        ("1.1.1.1", 5, "1.1.1.1"),
    ],
)
def test_a_visitor_is_who_our_outermost_proxy_saw(forwarded: str | None, proxies: int, address: str) -> None:
    assert visitor_address("9.9.9.9", forwarded, proxies) == address
