"""Keys with a credit: nobody spends more than it, almost all of it can be spent, and its end is exact and said."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import openai
import pytest
from openai.types.chat import ChatCompletion

from studio.db.sessions import unit_of_work
from studio.tenants import create_key
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, GatewayProcess, wait_until

# Of `catalog/models/smollm2-135m-instruct.yaml`, per token in EUR.
PROMPT, COMPLETION = Decimal("0.0001"), Decimal("0.0002")

Customer = Callable[[str], openai.OpenAI]


@pytest.fixture
def customer(gateway: GatewayProcess, house: House) -> Customer:
    """A client with a fresh key of that credit, which the gateway knows."""

    def make(credit: str) -> openai.OpenAI:
        with unit_of_work(house.operator) as session:
            key = create_key(session, house.tenant_id, "credit", "tests", credit=Decimal(credit))
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


def ask(client: openai.OpenAI, tokens: int | None = None) -> ChatCompletion:
    return client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "one two three"}], max_completion_tokens=tokens
    )


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
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens < 1000
    assert cost_of(answer) <= Decimal("0.06")

    def reasons() -> list[str]:
        with house.database.superuser() as connection:
            rows = connection.execute(
                "select end_reason from usage_events e join api_keys k on k.id = e.api_key_id where k.credit = 0.06"
            )
            return [reason for (reason,) in rows.fetchall()]

    wait_until(lambda: reasons() == ["budget"], seconds=5)


def test_without_money_nothing_is_started_and_the_message_says_why(customer: Customer) -> None:
    client = customer("0")
    with pytest.raises(openai.RateLimitError) as refused:
        ask(client)
    client.close()
    assert refused.value.code == "credit_balance_exhausted"
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
