"""What no request asks for is measured by the sensor and job that do it in production."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing import card_reservations, price_book
from studio import clock
from tests.billing.books import Books
from tests.orchestration.location import Location

BEFORE = datetime(2026, 1, 2, tzinfo=UTC)


def test_reserved_cards_of_a_day_that_is_over_are_metered_once(books: Books, location: Location) -> None:
    tenant = books.tenant()
    yesterday = clock.now().astimezone(clock.BERLIN).date() - timedelta(days=1)
    start, end = clock.day_window(yesterday, clock.BERLIN)
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id="gpu", unit="gpu_hour", per_million=Decimal("2.40"), tiers=(),
            valid_from=BEFORE, valid_until=None, retroactive=True, now=BEFORE, by="key:finance", reason="contract",
        )  # fmt: skip
        card_reservations.reserve(
            session, tenant_id=tenant, cards=3, valid_from=start, valid_until=end, now=BEFORE, by="key:finance",
            reason="contract",
        )  # fmt: skip
    (asked,) = location.asks("days_unmeasured")
    assert asked.partition_key == yesterday.isoformat()
    result = location.carry_out(asked, "measure_days")
    (written,) = [event for event in result.get_asset_materialization_events() if "gpu" in str(event.asset_key)]
    figures = written.materialization.metadata
    hours = (end - start) / timedelta(hours=1)
    assert (figures["gpu_hours"].value, figures["counted_now"].value) == (3 * hours, 1)
    verdicts = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert verdicts["gpu_hours_are_billed_as_reserved"]
    assert verdicts["gpu_hours_daily_rows_fit"]
    assert location.asks("days_unmeasured") == []
