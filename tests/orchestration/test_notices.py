"""Alerts and messages through the sensors and the job that carry them in production."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from assets.notices import Post
from serving.webhooks import signature
from serving.webhooks.sending import Sender
from studio import clock, ids
from studio.budgets import put_budget
from studio.db.notices import WebhookAttempt
from studio.sealing import Seal
from tests.billing.books import Books
from tests.orchestration.location import Location


@pytest.fixture
def posted(books: Books, location: Location) -> Location:
    """The location with webhooks set up. Names are not resolved: nothing leaves this machine."""

    async def nowhere(host: str, port: int) -> list[object]:
        return []

    with books.as_role("worker"):
        sender = Sender(books.engines["worker"], Seal(b"key"), resolve=nowhere)  # type: ignore[arg-type]
    return replace(location, resources=location.resources | {"post": Post(sender, None)})


def test_an_alert_is_raised_in_the_tick_and_its_message_sent_by_a_run(books: Books, posted: Location) -> None:
    tenant, webhook = books.tenant(), ids.uuid7()
    with books.as_role("operator") as session:
        budget = put_budget(session, tenant, None, "monthly", Decimal(1), "tests")
    month = clock.now().astimezone(clock.BERLIN).date().replace(day=1)
    sealed = Seal(b"key").close(tenant, webhook.bytes, signature.new_secret().encode())
    with books.database.superuser() as connection:
        connection.execute(
            "insert into webhooks (id, tenant_id, url, secret, created_by) values (%s, %s, 'https://a.test/', %s, 'x')",
            (webhook, tenant, sealed),
        )
        connection.execute("insert into budget_accounts (budget_id, period, spent) values (%s, %s, 1)", (budget, month))
    assert posted.asks("webhooks_due") == []
    for raised in (2, 0):
        with posted.tick("budget_alerts") as said:
            assert said.skip_message == f"{raised} alerts were raised."
    (due,) = posted.asks("webhooks_due")
    assert posted.carry_out(due, "send_webhooks").success
    assert posted.asks("webhooks_due") == []  # claimed: due again in a minute
    with books.as_role("worker") as session:
        errors = session.scalars(select(WebhookAttempt.error)).all()
    assert errors == ["its host is not on the public internet"] * 2


def test_what_is_not_set_up_asks_for_nothing(location: Location) -> None:
    for sensor, words in (("webhooks_due", "STUDIO_WEBHOOK_KEY"), ("mail_due", "STUDIO_SMTP_HOST")):
        with location.tick(sensor) as said:
            assert said.run_requests == []
            assert words in str(said.skip_message)
