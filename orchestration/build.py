"""Puts the code location together. Tests pass their own resources instead of patching."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import (
    archive,
    batches,
    billing_canary,
    catalog,
    cluster,
    costs,
    documents,
    fine_tunes,
    fleet,
    frozen_borders,
    gpu_hours,
    invoices,
    isolation,
    ledger,
    notices,
    objectives,
    objects,
    open_invoices,
    payments,
    rerate,
    storage,
    usage,
    usage_events,
)
from orchestration.jobs import JOBS
from orchestration.resources import RESOURCES
from orchestration.schedules import SCHEDULES
from orchestration.sensors import SENSORS

_OPERATION = (catalog, fleet, cluster, batches, fine_tunes, isolation, objectives, objects, notices)
_USAGE = (archive, storage, gpu_hours, usage)
_MONEY = (*_USAGE, rerate, invoices, open_invoices, documents, ledger, payments, billing_canary, costs)
_CHECKED = (*_USAGE, frozen_borders, usage_events, invoices, documents, ledger, payments, notices)


def build_defs(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resources` replace the real ones by name.

    Assets run one after another in the run's own process: a process for each step and check would cost 2-3 CPU
    seconds every time.
    """
    return dg.Definitions(
        assets=[
            *dg.load_assets_from_modules([*_OPERATION, *_MONEY]),
            usage.USAGE_EVENTS,
        ],
        asset_checks=dg.load_asset_checks_from_modules([*_CHECKED]),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**RESOURCES, **(resources or {})},
        executor=dg.in_process_executor,
    )
