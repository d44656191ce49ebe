"""Reconciliation: two counts of the same thing, made independently, must agree before money depends on them.

Engines against events, tokens counted against tokens rated, the table's rating against the archive's, invoice lines
against invoice totals. Each comparison is
a row that is never changed; the seal becomes `reconciled` only here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, insert, select, text
from sqlalchemy.orm import Session

from billing import rated_lines, usage, windows
from billing.rate_archive import SealRating
from billing.windows import SealKey, over_seal
from studio import ids
from studio.db.invoices import Invoice, InvoiceLine, Reconciliation

ENGINES = "events_equal_engine_counters"
RATING = "tokens_counted_are_tokens_rated"
ARCHIVE = "archive_rates_to_the_same"
TOTALS = "lines_add_up_to_total"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was expected, what was observed, and whether that is in order. `expected` and `observed` are tokens, for
    totals cents."""

    kind: str
    subject: str
    expected: int
    observed: int
    agrees: bool
    details: Mapping[str, Any]


def reconcile_seal(session: Session, key: SealKey, now: datetime, *more: Comparison) -> list[Comparison]:
    """Compare for a rated seal; it becomes `reconciled` when all comparisons agree, and otherwise stays `rated`.

    `more`: what the caller has compared besides.
    """
    seal = windows.lock(session, key)
    windows.require_state(seal, ("rated",), "Reconciling")
    comparisons = [_rating(session, key), *_engines(session, key), *more]
    _record(session, comparisons, now)
    if all(comparison.agrees for comparison in comparisons):
        windows.move(session, seal, "reconciled")
    return comparisons


def rated_twice(key: SealKey, rating: SealRating | None) -> Comparison:
    """A seal rated from the archive (`rate_archive.py`), as a comparison; without an archive there is none to trust."""
    if rating is None:
        return Comparison(ARCHIVE, str(key), 0, 0, False, {"waiting": "the seal is not archived yet"})
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
    return latest(session, kind, subjects)


def _rating(session: Session, key: SealKey) -> Comparison:
    counted, rated = usage.counted_tokens(session, key), rated_lines.rated_tokens(session, key)
    return Comparison(RATING, str(key), counted, rated, counted == rated, {})


def _engines(session: Session, key: SealKey) -> list[Comparison]:
    return [_engine(row) for row in session.execute(_ENGINE_TOTALS, asdict(key)).mappings()]


def _engine(row: RowMapping) -> Comparison:
    """Compare an engine's own counters with all our events on it, up to an instant at which it was idle.

    Events count by their start: the agent may see the engine idle in the moment between the engine's last token and our
    `ended_at`, and writes no second row while nothing changes. An engine that lives must have been seen idle after the
    last request of the seal began. One that stopped or died took its last counters with it: it is compared up to its
    last idle instant.

    Events may fall short of the engine only where a gateway or a batch worker was killed, or lost answers, during the
    engine's life: what it had in flight was produced and is billed to nobody. Events above the engine's count are never
    in order.
    """
    subject = ids.to_wire(ids.REPLICA, row["replica_id"])
    if row["kind"] == "attached":
        return Comparison(ENGINES, subject, 0, 0, True, {"skipped": "an attached engine is not ours to count"})
    gone = row["state"] in ("stopped", "failed")
    if row["observed_at"] is None:
        return Comparison(ENGINES, subject, 0, 0, gone, {"skipped" if gone else "waiting": "no idle instant was seen"})
    engine_tokens = row["engine_prompt_tokens"] + row["engine_completion_tokens"]
    event_tokens = int(row["event_prompt_tokens"]) + int(row["event_completion_tokens"])
    details = {
        "engine_prompt_tokens": row["engine_prompt_tokens"],
        "engine_completion_tokens": row["engine_completion_tokens"],
        "event_prompt_tokens": int(row["event_prompt_tokens"]),
        "event_completion_tokens": int(row["event_completion_tokens"]),
        "observed_at": row["observed_at"].isoformat(),
    }
    if not gone and row["observed_at"] < row["last_started_at"]:
        details["waiting"] = "the engine was not seen idle since the last request of the seal began"
        return Comparison(ENGINES, subject, engine_tokens, event_tokens, False, details)
    unbilled_prompt = details["engine_prompt_tokens"] - details["event_prompt_tokens"]
    unbilled_completion = details["engine_completion_tokens"] - details["event_completion_tokens"]
    agrees = unbilled_prompt == unbilled_completion == 0
    if not agrees and row["crashed_sources"] and unbilled_prompt >= 0 and unbilled_completion >= 0:
        details |= {
            "unbilled_tokens": unbilled_prompt + unbilled_completion,
            "because_of": list(row["crashed_sources"]),
        }
        agrees = True
    return Comparison(ENGINES, subject, engine_tokens, event_tokens, agrees, details)


def _record(session: Session, comparisons: list[Comparison], now: datetime) -> None:
    session.execute(insert(Reconciliation), [{"at": now, **asdict(comparison)} for comparison in comparisons])


_ENGINE_TOTALS = over_seal(
    """
    select r.id as replica_id, r.kind, r.state, s.last_started_at, c.observed_at,
           c.prompt_tokens - r.baseline_prompt_tokens as engine_prompt_tokens,
           c.completion_tokens - r.baseline_completion_tokens as engine_completion_tokens,
           e.prompt_tokens as event_prompt_tokens, e.completion_tokens as event_completion_tokens,
           array(
               select u.name || ' ' || u.id from usage_sources u
               where u.crashed_at > r.created_at and u.opened_at < c.observed_at order by u.id) as crashed_sources
    from served s
    join replicas r on r.id = s.replica_id
    left join lateral (
        select * from engine_counters c where c.replica_id = r.id order by c.observed_at desc limit 1) c on true
    left join lateral (
        select coalesce(sum(coalesce(e.engine_prompt_tokens, e.prompt_tokens)), 0) as prompt_tokens,
               coalesce(sum(e.completion_tokens), 0) as completion_tokens
        from usage_events e
        where e.replica_id = r.id and e.started_at < c.observed_at
          and e.usage_day_utc >= cast(r.created_at as date) - 1) e on true
    order by r.id
    """,
    "served as (select replica_id, max(started_at) as last_started_at from sealed group by replica_id)",
)

_REPLICAS_OF_DAY = text("""
    select distinct e.replica_id
    from usage_events e
    where e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
      and (e.started_at at time zone 'Europe/Berlin')::date = :window_day
""")
