"""The tokenizer's counts under Dagster: a day on which they and what is billed part is red, and names the requests."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from sqlalchemy import insert

from billing import windows
from studio import ids
from studio.db.sessions import tenant_scope
from studio.db.usage import UsageCount
from tests.billing.books import CHAT, Books, Gateway
from tests.orchestration.location import Location

DAY, NOON = date(2026, 11, 10), datetime(2026, 11, 10, 11, tzinfo=UTC)


def counted_again(books: Books, tenant: UUID, event: UUID, prompt: int, completion: int) -> None:
    """As the gateway writes it, with the meter's own figures right."""
    figures = {"counted_prompt_tokens": prompt, "counted_completion_tokens": completion}
    figures |= {"metered_prompt_tokens": prompt, "metered_completion_tokens": completion}
    with books.as_role("gateway"):
        pass
    with tenant_scope(books.engines["gateway"], tenant) as session:
        session.execute(
            insert(UsageCount).values(
                id=event, tenant_id=tenant, model_id=CHAT, variant_id=CHAT, replica_id=books.replica_id,
                started_at=ids.instant_of(event), **figures,
            )
        )  # fmt: skip


def verdict(location: Location) -> Any:
    """What the check says of the day."""
    result = location.run("process_day", DAY.isoformat())
    (found,) = (
        one for one in result.get_asset_check_evaluations() if one.check_name == "tokens_are_those_of_the_tokenizer"
    )
    return found


def close(books: Books, gateway: Gateway, tenant: UUID) -> None:
    """The day is over."""
    gateway.reports(windows.closes_at(DAY))
    books.engine_is_idle(windows.closes_at(DAY))
    books.seal(tenant, DAY)


@pytest.mark.parametrize(("billed", "passed"), [(1000, True), (1019, True), (1020, False), (980, False)])
def test_a_difference_of_two_percent_is_red(books: Books, location: Location, billed: int, passed: bool) -> None:
    """900 + 100 tokens by the tokenizer; what is billed says otherwise."""
    tenant, gateway = books.tenant(), books.gateway()
    event = gateway.uses(tenant, NOON, prompt=billed - 100, completion=100)
    counted_again(books, tenant, event, prompt=900, completion=100)
    close(books, gateway, tenant)
    found = verdict(location)
    assert found.passed is passed
    assert found.metadata["requests_counted_again"].value == 1
    rows = found.metadata["differing_requests"].value.records
    assert [row.data["id"] for row in rows] == ([] if billed == 1000 else [f"req_{event.hex}"])


def test_differences_do_not_cancel_each_other_out_and_other_days_do_not_count(books: Books, location: Location) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    for prompt in (110, 90):
        counted_again(books, tenant, gateway.uses(tenant, NOON, prompt=prompt), prompt=100, completion=0)
    for at in (NOON.replace(day=9, hour=22, minute=59), NOON.replace(hour=23)):  # a minute before, the next midnight
        counted_again(books, tenant, gateway.uses(tenant, at, prompt=1), prompt=1_000_000, completion=0)
    close(books, gateway, tenant)
    found = verdict(location)
    assert not found.passed
    (model,) = found.metadata["models"].value.records
    assert model.data == {
        "model_id": CHAT,
        "requests": 2,
        "metered_tokens": 200,
        "counted_tokens": 200,
        "differing_tokens": 20,
        "percent": 10.0,
        "agrees": False,
    }


def test_a_day_without_samples_says_so(books: Books, location: Location) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10)
    close(books, gateway, tenant)
    found = verdict(location)
    assert found.passed
    assert found.metadata["requests_counted_again"] == dg.MetadataValue.int(0)
