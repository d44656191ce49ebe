"""Each part of each chart switched on and off, as the tests of all charts render them."""

from __future__ import annotations

from tests.k8s.rendering import (
    DAGSTER,
    DATA,
    DIGEST,
    EDGE,
    ENGINE,
    GATEWAY,
    KEDA,
    MONITORING,
    PASSTHROUGH,
    VIEW,
    Document,
    Values,
    merged,
    template,
)

ON: Values = {
    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "serving",
    "imagePullSecrets": ["registry"],
}
# Each part switched on and off: chart, namespace, values.
CASES: dict[str, tuple[str, str, Values]] = {
    "engine": ("engine", "engines", ENGINE),
    "engine-all": (
        "engine",
        "engines",
        merged(
            ENGINE,
            ON,
            KEDA,
            {
                "prewarm": {"enabled": True, "weights": True},
                "engine": {"apiKeySecret": "key", "env": {"A": "1"}, "enforceEager": True},
            },
        ),
    ),
    "engine-local-volume": (
        "engine",
        "engines",
        merged(ENGINE, {"models": {"localVolume": {"create": True, "node": "node-1"}}, "driver": "studio"}),
    ),
    "engine-bare": (
        "engine",
        "engines",
        merged(
            ENGINE,
            {
                "networkPolicy": {"enabled": False},
                "podDisruptionBudget": {"enabled": False},
                "models": {"existingClaim": "models"},
                "weights": {"credentialsSecret": "", "endpointUrl": ""},
                "lifecycle": {"drain": False},
                "nodeSelector": {"metax-tech.com/gpu.installed": None},
            },
        ),
    ),
    "gateway": ("gateway", "studio", GATEWAY),
    "gateway-all": (
        "gateway",
        "studio",
        merged(
            GATEWAY,
            ON,
            {
                "autoscaling": {"enabled": True, "scaleDown": True},
                "secrets": {"valkey_url": {"name": "valkey"}},
                "journal": {"storageClass": "local-nvme"},
                "orphanedJournals": [9],
                "networkPolicy": {"callers": ["edge"]},
            },
        ),
    ),
    "gateway-local-volumes": (
        "gateway",
        "studio",
        merged(GATEWAY, {"journal": {"localVolume": {"create": True, "nodes": ["node-1", "node-2"]}}}),
    ),
    "gateway-bare": (
        "gateway",
        "studio",
        merged(
            GATEWAY,
            {
                "networkPolicy": {"enabled": False},
                "podDisruptionBudget": {"enabled": False},
                "secrets": {"s3_access_key": {"name": ""}, "s3_secret_key": {"name": ""}},
            },
        ),
    ),
    "dagster": ("dagster", "studio", DAGSTER),
    "dagster-all": (
        "dagster",
        "studio",
        merged(
            DAGSTER,
            ON,
            {
                "runs": {"nodeSelector": {"kubernetes.io/hostname": "node-2"}, "priorityClassName": "batch"},
                "readOnly": VIEW,
                "networkPolicy": {"apiServerCidrs": ["10.0.0.1/32"]},
                "access": {"training": True},
            },
        ),
    ),
    "dagster-bare": (
        "dagster",
        "studio",
        merged(
            DAGSTER,
            {
                "access": {"fleet": False, "tenants": False},
                "networkPolicy": {"enabled": False},
                "secrets": {"s3_access_key": {"name": ""}},
            },
        ),
    ),
    "training": ("training", "training", {}),
    "training-all": (
        "training",
        "training",
        {"weights": {"localVolume": {"create": True, "node": "node-2"}}, "quota": {"cards": 0}},
    ),
    "training-bare": (
        "training",
        "training",
        {"networkPolicy": {"enabled": False}, "priority": {"create": False}, "weights": {"storageClass": "local"}},
    ),
    "data": ("data", "studio", DATA),
    "data-all": (
        "data",
        "studio",
        merged(
            DATA,
            ON,
            {
                "node": "node-1",
                "postgres": {"volume": {"path": "/var/lib/studio/postgres"}},
                "s3": {"volume": {"path": "/var/lib/studio/s3"}},
                "backup": {"endpointUrl": "https://s3.eu-central-1.amazonaws.com", "bucketPrefix": "x-"},
                "networkPolicy": {
                    "callers": ["other"],
                    "destinations": [{"cidr": "10.1.0.0/24", "ports": [443]}],
                },
            },
        ),
    ),
    "data-bare": (
        "data",
        "studio",
        merged(
            DATA,
            {
                "s3": {"enabled": False, "image": ""},
                "valkey": {"enabled": False, "image": ""},
                "backup": {"enabled": False, "image": ""},
                "networkPolicy": {"enabled": False},
                "postgres": {"volume": {"storageClass": "local-nvme"}},
            },
        ),
    ),
    "edge": ("edge", "studio", EDGE),
    "edge-all": (
        "edge",
        "studio",
        merged(
            EDGE,
            {
                "waf": {
                    "enabled": True,
                    "image": f"registry.example/coraza@{DIGEST}",
                    "sha256": DIGEST.removeprefix("sha256:"),
                    "pullSecret": "registry",
                    "config": {"directives_map": {"default": ["SecRuleEngine On"]}},
                },
                "finance": {"enabled": True, "host": "dagster.example"},
                "limits": {"type": "Local"},
                "trustedHops": 1,
            },
        ),
    ),
    "edge-bare": (
        "edge",
        "studio",
        merged(
            EDGE,
            {
                "gatewayClass": {"create": False},
                "jwt": {"enabled": False},
                "limits": {"enabled": False},
                "tls": {"redirect": False},
            },
        ),
    ),
}
# Pods of many kinds, some of which see their node: judged one by one in test_monitoring_chart.py.
WATCHING = (
    "monitoring",
    "monitoring",
    merged(
        MONITORING,
        {"nodes": {"devicePlugin": {"enabled": True}, "tolerations": ON["tolerations"]}},
        {part: {"localVolume": {"create": True, "node": "node-1"}} for part in ("prometheus", "loki")},
    ),
)
UNSAFE = ("engine", "studio-passthrough", merged(ENGINE, PASSTHROUGH))


def documents_of(case: tuple[str, str, Values], helm: str = "helm") -> list[Document]:
    """The objects of one of the cases above."""
    chart, namespace, values = case
    return template(chart, values, namespace=namespace, helm=helm)
