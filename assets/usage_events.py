"""What is claimed of usage as it arrives. Events come without a run of ours, so the sensor of closed days says how it
stands every ten minutes (`orchestration/sensors.py`); a person may ask at any time.
"""

from dataclasses import asdict

import dagster as dg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assets.borders import usage_events_schema, violations
from assets.tables import table
from assets.usage import USAGE_EVENTS
from billing import arrivals, border_rows, unsealed
from studio import clock, ids
from studio.db.sessions import unit_of_work

_MOST_ROWS = 20


@dg.asset_check(asset=USAGE_EVENTS.key)
def every_closed_day_is_sealed(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """No source keeps a day open after its grace. Red: the sources by name; those days are not billed."""
    with unit_of_work(worker_database) as session:
        return _sealed(session)


@dg.asset_check(asset=USAGE_EVENTS.key)
def no_event_is_of_the_future(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """No event claims to have started after tomorrow: a broken clock. Nobody is billed for it before its day comes."""
    with unit_of_work(worker_database) as session:
        return _of_now(session)


@dg.asset_check(asset=USAGE_EVENTS.key, description=usage_events_schema.__doc__)
def usage_events_rows_fit(worker_database: dg.ResourceParam[Engine]) -> dg.AssetCheckResult:
    """The schema's own words stand in the UI."""
    with unit_of_work(worker_database) as session:
        return _fit(session)


def evaluations(session: Session) -> list[dg.AssetCheckEvaluation]:
    """All of them as events for a sensor to report."""
    return [
        dg.AssetCheckEvaluation(
            asset_key=USAGE_EVENTS.key, check_name=name, passed=result.passed, metadata=result.metadata
        )
        for name, result in (
            ("every_closed_day_is_sealed", _sealed(session)),
            ("no_event_is_of_the_future", _of_now(session)),
            ("usage_events_rows_fit", _fit(session)),
        )
    ]


def _fit(session: Session) -> dg.AssetCheckResult:
    rows = border_rows.newest_usage(session, clock.now())
    failures = violations(usage_events_schema(), rows)
    events = sum(row.events for row in rows)
    return dg.AssetCheckResult(passed=not failures, metadata={"events": events, "failures": table(failures)})


def _sealed(session: Session) -> dg.AssetCheckResult:
    found = unsealed.overdue(session, clock.now())
    rows = [asdict(day) | {"sources": " ".join(day.sources)} for day in found]
    return dg.AssetCheckResult(passed=not found, metadata={"cannot_be_sealed": table(rows)})


def _of_now(session: Session) -> dg.AssetCheckResult:
    found = arrivals.ahead(session, clock.now(), _MOST_ROWS)
    rows = [
        {
            "id": str(event.id),
            "tenant": ids.to_wire(ids.TENANT, event.tenant_id),
            "source": event.source,
            "started_at": event.started_at.isoformat(),
            "tokens": event.tokens,
        }
        for event in found
    ]
    return dg.AssetCheckResult(passed=not found, metadata={"events": table(rows)})
