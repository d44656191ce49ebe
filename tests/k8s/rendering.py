"""Charts as helm renders them, and what helm says when it refuses. The tools come by `make` (build/kubernetes)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from studio.settings import REPOSITORY

CHARTS = REPOSITORY / "k8s" / "charts"
EXAMPLE = REPOSITORY / "k8s" / "site-example"
TOOLS = REPOSITORY / "build" / "kubernetes" / "bin"
HELMS = ("helm", "helm3")  # 4 and 3
EVERYWHERE = "0.0.0.0"  # noqa: S104  # a pod listens on all of its addresses

Values = Mapping[str, Any]
Document = dict[str, Any]

DIGEST = "sha256:" + "1f" * 32
ENGINE: Values = {
    "model": {"id": "qwen3-32b", "variant": "qwen3-32b-fast", "tier": "fast"},
    "weights": {
        "uri": "s3://modelzoo/qwen3-32b",
        "image": f"registry.example/gateway@{DIGEST}",
        "credentialsSecret": "s3-reader",
        "endpointUrl": "http://s3.studio.svc:8333",
    },
    "engine": {"image": f"registry.example/vllm@{DIGEST}", "version": "0.26.0", "tensorParallel": 2},
    "networkPolicy": {"s3Namespace": "studio", "s3Port": 8333},
}
GATEWAY: Values = {
    "image": f"registry.example/gateway@{DIGEST}",
    "settings": {"gateway_url": "https://api.example/"},
}
DAGSTER: Values = {
    "image": f"registry.example/dagster@{DIGEST}",
    "settings": {"gateway_url": "https://api.example/", "site": "two-nodes"},
}
VIEW: Values = {
    "enabled": True,
    "proxy": {
        "image": f"registry.example/oauth2-proxy@{DIGEST}",
        "issuer": "https://id.example/realms/studio",
        "clientId": "dagster",
        "secret": "dagster-proxy",
    },
}
MONITORING: Values = {
    "blocks": {"endpoint": "s3.eu-central-1.amazonaws.com:443", "region": "eu-central-1"},
    **{part: {"image": f"registry.example/{part}@{DIGEST}"} for part in ("alertmanager", "grafana", "loki", "state")},
    "prometheus": {
        "image": f"registry.example/prometheus@{DIGEST}",
        "sidecarImage": f"registry.example/thanos@{DIGEST}",
        "targets": {
            "engines": [{"target": "e-pods.engines.svc:8000", "variant": "e-fast", "tier": "fast", "node": "node-9"}]
        },
    },
    "nodes": {
        "exporter": {"image": f"registry.example/exporter@{DIGEST}"},
        "logs": {"image": f"registry.example/alloy@{DIGEST}"},
    },
}
DATA: Values = {part: {"image": f"registry.example/{part}@{DIGEST}"} for part in ("postgres", "s3", "valkey", "backup")}
EDGE: Values = {
    "host": "api.example",
    "upstream": {"service": "studio-gateway"},
    "jwt": {"issuer": "https://id.example/realms/studio", "jwksUri": "https://id.example/realms/studio/certs"},
}
STUDIO: Values = {"data": DATA, "gateway": GATEWAY, "dagster": DAGSTER, "edge": EDGE, "monitoring": MONITORING}
WINDOW: Values = {
    "timezone": "Europe/Berlin",
    "start": "30 7 * * 1-5",
    "end": "0 18 * * 1-5",
    "desiredReplicas": 2,
}
KEDA: Values = {"driver": "keda", "keda": {"triggers": [WINDOW], "maxReplicas": 2}}
PASSTHROUGH: Values = {
    "cards": {"mode": "passthrough", "hostGroups": [44, 109], "passthrough": {"node": "node-1", "indexes": [0, 1]}}
}


def merged(*parts: Values) -> dict[str, Any]:
    """Maps laid over one another, as helm lays its values files."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            below = result.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[key] = merged(below, value) if both and below is not None else value
    return result


@cache
def umbrella(folder: Path) -> Path:
    """The chart `studio` with its dependencies beside it, in a folder of the test's: helm packs them into the chart."""
    shutil.copytree(CHARTS, folder / "charts", ignore=shutil.ignore_patterns("*.tgz"))
    chart = folder / "charts" / "studio"
    answer = run_tool("helm", "dependency", "build", str(chart))
    assert answer.returncode == 0, answer.stderr
    return chart


def example(name: str) -> Values:
    """One of the example site's files."""
    values: Values = yaml.safe_load((EXAMPLE / name).read_text())
    return values


def release(name: str, chart: Path, values: Values, namespace: str) -> list[Document]:
    """The objects of a release of that name."""
    arguments = ("template", name, str(chart), "--namespace", namespace, "--values", "-")
    answer = run_tool("helm", *arguments, text=yaml.safe_dump(merged(values)))
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def template(chart: str, values: Values, *, namespace: str = "engines", helm: str = "helm") -> list[Document]:
    """The objects of a release."""
    answer = _template(chart, values, namespace, helm)
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def refusal(chart: str, values: Values, *, namespace: str = "engines", helm: str = "helm") -> str:
    """What helm says to values that it must not accept."""
    answer = _template(chart, values, namespace, helm)
    assert answer.returncode != 0, f"{helm} accepted the values"
    return answer.stderr


def kinds(documents: list[Document]) -> set[str]:
    """Which kinds there are."""
    return {document["kind"] for document in documents}


def only(documents: list[Document], kind: str) -> Document:
    """The one object of a kind."""
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod_spec(documents: list[Document]) -> Document:
    """The pod that the release's workload makes."""
    workload = next(document for document in documents if document["kind"] in {"Deployment", "StatefulSet"})
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def run_tool(name: str, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """One of the tools, to its end."""
    return subprocess.run([TOOLS / name, *arguments], input=text, capture_output=True, text=True, check=False)


def _template(chart: str, values: Values, namespace: str, helm: str) -> subprocess.CompletedProcess[str]:
    return render(CHARTS / chart, values, namespace, helm)


def render(chart: Path, values: Values, namespace: str, helm: str = "helm") -> subprocess.CompletedProcess[str]:
    """What helm makes of a chart and says about it, whatever that is."""
    return _rendered(str(chart), yaml.safe_dump(merged(values)), namespace, helm)


@cache
def _rendered(chart: str, values: str, namespace: str, helm: str) -> subprocess.CompletedProcess[str]:
    """The same values give the same text, so each is asked for once."""
    return run_tool(helm, "template", "test", chart, "--namespace", namespace, "--values", "-", text=values)
