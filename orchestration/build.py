"""Puts the code location together. Tests pass their own resources instead of patching."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import (
    archive,
    batches,
    catalog,
    cluster,
    documents,
    fine_tunes,
    fleet,
    invoices,
    isolation,
    ledger,
    notices,
    payments,
    rerate,
    usage,
)
from orchestration.jobs import JOBS
from orchestration.resources import RESOURCES
from orchestration.schedules import SCHEDULES
from orchestration.sensors import SENSORS

ASSET_MODULES = (
    catalog,
    fleet,
    cluster,
    batches,
    fine_tunes,
    usage,
    rerate,
    invoices,
    documents,
    ledger,
    payments,
    isolation,
)


CHECKED_MODULES = (archive, usage, invoices, documents, ledger, payments, notices)


def build_defs(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resources` replace the real ones by name.

    Assets run one after another in the run's own process: a process for each step and check would cost 2-3 CPU
    seconds every time.
    """
    return dg.Definitions(
        assets=[
            *dg.load_assets_from_modules(ASSET_MODULES),
            usage.USAGE_EVENTS,
        ],
        asset_checks=dg.load_asset_checks_from_modules(
            [archive, usage, invoices, documents, ledger, payments, notices]
        ),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**RESOURCES, **(resources or {})},
        executor=dg.in_process_executor,
    )
