"""A site that declares a cluster, and engines' Deployments in it, for tests on a real API server."""

from __future__ import annotations

import json

from tests.k8s.control_plane import ControlPlane
from tests.k8s.rendering import ENGINE, merged, only, template

CLUSTER_OF_THE_SITE = """
cluster:
  engines: dagster-engines
  gateway: {namespace: studio, port: 8080}
  s3: {namespace: studio, port: 8333}
"""


def engine(plane: ControlPlane, namespace: str, variant: str, driver: str = "studio", suffix: str = "") -> str:
    """A Deployment as the engine chart makes it; its name."""
    if plane.run("kubectl", "get", "namespace", namespace).returncode != 0:
        plane.succeed("kubectl", "create", "namespace", namespace)
    values = merged(ENGINE, {"minKubeVersion": "0.0.0", "driver": driver, "model": {"variant": variant}})
    deployment = only(template("engine", values, namespace=namespace), "Deployment")
    deployment["metadata"]["name"] += suffix
    plane.succeed("kubectl", "create", "--validate=false", "--filename", "-", text=json.dumps(deployment))
    return str(deployment["metadata"]["name"])


def pods_of(plane: ControlPlane, name: str, namespace: str) -> int:
    return int(plane.object("deployment", name, namespace)["spec"]["replicas"])
