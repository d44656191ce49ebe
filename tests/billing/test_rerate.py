"""Re-rating shows, per tenant, what a month would come to now, and changes nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from billing import price_book, rerate
from billing.rerate import Part, Preview
from studio import ids
from tests.billing.books import CHAT, Books

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAY, MONTH = date(2026, 11, 10), date(2026, 11, 1)
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)

TENANTS = [uuid4(), uuid4()]
parts = st.builds(
    Part, st.sampled_from(TENANTS), st.just("chat"), st.sampled_from(["prompt", "completion"]), st.just("EUR"),
    st.decimals(0, 10, places=6) | st.none(), st.integers(1, 10**9),
)  # fmt: skip


@given(st.lists(parts, max_size=8), st.lists(parts, max_size=8))
def test_the_differences_are_all_that_lies_between_the_two_sums(old: list[Part], new: list[Part]) -> None:
    found = rerate.differences(old, new)
    assert sum(one.change for one in found) == sum(part.amount for part in new) - sum(part.amount for part in old)
    priced = [part for part in old if part.per_million is not None]
    assert rerate.differences(priced, reversed(priced)) == []


def preview(books: Books, month: date = MONTH) -> Preview:
    with books.as_role("auditor") as session:
        return rerate.preview(session, month)


def set_retroactively(books: Books, tenant: UUID) -> None:
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit="prompt", per_million=Decimal("0.015"), tiers=(),
            valid_from=NOON - timedelta(days=1), valid_until=None, retroactive=True, by="key:finance",
            reason="forgotten contract", now=LATER,
        )  # fmt: skip


def test_a_price_set_afterwards_is_a_difference_of_its_tenant_alone_and_what_was_rated_stays(books: Books) -> None:
    tenant, other, gateway = books.tenant(), books.tenant("nachbar"), books.gateway()
    for one in (tenant, other):
        gateway.uses(one, NOON, prompt=1_000_000, completion=7)
        books.close_day(gateway, one, DAY)
    assert preview(books).differences == ()
    assert preview(books).seals == 2
    set_retroactively(books, tenant)
    for _ in range(2):  # a dry run
        (found,) = preview(books).differences
        assert (found.tenant, found.unit, found.rated_at, found.priced_now_at) == (
            ids.to_wire(ids.TENANT, tenant),
            "prompt",
            "0.02",
            "0.015",
        )
        assert (found.rated, found.now, found.change) == (Decimal("0.02"), Decimal("0.015"), Decimal("-0.005"))
    with books.as_role("auditor") as session:
        rated = session.execute(text("select count(*), sum(amount) from rated_lines")).one()
    assert tuple(rated) == (4, Decimal("0.04000056"))
    assert preview(books, date(2026, 10, 1)).seals == 0
