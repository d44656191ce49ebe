"""A tenant closes on a day to come, in its own zone; Dagster looks each minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest

from billing import price_book
from orchestration.closing import tenants_closing
from studio import tenant_closing
from studio.db.tenancy import Tenant
from studio.errors import Conflict, InvalidRequest
from studio.tenants import create_key
from tests.billing.books import Books

MONTH, NOON = date(2026, 11, 1), datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_a_tenant_closes_as_its_own_day_begins_and_can_be_kept_open(books: Books) -> None:
    berlin, tokyo = books.tenant(), books.tenant("toukyou", "Asia/Tokyo")
    now, first = datetime(2026, 11, 30, 16, tzinfo=UTC), date(2026, 12, 1)  # it is December in Tokyo
    with books.as_role("operator") as session:
        with pytest.raises(InvalidRequest, match="not to come in the tenant's zone"):
            tenant_closing.close_on(session, session.get_one(Tenant, tokyo), first, now)
        for tenant in (berlin, tokyo):
            tenant_closing.close_on(session, session.get_one(Tenant, tenant), first, now - timedelta(days=2))
    with books.as_role("worker") as session:
        assert [one.id for one in tenant_closing.due(session, now)] == [tokyo]
        assert len(tenant_closing.due(session, now + timedelta(hours=7))) == 2
    with books.as_role("operator") as session:
        tenant_closing.reopen(session, session.get_one(Tenant, tokyo))
        with pytest.raises(Conflict, match="is open"):
            tenant_closing.reopen(session, session.get_one(Tenant, tokyo))
    with books.as_role("worker") as session:
        assert tenant_closing.due(session, now) == []


def test_the_sensor_closes_whose_day_has_begun_and_says_whom_it_could_not(books: Books) -> None:
    leaver, bound = books.tenant(), books.tenant("gebunden")
    with books.as_role("operator") as session:
        key = create_key(session, leaver, "one", "tests").id
        price_book.commit(
            session, tenant_id=bound, amount=Decimal("5.00"), valid_from=MONTH, valid_until=None, by="key:finance",
            reason="contract", now=NOON,
        )  # fmt: skip
    with books.database.superuser() as connection:
        connection.execute("update tenants set closes_on = current_date - 1")
    said = tenants_closing(dg.build_sensor_context(), worker_database=books.engines["worker"])
    assert isinstance(said, dg.SkipReason)
    assert (said.skip_message or "").startswith("1 tenants were closed. The minimum commitment ")
    with books.database.superuser() as connection:
        closed = connection.execute("select slug, closed_at is not null from tenants where not is_internal order by 1")
        assert closed.fetchall() == [("gebunden", False), ("kunde", True)]
        revoked = connection.execute("select revoked_at is not null from api_keys where id = %s", (key,)).fetchone()
        told = connection.execute("select actor from audit_log where action = 'tenant.close'").fetchall()
    assert (revoked, told) == ((True,), [("calendar",)])
