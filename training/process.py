"""The trainer as a child process. It ends with us: the trainer asks the kernel for that itself, since forking with own
code in a process of many threads may hang."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from studio.settings import REPOSITORY, Settings
from training.spec import TrainerJob

_STOP_SECONDS = 5.0
_SECRETS = ("s3_access_key", "s3_secret_key")


@contextmanager
def running_trainer(
    job: TrainerJob, folder: Path, python: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; whatever happens, it has ended when this block has. Call from a thread that outlives it."""
    path = folder / "job.json"
    path.write_text(job.to_json())
    process = subprocess.Popen(
        [str(python), "-m", "training.trainer", "--job", str(path)], cwd=REPOSITORY, env=dict(environment)
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
    """What the trainer sees: the object store and nothing else of ours, no network besides."""
    secrets = {name: getattr(settings, name) for name in _SECRETS}
    return {
        **{name: value for name, value in inherited.items() if not name.startswith("STUDIO_")},
        **{f"STUDIO_{name.upper()}": secret.get_secret_value() for name, secret in secrets.items() if secret},
        **({"STUDIO_S3_ENDPOINT_URL": settings.s3_endpoint_url} if settings.s3_endpoint_url else {}),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
