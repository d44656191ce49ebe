"""The jobs: which assets belong to one run. Every job has a longest duration, so no zombie holds its slot for days."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from assets.catalog import catalog
from assets.invoices import account_statements, invoice_documents, invoice_drafts, invoices
from assets.usage import rated_usage, usage_daily

Job = dg.UnresolvedAssetJobDefinition


def _job(
    name: str, *assets: dg.AssetsDefinition, at_most: timedelta, description: str
) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*assets),
        description=description,
        tags={"dagster/max_runtime": str(int(at_most.total_seconds()))},
    )


SYNC_CATALOG = _job(
    "sync_catalog",
    catalog,
    at_most=timedelta(minutes=5),
    description="Apply the reviewed catalog files.",
)
PROCESS_DAY = _job(
    "process_day",
    usage_daily,
    rated_usage,
    at_most=timedelta(hours=1),
    description="Count, rate and reconcile all sealed usage of a Berlin day.",
)
DRAFT_INVOICES = _job(
    "draft_invoices",
    account_statements,
    invoice_drafts,
    at_most=timedelta(hours=1),
    description="Bring a month's statements up to date and answer its invoice requests with drafts.",
)
FINALIZE_INVOICE = _job(
    "finalize_invoice",
    invoices,
    invoice_documents,
    at_most=timedelta(minutes=15),
    description="Carry out one approval: the draft becomes final and its PDF is rendered.",
)

JOBS = [SYNC_CATALOG, PROCESS_DAY, DRAFT_INVOICES, FINALIZE_INVOICE]
