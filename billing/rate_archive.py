"""A second rating, from the archive alone: other code, another program, and the same amounts to the last digit.

It shares with `usage.py` and `rated_lines.py` the book (terms, variants, prices) and nothing else: civil days come from
Python's zones instead of PostgreSQL's, tokens are added up per span in which no price changes instead of being joined
with a price one by one, and amounts are integers of 10^-12. A day of ten million events takes seconds and little memory
(`benchmarks/rating.py`), since nothing is kept of an event once it is added.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Numeric, cast, select
from sqlalchemy.orm import Session, aliased

from billing import archive, archive_format
from billing.windows import SealKey
from studio import clock, ids, training_usage
from studio.db.catalog import Model, ModelVariant, Price, Quote
from studio.db.invoices import RatedLine
from studio.db.jobs import Batch, FineTuningJob
from studio.db.tenancy import TenantBilling
from studio.db.usage import Quarantined
from studio.objects import ObjectStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PICO = Decimal("1e-12")
ZERO = Decimal(0)
# Of duckdb. The first is enough for ten million events and 470,000 lines, 291 MB in all: benchmarks/rating_files.py
MEMORY_MB, MOST_MEMORY_MB = 150, 1_000


@dataclass(frozen=True, slots=True)
class Book:
    """What a window is rated by, in rows: whose days and currency, which variants, which prices in force when."""

    slots: Sequence[tuple[Any, ...]]  # tenant, billing day, currency, start, end
    variants: Sequence[tuple[Any, ...]]  # model, tier, variant, task, its base and what the fast tier promises
    spans: Sequence[tuple[Any, ...]]  # currency, variant, start, end: no price of theirs changes in between
    # id, tenant (None: of the list), currency, variant, unit, millionths of a unit per million tokens, start, end
    prices: Sequence[tuple[Any, ...]]
    quotes: Sequence[tuple[Any, ...]]  # batch, quote, the instant that it is priced at
    quoted_fine_tunes: Sequence[tuple[Any, ...]]  # the same with the event of a fine-tune of the window
    discarded: Sequence[tuple[UUID]]  # events that a person has decided to bill to nobody


@dataclass(frozen=True, slots=True)
class SealRating:
    """One seal, rated twice. Amounts of several currencies are added: they are for comparing, not for paying."""

    key: SealKey
    archive_tokens: int
    rated_tokens: int
    archive_amount: Decimal
    rated_amount: Decimal
    differing_lines: int
    damaged: str = ""  # why its file could not be rated

    @property
    def agrees(self) -> bool:
        """Every line has the same tokens and the same amount."""
        return not self.damaged and self.differing_lines == 0


def rate_twice(session: Session, store: ObjectStore, keys: Collection[SealKey]) -> dict[SealKey, SealRating]:
    """Archived seals of one day, rated from their files and compared with their rated lines. Others are left out.

    One whose file is damaged never agrees; it keeps no other from being rated.
    """
    found: dict[SealKey, SealRating] = {}
    for window_day in {key.window_day for key in keys}:
        rows = {
            SealKey(row.window_day, row.tenant_id, row.seal_no): row for row in archive.archived(session, window_day)
        }
        there = [key for key in keys if key in rows]
        if not there:
            continue
        with archive.fetched(store, [rows[key] for key in there]) as fetched:
            found |= {key: SealRating(key, 0, 0, ZERO, ZERO, 0, why) for key, why in fetched.damaged.items()}
            if fetched.files is None:
                continue
            duckdb = rated_files(fetched.files, book_of(session, window_day))
        whole = [key for key in there if key not in fetched.damaged]
        found |= {rating.key: rating for rating in compare(session, duckdb, window_day, whole)}
    return found


def book_of(session: Session, window_day: date) -> Book:
    """The book as it stands, for one window."""
    start, end = clock.day_window(window_day, clock.BERLIN)
    prices = session.scalars(select(Price).where(Price.valid_from < end)).all()
    in_force = [price for price in prices if price.valid_until is None or price.valid_until > start]
    base = aliased(ModelVariant)
    variants = session.execute(
        select(
            ModelVariant.model_id, ModelVariant.tier, ModelVariant.id, Model.task, base.id,
            ModelVariant.first_token_target_ms, ModelVariant.first_token_target_prompt_tokens,
        )
        .join(Model, Model.id == ModelVariant.model_id)
        .outerjoin(
            base, (base.model_id == ModelVariant.model_id) & (base.tier == "base") & (ModelVariant.tier == "fast")
        )
    ).tuples()  # fmt: skip
    quotes = session.execute(
        select(Batch.id, Quote.id, Quote.priced_at).join(Quote, Quote.id == Batch.quote_id)
    ).tuples()
    fine_tunes = session.execute(
        select(FineTuningJob.id, FineTuningJob.created_at, Quote.id, Quote.priced_at)
        .join(Quote, Quote.id == FineTuningJob.quote_id)
        .where(FineTuningJob.created_at >= start, FineTuningJob.created_at < end)
    ).tuples()
    discarded = session.execute(
        select(Quarantined.event_id).where(Quarantined.decision == "discarded", Quarantined.event_id.is_not(None))
    ).tuples()
    return Book(
        slots=[slot for terms in session.scalars(select(TenantBilling)) for slot in _slots(terms, start, end)],
        variants=[tuple(row) for row in variants],
        spans=_spans(in_force, start, end),
        prices=[
            (
                p.id,
                p.tenant_id,
                p.currency,
                p.variant_id,
                p.unit,
                int(p.per_million * 1_000_000),
                p.valid_from,
                p.valid_until or end,
            )
            for p in prices
        ],
        quotes=[(batch_id, ids.to_wire(ids.QUOTE, quote_id), at) for batch_id, quote_id, at in quotes],
        quoted_fine_tunes=[
            (training_usage.event_id(job_id, created_at), ids.to_wire(ids.QUOTE, quote_id), at)
            for job_id, created_at, quote_id, at in fine_tunes
        ],
        discarded=[(event_id,) for (event_id,) in discarded if event_id is not None],
    )


def rated_files(files: str, book: Book) -> DuckDBPyConnection:
    """A connection with the table `lines` of all events of the `files`; a day of very many lines gets more memory."""
    from duckdb import OutOfMemoryException  # only jobs need it

    try:
        duckdb = archive_format.connect(MEMORY_MB)
        rate_files(duckdb, files, book)
    except OutOfMemoryException:
        duckdb = archive_format.connect(MOST_MEMORY_MB)
        rate_files(duckdb, files, book)
    return duckdb


def rate_files(duckdb: DuckDBPyConnection, files: str, book: Book) -> None:
    """Rate all events of the Parquet `files` (a path or pattern) into the table `lines` of this connection.

    An event without terms, variant or price has no line: its tokens are missing, which is for the caller to see.
    """
    for name, rows in (
        ("slots", book.slots),
        ("variants", book.variants),
        ("spans", book.spans),
        ("prices", book.prices),
        ("quotes", [*book.quotes, *book.quoted_fine_tunes]),
        ("discarded", book.discarded),
    ):
        _load(duckdb, name, rows)
    kept = _NOT_DISCARDED if book.discarded else "true"
    quoted = _BATCH_OR_FINE_TUNE if book.quoted_fine_tunes else "e.batch_id"
    duckdb.execute(_ADD.format(files=files, kept=kept, quoted=quoted))
    duckdb.execute(_PRICE)


def total(duckdb: DuckDBPyConnection) -> tuple[int, int, Decimal]:
    """Lines, tokens and exact amount of the table `lines`, all currencies together."""
    row = duckdb.execute("select count(*), coalesce(sum(tokens), 0), coalesce(sum(pico), 0) from lines").fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), Decimal(int(row[2])) * PICO


def compare(
    session: Session, duckdb: DuckDBPyConnection, window_day: date, keys: Iterable[SealKey]
) -> list[SealRating]:
    """The table `lines` beside the rated lines of some seals of a day."""
    rated = session.execute(_rated_lines(window_day)).yield_per(10_000).tuples()
    _load(duckdb, "rated", rated)
    found = {
        SealKey(window_day, UUID(tenant_id), seal_no): sums
        for tenant_id, seal_no, *sums in duckdb.execute(_COMPARE).fetchall()
    }
    return [_seal_rating(key, *found.get(key, (0, 0, 0, 0, 0))) for key in keys]


def _seal_rating(
    key: SealKey, archive_tokens: int, rated_tokens: int, pico: int, rated_pico: int, differ: int
) -> SealRating:
    return SealRating(
        key,
        int(archive_tokens),
        int(rated_tokens),
        Decimal(int(pico)) * PICO,
        Decimal(int(rated_pico)) * PICO,
        int(differ),
    )


def _slots(terms: TenantBilling, start: datetime, end: datetime) -> Iterable[tuple[Any, ...]]:
    """The civil days of a tenant that a window touches, as far as these terms hold."""
    zone = clock.zone(terms.time_zone)
    day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    while day <= last:
        if terms.valid_from <= day and (terms.valid_until is None or day < terms.valid_until):
            yield terms.tenant_id, day, terms.currency, *clock.day_window(day, zone)
        day += timedelta(days=1)


def _spans(prices: Sequence[Price], start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    """The window, cut for each list and variant wherever one of its prices begins or ends."""
    cuts: dict[tuple[str, str], set[datetime]] = {}
    for price in prices:
        instants = cuts.setdefault((price.currency, price.variant_id), {start, end})
        instants.update(cut for cut in (price.valid_from, price.valid_until) if cut is not None and start < cut < end)
    return [(*of, first, until) for of, instants in cuts.items() for first, until in pairwise(sorted(instants))]


def _load(duckdb: DuckDBPyConnection, name: str, rows: Iterable[Sequence[Any]]) -> None:
    """A small table from rows. By a file: duckdb takes rows from Python one by one, thousands of times slower."""
    columns = ", ".join(f"'{column}': '{kind}'" for column, kind in _TABLES[name].items())
    with TemporaryDirectory(prefix="studio-rating-") as folder:
        path = Path(folder) / f"{name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        if path.stat().st_size == 0:  # of a file without a row duckdb cannot tell the form
            kinds = ", ".join(f"{column} {kind}" for column, kind in _TABLES[name].items())
            duckdb.execute(f"create or replace temp table {name} ({kinds})")
            return
        duckdb.execute(
            f"create or replace temp table {name} as select * from"  # noqa: S608 (names of our own)
            f" read_csv('{path}', columns = {{{columns}}}, header = false, delim = ',', quote = '\"', escape = '\"')"
        )


def _rated_lines(window_day: date) -> Any:
    return select(
        RatedLine.tenant_id, RatedLine.seal_no, RatedLine.variant_id, RatedLine.unit, RatedLine.price_id,
        RatedLine.billing_day, RatedLine.currency, RatedLine.basis, RatedLine.tokens,
        cast(RatedLine.amount * 1_000_000_000_000, Numeric(38, 0)),
    ).where(RatedLine.window_day == window_day)  # fmt: skip


_INSTANTS = {"starts": "timestamptz", "ends": "timestamptz"}
_TABLES = {
    "slots": {"tenant_id": "uuid", "billing_day": "date", "currency": "varchar", **_INSTANTS},
    "variants": {
        "model_id": "varchar", "tier": "varchar", "variant_id": "varchar", "task": "varchar", "base_id": "varchar",
        "target_ms": "bigint", "target_prompt": "bigint",
    },
    "spans": {"currency": "varchar", "variant_id": "varchar", **_INSTANTS},
    "prices": {
        "price_id": "uuid", "tenant_id": "uuid", "currency": "varchar", "variant_id": "varchar", "unit": "varchar",
        "micros": "bigint",
        **_INSTANTS,
    },
    "quotes": {"of_id": "uuid", "quote": "varchar", "priced_at": "timestamptz"},
    "discarded": {"id": "uuid"},
    "rated": {
        "tenant_id": "uuid", "seal_no": "integer", "variant_id": "varchar", "unit": "varchar", "price_id": "uuid",
        "billing_day": "date", "currency": "varchar", "basis": "varchar", "tokens": "bigint", "pico": "hugeint",
    },
}  # fmt: skip
_NOT_DISCARDED = "e.id not in (select id from discarded)"
# Only where there is one: a day's ids are as many bytes as all that is read of it otherwise.
_BATCH_OR_FINE_TUNE = "case when e.endpoint = '/v1/fine_tuning/jobs' then e.id else e.batch_id end"

# Slots and spans are numbered by their rows, so that ten million events are grouped by integers. Sums of BIGINT are
# HUGEINT in duckdb: they cannot overflow, and a division, which would give a float, is nowhere.
_ADD = """
    create or replace temp table added as
    select s.rowid as slot, p.rowid as span, v.rowid as variant, e.seal_no, e.batch_id is not null as is_batch,
           coalesce(q.rowid, -1) as quote,
           case e.endpoint when '/v1/fine_tuning/jobs' then 'training' when 'storage' then 'storage'
                when 'gpu_hour' then 'gpu_hour' else '' end as sort,
           coalesce(v.base_id is not null and e.batch_id is null
                    and epoch_us(e.first_token_at) - epoch_us(e.admitted_at) > v.target_ms * 1000
                    and e.prompt_tokens <= coalesce(v.target_prompt, e.prompt_tokens), false) as is_late,
           sum(e.prompt_tokens) as prompt, sum(e.cached_tokens) as cached, sum(e.completion_tokens) as completion,
           sum(e.reused_prompt_tokens) as reused_prompt, sum(e.reused_completion_tokens) as reused_completion
    from read_parquet('{files}') e
    join slots s on s.tenant_id = e.tenant_id and e.started_at >= s.starts and e.started_at < s.ends
    join variants v on v.model_id = e.model_id and v.tier = e.tier_served
    join spans p on p.variant_id = v.variant_id and p.currency = s.currency
         and e.started_at >= p.starts and e.started_at < p.ends
    left join quotes q on q.of_id = {quoted}
    where {kept}
    group by all
"""
# A price of the tenant's own goes before the list's. A late answer of the fast tier pays the base tier's price where
# that is the lower one.
_PRICE = """
    create or replace temp table lines as
    with units as (
        select a.* exclude (prompt, cached, completion, reused_prompt, reused_completion), u.unit, u.tokens
        from (select a.*, v.task = 'embedding' as embeds from added a join variants v on v.rowid = a.variant) a,
        lateral (values
            ('training', case when sort = 'training' then prompt else 0 end),
            ('storage', case when sort = 'storage' then prompt else 0 end),
            ('gpu_hour', case when sort = 'gpu_hour' then prompt else 0 end),
            ('embedding', case when embeds then prompt - reused_prompt else 0 end),
            ('prompt', case when embeds or sort <> '' then 0 else prompt - cached - reused_prompt end),
            ('cached_prompt', case when embeds then 0 else cached end),
            ('completion', completion - reused_completion),
            ('reused', reused_prompt + reused_completion)) as u (unit, tokens)
        where u.tokens > 0
    ), named as (
        select s.tenant_id, u.seal_no, v.variant_id, v.base_id, u.is_late, coalesce(q.quote, '') as quote,
               case when is_batch then 'batch_' || unit else unit end as unit, s.billing_day, s.currency,
               coalesce(q.priced_at, p.starts) as at, u.tokens
        from units u join slots s on s.rowid = u.slot join spans p on p.rowid = u.span
        join variants v on v.rowid = u.variant
        left join quotes q on q.rowid = u.quote
    ), priced as (
        select n.*, coalesce(o.price_id, l.price_id) as price_id, coalesce(o.micros, l.micros) as micros,
               coalesce(bo.price_id, bl.price_id) as base_price_id, coalesce(bo.micros, bl.micros) as base_micros
        from named n
        left join prices l on l.tenant_id is null and l.currency = n.currency and l.variant_id = n.variant_id
             and l.unit = n.unit and l.starts <= n.at and l.ends > n.at
        left join prices o on o.tenant_id = n.tenant_id and o.currency = n.currency and o.variant_id = n.variant_id
             and o.unit = n.unit and o.starts <= n.at and o.ends > n.at
        left join prices bl on n.is_late and bl.tenant_id is null and bl.currency = n.currency
             and bl.variant_id = n.base_id and bl.unit = n.unit and bl.starts <= n.at and bl.ends > n.at
        left join prices bo on n.is_late and bo.tenant_id = n.tenant_id and bo.currency = n.currency
             and bo.variant_id = n.base_id and bo.unit = n.unit and bo.starts <= n.at and bo.ends > n.at
    ), decided as (
        select *, coalesce(base_micros < micros, false) as is_missed from priced where price_id is not null
    )
    select tenant_id, seal_no, variant_id, unit, case when is_missed then base_price_id else price_id end as price_id,
           billing_day, currency, case when is_missed then 'missed_target' else quote end as basis,
           sum(tokens) as tokens, sum(tokens * (case when is_missed then base_micros else micros end)::hugeint) as pico
    from decided
    group by all
"""
_COMPARE = """
    select coalesce(l.tenant_id, r.tenant_id)::varchar, coalesce(l.seal_no, r.seal_no),
           coalesce(sum(l.tokens), 0), coalesce(sum(r.tokens), 0), coalesce(sum(l.pico), 0),
           coalesce(sum(r.pico), 0),
           count(*) filter (where l.tokens is distinct from r.tokens or l.pico is distinct from r.pico)
    from lines l full join rated r
      on r.tenant_id = l.tenant_id and r.seal_no = l.seal_no and r.variant_id = l.variant_id and r.unit = l.unit
         and r.price_id = l.price_id and r.billing_day = l.billing_day and r.currency = l.currency
         and coalesce(r.basis, '') = l.basis -- an empty field of a CSV is read as null
    group by all
"""
