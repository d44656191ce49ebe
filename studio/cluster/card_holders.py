"""What the pods that hold cards work for, kept as a list in the cluster that the nodes' exporters read.

A kubelet says which pod holds a card, and nothing of the pod but its name. Who made the names knows what they mean: the
engine chart's annotations, the fine-tunes that are open, the tenants that have a share of cards. The list is one
ConfigMap. The monitoring chart makes it, empty, and gives our account the right to that one object; where it was not
installed nobody asks, and nothing is written. Level-triggered, as everything here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from studio.catalog.declaration import DeclaredCluster
from studio.cluster.connection import Cluster, ClusterRefused
from studio.cluster.scaling import VARIANT_ANNOTATION
from studio.cluster.tenant_objects import ClusterTenant, Manifest, namespace_of

CONFIG_MAP = "studio-workloads"
FILE = "workloads.json"
_MODEL_ANNOTATION = "studio.xpulink.ai/model"
_ENGINES = "app.kubernetes.io/part-of=xpulink-ai-studio,app.kubernetes.io/name=engine"

Outcome = Literal["nobody asks", "in order", "written"]


@dataclass(frozen=True, slots=True)
class CardHolder:
    """Pods of a namespace and what they work for. `pod` is a pattern as of the shell; empty: not of one."""

    namespace: str
    pod: str
    model: str = ""
    variant: str = ""
    tenant: str = ""


def of_engines(deployments: Iterable[Manifest]) -> list[CardHolder]:
    """Whoever scales them. The longer name goes first: the shorter one's pattern may match its pods, too."""
    holders = []
    for deployment in deployments:
        metadata = deployment["metadata"]
        said = metadata.get("annotations", {})
        if variant := said.get(VARIANT_ANNOTATION):
            name = f"{metadata['name']}-*"
            holders.append(CardHolder(metadata["namespace"], name, said.get(_MODEL_ANNOTATION, ""), variant))
    return sorted(holders, key=lambda holder: (-len(holder.pod), holder.pod))


def of_tenants(declared: DeclaredCluster, tenants: Iterable[ClusterTenant]) -> Iterator[CardHolder]:
    """The namespaces of those whose quota has cards, of their share or reserved; the others cannot hold one."""
    for tenant in tenants:
        if declared.tenants.get(tenant.slug, declared.tenant).cards + tenant.reserved_cards:
            yield CardHolder(namespace_of(tenant), "*", tenant=tenant.slug)


def keep(cluster: Cluster, declared: DeclaredCluster, others: Iterable[CardHolder]) -> Outcome:
    """Bring the list to what holds now: the engines that are installed, and the others. ClusterAway."""
    try:
        found = cluster.read("ConfigMap", CONFIG_MAP, declared.nodes)
    except ClusterRefused:
        return "nobody asks"  # without the chart there is no right either
    if found is None:
        return "nobody asks"
    holders = [*of_engines(cluster.list("Deployment", declared.engines, _ENGINES)), *others]
    wanted = _text(holders)
    if found.get("data", {}).get(FILE) == wanted:
        return "in order"
    cluster.write(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "namespace": declared.nodes},
            "data": {FILE: wanted},
        },
        found,
    )
    return "written"


def _text(holders: Iterable[CardHolder]) -> str:
    """A line each, so that a person can read it, too."""
    lines = (json.dumps({name: text for name, text in asdict(one).items() if text}) for one in holders)
    return "[" + ",\n ".join(lines) + "]\n"
