"""Puts the code location together. Tests pass their own resources instead of patching."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets import batches, catalog, cluster, costs, fine_tunes, fleet, invoices, isolation, ledger, objectives, usage
from orchestration.jobs import JOBS
from orchestration.resources import RESOURCES
from orchestration.schedules import SCHEDULES
from orchestration.sensors import SENSORS

_MODULES = (catalog, fleet, cluster, batches, fine_tunes, usage, invoices, ledger, isolation, costs, objectives)


def build_defs(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All definitions; `resources` replace the real ones by name.

    Assets run one after another in the run's own process: a process for each step and check would cost 2-3 CPU
    seconds every time.
    """
    return dg.Definitions(
        assets=[
            *dg.load_assets_from_modules([*_MODULES]),
            usage.USAGE_EVENTS,
        ],
        asset_checks=dg.load_asset_checks_from_modules([usage, invoices, ledger]),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**RESOURCES, **(resources or {})},
        executor=dg.in_process_executor,
    )
