"""What a tenant's days have cost, as the official SDK shows it and as it stands on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from studio import clock
from studio.tenants import create_key
from tests.billing.books import Books
from tests.server import TestServer
from tests.serving.gateway_process import GatewayProcess

DAY = date(2026, 3, 10)
MIDNIGHT = datetime(2026, 3, 9, 23, tzinfo=UTC)  # in Berlin


@dataclass(frozen=True)
class Customer:
    """A tenant with three days of usage behind it, two of them rated."""

    raw: httpx.Client
    sdk: openai.OpenAI

    def costs(self, **query: Any) -> dict[str, Any]:
        """A page with its numbers as they are written."""
        answer = self.raw.get("/v1/organization/costs", params={"start_time": int(MIDNIGHT.timestamp()), **query})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = json.loads(answer.text, parse_float=Decimal)
        return page


@pytest.fixture(scope="module")
def customer(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Customer]:
    books = Books(server.database())
    books.open()
    tenant_id, shipper = books.tenant(), books.gateway()
    shipper.uses(tenant_id, MIDNIGHT + timedelta(minutes=1), prompt=3, completion=1)
    shipper.uses(tenant_id, MIDNIGHT + timedelta(hours=20), prompt=10, cached=4, completion=7, variant="chat-fast")
    books.close_day(shipper, tenant_id, DAY)
    shipper.uses(tenant_id, MIDNIGHT + timedelta(days=2, hours=5), prompt=12_345_678_901)
    books.close_day(shipper, tenant_id, DAY + timedelta(days=2))
    shipper.uses(tenant_id, MIDNIGHT + timedelta(days=3, hours=5), prompt=1)
    with books.as_role("operator") as session:
        key = create_key(session, tenant_id, "finance", "tests", scopes=["usage"])
    with (
        GatewayProcess(books.database, tmp_path_factory.mktemp("gateway")) as gateway,
        httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key.text}"}) as raw,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", admin_api_key=key.text, max_retries=0) as sdk,
    ):
        yield Customer(raw, sdk)
    books.close()


def test_a_day_is_the_tenants_own_and_its_amount_exact(customer: Customer) -> None:
    page = customer.costs(limit=4)
    assert [(bucket["start_time"], bucket["end_time"]) for bucket in page["data"]] == [
        tuple(int(instant.timestamp()) for instant in clock.day_window(DAY + timedelta(days=n), clock.BERLIN))
        for n in range(4)
    ]
    amounts = [[result["amount"] for result in bucket["results"]] for bucket in page["data"]]
    assert amounts == [
        # 3 x 0.02 + 0.04 and 6 x 0.032 + 4 x 0.016 + 7 x 0.064, by the million
        [{"value": Decimal("0.000000804"), "currency": "eur"}],
        [],
        [{"value": Decimal("246.91357802"), "currency": "eur"}],
        [],  # used, and not rated yet
    ]


def test_line_items_are_model_and_unit_with_their_tokens(customer: Customer) -> None:
    (bucket,) = customer.costs(**{"limit": 1, "group_by[]": "line_item"})["data"]
    found = {
        one["line_item"]: (one["quantity"], one["quantity_unit"], one["amount"]["value"]) for one in bucket["results"]
    }
    assert found == {
        "chat, prompt": (3, "tokens", Decimal("0.00000006")),
        "chat, completion": (1, "tokens", Decimal("0.00000004")),
        "chat-fast, prompt": (6, "tokens", Decimal("0.000000192")),
        "chat-fast, cached_prompt": (4, "tokens", Decimal("0.000000064")),
        "chat-fast, completion": (7, "tokens", Decimal("0.000000448")),
    }
    (bucket,) = customer.costs(limit=1, line_items=["chat, prompt", "chat, completion"])["data"]
    assert bucket["results"][0]["amount"]["value"] == Decimal("0.0000001")


def test_pages_follow_each_other_and_come_to_the_whole(customer: Customer) -> None:
    end = int((MIDNIGHT + timedelta(days=4)).timestamp())
    first = customer.costs(limit=3, end_time=end)
    assert first["has_more"]
    second = customer.costs(limit=3, end_time=end, page=first["next_page"])
    assert (second["has_more"], second["next_page"]) == (False, None)
    starts = [bucket["start_time"] for bucket in first["data"] + second["data"]]
    assert starts == [int((MIDNIGHT + timedelta(days=n)).timestamp()) for n in range(4)]


def test_the_official_sdk_reads_it(customer: Customer) -> None:
    page = customer.sdk.admin.organization.usage.costs(
        start_time=int(MIDNIGHT.timestamp()), group_by=["line_item"], limit=1
    )
    results: list[Any] = list(page.data[0].results)
    assert {one.object for one in results} == {"organization.costs.result"}
    assert {one.amount.currency for one in results} == {"eur"}
    assert page.next_page is not None
