"""The sensors. Each computes what is to be done from rows and files; a tick that is lost or late changes nothing.

Quick work is done in the tick itself, longer work in one run for everything that waits, never a run per small thing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import dagster as dg
from sqlalchemy import Engine, func, select

from assets import usage_events
from assets.catalog import CatalogFiles
from assets.fleet import fleet_metadata
from assets.invoices import CorrectConfig, FinalizeConfig
from assets.usage import arrival_metadata
from billing import approval, archive, arrivals, gpu_hours, invoice_requests, ledger_work, quarantine, storage, windows
from orchestration.approvals import invoices_waiting
from orchestration.attempts import attempt, run_key
from orchestration.batches import batch_supply
from orchestration.closing import tenants_closing
from orchestration.cluster import card_holders, cluster_scale, orphaned_jobs, tenants_drifted
from orchestration.fine_tunes import fine_tunes_open
from orchestration.jobs import (
    ARCHIVE_DAY,
    CLOSE_LEDGER,
    CORRECT_INVOICE,
    DRAFT_INVOICES,
    FINALIZE_INVOICE,
    MEASURE_DAYS,
    PROCESS_DAY,
    SYNC_CATALOG,
)
from orchestration.notices import budget_alerts, mail_due, webhooks_due
from orchestration.payments import statements_waiting
from orchestration.pulse import pulse
from orchestration.responses import responses_sweep
from orchestration.sealing import seal_closed_windows
from serving.fleet.reconcile import reconcile
from studio import clock, ids
from studio.catalog.reading import content_hash
from studio.catalog.sync import last_synced_hash
from studio.db.catalog import CatalogSync
from studio.db.sessions import unit_of_work

_RUNNING = dg.DefaultSensorStatus.RUNNING
_ARCHIVED_AT_ONCE = 5  # days of old usage in ten minutes
_CATALOG_TAG = "studio/catalog"
_CATALOG_ATTEMPTS = 3  # the second and third are for a database that was away; bad files stay bad
_MEASURE_ATTEMPTS_MAX = 18  # by doubling, longer than `day_metering.LOOK_BACK_DAYS`
_ATTEMPTS_MAX = 14  # almost three days; what has failed that long needs a person


@dg.sensor(job=SYNC_CATALOG, minimum_interval_seconds=10, default_status=_RUNNING)
def catalog_changed(
    context: dg.SensorEvaluationContext,
    worker_database: dg.ResourceParam[Engine],
    catalog_files: dg.ResourceParam[CatalogFiles],
) -> dg.RunRequest | dg.SkipReason:
    """Synchronises the catalog when its files differ from what was applied last."""
    with unit_of_work(worker_database) as session:
        applied = last_synced_hash(session)
        syncs = session.scalars(select(func.count()).select_from(CatalogSync)).one()
    declared = content_hash(catalog_files.folder, catalog_files.site)
    if declared == applied:
        return dg.SkipReason("The catalog is in step with its files.")
    # The count tells this apart from an earlier time at which the files had the same content.
    change = f"{syncs}-{declared[:16]}"
    tried = context.instance.get_runs(dg.RunsFilter(job_name=SYNC_CATALOG.name, tags={_CATALOG_TAG: change}))
    if any(not run.is_finished for run in tried):
        return dg.SkipReason("A synchronisation is under way.")
    if len(tried) >= _CATALOG_ATTEMPTS:
        return dg.SkipReason("The catalog files were refused; the last run of sync_catalog lists the findings.")
    return dg.RunRequest(run_key=f"{change}/{len(tried)}", tags={_CATALOG_TAG: change})


@dg.sensor(minimum_interval_seconds=10, default_status=_RUNNING)
def fleet_reconcile(worker_database: dg.ResourceParam[Engine]) -> dg.SensorResult | dg.SkipReason:
    """Writes how many replicas each variant should have. So quick that it needs no run."""
    with unit_of_work(worker_database) as session:
        done = reconcile(session, clock.now())
    if not done.changes:
        return dg.SkipReason("The desired replicas are as they should be.")
    return dg.SensorResult(asset_events=[dg.AssetMaterialization("desired_replicas", metadata=fleet_metadata(done))])


@dg.sensor(minimum_interval_seconds=600, default_status=_RUNNING)
def closed_days(worker_database: dg.ResourceParam[Engine]) -> dg.SensorResult:
    """Seals every closed day that has usage in no seal, observes how usage arrives, and says what keeps a day open."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        arrived = arrivals.last_day(session, now)
    sealing = seal_closed_windows(worker_database, now)
    metadata = {
        **arrival_metadata(arrived),
        "sealed_windows": dg.MetadataValue.int(sealing.sealed),
        "waiting": dg.MetadataValue.text("\n".join(sealing.waiting) or "nothing"),
    }
    with unit_of_work(worker_database) as session:
        checks = usage_events.evaluations(session)
    return dg.SensorResult(asset_events=[dg.AssetObservation("usage_events", metadata=metadata), *checks])


@dg.sensor(job=PROCESS_DAY, minimum_interval_seconds=10, default_status=_RUNNING)
def sealed_windows(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Processes every day that has seals on their way: one run a day, for all tenants."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        seals = windows.seals(session, states=("sealed", "counted", "rated"))
        held = quarantine.may_go_on(session)
    work: dict[str, list[str]] = defaultdict(list)
    for seal in seals:
        if (tries := attempt(seal.sealed_at, now)) <= _ATTEMPTS_MAX:
            work[seal.key.window_day.isoformat()].append(f"{seal.key}#{tries}")
    for key, changed_at in held:  # once more for each change: what is still in question stays held
        work[key.window_day.isoformat()].append(f"{key}#{changed_at.isoformat()}")
    return _one_run_each(context, PROCESS_DAY.name, work) or dg.SkipReason("No sealed usage waits.")


# A day is over at midnight and sealed a quarter of an hour later.
@dg.sensor(job=MEASURE_DAYS, minimum_interval_seconds=60, default_status=_RUNNING)
def days_unmeasured(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Measures storage and GPU hours of civil days that are over where their tenants are: one run a day, for all."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        due = {(one.day, one.tenant_id, one.time_zone) for one in storage.due(session, now)}
        due |= {(one.day, one.tenant_id, one.time_zone) for one in gpu_hours.due(session, now)}
    work: dict[str, list[str]] = defaultdict(list)
    for day, tenant_id, time_zone in sorted(due):
        over = clock.day_window(day, clock.zone(time_zone))[1]
        if (tries := attempt(over, now)) <= _MEASURE_ATTEMPTS_MAX:
            work[day.isoformat()].append(f"{tenant_id}#{tries}")
    return _one_run_each(context, MEASURE_DAYS.name, work) or dg.SkipReason("Every day that is over is measured.")


@dg.sensor(job=ARCHIVE_DAY, minimum_interval_seconds=600, default_status=_RUNNING)
def archive_gaps(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Catches the archive up: days whose usage is done with, and which hold seals that are not archived."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        days = archive.waiting_days(session, _ARCHIVED_AT_ONCE)
        work = {day.isoformat(): [f"{now:%Y-%m-%d %H}"] for day in days}
    return _one_run_each(context, ARCHIVE_DAY.name, work) or dg.SkipReason("Everything sealed is archived.")


@dg.sensor(name="invoice_requests", job=DRAFT_INVOICES, minimum_interval_seconds=10, default_status=_RUNNING)
def invoice_requests_open(
    context: dg.SensorEvaluationContext, worker_database: dg.ResourceParam[Engine]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Answers requests for invoices: one run a month, for all tenants.

    What waits for a rate, say, is tried again as soon as the catalog has changed, however old it is.
    """
    now = clock.now()
    with unit_of_work(worker_database) as session:
        requests = invoice_requests.unanswered(session)
        ready = invoice_requests.ready_for(session) if requests else ""
    work: dict[str, list[str]] = defaultdict(list)
    for request in requests:
        tries = min(attempt(request.requested_at, now), _ATTEMPTS_MAX)
        work[request.month.isoformat()].append(f"{request.id}#{tries} {ready}")
    return _one_run_each(context, DRAFT_INVOICES.name, work) or dg.SkipReason("No request waits.")


@dg.sensor(job=FINALIZE_INVOICE, minimum_interval_seconds=10, default_status=_RUNNING)
def approvals(worker_database: dg.ResourceParam[Engine]) -> list[dg.RunRequest] | dg.SkipReason:
    """Carries out approvals: makes the invoice final and renders its document."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        waiting = approval.waiting(session)
    requests = []
    for approved in waiting:
        approval_id = ids.to_wire(ids.APPROVAL, approved.id)
        if (tries := attempt(approved.approved_at, now)) <= _ATTEMPTS_MAX:
            config = dg.RunConfig(ops={"invoices": FinalizeConfig(approval_id=approval_id)})
            requests.append(dg.RunRequest(run_key=f"{approval_id}#{tries}", run_config=config))
    return requests or dg.SkipReason("No approval waits.")


@dg.sensor(job=CORRECT_INVOICE, minimum_interval_seconds=10, default_status=_RUNNING)
def correction_approvals(worker_database: dg.ResourceParam[Engine]) -> list[dg.RunRequest] | dg.SkipReason:
    """Carries out approvals of corrections."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        waiting = approval.waiting_corrections(session)
    requests = []
    for approved in waiting:
        approval_id = ids.to_wire(ids.APPROVAL, approved.id)
        if (tries := attempt(approved.approved_at, now)) <= _ATTEMPTS_MAX:
            config = dg.RunConfig(ops={"invoice_corrections": CorrectConfig(approval_id=approval_id)})
            requests.append(dg.RunRequest(run_key=f"{approval_id}#{tries}", run_config=config))
    return requests or dg.SkipReason("No approval waits.")


@dg.sensor(job=CLOSE_LEDGER, minimum_interval_seconds=600, default_status=_RUNNING)
def ledger_open(worker_database: dg.ResourceParam[Engine]) -> dg.RunRequest | dg.SkipReason:
    """Closes the ledger's days that are over, and has it do what waits: one run for everything."""
    now = clock.now()
    with unit_of_work(worker_database) as session:
        waiting = ledger_work.waiting(session, now)
    # What is older than all attempts (invoices from before there was a ledger) is tried once more, too.
    work = [f"{one.what}#{min(attempt(one.since, now), _ATTEMPTS_MAX + 1)}" for one in waiting]
    return dg.RunRequest(run_key=run_key("ledger", work)) if work else dg.SkipReason("The ledger waits for nothing.")


SENSORS = [
    catalog_changed,
    fleet_reconcile,
    closed_days,
    sealed_windows,
    days_unmeasured,
    archive_gaps,
    invoice_requests_open,
    approvals,
    correction_approvals,
    ledger_open,
    statements_waiting,
    invoices_waiting,
    tenants_closing,
    budget_alerts,
    webhooks_due,
    mail_due,
    batch_supply,
    fine_tunes_open,
    responses_sweep,
    cluster_scale,
    tenants_drifted,
    orphaned_jobs,
    card_holders,
    pulse,
]


def _one_run_each(
    context: dg.SensorEvaluationContext, job_name: str, work: Mapping[str, Iterable[str]]
) -> list[dg.RunRequest]:
    """A run request for each partition with work, unless a run of that partition is still under way."""
    requests = []
    for partition, pieces in work.items():
        runs = context.instance.get_runs(
            dg.RunsFilter(job_name=job_name, tags={"dagster/partition": partition}), limit=5
        )
        if all(run.is_finished for run in runs):
            requests.append(dg.RunRequest(run_key=run_key(partition, pieces), partition_key=partition))
    return requests
