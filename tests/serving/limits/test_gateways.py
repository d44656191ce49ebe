"""Limits over three gateways with one Valkey: exact, freed, corrected, explained, and going on without it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import aiohttp
import httpx
import pytest

from studio.db.sessions import unit_of_work
from studio.limits import Ceilings, Scope, clear_limits, set_limits
from studio.tenants import CreatedKey, create_key, revoke_key
from tests.conftest import new_tenant
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, GatewayProcess, attach, wait_until
from tests.serving.limits.short_lease import LEASE
from tests.serving.limits.valkey_server import ValkeyServer
from tests.stub_engine import StubEngine

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
LONG = BODY | {"max_tokens": 2_000, "stream": True}  # 40 s of tokens


@dataclass(frozen=True, slots=True)
class Branch:
    """Three gateways of one house."""

    house: House
    gateways: Sequence[GatewayProcess]

    def key(self, **ceilings: int) -> CreatedKey:
        """A key of its own with these limits, which every gateway knows."""
        with unit_of_work(self.house.operator) as session:
            key = create_key(session, self.house.tenant_id, "limited", "tests")
        if ceilings:
            self.limit(key, **ceilings)
        wait_until(lambda: all(self.limits(key, gateway) == ceilings for gateway in self.gateways), seconds=5)
        return key

    def limit(self, key: CreatedKey, **ceilings: int) -> None:
        """Set them, or clear them where there are none."""
        self.limit_model(key, None, **ceilings)

    def limit_model(self, key: CreatedKey, model: str | None, **ceilings: int) -> None:
        """The same for one model."""
        scope = Scope(self.house.tenant_id, key.id, model)
        with unit_of_work(self.house.operator) as session:
            if ceilings:
                set_limits(session, scope, Ceilings(**ceilings), "tests")
            else:
                clear_limits(session, scope, "tests")

    def limits(self, key: CreatedKey, gateway: GatewayProcess, what: str = "limit") -> dict[str, int] | None:
        """What a gateway says of a key: by kind."""
        answer = httpx.get(f"{gateway.url}/v1/limits", headers=bearer(key))
        return {one["kind"]: one[what] for one in answer.json()["data"]} if answer.is_success else None

    def used(self, key: CreatedKey, kind: str) -> int:
        """As a gateway says."""
        uses = self.limits(key, self.gateways[0], "used")
        assert uses is not None
        return uses[kind]

    def states(self) -> set[str]:
        """Where the gateways count."""
        return {gateway.health()["limits"] for gateway in self.gateways}


@pytest.fixture(scope="module")
def engine(house: House) -> Iterator[StubEngine]:
    with StubEngine(tokens_per_second=50) as stub:
        attach(house.operator, stub.url)
        yield stub


@pytest.fixture(scope="module")
def branch(
    house: House, engine: StubEngine, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Branch]:
    gateways = [
        GatewayProcess(
            house.database,
            tmp_path_factory.mktemp("gateway"),
            "tests.serving.limits.short_lease",
            settings={"STUDIO_VALKEY_URL": valkey.url},
        )
        for _ in range(3)
    ]
    with ExitStack() as stack:
        for gateway in gateways:
            stack.enter_context(gateway)
        made = Branch(house, gateways)
        wait_until(lambda: made.states() == {"shared"})
        yield made


def bearer(key: CreatedKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}"}


def ask(gateway: GatewayProcess, key: CreatedKey, body: Mapping[str, Any] = BODY) -> httpx.Response:
    return httpx.post(gateway.url + PATH, json=body, headers=bearer(key), timeout=30)


def ask_at_once(gateways: Sequence[GatewayProcess], key: CreatedKey, requests: int) -> Counter[int]:
    """Statuses of so many parallel requests, spread over the gateways."""

    async def all_of_them() -> Counter[int]:
        async with aiohttp.ClientSession(headers=bearer(key)) as session:

            async def one(gateway: GatewayProcess) -> int:
                async with session.post(gateway.url + PATH, json=BODY) as answer:
                    await answer.read()
                    return answer.status

            targets = (gateway for gateway, _ in zip(cycle(gateways), range(requests)))
            return Counter(await asyncio.gather(*map(one, targets)))

    return asyncio.run(all_of_them())


@contextmanager
def streams(gateway: GatewayProcess, key: CreatedKey, wanted: int) -> Iterator[list[httpx.Response]]:
    """So many streams are asked for; those that have begun, open."""
    with httpx.Client(timeout=30) as client, ExitStack() as stack:
        answers = [
            stack.enter_context(client.stream("POST", gateway.url + PATH, json=LONG, headers=bearer(key)))
            for _ in range(wanted)
        ]
        yield [answer for answer in answers if answer.is_success]


def test_a_limit_per_minute_is_exact_under_parallel_load(branch: Branch) -> None:
    key = branch.key(requests_per_minute=12)
    started = time.monotonic()
    statuses = ask_at_once(branch.gateways, key, 90)
    drained = int((time.monotonic() - started) * 12 / 60)
    assert set(statuses) == {200, 429}
    assert 12 <= statuses[200] <= 12 + drained


def test_all_limits_that_match_must_allow(branch: Branch) -> None:
    key = branch.key(requests_per_minute=5)
    branch.limit_model(key, CHAT, requests_per_minute=2)
    branch.limit_model(key, CHAT_FAST, requests_per_minute=3)
    wait_until(lambda: len(httpx.get(f"{branch.gateways[0].url}/v1/limits", headers=bearer(key)).json()["data"]) == 3)
    statuses = [ask(branch.gateways[0], key).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = ask(branch.gateways[0], key)
    assert f"2 requests per minute for this API key with the model `{CHAT}`" in refused.json()["error"]["message"]
    other = ask(branch.gateways[0], key, BODY | {"model": CHAT_FAST})
    assert (other.status_code, other.headers["x-ratelimit-remaining-requests"]) == (200, "2")
    data = httpx.get(f"{branch.gateways[1].url}/v1/limits", headers=bearer(key)).json()["data"]
    assert {one["model"]: one["used"] for one in data} == {None: 3, CHAT: 2, CHAT_FAST: 1}  # refusals count nowhere


class TestConcurrency:
    def test_it_is_exact_and_free_again_when_a_client_leaves(self, branch: Branch) -> None:
        key = branch.key(concurrent_requests=3)
        one, other, _ = branch.gateways
        with streams(one, key, 2) as first, streams(other, key, 2) as second:
            assert (len(first), len(second)) == (2, 1)
            refused = ask(other, key)
            assert refused.status_code == 429
            assert "3 concurrent requests for this API key, and 3 are running" in refused.json()["error"]["message"]
            first[0].close()
            wait_until(lambda: branch.used(key, "concurrent_requests") == 2, seconds=2)
            assert ask(other, key).status_code == 200
        wait_until(lambda: branch.used(key, "concurrent_requests") == 0, seconds=2)

    def test_one_after_the_other_is_never_two_at_once(self, branch: Branch) -> None:
        key = branch.key(concurrent_requests=1)
        gateways = cycle(branch.gateways)
        assert {ask(next(gateways), key).status_code for _ in range(15)} == {200}

    def test_a_long_answer_keeps_its_place_beyond_its_lease(self, branch: Branch) -> None:
        key = branch.key(concurrent_requests=1)
        with streams(branch.gateways[0], key, 1) as running:
            assert len(running) == 1
            time.sleep(LEASE.total_seconds() + 0.5)
            assert ask(branch.gateways[1], key).status_code == 429


class TestTokens:
    def test_an_answer_that_is_broken_off_gives_back_what_it_did_not_take(self, branch: Branch) -> None:
        key = branch.key(tokens_per_minute=10_000)
        with streams(branch.gateways[0], key, 1) as running:
            answer = running[0].iter_raw()
            next(answer)
            assert 1_000 < branch.used(key, "tokens_per_minute") < 2_100
        wait_until(lambda: branch.used(key, "tokens_per_minute") < 200, seconds=2)

    def test_the_truth_stands_there_before_the_next_request(self, branch: Branch) -> None:
        key = branch.key(tokens_per_minute=1_500)
        unlimited = {
            name: value for name, value in BODY.items() if name != "max_tokens"
        }  # reserved: 1,024 and a prompt
        gateways = cycle(branch.gateways)
        answers = [ask(next(gateways), key, unlimited) for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[-1].headers["x-ratelimit-limit-tokens"] == "1500"

    def test_a_request_larger_than_the_limit_never_fits_and_says_so(self, branch: Branch) -> None:
        key = branch.key(tokens_per_minute=1_000)
        refused = ask(branch.gateways[0], key, BODY | {"max_tokens": 1_000})
        assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
        assert "a lower `max_tokens` would fit" in refused.json()["error"]["message"]
        assert "retry-after" not in refused.headers

    def test_a_request_that_no_engine_took_costs_no_tokens(self, branch: Branch) -> None:
        key = branch.key(tokens_per_minute=1_000, concurrent_requests=1)
        asleep = {"model": "all-minilm-l6-v2", "input": "hi"}
        url = f"{branch.gateways[0].url}/v1/embeddings"
        answers = [httpx.post(url, json=asleep, headers=bearer(key)) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
        assert branch.used(key, "tokens_per_minute") == 0


class TestChanges:
    def test_they_hold_on_every_gateway_within_a_second(self, branch: Branch) -> None:
        key = branch.key(requests_per_minute=100)
        branch.limit(key, requests_per_minute=7)
        expected: list[dict[str, int]] = [{"requests_per_minute": 7}, {}]
        for limits in expected:
            wait_until(lambda now=limits: all(branch.limits(key, one) == now for one in branch.gateways), seconds=1)
            if limits:
                branch.limit(key)

    def test_a_revoked_key_is_refused_by_every_gateway_within_a_second(self, branch: Branch) -> None:
        key = branch.key()
        assert [ask(gateway, key).status_code for gateway in branch.gateways] == [200] * 3
        with unit_of_work(branch.house.operator) as session:
            revoke_key(session, key.id, "tests")
        wait_until(lambda: [ask(gateway, key).status_code for gateway in branch.gateways] == [401] * 3, seconds=1)


class TestExplanation:
    def test_any_gateway_explains_a_refusal_to_its_tenant_alone(self, branch: Branch) -> None:
        key = branch.key(requests_per_minute=1, concurrent_requests=5)
        one, other, _ = branch.gateways
        assert ask(one, key).status_code == 200
        refused = ask(one, key)
        request_id = refused.headers["x-request-id"]
        url = f"{other.url}/v1/limits/explain/{request_id}"
        wait_until(lambda: httpx.get(url, headers=bearer(key)).status_code == 200, seconds=2)
        told = httpx.get(url, headers=bearer(key)).json()
        assert (told["request_id"], told["model"], told["counted"]) == (request_id, CHAT, "shared")
        assert told["message"] == refused.json()["error"]["message"]
        by_kind = {limit["kind"]: limit for limit in told["limits"]}
        assert by_kind["requests_per_minute"]["exceeded"]
        assert 0 < by_kind["requests_per_minute"]["fits_in_ms"] <= 60_000
        assert not by_kind["concurrent_requests"]["exceeded"]

        with unit_of_work(branch.house.operator) as session:
            stranger = create_key(session, new_tenant(branch.house.operator, "globex"), "theirs", "tests")
        wait_until(lambda: branch.limits(stranger, other) == {}, seconds=2)
        assert httpx.get(url, headers=bearer(stranger)).status_code == 404
        assert httpx.get(url).status_code == 401

    def test_a_refusal_says_what_when_and_how_much(self, branch: Branch) -> None:
        key = branch.key(requests_per_minute=2, tokens_per_minute=10_000)
        good = ask(branch.gateways[0], key)
        assert good.headers["x-ratelimit-limit-requests"] == "2"
        assert good.headers["x-ratelimit-remaining-requests"] == "1"
        assert good.headers["x-ratelimit-reset-requests"] == "30s"
        ask(branch.gateways[1], key)
        refused = ask(branch.gateways[2], key)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
        assert "Rate limit reached: 2 requests per minute for this API key. Please retry in" in error["message"]
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        assert int(refused.headers["retry-after-ms"]) <= 30_000
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert int(refused.headers["x-ratelimit-remaining-tokens"]) > 9_900


class TestWithoutValkey:
    def test_requests_go_on_with_a_share_each_and_it_heals(self, branch: Branch, valkey: ValkeyServer) -> None:
        key, narrow = branch.key(requests_per_minute=12), branch.key(concurrent_requests=3)
        with streams(branch.gateways[0], narrow, 1) as running:
            assert len(running) == 1
            began = time.monotonic()
            shared = ask_at_once(branch.gateways, key, 40)[200]
            valkey.stop()
            wait_until(lambda: branch.states() == {"local_share"}, seconds=5)
            local = [ask_at_once([gateway], key, 20)[200] for gateway in branch.gateways]
            drained = int((time.monotonic() - began) * 12 / 60)
            assert set(local) <= {4, 5}  # a share drains one in 15 s
            # ADR 0011: once from the shared bucket and once from the shares, and what has drained meanwhile.
            assert 12 + 12 <= shared + sum(local) <= 2 * (12 + drained)
            assert ask(branch.gateways[0], narrow).status_code == 429
            assert ask(branch.gateways[1], narrow).status_code == 200
            refused = ask(branch.gateways[1], key)
            url = f"{branch.gateways[1].url}/v1/limits/explain/{refused.headers['x-request-id']}"
            assert httpx.get(url, headers=bearer(key)).json()["counted"] == "local_share"

            valkey.start()
            wait_until(lambda: branch.states() == {"shared"}, seconds=5)
            wait_until(lambda: branch.used(narrow, "concurrent_requests") == 1, seconds=2)
            assert 12 <= ask_at_once(branch.gateways, key, 60)[200] <= 13

    def test_a_valkey_that_hangs_delays_a_request_once_and_fails_none(
        self, branch: Branch, valkey: ValkeyServer
    ) -> None:
        key = branch.key(requests_per_minute=100)
        assert ask(branch.gateways[0], key).status_code == 200
        valkey.freeze()
        try:
            started = time.monotonic()
            assert ask(branch.gateways[0], key).status_code == 200
            delayed = time.monotonic() - started
            assert 0.25 < delayed < 2
            assert ask_at_once(branch.gateways[:1], key, 20) == {200: 20}
            assert branch.gateways[0].health()["limits"] == "local_share"
        finally:
            valkey.thaw()
        wait_until(lambda: branch.states() == {"shared"}, seconds=10)


def test_what_a_killed_gateway_was_answering_is_given_up(branch: Branch) -> None:
    """The last test: one of the three does not come back."""
    key = branch.key(concurrent_requests=2)
    other, _, killed = branch.gateways
    with streams(killed, key, 2) as running:
        assert len(running) == 2
        killed.kill()
        assert ask(other, key).status_code == 429
        wait_until(lambda: ask(other, key).status_code == 200, seconds=LEASE.total_seconds() + 2)
