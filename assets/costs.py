"""The assets of costs: what cards drew, and what is left of a day's revenue. What was not measured is said, never 0."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal

import dagster as dg
from sqlalchemy import Engine

from assets.partitions import BERLIN_DAYS, day_of
from assets.tables import table
from assets.usage import rated_usage
from billing import energy, margin
from billing.margin import Margin
from studio import clock, gpu_usage
from studio.db.sessions import unit_of_work
from studio.prometheus import Prometheus

NOT_MEASURED = "not measured"


@dg.asset(group_name="costs", owners=["team:ops"], kinds={"prometheus", "postgres"}, partitions_def=BERLIN_DAYS)
def card_energy(
    context: dg.AssetExecutionContext,
    worker_database: dg.ResourceParam[Engine],
    prometheus: dg.ResourceParam[Prometheus],
) -> dg.MaterializeResult[None]:
    """Joules of each card and hour of a Berlin day, for the variant or trainer that held it, by its counters.

    Hours that Prometheus does not know whole are kept as not measured. It forgets: run the day within its retention.
    """
    start, end = clock.day_window(day_of(context), clock.BERLIN)
    hours = [start + timedelta(hours=n) for n in range(int((end - start) / energy.HOUR))]
    over = [hour for hour in hours if hour + energy.HOUR <= clock.now()]
    if prometheus.url is None:
        return dg.MaterializeResult(metadata={"why": "STUDIO_PROMETHEUS_URL is not set: no energy is known here."})
    with unit_of_work(worker_database) as session:
        variants = energy.known_variants(session)
    cards = []
    for hour in over:
        read = energy.read_hour(prometheus, hour, variants)
        with unit_of_work(worker_database) as session:
            energy.store_hour(session, hour, read)
        cards += read
    measured = [card.joules for card in cards if card.joules is not None]
    of_nobody = margin.total(card.joules for card in cards if (card.variant_id, card.fine_tune_id) == energy.NOBODY)
    return dg.MaterializeResult(
        metadata={
            "hours": len(over),
            "cards": len({card.card for card in cards}),
            "not_measured": len(cards) - len(measured),
            "kwh_plot": float(sum(measured, Decimal(0)) / 3_600_000),
            "kwh_of_nobody": NOT_MEASURED if of_nobody is None else f"{of_nobody / 3_600_000:.6f}",
            "energy": table(cards),
        }
    )


@dg.asset(
    group_name="costs",
    owners=["team:finance"],
    kinds={"postgres"},
    partitions_def=BERLIN_DAYS,
    deps=[rated_usage, card_energy],
)
def margin_daily(
    context: dg.AssetExecutionContext, worker_database: dg.ResourceParam[Engine]
) -> dg.MaterializeResult[None]:
    """Revenue, energy, cost and what is left of a Berlin day, per tenant, model and tier.

    Costs need the site's dated rates and the cards' energy. Where one is missing the row says so; a sum with such a row
    has no value. Not billed: finance's view only. Running a day again replaces it.
    """
    day = day_of(context)
    with unit_of_work(worker_database) as session:
        rows = margin.compute(session, day)
        margin.store(session, day, rows)
    return dg.MaterializeResult(metadata=margin_metadata(rows))


def margin_metadata(rows: Sequence[Margin]) -> dict[str, dg.MetadataValue]:
    """Sums of a day as text and as plots, and its rows. A sum that is not measured has no point in a plot."""
    served = [row for row in rows if not row.is_training and row.variant_id != gpu_usage.PRODUCT]
    in_eur = [row for row in served if row.currency == "EUR"]
    sums = {
        "kwh": margin.total(row.kwh for row in served),
        "cost_EUR": margin.total(row.cost for row in served),
        "revenue_EUR": margin.total(row.revenue for row in in_eur),
        "margin_EUR": margin.total(row.margin for row in in_eur),
    }
    if in_cny := [row for row in served if row.currency == "CNY"]:
        sums |= {
            "revenue_CNY": margin.total(row.revenue for row in in_cny),
            "margin_CNY": margin.total(row.margin for row in in_cny),
        }
    if trained := [row for row in rows if row.is_training]:
        sums["cost_of_training_EUR"] = margin.total(row.cost for row in trained)
    for code in sorted({row.currency for row in trained}):
        sums[f"revenue_of_training_{code}"] = margin.total(row.revenue for row in trained if row.currency == code)
        sums[f"margin_of_training_{code}"] = margin.total(row.margin for row in trained if row.currency == code)
    reserved = [row for row in rows if row.variant_id == gpu_usage.PRODUCT]
    for code in sorted({row.currency for row in reserved}):
        sums[f"revenue_of_gpu_hours_{code}"] = margin.total(row.revenue for row in reserved if row.currency == code)
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.text(NOT_MEASURED if value is None else f"{value:f}") for name, value in sums.items()
    }
    for name, value in sums.items():
        if value is not None:
            metadata[f"{name}_plot"] = dg.MetadataValue.float(float(value))
    shown = [{name: NOT_MEASURED if of is None else of for name, of in asdict(row).items()} for row in rows]
    return metadata | {"rows": dg.MetadataValue.int(len(rows)), "margins": table(shown)}
