"""A quoted batch is billed at the quote's prices and never above its limit, whatever the price book says later."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from billing import price_book, quoting, rating
from billing.quoting import LineBound
from studio import ids
from studio.db.catalog import Quote
from studio.db.invoices import InvoiceLine
from studio.db.jobs import Batch, File
from studio.db.sessions import tenant_scope
from tests.billing.books import CHAT, Books
from tests.billing.test_invoice_again import ask_again, cancel, draft_of

QUOTED = datetime(2026, 11, 30, 9, tzinfo=UTC)
FIRST, LAST = date(2026, 11, 1), datetime(2027, 1, 2, 9, tzinfo=UTC)

prices = st.decimals(0, 100, places=6)
counts = st.integers(0, 10**7)


@given(
    st.lists(st.tuples(counts, counts, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=10),
    st.tuples(prices, prices, prices),
)
def test_no_use_within_the_bounds_costs_more_than_was_quoted(
    lines: list[tuple[int, int, float, float, float]], by_unit: tuple[Decimal, Decimal, Decimal]
) -> None:
    of = dict(zip(quoting.ANSWER_UNITS, by_unit, strict=True))
    quoted = quoting.max_cost([LineBound(prompt, most, True) for prompt, most, *_ in lines], of)
    used = Decimal(0)
    for prompt, most, share_used, share_cached, share_written in lines:
        read = int(prompt * share_used)
        cached = int(read * share_cached)
        used += rating.rate(read - cached, of["batch_prompt"]) + rating.rate(cached, of["batch_cached_prompt"])
        used += rating.rate(int(most * share_written), of["batch_completion"])
    assert used <= quoted


def quoted_batch(books: Books, tenant: UUID, max_cost: str) -> tuple[UUID, str]:
    """A batch with a quote of `QUOTED`; its id, and the quote's on the wire."""
    file, quote, batch = ids.uuid7(), ids.uuid7(), ids.uuid7()
    with books.as_role("gateway"), tenant_scope(books.engines["gateway"], tenant) as session:
        session.execute(
            insert(File).values(
                id=file, tenant_id=tenant, filename="a", purpose="batch", size_bytes=1, sha256="", object_key="a"
            )
        )
        session.execute(
            insert(Quote).values(
                id=quote, tenant_id=tenant, variant_id=CHAT, input_file_id=file, endpoint="/v1/completions",
                currency="EUR", max_cost=Decimal(max_cost), priced_at=QUOTED, valid_until=QUOTED + timedelta(days=1),
                document={},
            )
        )  # fmt: skip
        session.execute(
            insert(Batch).values(
                id=batch, tenant_id=tenant, api_key_id=ids.uuid7(), endpoint="/v1/completions", quote_id=quote,
                completion_window="24h", input_file_id=file, state="in_progress", created_at=QUOTED,
                expires_at=QUOTED + timedelta(days=1),
            )
        )  # fmt: skip
    return batch, ids.to_wire(ids.QUOTE, quote)


def lines(books: Books, invoice_id: UUID | None) -> list[tuple[str, Decimal, Decimal, str]]:
    assert invoice_id is not None
    columns = (InvoiceLine.unit, InvoiceLine.per_million, InvoiceLine.amount, InvoiceLine.basis)
    query = select(*columns).where(InvoiceLine.invoice_id == invoice_id).order_by(InvoiceLine.line_no)
    with books.as_role("auditor") as session:
        return [(unit, price, amount, basis) for unit, price, amount, basis in session.execute(query)]


def test_a_dearer_price_after_the_quote_changes_nothing_and_its_limit_holds_over_two_months(books: Books) -> None:
    tenant, gateway = books.tenant(), books.gateway()
    batch, quote = quoted_batch(books, tenant, "2.50")
    with books.as_role("operator") as session:
        price_book.set_price(
            session, tenant_id=tenant, variant_id=CHAT, unit="batch_prompt", per_million=Decimal(5), tiers=(),
            valid_from=QUOTED + timedelta(minutes=1), valid_until=None, retroactive=False, by="key:finance",
            reason="new contract", now=QUOTED,
        )  # fmt: skip
    for at, prompt in ((QUOTED + timedelta(hours=1), 200_000_000), (QUOTED + timedelta(days=1), 100_000_000)):
        gateway.uses(tenant, at, prompt=prompt, batch_id=batch)
        gateway.uses(tenant, at, prompt=1_000_000, batch_id=ids.uuid7())  # of another batch, without a quote
        books.close_day(gateway, tenant, at.date())
    november = books.draft(tenant, FIRST, LAST)
    assert sorted(lines(books, november)) == [
        ("batch_prompt", Decimal("0.01"), Decimal("2.00"), quote),
        ("batch_prompt", Decimal(5), Decimal("5.00"), ""),
    ]
    december = books.draft(tenant, date(2026, 12, 1), LAST)
    assert sorted(lines(books, december)) == [
        ("batch_prompt", Decimal("0.01"), Decimal("1.00"), quote),
        ("batch_prompt", Decimal(5), Decimal("5.00"), ""),
        ("quote_limit", Decimal("0.5"), Decimal("-0.50"), quote),
    ]
    assert december is not None
    assert books.invoice(december).net == Decimal("5.50")
    books.finalize(december, LAST)  # booked: the ledger takes what is given back
    cancel(books, december)
    again = draft_of(books, ask_again(books, december))
    assert lines(books, again) == lines(books, december)  # the limit counts no cancelled line
