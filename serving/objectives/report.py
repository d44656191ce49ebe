"""The monthly report: figures computed from rows, and shown as a page. How they are kept is `months.py`.

What runs here and was not measured has a figure without a value: nobody takes silence for 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from billing import missed_targets, token_counts
from billing.missed_targets import Missed
from serving.fleet.hours import read_hours
from serving.fleet.reconcile import site_variants
from serving.objectives.availability import Span, availability
from studio import clock
from studio.db.catalog import Model, ModelVariant
from studio.db.fleet import Replica

Objective = Literal["availability", "prewarm", "first_token_ms_p50", "fast_target", "usage_error"]

AVAILABILITY_TARGET = Decimal("0.995")  # of the open time
USAGE_ERROR_TARGET = Decimal(token_counts.TOLERATED_PERCENT) / 100

_WORDS: dict[str, tuple[str, str]] = {
    "availability": ("Availability in working hours", "share of the open time"),
    "prewarm": ("Openings that met a warm replica", "share of the openings"),
    "first_token_ms_p50": ("First token, median", "ms"),
    "fast_target": ("First tokens of the fast tier within its published target", "share of the requests"),
    "usage_error": ("Metered tokens that differ from the tokenizer's count", "share of the tokens"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `value` None: nothing was there to measure; `target` None: none was promised."""

    objective: Objective
    subject: str
    value: Decimal | None
    target: Decimal | None
    is_met: bool | None
    samples: int  # open seconds, openings, requests
    details: Mapping[str, int | str] = field(default_factory=dict)


def compute(session: Session, month: date, now: datetime, first_token_targets: Mapping[str, int]) -> list[Figure]:
    """All figures of a Berlin month, up to now while it runs. Targets of first tokens are ms by variant."""
    start, _ = clock.day_window(month, clock.BERLIN)
    end, _ = clock.day_window(clock.next_month(month), clock.BERLIN)
    over = Span(start, min(end, now))
    if over.start >= over.end:
        return []
    speaking = _speaking(session)
    return [
        *_of_fleet(session, over),
        *_first_tokens(session, over, first_token_targets, speaking),
        *_fast_targets(session, over, speaking),
        *_usage_errors(session, month, over, speaking),
    ]


def credited(session: Session, month: date) -> list[Missed]:
    """What the tenants' days of a month were billed below the fast tier's price, because it was missed.

    Read where it was rated, never kept here: a day counts once it is reconciled, each in its tenant's own zone.
    """
    return missed_targets.billed_at_base(session, month, clock.next_month(month))


def page(month: date, figures: Sequence[Figure], credits: Sequence[Missed]) -> str:
    """The report for people, as Markdown."""
    lines = [f"# Objectives of {month:%Y-%m}", ""]
    for objective, (title, unit) in _WORDS.items():
        lines += [f"## {title}", "", f"| | {unit} | target | met | from |", "|---|---|---|---|---|"]
        of_it = [figure for figure in figures if figure.objective == objective]
        lines += [
            f"| {one.subject} | {_number(one.value)} | {_number(one.target, 'none')} | {_verdict(one.is_met)} |"
            f" {one.samples}{''.join(f', {name}: {value}' for name, value in one.details.items())} |"
            for one in of_it
        ] or ["| nothing to measure | | | | |"]
        lines.append("")
    lines += ["## Credited for missed targets of the fast tier", "", "| tenant | | tokens | billed | credited |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {one.tenant} | {one.variant_id} | {one.tokens} | {one.amount:f} {one.currency} |"
        f" {one.given_up:f} {one.currency} |"
        for one in credits
    ] or ["| nobody | | | | |"]
    return "\n".join([*lines, ""])


def _of_fleet(session: Session, over: Span) -> list[Figure]:
    hours = read_hours(session, since=over.start)
    gone_at = func.coalesce(Replica.stopped_at, over.end)
    ready = session.execute(
        select(Replica.variant_id, Replica.ready_at, gone_at.label("gone_at")).where(
            Replica.ready_at < over.end, gone_at > over.start
        )
    ).all()
    begun_at = select(Replica.variant_id, func.min(Replica.created_at)).group_by(Replica.variant_id)
    first = dict(session.execute(begun_at).tuples().all())
    variants = {variant.id: variant for variant in site_variants(session)}
    figures = []
    for variant in variants.values():
        if not variant.deployed:
            continue
        # A tier without replicas of its own was there when the one was that answers for it.
        runs = variants.get(variant.served_by or variant.id, variant)
        # A model that is new here is promised from its first replica on; one that never had any, from the beginning.
        begun = Span(min(max(over.start, first.get(runs.id, over.start)), over.end), over.end)
        spans = [Span(row.ready_at, row.gone_at) for row in ready if row.variant_id == runs.id]
        seen = availability(hours, runs, spans, begun)
        closed = {"closed_by_override_seconds": int(seen.closed_by_override.total_seconds())}
        seconds = int(seen.open.total_seconds())
        share = _ratio(seen.available / timedelta(seconds=1), seen.open / timedelta(seconds=1))
        figures.append(_figure("availability", variant.id, share, AVAILABILITY_TARGET, seconds, closed, least=True))
        figures.append(
            _figure("prewarm", variant.id, _ratio(seen.warm, seen.openings), None, seen.openings, {}, least=True)
        )
    return figures


def _speaking(session: Session) -> Sequence[ModelVariant]:
    """Variants that run here and make tokens: each has figures of them, also when nobody asked it."""
    query = (
        select(ModelVariant)
        .join(Model, Model.id == ModelVariant.model_id)
        .where(ModelVariant.deployed, ModelVariant.retired_at.is_(None), Model.task.in_(("chat", "completion")))
    )
    return session.scalars(query).all()


def _first_tokens(
    session: Session, over: Span, targets: Mapping[str, int], speaking: Sequence[ModelVariant]
) -> list[Figure]:
    streamed = {row.variant_id: row for row in session.execute(_FIRST_TOKENS, {"start": over.start, "end": over.end})}
    figures = []
    for variant_id in sorted(streamed.keys() | {variant.id for variant in speaking}):
        target = Decimal(targets[variant_id]) if variant_id in targets else None
        row = streamed.get(variant_id)
        value, samples = (None, 0) if row is None else (_rounded(row.median_ms), row.requests)
        details = {} if row is None else {"p95_ms": str(_rounded(row.p95_ms, 1))}
        figures.append(_figure("first_token_ms_p50", variant_id, value, target, samples, details))
    return figures


def _fast_targets(session: Session, over: Span, speaking: Sequence[ModelVariant]) -> list[Figure]:
    """What a customer paid the fast tier for; there is no target for the share, since each miss is paid for."""
    kept = {one.variant_id: one for one in missed_targets.kept(session, over.start, over.end)}
    promised = {one.id: one.first_token_target_ms for one in speaking if one.first_token_target_ms is not None}
    promised |= {one.variant_id: one.target_ms for one in kept.values()}
    figures = []
    for variant_id, target_ms in sorted(promised.items()):
        one = kept.get(variant_id)
        requests, missed = (0, 0) if one is None else (one.requests, one.missed)
        details = {"missed": missed, "target_ms": target_ms}
        share = _ratio(requests - missed, requests)
        figures.append(_figure("fast_target", variant_id, share, None, requests, details, least=True))
    return figures


def _usage_errors(session: Session, month: date, over: Span, speaking: Sequence[ModelVariant]) -> list[Figure]:
    last = min(clock.next_month(month) - timedelta(days=1), over.end.astimezone(clock.BERLIN).date())
    days = (month + timedelta(days=number) for number in range((last - month).days + 1))
    requests = [request for day in days for request in token_counts.counted_again(session, day)]
    counted = {model.model_id: model for model in token_counts.by_model(requests)}
    figures = []
    for model_id in sorted(counted.keys() | {variant.model_id for variant in speaking}):
        model = counted.get(model_id)
        tokens, differing, samples = (
            (0, 0, 0) if model is None else (model.counted_tokens, model.differing_tokens, model.requests)
        )
        share, details = _ratio(differing, tokens), {"counted_tokens": tokens}
        figures.append(_figure("usage_error", model_id, share, USAGE_ERROR_TARGET, samples, details))
    return figures


def _figure(
    objective: Objective,
    subject: str,
    value: Decimal | None,
    target: Decimal | None,
    samples: int,
    details: Mapping[str, int | str],
    *,
    least: bool = False,
) -> Figure:
    """`least`: the target is the least that was promised; otherwise what the value must stay below."""
    is_met = None if value is None or target is None else value >= target if least else value < target
    return Figure(objective, subject, value, target, is_met, samples, details)


def _ratio(part: float, whole: float) -> Decimal | None:
    """Rounded down, so that nothing becomes 100 % by rounding."""
    return None if whole == 0 else Decimal(int(Decimal(part) * 1_000_000 / Decimal(whole))) / 1_000_000


def _rounded(value: float | Decimal, digits: int = 3) -> Decimal:
    return round(Decimal(value), digits)


def _number(value: Decimal | None, absent: str = "not measured") -> str:
    return absent if value is None else f"{value.normalize():f}"


def _verdict(is_met: bool | None) -> str:
    return {None: "", True: "yes", False: "**no**"}[is_met]


# Streams only: an answer in one piece has no first token. Batches wait on purpose, and a cache is no engine.
_FIRST_TOKENS = text("""
    select variant_id, count(*) as requests,
           percentile_cont(0.5) within group (order by ms) as median_ms,
           percentile_cont(0.95) within group (order by ms) as p95_ms
    from (select variant_id, extract(epoch from first_token_at - started_at) * 1000 as ms
          from usage_events
          where started_at >= :start and started_at < :end
            and usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
            and first_token_at is not null and batch_id is null and replica_id is not null) streamed
    group by variant_id order by variant_id
""")
