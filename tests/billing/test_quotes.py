"""A quoted batch or fine-tune is billed at the quote's prices and never above its limit, whatever prices come later."""

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
from studio.db.catalog import Price, Quote
from studio.db.invoices import InvoiceLine
from studio.db.jobs import Batch, File, FineTuningEvent, FineTuningJob
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


def training_is_sold(books: Books, per_million: str, since: datetime) -> None:
    """By the list, at a price that ends when there is another."""
    with books.as_role("worker") as session:
        query = select(Price).where(Price.unit == "training", Price.valid_until.is_(None))
        for old in session.scalars(query):
            old.valid_until = since
        session.flush()
        price = {"currency": "EUR", "variant_id": CHAT, "unit": "training"}
        session.add(Price(**price, per_million=Decimal(per_million), valid_from=since))


def quoted_fine_tune(
    books: Books, tenant: UUID, asked_at: datetime, tokens: int, max_cost: str, quoted_at: datetime = QUOTED
) -> tuple[UUID, str]:
    """A job that has trained so many tokens, with a quote; its id, and the quote's on the wire."""
    file, quote, job = ids.uuid7(), ids.uuid7(), ids.uuid7()
    with books.as_role("gateway"), tenant_scope(books.engines["gateway"], tenant) as session:
        session.execute(
            insert(File).values(
                id=file, tenant_id=tenant, filename="a", purpose="fine-tune", size_bytes=1, sha256="", object_key="a"
            )
        )
        session.execute(
            insert(Quote).values(
                id=quote, tenant_id=tenant, variant_id=CHAT, input_file_id=file, endpoint="/v1/fine_tuning/jobs",
                currency="EUR", max_cost=Decimal(max_cost), priced_at=quoted_at,
                valid_until=quoted_at + timedelta(days=1), document={},
            )
        )  # fmt: skip
        session.execute(
            insert(FineTuningJob).values(
                id=job, tenant_id=tenant, api_key_id=ids.uuid7(), variant_id=CHAT, training_file_id=file, seed=1,
                hyperparameters={}, state="succeeded", trained_tokens=tokens, created_at=asked_at, quote_id=quote,
            )
        )  # fmt: skip
    with books.as_role("worker") as session:
        session.execute(
            insert(FineTuningEvent).values(
                job_id=job, seq=1, tenant_id=tenant, at=asked_at, level="info", type="metrics", message="",
                data={"trained_tokens": tokens},
            )
        )  # fmt: skip
    return job, ids.to_wire(ids.QUOTE, quote)


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


def test_a_quoted_fine_tune_is_billed_at_the_quotes_price_and_never_above_its_limit(books: Books) -> None:
    tenant, gateway, asked_at = books.tenant(), books.gateway(), QUOTED + timedelta(hours=2)
    training_is_sold(books, "10", QUOTED - timedelta(days=9))
    training_is_sold(books, "90", QUOTED + timedelta(hours=1))
    within, kept = quoted_fine_tune(books, tenant, asked_at, 100_000, "1.00")
    above, limited = quoted_fine_tune(books, tenant, asked_at + timedelta(minutes=1), 300_000, "2.50")
    unquoted, _ = quoted_fine_tune(books, tenant, asked_at + timedelta(minutes=2), 1_000_000, "0")
    with books.database.superuser() as connection:
        connection.execute("update fine_tuning_jobs set quote_id = null where id = %s", [unquoted])
    gateway.uses(tenant, asked_at, prompt=100_000, fine_tune=within)
    gateway.uses(tenant, asked_at + timedelta(minutes=1), prompt=300_000, fine_tune=above)
    gateway.uses(tenant, asked_at + timedelta(minutes=2), prompt=1_000_000, fine_tune=unquoted)
    books.close_day(gateway, tenant, asked_at.date())
    november = books.draft(tenant, FIRST, LAST)
    assert sorted(lines(books, november)) == sorted([
        ("quote_limit", Decimal("0.5"), Decimal("-0.50"), limited),
        ("training", Decimal(10), Decimal("1.00"), kept),
        ("training", Decimal(10), Decimal("3.00"), limited),
        ("training", Decimal(90), Decimal("90.00"), ""),
    ])  # fmt: skip
