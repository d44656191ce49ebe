"""The borders of the money chain: what rows must look like before the next asset may read them.

Each border is a pandera schema behind a blocking check of the asset that produced the rows. That the figures agree with
each other is claimed by the checks beside the assets, and enforced by the rows that the domain code tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assets.partitions import day_of
from assets.tables import table
from billing.rating import UNIT_NAMES
from studio.db.sessions import unit_of_work

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

UNITS = tuple(UNIT_NAMES)
CURRENCIES = ("EUR", "CNY")
ENDS = ("complete", "client_left", "engine_died", "budget", "rejected")


def border_check(
    asset: dg.AssetsDefinition,
    name: str,
    schema: "Callable[[], DataFrameSchema]",
    rows: Callable[[Session, date], Sequence[Any]],
) -> dg.AssetChecksDefinition:
    """A blocking check that the `rows` of a partition fit the schema; the rows that do not are shown."""

    @dg.asset_check(asset=asset, name=name, blocking=True, description=schema.__doc__)
    def check(context: dg.AssetCheckExecutionContext, worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
        with unit_of_work(worker_database) as session:
            found = rows(session, day_of(context))
        failures = violations(schema(), found)
        return dg.AssetCheckResult(passed=not failures, metadata={"rows": len(found), "failures": table(failures)})

    return check


def violations(schema: "DataFrameSchema", rows: Sequence[Any]) -> list[dict[str, Any]]:
    """What of the rows does not fit, one entry per case; an empty list when all is well."""
    import pandera.polars as pa  # heavy, and each run imports the code location anew
    import polars as pl

    dtypes = {name: column.dtype.type for name, column in schema.columns.items()}
    frame = pl.DataFrame([_plain(row) for row in rows], schema=dtypes, strict=False)
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return list(errors.failure_cases.to_dicts())
    return []


def usage_daily_schema() -> "DataFrameSchema":
    """Positive integer tokens per seal, variant, unit, price and civil day, each combination once."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "window_day": pa.Column(pl.Date),
            "tenant_id": pa.Column(pl.String),
            "seal_no": pa.Column(pl.Int64, pa.Check.ge(1)),
            "variant_id": pa.Column(pl.String),
            "unit": pa.Column(pl.String, pa.Check.isin(UNITS)),
            "price_id": pa.Column(pl.String),
            "billing_day": pa.Column(pl.Date),
            "basis": pa.Column(pl.String),
            "currency": pa.Column(pl.String, pa.Check.isin(CURRENCIES)),
            "events": pa.Column(pl.Int64, pa.Check.ge(1)),
            "tokens": pa.Column(pl.Int64, pa.Check.ge(1)),
        },
        unique=["window_day", "tenant_id", "seal_no", "variant_id", "unit", "price_id", "billing_day", "basis"],
    )


def usage_events_schema() -> "DataFrameSchema":
    """The newest events of every source, by day and product: tokens, reasons and numbers that can be."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "usage_day_utc": pa.Column(pl.Date),
            "source_id": pa.Column(pl.String),
            "endpoint": pa.Column(pl.String, pa.Check.str_length(min_value=1)),
            "model_id": pa.Column(pl.String, pa.Check.str_length(min_value=1)),
            "end_reason": pa.Column(pl.String, pa.Check.isin(ENDS)),
            "events": pa.Column(pl.Int64, pa.Check.ge(1)),
            "prompt_tokens": pa.Column(pl.Int64, pa.Check.ge(0)),
            "cached_tokens": pa.Column(pl.Int64, pa.Check.ge(0)),
            "completion_tokens": pa.Column(pl.Int64, pa.Check.ge(0)),
            "lowest_seq": pa.Column(pl.Int64, pa.Check.ge(1)),
        },
        checks=pa.Check(lambda data: data.lazyframe.select(pl.col("cached_tokens") <= pl.col("prompt_tokens"))),
        unique=["usage_day_utc", "source_id", "endpoint", "model_id", "end_reason"],
    )


def storage_daily_schema() -> "DataFrameSchema":
    """One row per tenant and civil day, nothing below zero; metered where it is sold and anything was kept."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "tenant_id": pa.Column(pl.String),
            "day": pa.Column(pl.Date),
            "kilobyte_days": pa.Column(pl.Int64, pa.Check.ge(0)),
            "is_sold": pa.Column(pl.Boolean),
            "event_id": pa.Column(pl.String, nullable=True),
        },
        checks=pa.Check(
            lambda data: data.lazyframe.select(
                pl.col("event_id").is_not_null() == (pl.col("is_sold") & (pl.col("kilobyte_days") > 0))
            )
        ),
        unique=["tenant_id", "day"],
    )


def gpu_hours_daily_schema() -> "DataFrameSchema":
    """One row per tenant and civil day on which it had cards, each metered."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "tenant_id": pa.Column(pl.String),
            "day": pa.Column(pl.Date),
            "micro_hours": pa.Column(pl.Int64, pa.Check.gt(0)),
            "event_id": pa.Column(pl.String),
        },
        unique=["tenant_id", "day"],
    )


def rated_usage_schema() -> "DataFrameSchema":
    """Priced lines with exact amounts of twelve decimals, none negative."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "tenant_id": pa.Column(pl.String),
            "variant_id": pa.Column(pl.String),
            "unit": pa.Column(pl.String, pa.Check.isin(UNITS)),
            "billing_day": pa.Column(pl.Date),
            "currency": pa.Column(pl.String, pa.Check.isin(CURRENCIES)),
            "tokens": pa.Column(pl.Int64, pa.Check.ge(1)),
            "per_million": pa.Column(pl.Decimal(18, 6), pa.Check.ge(0)),
            "amount": pa.Column(pl.Decimal(38, 12), pa.Check.ge(0)),
        }
    )


def account_statements_schema() -> "DataFrameSchema":
    """One row per tenant and currency; no more invoiced than used."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "tenant_id": pa.Column(pl.String),
            "currency": pa.Column(pl.String, pa.Check.isin(CURRENCIES)),
            "tokens": pa.Column(pl.Int64, pa.Check.ge(1)),
            "amount": pa.Column(pl.Decimal(38, 12), pa.Check.ge(0)),
            "invoiced": pa.Column(pl.Decimal(38, 12), pa.Check.ge(0)),
            "open_windows": pa.Column(pl.Int64, pa.Check.ge(0)),
        },
        checks=pa.Check(lambda data: data.lazyframe.select(pl.col("invoiced") <= pl.col("amount"))),
        unique=["tenant_id", "currency"],
    )


def invoice_drafts_schema() -> "DataFrameSchema":
    """Totals with two decimals, gross = net + tax, at least one line."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "invoice_id": pa.Column(pl.String, unique=True),
            "tenant_id": pa.Column(pl.String),
            "currency": pa.Column(pl.String, pa.Check.isin(CURRENCIES)),
            "lines": pa.Column(pl.Int64, pa.Check.ge(1)),
            "net": pa.Column(pl.Decimal(18, 2), pa.Check.ge(0)),
            "tax": pa.Column(pl.Decimal(18, 2), pa.Check.ge(0)),
            "gross": pa.Column(pl.Decimal(18, 2), pa.Check.ge(0)),
        },
        checks=pa.Check(lambda data: data.lazyframe.select(pl.col("net") + pl.col("tax") == pl.col("gross"))),
    )


def _plain(row: Any) -> dict[str, Any]:
    """A dataclass as frame values: ids as text, everything else as it is."""
    return {name: str(value) if isinstance(value, UUID) else value for name, value in asdict(row).items()}
