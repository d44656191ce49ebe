"""The sensors of a site with a cluster. Without one they skip; nothing is contacted."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from assets.cluster import (
    ANSWERS,
    ClusterSilent,
    ClusterSite,
    card_holders_named,
    scale_metadata,
    scale_trouble,
    scaled,
    state_table,
)
from orchestration.jobs import APPLY_TENANTS
from studio import clock
from studio.cluster import run_jobs, tenants
from studio.cluster.answers import Answers
from studio.cluster.connection import Cluster
from studio.db.sessions import unit_of_work
from studio.errors import StudioError

_NO_CLUSTER = "This site declares no cluster."
_AWAY = "the API server is away"  # in place of what was seen
_HEARD = Answers()  # of this process, in which all ticks happen; a new one asks anew
_ORPHAN_GRACE = 600.0  # seconds after a run's end in which its pod may go by itself


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def cluster_scale(
    context: dg.SensorEvaluationContext,
    worker_database: dg.ResourceParam[Engine],
    cluster_site: dg.ResourceParam[ClusterSite],
) -> dg.SensorResult | dg.SkipReason:
    """Gives the engines' Deployments the pods that the fleet has decided. So quick that it needs no run.

    Only what differs from the tick before is recorded, so a conflict that lasts is one row and not thousands. An API
    server that is away for longer than a restart turns a check red, once.
    """
    if (declared := cluster_site.declared()) is None:
        return dg.SkipReason(_NO_CLUSTER)
    try:
        states = scaled(worker_database, declared, _HEARD)
    except ClusterSilent as silent:
        if not silent.has_lasted or context.cursor == _AWAY:
            return dg.SkipReason(silent.message)
        told = {"said": silent.message, "away_since": silent.away_since.isoformat()}
        return dg.SensorResult(cursor=_AWAY, asset_events=[_check(ANSWERS, passed=False, metadata=told)])
    seen = str([(state.deployment, state.outcome, state.pods, state.ready, state.said) for state in states])
    if seen == context.cursor:
        return dg.SkipReason("The Deployments are as they were.")
    return dg.SensorResult(
        cursor=seen,
        asset_events=[
            dg.AssetMaterialization("cluster_replicas", metadata=scale_metadata(states)),
            _check(ANSWERS, passed=True, metadata={}),
            *(
                _check(name, passed=not trouble, metadata={"trouble": state_table(trouble)})
                for name, trouble in scale_trouble(states).items()
            ),
        ],
    )


def _check(name: str, *, passed: bool, metadata: Mapping[str, Any]) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("cluster_replicas"), check_name=name, passed=passed, metadata=metadata
    )


@dg.sensor(job=APPLY_TENANTS, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def tenants_drifted(
    worker_database: dg.ResourceParam[Engine], cluster_site: dg.ResourceParam[ClusterSite]
) -> dg.RunRequest | dg.SkipReason:
    """Starts a run when a tenant is new or closed, or its namespace is not as declared. Looking changes nothing.

    Trouble that a run cannot mend gets one every hour, not one every minute.
    """
    if (declared := cluster_site.declared()) is None:
        return dg.SkipReason(_NO_CLUSTER)
    with unit_of_work(worker_database) as session:
        wanted = tenants.open_tenants(session)
    try:
        with closing(Cluster.from_environment()) as cluster:
            states = tenants.reconcile(cluster, declared, wanted, mend=False)
    except StudioError as error:
        return dg.SkipReason(error.message)
    mendable = sorted(str((state.tenant, state.differences)) for state in states if state.outcome == "drifted")
    trouble = sorted(state.tenant for state in states if not state.is_in_order and state.outcome != "drifted")
    if not mendable and not trouble:
        return dg.SkipReason("Every namespace is as declared.")
    now = clock.now()
    window = f"{now:%Y-%m-%dT%H:%M}" if mendable else f"{now:%Y-%m-%dT%H}"
    return dg.RunRequest(run_key=f"{window} {' '.join(trouble)}")


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def orphaned_jobs(context: dg.SensorEvaluationContext, cluster_site: dg.ResourceParam[ClusterSite]) -> dg.SkipReason:
    """Removes the Jobs of runs that are over and still have pods."""
    if (declared := cluster_site.declared()) is None:
        return dg.SkipReason(_NO_CLUSTER)

    def is_over(run_id: str) -> bool:
        record = context.instance.get_run_record_by_id(run_id)
        if record is None:
            return False  # of another instance, perhaps: not ours to end
        ended = record.end_time
        return record.dagster_run.is_finished and ended is not None and clock.now().timestamp() - ended > _ORPHAN_GRACE

    try:
        with closing(Cluster.from_environment()) as cluster:
            jobs = run_jobs.orphaned(cluster, declared.platform, is_over)
            for one in jobs:
                cluster.delete("Job", one.job, declared.platform)
    except StudioError as error:
        return dg.SkipReason(error.message)
    return dg.SkipReason(f"Jobs removed: {', '.join(one.job for one in jobs) or 'none'}.")


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def card_holders(
    worker_database: dg.ResourceParam[Engine], cluster_site: dg.ResourceParam[ClusterSite]
) -> dg.SkipReason:
    """Tells the nodes' exporters which pods work for which model, variant and tenant."""
    if (declared := cluster_site.declared()) is None:
        return dg.SkipReason(_NO_CLUSTER)
    try:
        return dg.SkipReason(f"The list of who holds cards: {card_holders_named(worker_database, declared)}.")
    except StudioError as error:
        return dg.SkipReason(error.message)
