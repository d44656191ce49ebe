"""The cluster assets: the namespace of each tenant and the pods of each engine, at a site that has a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
from sqlalchemy import Engine

from assets.fleet import desired_replicas
from assets.tables import table
from studio import clock
from studio.catalog.declaration import DeclaredCluster
from studio.cluster import answers, card_holders, engine_pods, scaling, special_days, tenants
from studio.cluster.answers import Answers, Asker
from studio.cluster.card_holders import CardHolder
from studio.cluster.connection import Cluster
from studio.cluster.scaling import ScaleState
from studio.cluster.site import declared_cluster
from studio.cluster.tenants import TenantState
from studio.db.fleet import AWAY_PATIENCE
from studio.db.sessions import unit_of_work
from studio.errors import StudioError
from training.job_manifest import job_name
from training.jobs import open_jobs

ANSWERS = "cluster_answers"
ONE_OWNER = "deployments_have_one_owner"
PODS_START = "pods_of_engines_start"


@dataclass(frozen=True, slots=True)
class ClusterSite:
    """Where the declaration of the cluster lies."""

    catalog_dir: Path
    site: str

    def declared(self) -> DeclaredCluster | None:
        """None for a site without a cluster."""
        return declared_cluster(self.catalog_dir, self.site)

    def required(self) -> DeclaredCluster:
        """dg.Failure for a site without one."""
        if (declared := self.declared()) is None:
            raise dg.Failure(f"The site {self.site!r} declares no cluster.", allow_retries=False)
        return declared


@dg.asset(
    group_name="cluster",
    owners=["team:ops"],
    kinds={"kubernetes"},
    check_specs=[
        dg.AssetCheckSpec(
            "tenants_have_their_namespaces",
            asset="tenant_namespaces",
            description="Every tenant's namespace is as declared, and what runs in it is within its quota.",
        )
    ],
)
def tenant_namespaces(
    worker_database: dg.ResourceParam[Engine], cluster_site: dg.ResourceParam[ClusterSite]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """A namespace per tenant with quota, limits, network policies and accounts without a token; drift is mended.

    A closed tenant's namespace is removed with what runs in it. Its usage and invoices do not lie there.
    """
    declared = cluster_site.required()
    with unit_of_work(worker_database) as session:
        wanted = tenants.open_tenants(session)
    try:
        with closing(Cluster.from_environment()) as cluster:
            states = tenants.reconcile(cluster, declared, wanted)
    except StudioError as error:
        raise dg.Failure(error.message) from error
    trouble = [state for state in states if not state.is_in_order]
    yield dg.AssetCheckResult(
        passed=not trouble,
        check_name="tenants_have_their_namespaces",
        metadata={"trouble": table([_tenant_row(state) for state in trouble])},
    )
    yield dg.MaterializeResult(
        metadata={
            "tenants": len(states),
            "mended": sum(state.outcome == "mended" for state in states),
            "namespaces": table([_tenant_row(state) for state in states]),
            "differences": table([difference for state in states for difference in state.differences]),
        }
    )


@dg.asset(
    group_name="cluster",
    owners=["team:ops"],
    kinds={"kubernetes"},
    deps=[desired_replicas],
    check_specs=[
        dg.AssetCheckSpec(
            ANSWERS,
            asset="cluster_replicas",
            description="The API server answers our driver. While it does not, pods stay as they are.",
        ),
        dg.AssetCheckSpec(
            ONE_OWNER,
            asset="cluster_replicas",
            description="Every Deployment that is ours to scale could be scaled; nothing else scales it.",
        ),
        dg.AssetCheckSpec(
            PODS_START,
            asset="cluster_replicas",
            description="No engine waits for something that does not come by itself (an image, weights, a free card),"
            " and each that is ready answers a request.",
        ),
    ],
)
def cluster_replicas(
    worker_database: dg.ResourceParam[Engine], cluster_site: dg.ResourceParam[ClusterSite]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Gives the engines' Deployments the number of pods that the fleet has decided. A sensor does the same all day."""
    try:
        states = scaled(worker_database, cluster_site.required(), Answers())
    except StudioError as error:
        raise dg.Failure(error.message) from error
    yield dg.AssetCheckResult(passed=True, check_name=ANSWERS)
    for check, trouble in scale_trouble(states).items():
        yield dg.AssetCheckResult(passed=not trouble, check_name=check, metadata={"trouble": state_table(trouble)})
    yield dg.MaterializeResult(metadata=scale_metadata(states))


def scaled(worker_database: Engine, declared: DeclaredCluster, heard: Answers) -> list[ScaleState]:
    """What a tick of the driver did, remembered for the next one and for the gateway. `heard` is of the ticks before.

    ClusterSilent when the cluster could not be asked.
    """
    now = clock.now()
    with unit_of_work(worker_database) as session:
        desired, before = scaling.desired_by_variant(session), engine_pods.before(session)
        ask = Asker(heard, answers.doors(session))
        special = special_days.numbers(session, now)
    try:
        with closing(Cluster.from_environment()) as cluster:
            states = scaling.drive(cluster, declared.engines, desired, before, now, ask)
            special_days.keep(cluster, declared.engines, special)
    except StudioError as error:
        with unit_of_work(worker_database) as session:
            away_since = engine_pods.note_away(session, error.message, now)
        raise ClusterSilent(error.message, away_since, now) from error
    with unit_of_work(worker_database) as session:
        engine_pods.record(session, states, now)
    return states


def card_holders_named(worker_database: Engine, declared: DeclaredCluster) -> card_holders.Outcome:
    """Keep the list by which the nodes' exporters say what a card works for. StudioError."""
    with unit_of_work(worker_database) as session:
        others = list(card_holders.of_tenants(declared, tenants.open_tenants(session)))
        if declared.training is not None:
            namespace = declared.training.namespace
            others += [
                CardHolder(namespace, f"{job_name(job.id)}-*", model=job.model_id, tenant=job.tenant_slug)
                for job in open_jobs(session)
            ]
            others.append(CardHolder(namespace, "*"))  # of one that has ended, whose pod older kubelets still list
    with closing(Cluster.from_environment()) as cluster:
        return card_holders.keep(cluster, declared, others)


class ClusterSilent(StudioError):
    """The driver could not ask the API server. `has_lasted`: for longer than it takes to restart one."""

    def __init__(self, said: str, away_since: datetime, now: datetime) -> None:
        super().__init__(said)
        self.away_since = away_since
        self.has_lasted = now - away_since >= AWAY_PATIENCE


def scale_metadata(states: Sequence[ScaleState]) -> dict[str, dg.MetadataValue]:
    """What holds now, for the asset page."""
    return {
        "pods": dg.MetadataValue.int(sum(state.pods for state in states)),
        "ready": dg.MetadataValue.int(sum(state.ready for state in states)),
        "deployments": state_table(states),
    }


def scale_trouble(states: Sequence[ScaleState]) -> dict[str, list[ScaleState]]:
    """What contradicts each check's claim."""
    return {
        ONE_OWNER: [state for state in states if not state.is_in_order],
        PODS_START: [state for state in states if state.outcome == "stuck"],
    }


def state_table(states: Sequence[ScaleState]) -> dg.TableMetadataValue:
    """One line a Deployment."""
    lines = []
    for state in states:
        line = asdict(state)
        how = line.pop("health")
        lines.append(line | {"since": how["trouble_since"] or how["unready_since"] or ""})
    return table(lines)


def _tenant_row(state: TenantState) -> dict[str, object]:
    return asdict(state) | {"differences": len(state.differences), "over_quota": "; ".join(state.over_quota)}
