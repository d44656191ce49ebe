"""The usage assets: events arrive, days are counted, counted tokens are priced.

A seal is the gate: without one a day is refused. One tenant's trouble holds that tenant's seal and nobody else's, which
is why the claims below show red without blocking, while the borders (rows of the wrong shape) do block.
"""

from dataclasses import asdict
from datetime import date
from decimal import Decimal
from uuid import UUID

import dagster as dg
from sqlalchemy import Engine

from assets.borders import border_check, rated_usage_schema, usage_daily_schema
from assets.partitions import BERLIN_DAYS, day_of
from assets.tables import table
from billing import (
    gpu_seconds,
    jumps,
    rate_archive,
    rated_lines,
    rating,
    reconcile,
    token_counts,
    unsealed,
    usage,
    usage_sums,
    windows,
)
from billing.arrivals import Arrivals
from billing.comparison import Comparison
from billing.jumps import PriceGap
from billing.token_counts import RequestCounts
from billing.usage import SealUneven
from billing.windows import Seal
from studio import clock, ids
from studio.db.sessions import unit_of_work
from studio.objects import ObjectStore

USAGE_EVENTS = dg.AssetSpec(
    "usage_events",
    group_name="usage",
    owners=["team:ops"],
    kinds={"postgres"},
    description="Every metered request, exactly once, shipped by the gateways within seconds. Never edited.",
)


@dg.asset(
    group_name="usage",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_DAYS,
    deps=[USAGE_EVENTS],
)
def usage_daily(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """Tokens per tenant, variant, unit, price and civil day, for the sealed events of a Berlin day.

    Running a day again replaces what was counted and not yet rated. A request without exactly one price is put into
    quarantine and holds its tenant's day: add the price to the catalog, then run the day again. A seal that does not
    add up stays as it is. Neither stops the others; the check `every_event_is_counted` names them.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        seals = windows.seals(session, window_day=day)
    if not seals:
        raise dg.Failure(f"The day {day} is not sealed, so nothing of it can be counted.", allow_retries=False)
    waiting = [seal.key for seal in seals if seal.state in ("sealed", "counted", "held")]
    with unit_of_work(worker_database) as session:
        counted = usage.count_together(session, day, waiting)
    uneven: dict[str, str] = {}
    for key in waiting:
        if key not in counted:
            try:
                with unit_of_work(worker_database) as session:
                    usage.count(session, key)
            except SealUneven as error:
                uneven[str(key)] = error.message
    with unit_of_work(worker_database) as session:
        jumps.hold(session, day, clock.now())
    with unit_of_work(worker_database) as session:
        usage_sums.sum_day(session, day)  # for reports: `/v1/usage`
    with unit_of_work(worker_database) as session:
        rows = usage.daily_tokens(session, day)
        seals = windows.seals(session, window_day=day)
    return dg.MaterializeResult(
        metadata={
            "rows": len(rows),
            "tokens": sum(row.tokens for row in rows),
            "events": sum(seal.events for seal in seals),
            "not_counted": table([{"seal": key, "why": why} for key, why in uneven.items()]),
            "seals": table([_seal_row(seal) for seal in seals]),
            "usage": table(rows),
        }
    )


@dg.asset_check(asset=usage_daily)
def every_event_is_counted(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """All tokens of every seal are counted, or discarded by a person; what is held or not sealed yet is listed."""
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        seals = windows.seals(session, window_day=day)
        counted = {seal.key: usage.counted_tokens(session, seal.key) for seal in seals}
        discarded = {seal.key: usage.discarded_tokens(session, seal.key) for seal in seals}
        held = usage.held_events(session, day, limit=20)
        not_sealed = unsealed.of_day(session, day)
    short = [
        _seal_row(seal) | {"counted": counted[seal.key], "discarded": discarded[seal.key]}
        for seal in seals
        if counted[seal.key] + discarded[seal.key] != seal.tokens
    ]
    return dg.AssetCheckResult(
        passed=not short,
        metadata={
            "short": table(short),
            "held_events": table(held),
            "discarded_tokens": sum(discarded.values()),
            "not_sealed_yet": table(not_sealed),
        },
    )


@dg.asset_check(asset=usage_daily)
def tokens_are_those_of_the_tokenizer(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Of each model, the sampled requests' metered tokens differ by less than 2 % from its own tokenizer's count."""
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        requests = token_counts.counted_again(session, day)
    models = token_counts.by_model(requests)
    return dg.AssetCheckResult(
        passed=all(model.agrees for model in models),
        metadata={
            "requests_counted_again": len(requests),
            "models": table([asdict(m) | {"percent": round(m.percent, 3), "agrees": m.agrees} for m in models]),
            "differing_requests": table([_counts_row(one) for one in token_counts.differing(requests, most=20)]),
        },
    )


@dg.asset_check(asset=usage_daily)
def usage_is_like_before(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """No tenant used more than five times the median of its last two weeks. Its invoices, and nobody else's, are held
    until a person releases them (`studio invoice release`)."""
    with unit_of_work(worker_database) as session:
        found = jumps.of_day(session, day_of(context))
    return dg.AssetCheckResult(
        passed=not found,
        metadata={"jumps": table([asdict(jump) | {"tenant_id": _tenant(jump.tenant_id)} for jump in found])},
    )


@dg.asset_check(asset=usage_daily)
def prices_go_on(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """Everything that is sold has a price for a week to come. A warning: without one, usage would be held."""
    with unit_of_work(worker_database) as session:
        gaps = jumps.price_gaps(session, clock.now())
    return dg.AssetCheckResult(
        passed=not gaps,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"without_a_price": table([_gap_row(gap) for gap in gaps])},
    )


@dg.asset(
    group_name="usage",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_DAYS,
    deps=[usage_daily, dg.AssetKey("usage_archive")],
)
def rated_usage(
    context: dg.AssetExecutionContext,
    worker_database: dg.ResourceParam[Engine],
    objects: dg.ResourceParam[ObjectStore],
) -> dg.MaterializeResult[None]:
    """Counted tokens times their price, exact to twelve decimals, then rated again from the archive by other code, and
    compared with the engines' own counters.

    Only seals whose counts agree become `reconciled`, and only reconciled usage can be invoiced.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        seals = windows.seals(session, window_day=day, states=("counted", "rated"))
    with unit_of_work(worker_database) as session:
        rated_lines.rate_seals(session, day, [seal.key for seal in seals])
    keys = [seal.key for seal in seals]
    with unit_of_work(worker_database) as session:
        again = rate_archive.rate_twice(session, objects, keys)
        worked = gpu_seconds.of_day(session, day, clock.now()) if seals else {}
        counts = reconcile.counts_of(session, day, keys, clock.now())
    compared = {
        key: [*counts[key], reconcile.rated_twice(key, again.get(key)), *worked.get(key.tenant_id, [])] for key in keys
    }
    with unit_of_work(worker_database) as session:
        reconcile.settle_all(session, day, compared, clock.now())
    with unit_of_work(worker_database) as session:
        lines = rated_lines.lines_of(session, day)
        seals = windows.seals(session, window_day=day)
    totals = {
        currency: rating.exact_sum([line.amount for line in lines if line.currency == currency])
        for currency in sorted({line.currency for line in lines})
    }
    return dg.MaterializeResult(
        metadata={
            "lines": len(lines),
            "tokens": sum(line.tokens for line in lines),
            **{f"total_{currency}": f"{total} {currency}" for currency, total in totals.items()},
            **{f"total_{currency}_plot": float(total) for currency, total in totals.items()},
            "seals": table([_seal_row(seal) for seal in seals]),
            "rated": table([asdict(line) | {"explanation": line.explanation} for line in lines]),
        }
    )


@dg.asset_check(asset=rated_usage)
def tokens_counted_are_tokens_rated(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """For every seal of the day, as many tokens were priced as were counted."""
    return _comparisons(worker_database, day_of(context), reconcile.RATING)


@dg.asset_check(asset=rated_usage)
def archive_rates_to_the_same(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Rated from the archive, by other code in another program, every seal has the same lines to the last digit."""
    return _comparisons(worker_database, day_of(context), reconcile.ARCHIVE)


@dg.asset_check(asset=rated_usage)
def gpu_seconds_cover_events(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """No event lies outside its replica's life, and no replica worked longer than it was up, times its slots."""
    return _comparisons(worker_database, day_of(context), reconcile.GPU_SECONDS)


@dg.asset_check(asset=rated_usage)
def events_equal_engine_counters(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Every engine of ours that worked on the day counted the same tokens as our usage events."""
    return _comparisons(worker_database, day_of(context), reconcile.ENGINES)


@dg.asset_check(asset=rated_usage)
def trained_tokens_are_the_trainers(
    context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.AssetCheckResult:
    """Every fine-tune is billed by the tokens that its trainer reported step by step, and counted again at its end."""
    return _comparisons(worker_database, day_of(context), reconcile.TRAINERS)


usage_daily_rows_fit = border_check(usage_daily, "usage_daily_rows_fit", usage_daily_schema, usage.daily_tokens)
rated_usage_rows_fit = border_check(rated_usage, "rated_usage_rows_fit", rated_usage_schema, rated_lines.lines_of)


def arrival_metadata(arrived: Arrivals) -> dict[str, dg.MetadataValue]:
    """Arrivals, for the asset page."""
    newest = arrived.newest_ingested_at
    return {
        "events": dg.MetadataValue.int(arrived.events),
        "tokens": dg.MetadataValue.int(arrived.tokens),
        "lag_seconds_max": dg.MetadataValue.float(arrived.lag_seconds_max),
        "newest": dg.MetadataValue.text("none" if newest is None else newest.isoformat()),
        "unresolved_quarantine": dg.MetadataValue.int(arrived.unresolved_quarantine),
        "sources": dg.MetadataValue.int(len(arrived.sources)),
        "pending_events": dg.MetadataValue.int(sum(source.pending for source in arrived.sources)),
        "unproven_events": dg.MetadataValue.int(sum(source.unproven for source in arrived.sources)),
        "silent_seconds_max": dg.MetadataValue.float(max((s.silent_seconds for s in arrived.sources), default=0.0)),
        "completeness": table(arrived.sources),
    }


def _gap_row(gap: PriceGap) -> dict[str, str]:
    whose = "the list" if gap.tenant_id is None else _tenant(gap.tenant_id)
    return {
        "of": whose, "currency": gap.currency, "variant_id": gap.variant_id, "unit": gap.unit,
        "ends_at": gap.ends_at.isoformat(),
    }  # fmt: skip


def _tenant(id: UUID) -> str:
    return ids.to_wire(ids.TENANT, id)


def _comparisons(worker_database: Engine, day: date, kind: str) -> dg.AssetCheckResult:
    with unit_of_work(worker_database) as session:
        comparisons = reconcile.seal_subjects(session, day, kind)
    failing = [comparison for comparison in comparisons if not comparison.agrees]
    return dg.AssetCheckResult(
        passed=not failing,
        metadata={"compared": len(comparisons), "comparisons": table([_comparison_row(c) for c in comparisons])},
    )


def _comparison_row(comparison: Comparison) -> dict[str, str | int | bool]:
    return {
        "subject": comparison.subject,
        "expected": comparison.expected,
        "observed": comparison.observed,
        "agrees": comparison.agrees,
        "details": ", ".join(f"{name}: {value}" for name, value in comparison.details.items()),
    }


def _counts_row(request: RequestCounts) -> dict[str, str | int]:
    return asdict(request) | {
        "id": f"req_{request.id.hex}",
        "tenant_id": _tenant(request.tenant_id),
        "replica_id": ids.to_wire(ids.REPLICA, request.replica_id),
    }


def _seal_row(seal: Seal) -> dict[str, str | int | Decimal]:
    return {
        "tenant": _tenant(seal.key.tenant_id),
        "seal_no": seal.key.seal_no,
        "state": seal.state,
        "events": seal.events,
        "tokens": seal.tokens,
        "sealed_at": seal.sealed_at.isoformat(timespec="seconds"),
        "sealed_by": seal.sealed_by,
        "reason": seal.reason,
        "sha256": str(seal.manifest["sha256"]),
    }
