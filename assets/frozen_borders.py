"""The borders of what is never replaced: final invoices and their documents.

No partition stands behind them, so each looks at the newest rows, by `billing/border_rows.py`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assets.borders import CURRENCIES, violations
from assets.documents import invoice_documents
from assets.invoices import invoices
from assets.tables import table
from billing import border_rows
from studio.db.sessions import unit_of_work

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

_KINDS = ("pdf", "cii", "ubl", "csv", "json", "fapiao")


def invoices_schema() -> "DataFrameSchema":
    """Final invoices: a number of their own and a day, lines that sum to net, gross = net + tax, credit within it."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "invoice_id": pa.Column(pl.String, unique=True),
            "number": pa.Column(pl.String, pa.Check.str_matches(r"^[A-Z]{2,8}-\d{4}-\d{6,}$"), unique=True),
            "issued_on": pa.Column(pl.Date),
            "currency": pa.Column(pl.String, pa.Check.isin(CURRENCIES)),
            "rounding_mode": pa.Column(pl.String, pa.Check.isin(("half_up", "half_even"))),
            "lines_net": pa.Column(pl.Decimal(18, 2)),
            "net": pa.Column(pl.Decimal(18, 2)),
            "tax": pa.Column(pl.Decimal(18, 2)),
            "gross": pa.Column(pl.Decimal(18, 2)),
            "prepaid": pa.Column(pl.Decimal(18, 2), pa.Check.ge(0)),
        },
        checks=[
            pa.Check(lambda data: data.lazyframe.select(pl.col("lines_net") == pl.col("net"))),
            pa.Check(lambda data: data.lazyframe.select(pl.col("net") + pl.col("tax") == pl.col("gross"))),
            pa.Check(lambda data: data.lazyframe.select(pl.col("prepaid") <= pl.col("gross"))),
        ],
    )


def invoice_documents_schema() -> "DataFrameSchema":
    """Stored documents: of a kind that we make, once each, not empty, under a key that holds their hash."""
    import pandera.polars as pa
    import polars as pl

    return pa.DataFrameSchema(
        {
            "invoice_id": pa.Column(pl.String),
            "kind": pa.Column(pl.String, pa.Check.isin(_KINDS)),
            "object_key": pa.Column(pl.String),
            "sha256": pa.Column(pl.String, pa.Check.str_matches(r"^[0-9a-f]{64}$")),
            "size_bytes": pa.Column(pl.Int64, pa.Check.ge(1)),
        },
        checks=pa.Check(
            lambda data: data.lazyframe.select(pl.col("object_key").str.contains(pl.col("sha256"), literal=True))
        ),
        unique=["invoice_id", "kind"],
    )


def _newest(
    asset: dg.AssetKey,
    name: str,
    schema: "Callable[[], DataFrameSchema]",
    rows: Callable[[Session], Sequence[Any]],
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, blocking=True, description=schema.__doc__)
    def check(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
        with unit_of_work(worker_database) as session:
            found = rows(session)
        failures = violations(schema(), found)
        return dg.AssetCheckResult(passed=not failures, metadata={"rows": len(found), "failures": table(failures)})

    return check


invoices_rows_fit = _newest(invoices.key, "invoices_rows_fit", invoices_schema, border_rows.newest_invoices)
invoice_documents_rows_fit = _newest(
    invoice_documents.key, "invoice_documents_rows_fit", invoice_documents_schema, border_rows.newest_documents
)
