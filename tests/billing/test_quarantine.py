"""Quarantine: neither version of an event wins by itself, and a person's decision is counted, kept and audited."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, select, text

from billing import quarantine, rated_lines, reconcile, usage, windows
from billing.quarantine import CannotBeDecidedSo, Decision, Entry
from billing.windows import SealKey
from studio import clock, ids
from studio.db.tenancy import AuditEntry
from studio.db.usage import MOST_TOKENS, UsageStaging
from tests.billing.books import Books, Gateway

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def only_entry(books: Books, tenant: UUID | None = None) -> Entry:
    with books.as_role("auditor") as session:
        (entry,) = quarantine.entries(session, tenant_id=tenant)
    return entry


def decide(books: Books, entry: Entry, decision: Decision) -> None:
    with books.as_role("operator") as session:
        quarantine.decide(session, entry.id, decision, by="key:finance", reason="asked the customer", now=clock.now())


def sends_again(books: Books, event_id: UUID, completion: int) -> None:
    """A gateway ships an event that is there, with other tokens."""
    with books.as_role("auditor") as session:
        row = session.execute(text("select * from usage_events where id = :id"), {"id": event_id}).mappings().one()
    forged = {name: value for name, value in row.items() if name != "ingested_at"} | {"completion_tokens": completion}
    shipment = ids.uuid7()
    with books.as_role("shipper") as session:
        session.execute(insert(UsageStaging).values(shipment_id=shipment, row=1, **forged))
        session.execute(text("select accept_usage(:shipment)"), {"shipment": shipment})


def sealed(books: Books, gateway: Gateway, tenant: UUID) -> SealKey:
    gateway.reports(windows.closes_at(DAY))
    books.engine_is_idle(windows.closes_at(DAY) + timedelta(seconds=gateway.seq))
    return books.seal(tenant, DAY).key


@pytest.mark.parametrize(("decision", "billed"), [("released", 14), ("discarded", 3)])
def test_of_two_versions_neither_is_billed_until_somebody_decides(
    books: Books, decision: Decision, billed: int
) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    event = gateway.uses(tenant, NOON, prompt=10, completion=1)
    gateway.uses(tenant, NOON, prompt=2, completion=1)
    sends_again(books, event, completion=9999)
    key = sealed(books, gateway, tenant)
    assert books.process(key) == "held"
    with books.as_role("worker") as session:
        assert quarantine.may_go_on(session) == []
    decide(books, only_entry(books), decision)
    with books.as_role("worker") as session:
        assert [found for found, _ in quarantine.may_go_on(session)] == [key]
    assert books.process(key) == "reconciled"
    with books.as_role("auditor") as session:
        assert usage.counted_tokens(session, key) == billed
        assert usage.discarded_tokens(session, key) == 14 - billed
        audited = session.scalars(select(AuditEntry).where(AuditEntry.action == f"quarantine.{decision}")).one()
    assert (audited.actor, audited.details["reason"]) == ("key:finance", "asked the customer")


def test_usage_of_a_model_that_nobody_knows_can_be_discarded_and_the_rest_is_billed(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, variant="qwen-of-next-year")
    gateway.uses(tenant, NOON, prompt=2)
    key = sealed(books, gateway, tenant)
    assert books.process(key) == "held"
    entry = only_entry(books, tenant)
    with pytest.raises(CannotBeDecidedSo, match="add the price"):
        decide(books, entry, "released")
    decide(books, entry, "discarded")
    assert books.process(key) == "reconciled"
    assert books.daily(DAY) == [("prompt", DAY, 2)]


def test_a_new_catalog_lets_a_held_seal_try_again(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, prompt=10, variant="qwen-of-next-year")
    key = sealed(books, gateway, tenant)
    assert books.process(key) == "held"
    with books.database.superuser() as connection:
        connection.execute("insert into catalog_syncs (content_hash, models, variants, prices) values ('new', 1, 1, 1)")
    with books.as_role("worker") as session:
        assert [found for found, _ in quarantine.may_go_on(session)] == [key]


def test_what_is_rated_already_is_corrected_on_the_invoice_and_not_discarded(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    event = gateway.uses(tenant, NOON, prompt=10, completion=1)
    assert books.process(sealed(books, gateway, tenant)) == "reconciled"
    sends_again(books, event, completion=9999)
    entry = only_entry(books)
    with pytest.raises(CannotBeDecidedSo, match="rated already"):
        decide(books, entry, "discarded")
    decide(books, entry, "released")
    with pytest.raises(CannotBeDecidedSo, match="was settled at"):
        decide(books, entry, "discarded")


@pytest.mark.parametrize("tokens", [{"prompt": -1}, {"prompt": 5, "completion": -(2**62)}])
def test_an_impossible_event_holds_nobody_and_can_only_be_discarded(books: Books, tokens: dict[str, int]) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    gateway.uses(tenant, NOON, **tokens)
    books.engine_tokens = {"prompt_tokens": 0, "completion_tokens": 0}
    gateway.uses(tenant, NOON, prompt=2)
    assert books.process(sealed(books, gateway, tenant)) == "reconciled"
    entry = only_entry(books, tenant)
    with pytest.raises(CannotBeDecidedSo, match="can only be discarded"):
        decide(books, entry, "released")
    decide(books, entry, "discarded")
    assert books.daily(DAY) == [("prompt", DAY, 2)]


def test_more_tokens_than_an_engine_can_count_come_into_no_sum_and_finance_sees_the_row(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    far_too_many = gateway.uses(tenant, NOON, prompt=MOST_TOKENS + 1)
    books.engine_tokens = {"prompt_tokens": 0, "completion_tokens": 0}
    gateway.uses(tenant, NOON, prompt=2)
    assert books.process(sealed(books, gateway, tenant)) == "reconciled"
    entry = only_entry(books, tenant)
    assert (entry.event_id, entry.payload["prompt_tokens"]) == (far_too_many, MOST_TOKENS + 1)
    assert books.daily(DAY) == [("prompt", DAY, 2)]


def test_an_overflow_of_before_there_was_a_bound_holds_its_seal_and_is_named(books: Books) -> None:
    """Each of them fits into 64 bits, and their sum does not."""
    tenant, neighbour, gateway = books.tenant(), books.tenant("neighbour"), books.gateway()
    events = [gateway.uses(tenant, NOON, prompt=1) for _ in range(2)]
    gateway.uses(neighbour, NOON, prompt=5)
    books.engine_tokens = {"prompt_tokens": 5, "completion_tokens": 0}
    with books.database.superuser() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update usage_events set prompt_tokens = %s where id = any(%s)", [2**62, events])
    key, other = sealed(books, gateway, tenant), books.seal(neighbour, DAY).key
    with books.as_role("worker") as session:
        assert usage.count_together(session, DAY, [key, other]) == {other}
    assert books.process(key) == "held"
    with books.as_role("auditor") as session:
        assert {entry.event_id for entry in quarantine.entries(session, tenant_id=tenant)} == set(events)
        held = usage.held_events(session, DAY, limit=5)
    assert {(row["reason"], row["prompt_tokens"]) for row in held} == {(usage.IMPOSSIBLE, str(2**62))}
    with books.as_role("worker") as session:
        rated_lines.rate_seal(session, other)
        reconcile.reconcile_seal(session, other, windows.closes_at(DAY))
    assert books.state(other) == "reconciled"  # though the same engine served both
    with books.as_role("auditor") as session:
        entries = quarantine.entries(session, tenant_id=tenant)
    for entry in entries:
        with pytest.raises(CannotBeDecidedSo, match="can only be discarded"):
            decide(books, entry, "released")
        decide(books, entry, "discarded")
    assert books.process(key) == "reconciled"
    assert books.daily(DAY) == [("prompt", DAY, 5)]
