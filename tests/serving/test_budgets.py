"""Budgets: nobody spends more than there is, almost all of it can be spent, and its end is exact and said."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletion
from sqlalchemy import Engine

from studio.budgets import end_budget, put_budget
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey, create_key
from tests.server import TestDatabase
from tests.serving import ledger
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, CHAT_FAST, GatewayProcess, attach, wait_until
from tests.stub_engine import StubEngine

# Of `catalog/models/smollm2-135m-instruct.yaml`, per token in EUR.
PROMPT, COMPLETION = Decimal("0.0001"), Decimal("0.0002")

Customer = Callable[[str], openai.OpenAI]


@pytest.fixture
def customer(gateway: GatewayProcess, house: House) -> Customer:
    """A client with a fresh key of that credit, which the gateway knows."""

    def make(credit: str) -> openai.OpenAI:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, f"credit of {credit}", "tests")
            session.flush()
            put_budget(session, house.tenant_id, key.id, "prepaid", Decimal(credit), "tests")
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key.text, max_retries=0)
        wait_until(lambda: _is_known(client), seconds=5)
        return client

    return make


def _is_known(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def _is_served(client: openai.OpenAI) -> bool:
    try:
        ask(client, 1)
    except openai.RateLimitError:
        return False
    return True


def ask(client: openai.OpenAI, tokens: int | None = None) -> ChatCompletion:
    return client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "one two three"}], max_completion_tokens=tokens
    )


def spend_all(client: openai.OpenAI) -> None:
    for _ in range(20):
        ask(client, 1000)


def cost_of(answer: ChatCompletion) -> Decimal:
    assert answer.usage is not None
    return answer.usage.prompt_tokens * PROMPT + answer.usage.completion_tokens * COMPLETION


def test_many_calls_at_once_never_spend_more_than_the_credit(customer: Customer) -> None:
    client, credit = customer("0.50"), Decimal("0.50")

    def one(_: int) -> Decimal:
        try:
            return cost_of(ask(client, 100))
        except openai.RateLimitError:
            return Decimal(0)

    with ThreadPoolExecutor(16) as pool:
        spent = sum(pool.map(one, range(80)))
    client.close()
    assert spent <= credit
    assert spent > credit - Decimal("0.12")  # what the bound of one more prompt and a few tokens needs


def test_an_answer_ends_where_the_money_does(customer: Customer, house: House) -> None:
    client = customer("0.06")
    answer = ask(client, 1000)
    client.close()
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].model_extra == {"stop_reason": "budget"}
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens < 1000
    assert cost_of(answer) <= Decimal("0.06")

    def reasons() -> list[str]:
        with house.database.superuser() as connection:
            rows = connection.execute(
                "select end_reason from usage_events e join api_keys k on k.id = e.api_key_id"
                " where k.name = 'credit of 0.06'"
            )
            return [reason for (reason,) in rows.fetchall()]

    wait_until(lambda: reasons() == ["budget"], seconds=5)


def test_without_money_nothing_is_started_and_the_message_says_why(customer: Customer) -> None:
    client = customer("0")
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    client.close()
    assert (refused.value.type, refused.value.code) == ("insufficient_quota", "credit_balance_exhausted")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "0 EUR" in refused.value.message
    assert "another key" in refused.value.message


def test_one_call_after_the_other_finds_the_account_settled(customer: Customer) -> None:
    """What the first call had set aside is given back before its last byte, so the next is neither refused nor cut."""
    client = customer("0.20")
    for _ in range(6):
        answer = ask(client, 60)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 60
    client.close()


def test_what_was_spent_before_a_restart_is_remembered(customer: Customer, gateway: GatewayProcess) -> None:
    client = customer("0.11")
    assert cost_of(ask(client, 300)) > Decimal("0.05")
    gateway.stop()
    gateway.start()
    ask(client, 300)
    with pytest.raises(openai.RateLimitError):
        ask(client, 300)
    client.close()


def test_a_key_without_a_credit_is_not_limited(sdk: openai.OpenAI) -> None:
    answer = ask(sdk, 1500)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 1500


def test_a_stream_says_that_money_ended_it(customer: Customer) -> None:
    client = customer("0.07")
    chunks = list(
        client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "one two three"}], max_completion_tokens=1000, stream=True
        )
    )
    client.close()
    last = chunks[-1].choices[0]
    assert (last.finish_reason, (last.model_extra or {}).get("stop_reason")) == ("length", "budget")


class TestSeveralGateways:
    """One database, three gateways, and accounts that are the same for all."""

    @pytest.fixture
    def three(
        self, database: TestDatabase, catalog: None, operator: Engine, tmp_path: Path
    ) -> Iterator[list[GatewayProcess]]:
        with ExitStack() as stack:
            attach(operator, stack.enter_context(StubEngine()).url)
            folders = [tmp_path / str(number) for number in range(3)]
            for folder in folders:
                folder.mkdir()
            yield [stack.enter_context(GatewayProcess(database, folder)) for folder in folders]

    def test_a_thousand_calls_at_once_spend_the_money_for_a_hundred_and_no_more(
        self, three: list[GatewayProcess], database: TestDatabase, operator: Engine, tenant: UUID, api_key: CreatedKey
    ) -> None:
        clients = [
            openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=api_key.text, max_retries=0) for gateway in three
        ]
        wait_until(lambda: all(_is_known(client) for client in clients), seconds=5)
        one = cost_of(ask(clients[0], 200))
        # Nothing before something: a gateway that has not heard of the money yet refuses, and spends nothing unlimited.
        put(operator, tenant, "monthly", Decimal(0))
        unlimited = sum((_cost_until_refused(client) for client in clients), Decimal(0))
        money = 100 * one
        put(operator, tenant, "monthly", money)
        wait_until(lambda: all(_is_served(client) for client in clients), seconds=10)
        statuses = asyncio.run(_ask_all(three, api_key.text, calls=1000, tokens=200))
        for client in clients:
            client.close()
        for gateway in three:
            gateway.stop()
        assert set(statuses) <= {200, 429}
        since = rated(database) - one
        assert Decimal("0.95") * money <= since - unlimited <= money
        assert settled(database) == since

    def test_what_a_killed_gateway_held_and_had_not_spent_can_be_spent(
        self, three: list[GatewayProcess], database: TestDatabase, operator: Engine, tenant: UUID, api_key: CreatedKey
    ) -> None:
        put(operator, tenant, "prepaid", Decimal("0.50"), api_key.id)
        clients = [
            openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=api_key.text, max_retries=0) for gateway in three
        ]
        wait_until(lambda: all(_is_known(client) for client in clients), seconds=5)
        # It holds nearly everything for a stream that does not end by itself.
        stream = clients[0].chat.completions.create(
            model=CHAT_FAST, messages=[{"role": "user", "content": "x"}], max_completion_tokens=2000, stream=True
        )
        next(iter(stream))
        three[0].kill()
        with pytest.raises(openai.RateLimitError):
            ask(clients[1], 300)
        three[0].start()  # and adopts the journal of the one before
        wait_until(lambda: ledger.open_sources(database) == 3, seconds=10)
        time.sleep(0.6)  # an empty budget is not asked again before
        answer = ask(clients[1], 300)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 300
        for client in clients:
            client.close()
        for gateway in three:
            gateway.stop()
        assert settled(database) == rated(database) <= Decimal("0.50")

    def test_the_tightest_of_several_budgets_holds_and_a_change_holds_at_once(
        self, three: list[GatewayProcess], operator: Engine, tenant: UUID, api_key: CreatedKey
    ) -> None:
        put(operator, tenant, "monthly", Decimal("0.08"))
        put(operator, tenant, "prepaid", Decimal(100), api_key.id)
        with openai.OpenAI(base_url=f"{three[0].url}/v1", api_key=api_key.text, max_retries=0) as client:
            wait_until(lambda: _is_known(client), seconds=5)
            assert cost_of(ask(client, 1000)) <= Decimal("0.08")
            with pytest.raises(openai.RateLimitError) as refused:
                ask(client, 1000)
            assert refused.value.code == "organization_spend_limit_exceeded"
            assert "this month" in refused.value.message
            put(operator, tenant, "monthly", Decimal(1))
            time.sleep(1)
            answer = ask(client, 1000)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 1000
            with unit_of_work(operator) as session:
                end_budget(session, tenant, None, "monthly", "tests")
            time.sleep(1)
            for _ in range(6):
                ask(client, 1000)

    def test_without_the_database_money_in_hand_is_spent_and_then_the_answer_is_503(
        self, three: list[GatewayProcess], database: TestDatabase, operator: Engine, tenant: UUID, api_key: CreatedKey
    ) -> None:
        put(operator, tenant, "prepaid", Decimal(10), api_key.id)
        with openai.OpenAI(base_url=f"{three[0].url}/v1", api_key=api_key.text, max_retries=0) as client:
            wait_until(lambda: _is_known(client), seconds=5)
            ask(client, 10)
            with ledger.outage(database):
                ask(client, 10)
                with pytest.raises(openai.InternalServerError, match="budget cannot be checked") as refused:
                    spend_all(client)
                assert refused.value.status_code == 503
            wait_until(lambda: three[0].health()["database"] == "connected", seconds=10)
            ask(client, 1000)


def put(
    operator: Engine, tenant_id: UUID, kind: Literal["prepaid", "monthly"], amount: Decimal, key_id: UUID | None = None
) -> None:
    with unit_of_work(operator) as session:
        put_budget(session, tenant_id, key_id, kind, amount, "tests")


def rated(database: TestDatabase) -> Decimal:
    """What all events cost."""
    return sum(
        (event.prompt_tokens * PROMPT + event.completion_tokens * COMPLETION for event in ledger.events(database)),
        Decimal(0),
    )


def settled(database: TestDatabase) -> Decimal:
    """What the database says was spent, when no gateway runs any more."""
    with database.superuser() as connection:
        assert connection.execute("select count(*) from budget_draws").fetchone() == (0,)
        row = connection.execute("select sum(spent) from budget_accounts").fetchone()
        assert row is not None
        return Decimal(row[0])


def _cost_until_refused(client: openai.OpenAI) -> Decimal:
    """What a gateway spends that has not heard of an empty budget yet."""
    spent, deadline = Decimal(0), time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            spent += cost_of(ask(client, 1))
        except openai.RateLimitError:
            return spent
    raise AssertionError("an empty budget was not heard of")


async def _ask_all(gateways: list[GatewayProcess], key: str, *, calls: int, tokens: int) -> Counter[int]:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "one two three"}], "max_completion_tokens": tokens}

    async def one(session: aiohttp.ClientSession, gateway: GatewayProcess) -> int:
        headers = {"authorization": f"Bearer {key}"}
        async with session.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
            return response.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return Counter(await asyncio.gather(*(one(session, gateways[number % 3]) for number in range(calls))))
