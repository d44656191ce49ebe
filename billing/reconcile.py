"""Reconciliation: two counts of the same thing, made independently, must agree before money depends on them.

Engines and trainers against events (`engine_totals.py`, `gpu_seconds.py`, `trainer_totals.py`), tokens counted against
tokens rated, the table's rating against the archive's, invoice lines against invoice totals. Each comparison is a row
that is never changed; the seal becomes `reconciled` only here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from billing import engine_totals, gpu_seconds, trainer_totals, windows
from billing.comparison import Comparison
from billing.rate_archive import SealRating
from billing.windows import SealKey
from studio import ids
from studio.db.invoices import Invoice, InvoiceLine, Reconciliation
from studio.errors import NotFound

ENGINES = engine_totals.KIND
GPU_SECONDS = gpu_seconds.KIND
TRAINERS = trainer_totals.KIND
RATING = "tokens_counted_are_tokens_rated"
ARCHIVE = "archive_rates_to_the_same"
TOTALS = "lines_add_up_to_total"


def counts_of(
    session: Session, window_day: date, keys: Collection[SealKey], now: datetime
) -> dict[SealKey, list[Comparison]]:
    """What engines and trainers counted, beside the events of some seals of one day: for all of them in one look."""
    engines = engine_totals.of_seals(session, window_day, keys, now)
    trainers = trainer_totals.of_seals(session, window_day, keys)
    return {key: [*engines[key], *trainers[key]] for key in keys}


def reconcile_seal(session: Session, key: SealKey, now: datetime, *more: Comparison) -> list[Comparison]:
    """One rated seal by itself: with its own `counts_of`. Of a day of seals see `settle_all`."""
    return settle(session, key, now, *counts_of(session, key.window_day, [key], now)[key], *more)


def settle(session: Session, key: SealKey, now: datetime, *compared: Comparison) -> list[Comparison]:
    """Keep what was compared for a rated seal, with its own tokens counted and rated.

    It becomes `reconciled` when all comparisons agree, and otherwise stays `rated`.
    """
    return settle_all(session, key.window_day, {key: compared}, now)[key]


def settle_all(
    session: Session, window_day: date, compared: Mapping[SealKey, Sequence[Comparison]], now: datetime
) -> dict[SealKey, list[Comparison]]:
    """The same for seals of one day together: each is `reconciled` by its own comparisons alone."""
    seals = windows.lock_all(session, window_day, compared.keys())
    if missing := compared.keys() - {seal.key for seal in seals}:
        raise NotFound(f"There is no seal {min(missing)}.")
    for seal in seals:
        windows.require_state(seal, ("rated",), "Reconciling")
    keys = [seal.key for seal in seals]
    names = {"tenant_ids": [key.tenant_id for key in keys], "seal_nos": [key.seal_no for key in keys]}
    rows = session.execute(_TOKENS, {"window_day": window_day, **names})
    tokens = {SealKey(window_day, row.tenant_id, row.seal_no): (row.counted, row.rated) for row in rows}
    found = {key: [_rating(key, *tokens[key]), *compared[key]] for key in keys}
    _record(session, [comparison for comparisons in found.values() for comparison in comparisons], now)
    even = [key for key, comparisons in found.items() if all(comparison.agrees for comparison in comparisons)]
    windows.move_all(session, even, "reconciled")
    return found


def rated_twice(key: SealKey, rating: SealRating | None) -> Comparison:
    """A seal rated from the archive (`rate_archive.py`), as a comparison; without an archive there is none to trust."""
    if rating is None:
        return Comparison(ARCHIVE, str(key), 0, 0, False, {"waiting": "the seal is not archived yet"})
    if rating.damaged:
        return Comparison(ARCHIVE, str(key), 0, 0, False, {"damaged": rating.damaged})
    return Comparison(
        kind=ARCHIVE,
        subject=str(key),
        expected=rating.archive_tokens,
        observed=rating.rated_tokens,
        agrees=rating.agrees,
        details={
            "archive_amount": str(rating.archive_amount),
            "rated_amount": str(rating.rated_amount),
            "differing_lines": rating.differing_lines,
        },
    )


def reconcile_invoice(session: Session, invoice_id: UUID, now: datetime) -> Comparison:
    """Compare an invoice's lines with its totals, in cents."""
    invoice = session.get_one(Invoice, invoice_id)
    amounts = session.scalars(select(InvoiceLine.amount).where(InvoiceLine.invoice_id == invoice_id)).all()
    gross_cents = int(invoice.gross * 100)
    observed_cents = int((sum(amounts) + invoice.tax) * 100)
    comparison = Comparison(
        kind=TOTALS,
        subject=ids.to_wire(ids.INVOICE, invoice_id),
        expected=gross_cents,
        observed=observed_cents,
        agrees=sum(amounts) == invoice.net and gross_cents == observed_cents,
        details={"net": str(invoice.net), "tax": str(invoice.tax), "gross": str(invoice.gross), "lines": len(amounts)},
    )
    _record(session, [comparison], now)
    return comparison


def latest(session: Session, kind: str, subjects: list[str]) -> list[Comparison]:
    """The newest comparison of each subject."""
    query = (
        select(Reconciliation)
        .where(Reconciliation.kind == kind, Reconciliation.subject.in_(subjects))
        .distinct(Reconciliation.subject)
        .order_by(Reconciliation.subject, Reconciliation.at.desc(), Reconciliation.id.desc())
    )
    return [
        Comparison(row.kind, row.subject, row.expected, row.observed, row.agrees, row.details)
        for row in session.scalars(query)
    ]


def seal_subjects(session: Session, window_day: date, kind: str) -> list[Comparison]:
    """The newest comparisons of the seals of a window day."""
    subjects = [str(seal.key) for seal in windows.seals(session, window_day=window_day)]
    if kind == ENGINES:
        rows = session.execute(_REPLICAS_OF_DAY, {"window_day": window_day})
        subjects = [ids.to_wire(ids.REPLICA, row.replica_id) for row in rows]
    if kind in (GPU_SECONDS, TRAINERS):
        of_day = Reconciliation.subject.startswith(f"{window_day}/")
        recorded = select(Reconciliation.subject).where(Reconciliation.kind == kind, of_day)
        subjects = list(session.scalars(recorded.distinct()))
    return latest(session, kind, subjects)


def _rating(key: SealKey, counted: int, rated: int) -> Comparison:
    return Comparison(RATING, str(key), counted, rated, counted == rated, {})


def _record(session: Session, comparisons: list[Comparison], now: datetime) -> None:
    if comparisons:
        session.execute(insert(Reconciliation), [{"at": now, **asdict(comparison)} for comparison in comparisons])


_TOKENS = text("""
    select k.tenant_id, k.seal_no,
           (select coalesce(sum(d.tokens), 0)::bigint from usage_daily d
            where d.window_day = :window_day and d.tenant_id = k.tenant_id and d.seal_no = k.seal_no) as counted,
           (select coalesce(sum(l.tokens), 0)::bigint from rated_lines l
            where l.window_day = :window_day and l.tenant_id = k.tenant_id and l.seal_no = k.seal_no) as rated
    from unnest(cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[])) as k (tenant_id, seal_no)
""")
_REPLICAS_OF_DAY = text("""
    select distinct e.replica_id
    from usage_events e
    where e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
      and (e.started_at at time zone 'Europe/Berlin')::date = :window_day
""")
