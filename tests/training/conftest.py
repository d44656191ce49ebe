"""A training ground: real S3, a base small enough to train in seconds, and the trainer as it is really started."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from local.demo.orders import as_jsonl, training_examples
from local.objects import EmbeddedObjectStore
from studio.objects import Bucket, ObjectStore
from studio.settings import REPOSITORY, Settings
from training.process import running_trainer, trainer_environment
from training.progress import Prefix, ProgressEvent, ProgressLog
from training.spec import DataFile, TrainerJob, TrainingSpec

BASE = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def tiny_model(run_folder: Path) -> Path:
    """A random model with the chat model's tokenizer and chat template."""
    target = run_folder / "tiny-model"
    source = REPOSITORY / "build" / "models" / BASE
    python = Settings().engine_python
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([str(python), str(script), str(source), str(target)], check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def s3_settings(objects: EmbeddedObjectStore) -> Settings:
    """What a process of ours is given to use the object store."""
    return Settings(
        s3_endpoint_url=objects.url,
        s3_access_key=SecretStr(objects.secrets.s3_access_key),
        s3_secret_key=SecretStr(objects.secrets.s3_secret_key),
    )


@pytest.fixture(scope="session")
def store(s3_settings: Settings) -> ObjectStore:
    """The object store."""
    return ObjectStore.from_settings(s3_settings)


@dataclass(frozen=True)
class TrainingGround:
    """One training, as often as a test wants it, each under a name of its own."""

    folder: Path
    spec: TrainingSpec
    store: ObjectStore
    settings: Settings

    def prefix(self, name: str) -> Prefix:
        """Where the training of that name writes."""
        return Prefix(self.store.client, self.store.name(Bucket.ADAPTERS), f"tests/{self.folder.name}/{name}/")

    @contextmanager
    def trainer(self, name: str, first_seq: int = 1, reported_step: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """The trainer's process."""
        prefix = self.prefix(name)
        job = TrainerJob(self.spec, prefix.bucket, prefix.prefix, first_seq, reported_step, os.getpid())
        environment = trainer_environment(self.settings)
        with running_trainer(job, self.folder, self.settings.engine_python, environment) as process:
            yield process

    def events(self, name: str) -> list[ProgressEvent]:
        """All that is there now."""
        log, found = ProgressLog(self.prefix(name)), []
        while (event := log.read_next()) is not None:
            found.append(event)
        return found

    def adapter(self, name: str) -> bytes | None:
        """The weights that came out."""
        return self.prefix(name).get("adapter/adapter_model.safetensors")

    def with_data(self, data: bytes) -> TrainingGround:
        """The same training on other data."""
        return replace(self, spec=replace(self.spec, training=put(self.store, data)))


def put(store: ObjectStore, data: bytes) -> DataFile:
    """Keep a file of examples."""
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(Bucket.FILES, f"tests/{sha256}", data)
    return DataFile(store.name(Bucket.FILES), f"tests/{sha256}", sha256)


@pytest.fixture
def ground(tmp_path: Path, tiny_model: Path, store: ObjectStore, s3_settings: Settings) -> TrainingGround:
    """24 steps of two orders each, with a checkpoint after 6, 12, 18 and 24."""
    spec = TrainingSpec(
        base_id=BASE,
        model_id=BASE,
        weights_dir=str(tiny_model),
        training=put(store, as_jsonl(training_examples(24, seed=1))),
        validation=None,
        n_epochs=2,
        batch_size=2,
        learning_rate=1e-3,
        seed=7,
        rank=4,
        context_tokens=256,
    )
    return TrainingGround(tmp_path, spec, store, s3_settings)
