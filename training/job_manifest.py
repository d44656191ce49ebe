"""The Job of one fine-tune, as Kubernetes is told of it. Pure: a declaration and a task in, a manifest out.

Its name comes from the fine-tune alone, so two runs that want to start the same one meet in one Job. It holds no secret
and no token: the keys of the object store are a Secret's, and everything that the trainer says goes there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from studio.catalog.declaration import DeclaredTraining
from studio.cluster.tenant_objects import PART_OF, Manifest
from studio.weights import Manifest as WeightsManifest
from training.process import QUIET
from training.spec import REFUSED, TrainerJob

FINE_TUNE_LABEL = "studio.xpulink.ai/fine-tune"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
TRAINER = "trainer"  # the container
GRACE_SECONDS = 30
WEIGHTS_DIR = "/weights"

_PODS_LOST = 3  # by themselves: out of memory, say. Preempted and evicted ones do not count
_USER = 10001


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """How pods reach the object store; its keys are in a Secret."""

    endpoint_url: str | None
    bucket_prefix: str


def job_name(job_id: UUID) -> str:
    """The same for every run and generation."""
    return f"fine-tune-{job_id.hex}"


def base_path(base: WeightsManifest) -> str:
    """Where the init container leaves the weights."""
    return f"{WEIGHTS_DIR}/{base.weights_id}/{base.digest}"


def training_job(
    declared: DeclaredTraining,
    gpu_resource: str,
    access: StoreAccess,
    *,
    job_id: UUID,
    base: WeightsManifest,
    task: TrainerJob,
) -> Manifest:
    """One Job with one pod at a time: weights first, then the trainer."""
    labels = PART_OF | {"app.kubernetes.io/name": "fine-tune", FINE_TUNE_LABEL: job_id.hex}
    name = job_name(job_id)
    queued = {QUEUE_LABEL: declared.queue} if declared.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": declared.namespace, "labels": labels | queued},
        "spec": {
            **({"suspend": True} if declared.queue else {}),  # Kueue lets it go
            "backoffLimit": _PODS_LOST,
            "activeDeadlineSeconds": declared.hours_most * 3600,
            "ttlSecondsAfterFinished": declared.kept_hours * 3600,
            "podReplacementPolicy": "Failed",  # never two trainers at one checkpoint
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": TRAINER, "operator": "In", "values": [REFUSED]},
                    },
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(declared, gpu_resource, access, base, task)},
        },
    }


def _pod(
    declared: DeclaredTraining, gpu_resource: str, access: StoreAccess, base: WeightsManifest, task: TrainerJob
) -> Manifest:
    cards = {gpu_resource: str(declared.cards)} if declared.cards else {}
    room = {"ephemeral-storage": f"{declared.scratch_gib}Gi"}
    bring = ["python", "-m", "local.fetch_weights", base.weights_id, "--digest", base.digest, "--link", "/scratch/base"]
    told = replace(task, parent_pid=None).to_json()
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"priorityClassName": declared.priority_class} if declared.priority_class else {}),
        **({"nodeSelector": dict(declared.node_selector)} if declared.node_selector else {}),
        **({"tolerations": [dict(one) for one in declared.tolerations]} if declared.tolerations else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "supplementalGroups": list(declared.host_groups),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            _container("weights", declared.image, bring, access, declared, {"cpu": "2", "memory": "4Gi", **room})
        ],
        "containers": [
            _container(
                TRAINER,
                declared.image,
                ["python", "-m", "training.trainer", "--job-text", told],
                access,
                declared,
                {"cpu": str(declared.cpus), "memory": f"{declared.memory_gib}Gi", **room, **cards},
            )
        ],
        "volumes": [
            {"name": "weights", "persistentVolumeClaim": {"claimName": declared.weights_claim}},
            {"name": "scratch", "emptyDir": {"sizeLimit": f"{declared.scratch_gib}Gi"}},
        ],
    }


def _container(
    name: str,
    image: str,
    command: list[str],
    access: StoreAccess,
    declared: DeclaredTraining,
    resources: dict[str, str],
) -> dict[str, Any]:
    said = {
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "TRITON_CACHE_DIR": "/scratch/triton",
        "STUDIO_WEIGHTS_DIR": WEIGHTS_DIR,
        "STUDIO_LOG_FORMAT": "json",
        **({"STUDIO_S3_ENDPOINT_URL": access.endpoint_url} if access.endpoint_url else {}),
        **({"STUDIO_S3_BUCKET_PREFIX": access.bucket_prefix} if access.bucket_prefix else {}),
        **QUIET,
    }
    secrets = {"STUDIO_S3_ACCESS_KEY": "s3-access-key", "STUDIO_S3_SECRET_KEY": "s3-secret-key"}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            *({"name": variable, "value": value} for variable, value in said.items()),
            *(
                {"name": variable, "valueFrom": {"secretKeyRef": {"name": declared.credentials, "key": key}}}
                for variable, key in secrets.items()
            ),
        ],
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "weights", "mountPath": WEIGHTS_DIR},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }
