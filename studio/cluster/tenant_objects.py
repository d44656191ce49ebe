"""The objects of one tenant's namespace, as its site declares them. Pure: a tenant in, manifests out.

A namespace at Pod Security `restricted`, a quota, limits for containers that name none, a network that reaches DNS, the
gateway and S3 and nothing else, and service accounts without a token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from studio import ids
from studio.catalog.declaration import ClusterDoor, DeclaredCluster, TenantShare

Manifest = dict[str, Any]

PART_OF = {"app.kubernetes.io/part-of": "xpulink-ai-studio", "app.kubernetes.io/managed-by": "studio"}
TENANT_LABEL = "studio.xpulink.ai/tenant"
TENANT_ID = "studio.xpulink.ai/tenant-id"
SELECTOR = ",".join(f"{name}={value}" for name, value in PART_OF.items()) + f",{TENANT_LABEL}"

_LONGEST_NAME = 63
_NAME = "tenant"  # of the one quota, limit range and open door of a namespace
_DNS_CACHE = "169.254.20.10/32"  # its address on each node, where a cluster runs one


@dataclass(frozen=True, slots=True)
class ClusterTenant:
    """A tenant, as far as a cluster must know it."""

    id: UUID
    slug: str
    reserved_cards: int = 0  # for it alone, besides its share


def namespace_of(tenant: ClusterTenant) -> str:
    """`tenant-<slug>`; a slug too long for that keeps its beginning and gets a hash, so that no two collapse."""
    name = f"tenant-{tenant.slug}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(tenant.slug.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-.')}-{digest}"


def tenant_objects(tenant: ClusterTenant, cluster: DeclaredCluster) -> list[Manifest]:
    """Everything that a tenant has, the namespace first."""
    share = cluster.tenants.get(tenant.slug, cluster.tenant)
    namespace = namespace_of(tenant)
    return [
        _namespace(tenant, namespace, cluster.pod_security_version),
        _object(
            "v1",
            "ResourceQuota",
            _NAME,
            namespace,
            spec={"hard": _quota(share, cluster.gpu_resource, tenant.reserved_cards)},
        ),
        _object("v1", "LimitRange", _NAME, namespace, spec={"limits": _limits(share)}),
        _object("networking.k8s.io/v1", "NetworkPolicy", "deny-all", namespace, spec=_deny_all()),
        _object("networking.k8s.io/v1", "NetworkPolicy", _NAME, namespace, spec=_ways_out(cluster)),
        *(
            _object("v1", "ServiceAccount", name, namespace, automountServiceAccountToken=False)
            for name in ("default", "workload")
        ),
    ]


def _object(api_version: str, kind: str, name: str, namespace: str, **content: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": dict(PART_OF)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _namespace(tenant: ClusterTenant, name: str, version: str) -> Manifest:
    labels = PART_OF | {TENANT_LABEL: name.removeprefix("tenant-")}
    for mode in ("enforce", "audit", "warn"):
        labels[f"pod-security.kubernetes.io/{mode}"] = "restricted"
        labels[f"pod-security.kubernetes.io/{mode}-version"] = version
    annotations = {TENANT_ID: ids.to_wire(ids.TENANT, tenant.id)}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    }


def _quota(share: TenantShare, gpu_resource: str, reserved_cards: int) -> dict[str, str]:
    # An extended resource can be limited by its requests alone, and request = limit holds for it anyway.
    return {
        f"requests.{gpu_resource}": str(share.cards + reserved_cards),
        "requests.cpu": str(share.cpus),
        "limits.cpu": str(share.cpus),
        "requests.memory": f"{share.memory_gib}Gi",
        "limits.memory": f"{share.memory_gib}Gi",
        "requests.storage": f"{share.storage_gib}Gi",
        "persistentvolumeclaims": str(share.claims),
        "count/jobs.batch": str(share.jobs),
        "pods": str(share.pods),
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }


def _limits(share: TenantShare) -> list[dict[str, Any]]:
    # With `limits.*` in the quota a container that names no limit would be refused; here it gets one.
    return [
        {
            "type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
            "max": {"cpu": str(share.cpus), "memory": f"{share.memory_gib}Gi"},
        },
        {"type": "PersistentVolumeClaim", "max": {"storage": f"{share.storage_gib}Gi"}},
    ]


def _deny_all() -> dict[str, Any]:
    return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def _ways_out(cluster: DeclaredCluster) -> dict[str, Any]:
    dns = {
        "to": [_in_namespace("kube-system"), {"ipBlock": {"cidr": _DNS_CACHE}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }
    return {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [dns, _to(cluster.gateway), _to(cluster.s3)],
    }


def _to(door: ClusterDoor) -> dict[str, Any]:
    peer = _in_namespace(door.namespace) if door.cidr is None else {"ipBlock": {"cidr": door.cidr}}
    return {"to": [peer], "ports": [{"port": door.port, "protocol": "TCP"}]}


def _in_namespace(name: str | None) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
