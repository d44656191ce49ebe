"""The partitions of the money assets: Berlin days and months.

The running day and month are partitions too, since a person may seal today; whether a day may be processed is decided
by the rows of its seals, never by the calendar alone.
"""

from __future__ import annotations

from datetime import date

import dagster as dg

_FIRST_DAY = "2026-01-01"

BERLIN_DAYS = dg.DailyPartitionsDefinition(start_date=_FIRST_DAY, timezone="Europe/Berlin", end_offset=1)
BERLIN_MONTHS = dg.MonthlyPartitionsDefinition(start_date=_FIRST_DAY, timezone="Europe/Berlin", end_offset=1)


def day_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    """The civil day of the partition that is being processed; for a month, its first day."""
    return date.fromisoformat(context.partition_key)
