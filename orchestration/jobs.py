"""The jobs: which assets belong to one run. Every job has a longest duration, so no zombie holds its slot for days."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from assets.archive import usage_archive
from assets.batches import batches
from assets.billing_canary import billing_canary
from assets.catalog import catalog
from assets.cluster import tenant_namespaces
from assets.costs import card_energy, margin_daily
from assets.documents import invoice_documents
from assets.fine_tunes import fine_tunes
from assets.gpu_hours import gpu_hours_daily
from assets.invoices import account_statements, invoice_corrections, invoice_drafts, invoices
from assets.isolation import isolation_certificates
from assets.ledger import ledger, ledger_equals_invoices
from assets.notices import mails, webhook_messages
from assets.objectives import slo_report
from assets.objects import object_replication
from assets.payments import bank_statements, dunning_notices, payments
from assets.rerate import re_rate_preview
from assets.storage import storage_daily
from assets.usage import rated_usage, usage_daily


def _at_most(duration: timedelta) -> dict[str, str]:
    return {"dagster/max_runtime": str(int(duration.total_seconds()))}


SYNC_CATALOG = dg.define_asset_job(
    "sync_catalog",
    selection=[catalog],
    description="Apply the reviewed catalog files.",
    tags=_at_most(timedelta(minutes=5)),
)
PROCESS_DAY = dg.define_asset_job(
    "process_day",
    selection=[usage_archive, usage_daily, rated_usage],
    description="Archive, count, rate and reconcile all sealed usage of a Berlin day.",
    tags=_at_most(timedelta(hours=1)),
)
MEASURE_DAYS = dg.define_asset_job(
    "measure_days",
    selection=[storage_daily, gpu_hours_daily],
    description="Measure what tenants kept on a civil day that is over where they are, and the cards that they had, and"
    " meter what is sold of it.",
    tags=_at_most(timedelta(minutes=30)),
)
ARCHIVE_DAY = dg.define_asset_job(
    "archive_day",
    selection=[usage_archive],
    description="Archive what is sealed of a Berlin day and is not archived: usage that is older than the archive.",
    tags=_at_most(timedelta(hours=1)),
)
DRAFT_INVOICES = dg.define_asset_job(
    "draft_invoices",
    selection=[account_statements, invoice_drafts],
    description="Bring a month's statements up to date and answer its invoice requests with drafts.",
    tags=_at_most(timedelta(hours=1)),
)
RE_RATE = dg.define_asset_job(
    "re_rate",
    selection=[re_rate_preview],
    description="Show what a month would come to with the price book and the code of now. Changes nothing.",
    tags=_at_most(timedelta(hours=2)),
)
FINALIZE_INVOICE = dg.define_asset_job(
    "finalize_invoice",
    selection=[invoices, invoice_documents],
    description="Carry out one approval: the draft becomes final and its PDF is rendered.",
    tags=_at_most(timedelta(minutes=15)),
)
CORRECT_INVOICE = dg.define_asset_job(
    "correct_invoice",
    selection=dg.AssetSelection.assets(invoice_corrections, invoice_documents)
    | dg.AssetSelection.checks(ledger_equals_invoices),
    description="Carry out one approval of a correction: it receives its number and its PDF is rendered.",
    tags=_at_most(timedelta(minutes=15)),
)
CLOSE_LEDGER = dg.define_asset_job(
    "close_ledger",
    selection=dg.AssetSelection.assets(ledger) | dg.AssetSelection.checks(ledger_equals_invoices),
    description="Book what was missed, let credit expire, close the ledger's days that are over, and check all of it.",
    tags=_at_most(timedelta(hours=1)),
)
TAKE_PAYMENTS = dg.define_asset_job(
    "take_payments",
    selection=[bank_statements, payments],
    description="Book the bank statements that lie in the inbox, and match what waits.",
    tags=_at_most(timedelta(minutes=30)),
)
REMIND = dg.define_asset_job(
    "remind",
    selection=[bank_statements, payments, dunning_notices],
    description="Take the money that is there, then propose reminders of what is still overdue.",
    tags=_at_most(timedelta(minutes=30)),
)
BATCH_WORKER = dg.define_asset_job(
    "batch_worker",
    selection=[batches],
    description="One worker that brings all batches forward until nothing is left to do, at most for an hour.",
    tags=_at_most(timedelta(minutes=65)) | {"studio/kind": "batch-worker"},
)
FINE_TUNE = dg.define_asset_job(
    "fine_tune",
    selection=[fine_tunes],
    description="Train, validate and publish the adapter of one fine-tuning job.",
    tags=_at_most(timedelta(hours=24)) | {"studio/kind": "fine-tune"},
)
SEND_WEBHOOKS = dg.define_asset_job(
    "send_webhooks",
    selection=[webhook_messages],
    description="Send the messages to webhooks that are due.",
    tags=_at_most(timedelta(minutes=10)),
)
SEND_MAIL = dg.define_asset_job(
    "send_mail",
    selection=[mails],
    description="Send the mails that are due, each once.",
    tags=_at_most(timedelta(minutes=30)),
)
FLY_CANARY = dg.define_asset_job(
    "fly_billing_canary",
    selection=[billing_canary],
    description="Compare the bill of known requests with what they counted themselves.",
    tags=_at_most(timedelta(minutes=15)),
)
CERTIFY_ISOLATION = dg.define_asset_job(
    "certify_isolation",
    selection=[isolation_certificates],
    description="Try to reach one tenant's things as another, and sign a report for every tenant.",
    tags=_at_most(timedelta(minutes=30)),
)
APPLY_TENANTS = dg.define_asset_job(
    "apply_tenants",
    selection=[tenant_namespaces],
    description="Bring every tenant's namespace in the cluster to what the site declares.",
    tags=_at_most(timedelta(minutes=15)),
)
MEASURE_COSTS = dg.define_asset_job(
    "measure_costs",
    selection=[card_energy, margin_daily],
    description="Read what cards drew on a Berlin day, and compute what is left of its revenue.",
    tags=_at_most(timedelta(minutes=30)),
)
REPORT_OBJECTIVES = dg.define_asset_job(
    "report_objectives",
    selection=[slo_report],
    description="Compute the month's availability, warm openings, first tokens and usage error.",
    tags=_at_most(timedelta(minutes=30)),
)
REPLICATE_OBJECTS = dg.define_asset_job(
    "replicate_objects",
    selection=[object_replication],
    description="Copy what is new to the second object store, and read again a part of what was copied.",
    tags=_at_most(timedelta(hours=12)),
)

JOBS = [
    SYNC_CATALOG,
    PROCESS_DAY,
    MEASURE_DAYS,
    ARCHIVE_DAY,
    DRAFT_INVOICES,
    RE_RATE,
    FINALIZE_INVOICE,
    CORRECT_INVOICE,
    CLOSE_LEDGER,
    TAKE_PAYMENTS,
    REMIND,
    BATCH_WORKER,
    FINE_TUNE,
    SEND_WEBHOOKS,
    SEND_MAIL,
    FLY_CANARY,
    CERTIFY_ISOLATION,
    APPLY_TENANTS,
    MEASURE_COSTS,
    REPORT_OBJECTIVES,
    REPLICATE_OBJECTS,
]
