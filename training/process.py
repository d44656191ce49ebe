"""The trainer as a child process. It ends with us: the trainer asks the kernel for that itself, since forking with own
code in a process of many threads may hang."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from studio import weights
from studio.objects import ObjectStore
from studio.settings import REPOSITORY, Settings
from training.adapter_check import Shape, tensor_shapes
from training.jobs import FineTune
from training.spec import TrainerJob

_STOP_SECONDS = 5.0
_SECRETS = ("s3_access_key", "s3_secret_key")
_INHERITED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    }
)
_INHERITED_GROUPS = ("LC_", "OMP_", "KMP_", "MKL_", "CUDA_", "NVIDIA_", "PYTORCH_")


QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class _Child:
    """A child process, in the words of `Training`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def trouble(self) -> str:
        return ""

    def stop(self) -> None:
        """The block that started it does that."""


@dataclass(frozen=True, slots=True)
class LocalTrainers:
    """Trainers on this machine, each with the run that started it."""

    store: ObjectStore
    python: Path  # of the engine environment
    environment: Mapping[str, str]
    weights_dir: Path

    def is_at_work(self, job: FineTune) -> bool:
        """Never: a trainer ends with its run."""
        return False

    def base_folder(self, weights_id: str) -> Path:
        """A verified copy, downloaded when it is not there."""
        return weights.ensure_local(self.store, weights_id, self.weights_dir)

    def base_shapes(self, weights_id: str) -> Mapping[str, Shape]:
        """From that copy."""
        return tensor_shapes(self.base_folder(weights_id))

    @contextmanager
    def training(self, job: FineTune, task: TrainerJob | None, folder: Path) -> Iterator[_Child]:
        """A child process."""
        assert task is not None
        with running_trainer(replace(task, parent_pid=os.getpid()), folder, self.python, self.environment) as process:
            yield _Child(process)

    def end(self, job: FineTune) -> None:
        """Nothing is left of a run that has ended."""


@contextmanager
def running_trainer(
    job: TrainerJob, folder: Path, python: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; whatever happens, it has ended when this block has. Call from a thread that outlives it.

    Killed, it leaves its temporary files behind. They lie in `folder`, which the caller removes.
    """
    path, temporary = folder / "job.json", folder / "tmp"
    path.write_text(job.to_json())
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(python), "-m", "training.trainer", "--job", str(path)],
        cwd=REPOSITORY,
        env={**environment, "TMPDIR": str(temporary)},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def trainer_environment(settings: Settings, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the trainer is given: how to run, and the object store. Nothing of the database, nothing of Dagster.

    That is no cage. The key is that of the whole store, so the process could read and write every tenant's objects, and
    it may open connections like any other of its user. What it keeps apart is memory and libraries; what it does with
    a tenant's file is to parse it as JSON and to tokenise it.
    """
    secrets = {name: getattr(settings, name) for name in _SECRETS}
    # Without a key of ours the store is reached as the machine's own role, which boto3 finds in AWS_*.
    groups = _INHERITED_GROUPS if settings.s3_access_key else (*_INHERITED_GROUPS, "AWS_")
    return {
        **{name: value for name, value in inherited.items() if name in _INHERITED or name.startswith(groups)},
        **{f"STUDIO_{name.upper()}": secret.get_secret_value() for name, secret in secrets.items() if secret},
        **({"STUDIO_S3_ENDPOINT_URL": settings.s3_endpoint_url} if settings.s3_endpoint_url else {}),
        **QUIET,
    }
