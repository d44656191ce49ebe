"""Our driver of the engines' Deployments: `desired_replicas` in, the number of pods out.

One owner per Deployment. The engine chart says who it is (`studio.xpulink.ai/driver`); where an autoscaler names the
same Deployment, or two releases run one variant, nothing is written and the conflict is told, again and again, until a
person has settled it. Level-triggered: what is missed while the API server is away is made up for by the next tick.
How a Deployment that has the right number does is `health.py`'s to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from studio.cluster.answers import Word
from studio.cluster.connection import Cluster, ClusterConflict
from studio.cluster.health import Before, Health, health, since
from studio.cluster.pods import Trouble
from studio.cluster.tenant_objects import Manifest
from studio.db.fleet import DesiredReplicas
from studio.errors import StudioError

DRIVER_LABEL = "studio.xpulink.ai/driver"
VARIANT_ANNOTATION = "studio.xpulink.ai/variant-id"
OURS = f"app.kubernetes.io/part-of=xpulink-ai-studio,{DRIVER_LABEL}=studio"

Outcome = Literal["in order", "scaled", "busy", "starting", "stuck", "conflict", "failed"]
Ask = Callable[[str, datetime | None], Word]  # whether a variant's engine has answered a request since then


@dataclass(frozen=True, slots=True)
class ScaleState:
    """One Deployment that is ours to scale, after a tick."""

    variant: str
    deployment: str
    desired: int
    pods: int  # that it was told to have
    ready: int
    outcome: Outcome
    said: str = ""
    health: Health = field(default_factory=Health)

    @property
    def is_in_order(self) -> bool:
        """Whether nothing keeps us from scaling it."""
        return self.outcome not in ("conflict", "failed")


def desired_by_variant(session: Session) -> dict[str, int]:
    """What the fleet has decided."""
    return dict(session.execute(select(DesiredReplicas.variant_id, DesiredReplicas.replicas)).tuples().all())


def drive(
    cluster: Cluster,
    namespace: str,
    desired: Mapping[str, int],
    before: Mapping[str, Before],
    now: datetime,
    ask: Ask = lambda _, __: "answers",
) -> list[ScaleState]:
    """Scale every Deployment of ours to what is desired; a variant that nobody decided about is left as it is.

    `before` is what the tick before saw, by variant; `ask` is for engines whose pods are ready. ClusterAway and
    ClusterRefused when the cluster cannot be listed; what fails for one Deployment is in its state.
    """
    by_variant: defaultdict[str, list[Manifest]] = defaultdict(list)
    for deployment in cluster.list("Deployment", namespace, OURS):
        by_variant[deployment["metadata"].get("annotations", {}).get(VARIANT_ANNOTATION, "")].append(deployment)
    owners = dict(_autoscalers(cluster, namespace))
    pods = cache(lambda: cluster.list("Pod", namespace))  # asked for once, and only where something is not in order
    return [
        _drive_one(
            *(
                cluster,
                variant,
                deployment,
                desired.get(variant),
                owners,
                pods,
                before.get(variant, Before()),
                now,
                ask,
            ),
            is_alone=len(deployments) == 1,
        )
        for variant, deployments in sorted(by_variant.items())
        for deployment in deployments
    ]


def _autoscalers(cluster: Cluster, namespace: str) -> Iterator[tuple[str, str]]:
    """Deployments that something else scales, and what does."""
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for found in cluster.list(kind, namespace):
            target = found["spec"]["scaleTargetRef"]
            if target.get("kind", "Deployment") == "Deployment":
                yield target["name"], f"{kind}/{found['metadata']['name']}"


def _drive_one(
    cluster: Cluster,
    variant: str,
    deployment: Manifest,
    desired: int | None,
    owners: Mapping[str, str],
    all_pods: Callable[[], list[Manifest]],
    before: Before,
    now: datetime,
    ask: Ask,
    *,
    is_alone: bool,
) -> ScaleState:
    metadata = deployment["metadata"]
    name, pods = metadata["name"], deployment["spec"].get("replicas", 1)
    ready = deployment.get("status", {}).get("readyReplicas", 0)

    def state(outcome: Outcome, said: str, told: int = pods, how: Health | None = None) -> ScaleState:
        wanted = pods if desired is None else desired
        return ScaleState(variant, name, wanted, told, ready, outcome, said, how or Health())

    def conflict(said: str) -> ScaleState:
        trouble = Trouble("drivers", said)
        return state("conflict", said, how=Health(trouble, since(before, trouble, now), before.unready_since))

    if name in owners:
        return conflict(f"{owners[name]} scales it, too: remove that, or set the release's driver to keda.")
    if not is_alone:
        return conflict("Several Deployments run this variant: remove all but one release.")
    if desired is None:
        return conflict(f"The fleet has no variant {variant!r}: it left the catalog, or the release is misnamed.")
    if pods != desired:
        unready = Health(unready_since=now if ready < desired else None)
        try:
            cluster.scale(name, metadata["namespace"], desired, metadata["resourceVersion"])
        except ClusterConflict:
            return state("busy", "It was being changed; the next tick looks again.", how=unready)
        except StudioError as error:
            trouble = Trouble("scale", error.message)
            how = Health(trouble, since(before, trouble, now), before.unready_since or unready.unready_since)
            return state("failed", error.message, how=how)
        return state("scaled", f"{pods} -> {desired}", desired, unready)
    if ready >= desired:
        word = ask(variant, before.unready_since) if desired else "answers"
        if word == "silent" or (word == "waiting" and before.trouble == "silent"):
            trouble = Trouble("silent", "Its pods are ready, and requests for one token are not answered.")
            return state("stuck", trouble.said, how=Health(trouble, since(before, trouble, now), is_stuck=True))
        if word == "waiting" and before.unready_since is not None:
            said = "ready; its first request has not been answered yet"
            return state("starting", said, how=Health(unready_since=before.unready_since))
        return state("in order", "")
    how = health(deployment, all_pods(), before, now)
    waits = f"{ready} of {desired} ready"
    if how.is_stuck and how.trouble is not None:
        return state("stuck", how.trouble.said, how=how)
    return state("starting", waits if how.trouble is None else f"{waits}; {how.trouble.said}", how=how)
