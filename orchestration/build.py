"""Puts the code location together. Tests pass their own resources instead of patching."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import (
    batches,
    billing_canary,
    catalog,
    cluster,
    fine_tunes,
    fleet,
    invoices,
    isolation,
    ledger,
    notices,
    open_invoices,
    usage,
)
from orchestration.jobs import JOBS
from orchestration.resources import RESOURCES
from orchestration.schedules import SCHEDULES
from orchestration.sensors import SENSORS


def build_defs(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resources` replace the real ones by name.

    Assets run one after another in the run's own process: a process for each step and check would cost 2-3 CPU
    seconds every time.
    """
    return dg.Definitions(
        assets=[
            *dg.load_assets_from_modules(
                [
                    catalog,
                    fleet,
                    cluster,
                    batches,
                    fine_tunes,
                    usage,
                    invoices,
                    open_invoices,
                    ledger,
                    isolation,
                    notices,
                    billing_canary,
                ]
            ),
            usage.USAGE_EVENTS,
        ],
        asset_checks=dg.load_asset_checks_from_modules([usage, invoices, ledger, notices]),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**RESOURCES, **(resources or {})},
        executor=dg.in_process_executor,
    )
