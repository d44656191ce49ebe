"""Days 1 and 2: nodes, cards, network, data, monitoring. From the cluster's own objects."""

from __future__ import annotations

import re

from k8s.acceptance.site import Document, NotAsItShouldBe, Site

_INSTALLED = "metax-tech.com/gpu.installed"
_OLDEST = (1, 30)  # of Kubernetes: what the charts ask for
_TRAINING_NODE = "studio.xpulink.ai/role=training"


def nodes_are_ready(site: Site) -> str:
    """Two of them, new enough, with containerd."""
    nodes = site.objects("nodes")
    if len(nodes) < 2:
        raise NotAsItShouldBe(f"there are {len(nodes)} nodes, and the plan has two: kubeadm join")
    for node in nodes:
        name, info = node["metadata"]["name"], node["status"].get("nodeInfo", {})
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", [])):
            raise NotAsItShouldBe(f"{name} is not ready: journalctl --unit kubelet there")
        if _version(info.get("kubeletVersion", "")) < _OLDEST:
            said = info.get("kubeletVersion") or "no version"
            raise NotAsItShouldBe(
                f"{name}: its kubelet is {said}, and 1.30 is the oldest that will do: kubeadm upgrade"
            )
        if not info.get("containerRuntimeVersion", "").startswith("containerd"):
            raise NotAsItShouldBe(f"{name} runs {info.get('containerRuntimeVersion') or 'nothing'}, not containerd")
    return ", ".join(sorted(node["metadata"]["name"] for node in nodes))


def cards_are_offered(site: Site) -> str:
    """By every node that says it has some, and no taint keeps the vendor's DaemonSets from it."""
    marked = [node for node in site.objects("nodes") if node["metadata"]["labels"].get(_INSTALLED) == "true"]
    if not marked:
        raise NotAsItShouldBe(f"no node carries {_INSTALLED}=true: the vendor's gpu-label DaemonSet does not run there")
    offered = {}
    for node in marked:
        name = node["metadata"]["name"]
        offered[name] = int(node["status"].get("allocatable", {}).get(site.gpu_resource, 0))
        if offered[name] == 0:
            raise NotAsItShouldBe(f"{name} offers no {site.gpu_resource}: see the device plugin's log there")
        for taint in node["spec"].get("taints") or []:
            if taint["key"] == "node-role.kubernetes.io/control-plane" and taint["effect"] != "PreferNoSchedule":
                raise NotAsItShouldBe(
                    f"{name} is tainted, and the vendor's DaemonSets do not tolerate that: untaint it"
                )
    return ", ".join(f"{name}: {count}" for name, count in sorted(offered.items()))


def a_node_is_for_training(site: Site) -> str:
    """The label that fine-tunes go by."""
    found = site.objects("nodes", selector=_TRAINING_NODE)
    if not found:
        raise NotAsItShouldBe(f"no node carries {_TRAINING_NODE}: kubectl label node NODE-2 {_TRAINING_NODE}")
    return ", ".join(node["metadata"]["name"] for node in found)


def every_daemon_set_runs_everywhere(site: Site) -> str:
    """Calico, the device plugin, the exporter, logs."""
    sets = site.objects("daemonsets")
    if not sets:
        raise NotAsItShouldBe("there is no DaemonSet: neither a network nor a device plugin is installed")
    for one in sets:
        wanted, ready = one["status"].get("desiredNumberScheduled", 0), one["status"].get("numberReady", 0)
        if ready < wanted:
            raise NotAsItShouldBe(f"{_where(one)}: {ready} of {wanted} ready")
    return f"{len(sets)} DaemonSets"


def the_platform_is_ready(site: Site) -> str:
    """Every Deployment and StatefulSet of its namespace has the pods that it should have."""
    workloads = [*site.objects("deployments", site.platform), *site.objects("statefulsets", site.platform)]
    if not workloads:
        raise NotAsItShouldBe(f"the namespace {site.platform} is empty: helm install studio")
    for one in workloads:
        wanted, ready = one["spec"].get("replicas", 1), one["status"].get("readyReplicas", 0)
        if ready < wanted:
            raise NotAsItShouldBe(f"{_where(one)}: {ready} of {wanted} ready; kubectl describe says why")
    return f"{len(workloads)} workloads"


def claims_are_bound(site: Site) -> str:
    """A claim that waits is a pod that waits."""
    claims = [claim for space in (site.platform, site.engines) for claim in site.objects("pvc", space)]
    for one in claims:
        if one["status"].get("phase") != "Bound":
            raise NotAsItShouldBe(f"{_where(one)} is {one['status'].get('phase')}: no volume fits it")
    return f"{len(claims)} claims"


def namespaces_refuse_privileged_pods(site: Site) -> str:
    """Pod Security `restricted` where we run."""
    labels = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in site.objects("namespaces")}
    looked_at = [site.platform, site.engines, *(name for name in (site.training, "monitoring") if name in labels)]
    for name in looked_at:
        if labels.get(name, {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            raise NotAsItShouldBe(f"{name} does not enforce `restricted`: kubectl label namespace (docs/kubernetes.md)")
    return ", ".join(looked_at)


def _version(said: str) -> tuple[int, ...]:
    """`v1.31.4+vendor` as (1, 31); nothing of what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else ()


def _where(one: Document) -> str:
    return f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
