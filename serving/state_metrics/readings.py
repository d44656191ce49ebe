"""What is read for one answer, from rows of the tables to samples. Every query is bounded: none looks through history.

A reader that has nothing to say yields nothing, and its metric then has no series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import arrivals, balances, unsealed, windows
from serving.fleet.calendar import openings
from serving.fleet.hours import Hours, read_hours
from serving.fleet.reconcile import ready_replicas, site_variants
from studio.ids import REPLICA, to_wire

TENANT_SPAN = timedelta(minutes=15)
RED_SPAN = timedelta(days=7)

Labels = tuple[str, ...]
Sample = tuple[str, Labels, float]  # metric, values of its labels, value


def fleet(session: Session, now: datetime) -> Iterator[Sample]:
    """Of each variant that runs here: what should be, what is, and since when it is open. (metric, labels, value)."""
    hours = read_hours(session)
    ready = ready_replicas(session)
    sold = {row.id: (row.model_id, row.id, row.tier) for row in session.execute(_SOLD)}
    for variant in site_variants(session):
        if not variant.deployed or variant.served_by is not None:
            continue
        decision = hours.decide(variant, now + hours.offset)
        labels = sold[variant.id]
        yield "studio_variant_desired_replicas", labels, decision.replicas
        yield "studio_variant_ready_replicas", labels, ready.get(variant.id, 0)
        yield "studio_variant_open", labels, decision.is_open
        opened_at = _opened_at(hours, variant.calendar_id, now) if decision.is_open else None
        if opened_at is not None:
            yield "studio_variant_opened_timestamp_seconds", labels, opened_at.timestamp()


def _opened_at(hours: Hours, calendar_id: str | None, now: datetime) -> datetime | None:
    """When the calendar's present opening began, in real time; None outside of it, and for what never closes."""
    if calendar_id is None:
        return None
    instant = now + hours.offset
    begun = (opening for opening in openings(hours.calendars[calendar_id], instant) if opening.starts_at <= instant)
    return next((opening.starts_at - hours.offset for opening in begun), None)


def unsealed_days(session: Session, now: datetime) -> Iterator[Sample]:
    """Days that are over, have usage, and are in no seal."""
    closed = [windows.closes_at(one.window_day) for one in unsealed.of_closed_days(session, now)]
    yield "studio_usage_unsealed_windows", (), len(closed)
    oldest = min(closed, default=now)
    yield "studio_usage_unsealed_seconds", (), (now - oldest).total_seconds()


def arrived(session: Session, now: datetime) -> Iterator[Sample]:
    """How usage of the last day came in."""
    seen = arrivals.last_day(session, now)
    yield "studio_usage_quarantined", (), seen.unresolved_quarantine
    yield "studio_usage_arrival_lag_seconds", (), seen.lag_seconds_max


def ledger(session: Session, now: datetime) -> Iterator[Sample]:
    """What stands in the books. A metric is a float: the exact figures are in the ledger."""
    sums: dict[Labels, Decimal] = defaultdict(Decimal)
    for balance in balances.balances(session):
        sums[balance.legal_entity_id, balance.currency, balance.kind] += balance.amount
    for labels, amount in sums.items():
        yield "studio_ledger_balance", labels, float(amount)


def selected(query: str, *metrics: str) -> Callable[[Session, datetime], Iterator[Sample]]:
    """A query whose last columns are these metrics and whose others are their labels; a null is no series."""

    def read(session: Session, now: datetime) -> Iterator[Sample]:
        for row in session.execute(text(query), {"now": now, "span": TENANT_SPAN, "red_span": RED_SPAN}):
            labels = tuple(str(value) for value in row[: -len(metrics)])
            for metric, value in zip(metrics, row[-len(metrics) :], strict=True):
                if value is not None:
                    yield metric, labels, float(value)

    return read


def failed_replicas(session: Session, now: datetime) -> Iterator[Sample]:
    """Replicas that failed within the last hour, by name."""
    for row in session.execute(_FAILED, {"now": now}):
        labels = (row.variant_id, to_wire(REPLICA, row.id))
        yield "studio_replica_failed_timestamp_seconds", labels, row.stopped_at.timestamp()


_SOLD = text("select id, model_id, tier from model_variants where retired_at is null")
_FAILED = text("""
    select id, variant_id, stopped_at from replicas
    where state = 'failed' and stopped_at > :now - interval '1 hour' order by stopped_at desc limit 20
""")

_WARMUPS = """
    select v.model_id, v.id, v.tier, w.weights_seconds + w.start_seconds + w.first_token_seconds
    from model_variants v
    cross join lateral (select * from warmups w where w.variant_id = v.id order by w.ready_at desc limit 1) w
"""
_BATCHES = (
    "select state, count(*) from batches where state in ('validating', 'in_progress', 'finalizing') group by state"
)
_BACKLOG = """
    select v.model_id, v.id, v.tier, sum(b.lines_total - b.lines_completed - b.lines_failed),
           extract(epoch from :now - min(b.created_at)), extract(epoch from min(b.expires_at) - :now)
    from batches b join model_variants v on v.id = b.variant_id where b.state = 'in_progress' group by 1, 2, 3
"""
_BACKLOG_TOTAL = """
    select coalesce(sum(lines_total - lines_completed - lines_failed), 0) from batches where state = 'in_progress'
"""
# Sources that have not been closed: a gateway that died and whose journal nobody ships blocks the day for good.
_SOURCES = """
    select count(*) filter (where pending > 0), coalesce(sum(pending), 0),
           coalesce(max(extract(epoch from :now - heartbeat_at)), 0)
    from usage_sources where closed_at is null and kind = 'journal'
"""
_WINDOWS = """
    select s.state, count(w.state) from unnest(array['sealed', 'counted', 'rated', 'held']) s (state)
    left join usage_windows w on w.state = s.state group by s.state
"""
_RED = """
    select kinds.kind, count(newest.agrees) filter (where not newest.agrees)
    from unnest(array['events_equal_engine_counters', 'tokens_counted_are_tokens_rated', 'lines_add_up_to_total'])
         kinds (kind)
    left join (
        select distinct on (kind, subject) kind, subject, agrees from reconciliations
        where at > :now - cast(:red_span as interval) order by kind, subject, at desc, id desc) newest
      on newest.kind = kinds.kind
    group by kinds.kind
"""
_RATED = """
    select currency, sum(amount) from rated_lines
    where window_day >= date_trunc('month', cast(:now as timestamptz) at time zone 'Europe/Berlin')::date
    group by currency
"""
_INVOICES = """
    select s.state, count(i.state) from unnest(array['draft', 'final']) s (state)
    left join invoices i on i.state = s.state group by s.state
"""
# NaN where nothing was measured: every sum over it is NaN, too, and not a part of the truth.
_MARGIN = """
    select coalesce(t.slug, '(nobody)'), v.model_id, m.variant_id, v.tier, m.currency, m.revenue,
           coalesce(m.kwh, 'NaN'), coalesce(m.cost, 'NaN'), coalesce(m.margin, 'NaN')
    from margin_daily m
    join model_variants v on v.id = m.variant_id
    left join tenants t on t.id = m.tenant_id
    where m.day = (select max(day) from margin_daily) and not m.is_training
"""
_MARGIN_DAY = """
    select extract(epoch from cast(max(day) + 1 as timestamp) at time zone 'Europe/Berlin') from margin_daily
"""
_COST_RATES = """
    select rates.per, rates.eur
    from (select * from cost_rates where valid_from <= :now order by valid_from desc limit 1) newest
    cross join lateral (values ('kWh', newest.eur_per_kwh), ('card hour', newest.eur_per_card_hour)) rates (per, eur)
"""
_OBJECTIVES = """
    select objective, subject, coalesce(value, 'NaN'), target, cast(is_met as integer)
    from slo_figures where month = (select max(month) from slo_figures)
"""
_TENANTS = """
    select t.slug, used.requests, used.prompt, used.completion, used.seconds
    from tenants t
    cross join lateral (
        select count(*) as requests, coalesce(sum(prompt_tokens), 0) as prompt,
               coalesce(sum(completion_tokens), 0) as completion,
               coalesce(sum(extract(epoch from ended_at - started_at)), 0) as seconds
        from usage_events e
        where e.tenant_id = t.id and e.started_at > :now - cast(:span as interval)
          and e.usage_day_utc >= cast(:now as date) - 1
          and e.endpoint not in ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour')) used
    where t.closed_at is null and not t.is_internal
"""
_BUDGETS = """
    select t.slug, b.kind, b.currency, b.amount, coalesce(a.spent, 0) + coalesce(d.drawn, 0)
    from budgets b
    join tenants t on t.id = b.tenant_id
    left join lateral (
        select * from budget_accounts a where a.budget_id = b.id order by period desc limit 1) a on true
    left join lateral (
        select sum(amount) as drawn from budget_draws d where d.budget_id = b.id and d.period = a.period) d on true
    where b.ended_at is null and b.api_key_id is null
"""
_ISOLATION = """
    select count(*) filter (where result = 'failed'), extract(epoch from max(ended_at))
    from (select distinct on (tenant_id) result, ended_at from isolation_certificates
          order by tenant_id, ended_at desc) newest
"""
_TICK = "select extract(epoch from ticked_at) from dagster_ticks"
# Days are closed in order, and on a closed one nothing is booked: only what is newer than the last of them may be open.
_LEDGER_OPEN = """
    select coalesce(extract(epoch from :now - cast(min(recorded_on) + 1 as timestamp) at time zone 'UTC'), 0)
    from ledger_transactions
    where recorded_on > coalesce((select max(day) from ledger_days), '-infinity')
      and recorded_on < cast(cast(:now as timestamptz) at time zone 'UTC' as date)
"""
_DATABASE = "select pg_database_size(current_database())"

_VARIANT = ("model", "variant", "tier")
_SOLD_TO = ("tenant", *_VARIANT, "currency")
_OBJECTIVE = ("objective", "subject")
TENANT = ("tenant",)

# Name: words and labels. docs/monitoring.md lists them all; a test compares.
METRICS: dict[str, tuple[str, Labels]] = {
    "studio_variant_desired_replicas": ("Replicas that the variant should have now", _VARIANT),
    "studio_variant_ready_replicas": ("Replicas that answer", _VARIANT),
    "studio_variant_open": ("Whether calendar and overrides say that the variant is open", _VARIANT),
    "studio_variant_opened_timestamp_seconds": ("When the calendar's present opening began", _VARIANT),
    "studio_variant_warmup_seconds": ("How long the newest warm-up took, from weights to first answer", _VARIANT),
    "studio_replica_failed_timestamp_seconds": ("When a replica failed, within the last hour", ("variant", "replica")),
    "studio_batches": ("Batches that are not ended", ("state",)),
    "studio_batch_lines_open": ("Lines of batches that are not answered yet", ()),
    "studio_batch_lines_waiting": ("The same of batches under way, by the variant that they ask", _VARIANT),
    "studio_batch_oldest_seconds": ("Age of the oldest batch under way", _VARIANT),
    "studio_batch_deadline_seconds": ("Time to the next deadline of a batch; negative: it has passed", _VARIANT),
    "studio_usage_sources_behind": ("Processes that meter and had something unshipped at their last report", ()),
    "studio_usage_source_pending": ("Usage events that they had not shipped", ()),
    "studio_usage_source_silent_seconds": ("Since the quietest open source last reported", ()),
    "studio_usage_arrival_lag_seconds": ("Longest way of a usage event of the last day, from its end to its row", ()),
    "studio_usage_quarantined": ("Usage that could not be accepted or rated, unresolved", ()),
    "studio_usage_unsealed_windows": ("Days of tenants that are over, have usage, and are in no seal", ()),
    "studio_usage_unsealed_seconds": ("Since the oldest of them closed; 0 when there is none", ()),
    "studio_usage_windows": ("Seals that are not reconciled", ("state",)),
    "studio_reconciliations_red": ("Subjects whose newest comparison of the last 7 days disagrees", ("kind",)),
    "studio_rated_month": ("What the running Berlin month has come to so far, as it is rated", ("currency",)),
    "studio_invoices": ("Invoices", ("state",)),
    "studio_ledger_balance": ("Accounts of the ledger; debit is positive", ("legal_entity", "currency", "kind")),
    "studio_ledger_open_seconds": ("Since the oldest day with bookings ended that is not closed; 0: there is none", ()),
    "studio_margin_revenue": ("Revenue of the newest day in `margin_daily`", _SOLD_TO),
    "studio_margin_kwh": ("Energy of that day; NaN: not measured", _SOLD_TO),
    "studio_margin_cost_eur": ("Cost of that day; NaN: not measured", _SOLD_TO),
    "studio_margin": ("What is left of that day, in that currency; NaN: not measured", _SOLD_TO),
    "studio_margin_timestamp_seconds": ("End of that day", ()),
    "studio_cost_rate_eur": ("What the site pays now; absent: nobody has said", ("per",)),
    "studio_objective_value": ("The newest month of the report, so far; NaN: not measured", _OBJECTIVE),
    "studio_objective_target": ("What was promised; absent: nothing", _OBJECTIVE),
    "studio_objective_met": ("Whether it is kept; absent: not measured or not promised", _OBJECTIVE),
    "studio_tenant_requests": ("Metered requests of the last 15 minutes", TENANT),
    "studio_tenant_prompt_tokens": ("Their prompt tokens", TENANT),
    "studio_tenant_completion_tokens": ("Their completion tokens", TENANT),
    "studio_tenant_busy_seconds": ("Their time in flight, added up", TENANT),
    "studio_tenant_budget": ("A tenant's own budget", ("tenant", "kind", "currency")),
    "studio_tenant_budget_used": ("What is spent of it or held by gateways", ("tenant", "kind", "currency")),
    "studio_isolation_failed": ("Tenants whose newest isolation certificate says failed", ()),
    "studio_isolation_timestamp_seconds": ("When isolation was last certified", ()),
    "studio_dagster_tick_timestamp_seconds": ("When Dagster's daemon last got a sensor of ours to run", ()),
    "studio_database_bytes": ("Size of the database", ()),
}

READERS: tuple[Callable[[Session, datetime], Iterator[Sample]], ...] = (
    fleet,
    failed_replicas,
    unsealed_days,
    arrived,
    ledger,
    selected(_WARMUPS, "studio_variant_warmup_seconds"),
    selected(_BATCHES, "studio_batches"),
    selected(_BACKLOG_TOTAL, "studio_batch_lines_open"),
    selected(_BACKLOG, "studio_batch_lines_waiting", "studio_batch_oldest_seconds", "studio_batch_deadline_seconds"),
    selected(
        _SOURCES,
        "studio_usage_sources_behind",
        "studio_usage_source_pending",
        "studio_usage_source_silent_seconds",
    ),
    selected(_WINDOWS, "studio_usage_windows"),
    selected(_RED, "studio_reconciliations_red"),
    selected(_RATED, "studio_rated_month"),
    selected(_INVOICES, "studio_invoices"),
    selected(_LEDGER_OPEN, "studio_ledger_open_seconds"),
    selected(_MARGIN, "studio_margin_revenue", "studio_margin_kwh", "studio_margin_cost_eur", "studio_margin"),
    selected(_MARGIN_DAY, "studio_margin_timestamp_seconds"),
    selected(_COST_RATES, "studio_cost_rate_eur"),
    selected(_OBJECTIVES, "studio_objective_value", "studio_objective_target", "studio_objective_met"),
    selected(
        _TENANTS,
        "studio_tenant_requests",
        "studio_tenant_prompt_tokens",
        "studio_tenant_completion_tokens",
        "studio_tenant_busy_seconds",
    ),
    selected(_BUDGETS, "studio_tenant_budget", "studio_tenant_budget_used"),
    selected(_ISOLATION, "studio_isolation_failed", "studio_isolation_timestamp_seconds"),
    selected(_TICK, "studio_dagster_tick_timestamp_seconds"),
    selected(_DATABASE, "studio_database_bytes"),
)
