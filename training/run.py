"""One attempt at one fine-tune: validate, train, validate again, publish. Called by a Dagster run, knows none.

The order of everything that outlives a kill: events in the object store, then their copy in the database; the adapter
in the object store, then its row together with the job's end.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Engine

from studio import clock, ids, weights
from studio.db.sessions import unit_of_work
from studio.errors import InsufficientQuota, InvalidRequest
from studio.fine_tuning.dataset import count_examples
from studio.fine_tuning.hyperparameters import CONTEXT_TOKENS, RANK, Hyperparameters
from studio.objects import Bucket, ObjectStore
from training import budget_hold, jobs
from training.adapter_check import AdapterRefused, check_adapter
from training.adapter_files import AdapterFiles
from training.budget_hold import BudgetShort
from training.checkpoints import Checkpoints
from training.jobs import FineTune, InputFile, NewAdapter
from training.progress import Prefix, ProgressEvent, ProgressLog
from training.spec import REFUSED, DataFile, TrainerJob, TrainingSpec
from training.trainers import TrainerDied, Trainers, Training

_POLL_SECONDS = 1.0
_BUDGET_PATIENCE_SECONDS = 5.0  # for what running gateways give back, as requests have it

Ending = Literal["succeeded", "failed", "cancelled", "already over"]
OnMetrics = Callable[[Mapping[str, Any]], None]
OnTrouble = Callable[[str], None]


class _Cancelled(Exception):
    """The tenant has asked for the end."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a run works with."""

    database: Engine
    store: ObjectStore
    trainers: Trainers


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: with an adapter, or with a reason."""

    ending: Ending
    reason: str | None = None  # for the tenant, and may speak of the tenant's file
    code: str | None = None  # the same for everybody else
    adapter: NewAdapter | None = None
    is_adapter_refused: bool = False  # training went to its end, and what came out is not to be served


def run_fine_tune(
    workshop: Workshop,
    job_id: UUID,
    on_metrics: OnMetrics = lambda _: None,
    on_trouble: OnTrouble = lambda _: None,
) -> Outcome:
    """Bring the job to its end. TrainerDied or HoldLost when the attempt had none, AnotherRunWorks beside another.

    `on_trouble` hears, once each, what keeps the trainer from working, and an empty text when that is over.
    """
    with jobs.exclusive(workshop.database, job_id) as check_hold, _folder_of(job_id) as folder:
        with unit_of_work(workshop.database) as session:
            job = jobs.fine_tune(session, job_id)
        prefix = Prefix(workshop.store.client, workshop.store.name(Bucket.ADAPTERS), job.prefix)
        if job.state in jobs.OPEN_STATES:
            outcome = _Attempt(workshop, job, prefix, folder, check_hold, on_metrics, on_trouble).run()
        else:
            outcome = Outcome("already over", f"it has {job.state}")
        Checkpoints.forget(prefix)
        return outcome


@contextmanager
def _folder_of(job_id: UUID) -> Iterator[Path]:
    """A folder for what is the tenant's on this machine. Those that killed runs of the job left behind go first."""
    name = f"studio-fine-tune-{job_id.hex}-"
    for left in Path(tempfile.gettempdir()).glob(f"{name}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=name) as folder:
        yield Path(folder)


class _Attempt:
    def __init__(
        self,
        workshop: Workshop,
        job: FineTune,
        prefix: Prefix,
        folder: Path,
        check_hold: Callable[[], None],
        on_metrics: OnMetrics,
        on_trouble: OnTrouble,
    ) -> None:
        self._shop = workshop
        self._job = job
        self._prefix = prefix
        self._folder = folder
        self._check_hold = check_hold
        self._on_metrics = on_metrics
        self._on_trouble = on_trouble
        self._trouble = ""
        self._is_held = False  # what it costs, in every budget that it meets
        self._short_since: float | None = None
        self._last: ProgressEvent | None = None
        with unit_of_work(workshop.database) as session:
            seq, self._reported_step = jobs.copied_events(session, job.id)
        self._progress = ProgressLog(self._prefix, seq + 1)
        self._copy_events()  # those of an attempt that was killed before it could

    def run(self) -> Outcome:
        try:
            if self._is_trainer_at_work():
                self._train(None)  # its files were good, and only it writes events now
            else:
                self._train(self._task(self._validate_files()))
            return self._publish()
        except _Cancelled:
            self._say("The job was cancelled")
            with unit_of_work(self._shop.database) as session:
                jobs.cancel(session, self._job.id)
            return Outcome("cancelled")
        except weights.WeightsCorrupt:
            raise  # ours to mend: the job stays open
        except (InvalidRequest, InsufficientQuota) as refused:
            if self._last is None or self._last.message != refused.message:  # else the trainer has said it
                self._say(refused.message, level="error")
            with unit_of_work(self._shop.database) as session:
                jobs.fail(session, self._job.id, refused.code, refused.message, refused.param)
            is_adapter_refused = isinstance(refused, AdapterRefused)
            return Outcome("failed", refused.message, refused.code, is_adapter_refused=is_adapter_refused)

    def _is_trainer_at_work(self) -> bool:
        """Ask until there is an answer: a second trainer beside the first would undo its work."""
        while (is_at_work := self._shop.trainers.is_at_work(self._job)) is None:
            self._hear("The cluster cannot be asked whether the trainer works")
            self._check_hold()
            self._stop_if_cancelled()
            time.sleep(_POLL_SECONDS)
        return is_at_work

    def _validate_files(self) -> Hyperparameters:
        if self._job.state == "validating_files":
            self._say("Validating the files")
        examples = self._count(self._job.training, "training_file")
        if self._job.validation is not None:
            self._count(self._job.validation, "validation_file")
        hyperparameters = Hyperparameters.resolve(self._job.hyperparameters, examples)
        if self._job.state == "validating_files":
            with unit_of_work(self._shop.database) as session:
                jobs.queue(session, self._job.id, asdict(hyperparameters))
            self._say(f"The files are valid: {examples} examples; the training is queued")
        return hyperparameters

    def _count(self, file: InputFile, param: str) -> int:
        if self._shop.store.size(Bucket.FILES, file.object_key) is None:
            raise InvalidRequest("The file was deleted before it could be read.", code="invalid_file", param=param)
        path = self._folder / "dataset.jsonl"
        with path.open("wb") as target:
            self._shop.store.download(Bucket.FILES, file.object_key, target)
        try:
            with path.open("rb") as lines:
                return count_examples(lines)
        except InvalidRequest as refused:
            refused.param = param
            raise
        finally:
            path.unlink()

    def _spec(self, hyperparameters: Hyperparameters) -> TrainingSpec:
        job = self._job
        return TrainingSpec(
            base_id=job.variant_id,
            model_id=job.model_id,
            weights_dir=str(self._shop.trainers.base_folder(job.weights_id).absolute()),
            training=self._data_file(job.training),
            validation=self._data_file(job.validation) if job.validation else None,
            n_epochs=hyperparameters.n_epochs,
            batch_size=hyperparameters.batch_size,
            learning_rate=hyperparameters.learning_rate(job.weights_bytes),
            seed=job.seed,
            rank=RANK,
            context_tokens=CONTEXT_TOKENS,
        )

    def _data_file(self, file: InputFile) -> DataFile:
        return DataFile(self._shop.store.name(Bucket.FILES), file.object_key, file.sha256)

    def _task(self, hyperparameters: Hyperparameters) -> TrainerJob:
        """What the trainer is told, once the tenant has been told that it starts."""
        spec = self._spec(hyperparameters)
        self._stop_if_cancelled()
        with unit_of_work(self._shop.database) as session:
            jobs.start(session, self._job.id)
        self._say("Training has started")
        return TrainerJob(
            spec,
            self._prefix.bucket,
            self._prefix.prefix,
            first_seq=self._progress.next_seq,
            reported_step=self._reported_step,
        )

    def _train(self, task: TrainerJob | None) -> None:
        """Follow the trainer to its end."""
        with self._shop.trainers.training(self._job, task, self._folder) as training:
            code = self._follow(training)
        self._copy_events()
        while not self._hold_money() and self._short_since is not None:
            time.sleep(_POLL_SECONDS)
        last = self._last
        if code == REFUSED and last is not None and last.level == "error":
            raise InvalidRequest(last.message, code="invalid_training_file", param=last.data["param"])
        if code != 0:
            raise TrainerDied(f"the trainer ended with exit status {code}")

    def _follow(self, training: Training) -> int:
        while (code := training.poll()) is None:
            self._hear(training.trouble())
            self._check_hold()
            self._copy_events()
            try:
                self._hold_money()
                self._stop_if_cancelled()
            except (_Cancelled, InsufficientQuota):
                training.stop()
                raise
            time.sleep(_POLL_SECONDS)
        return code

    def _hold_money(self) -> bool:
        """Whether the budgets hold what the trainer has said it will read. BudgetShort where they never will."""
        if self._is_held:
            return True
        try:
            with unit_of_work(self._shop.database) as session:
                self._is_held = budget_hold.hold(session, self._job.id, clock.now())
        except BudgetShort as short:
            self._short_since = self._short_since or time.monotonic()
            if not short.may_come_back or time.monotonic() > self._short_since + _BUDGET_PATIENCE_SECONDS:
                raise
        return self._is_held

    def _hear(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)

    def _stop_if_cancelled(self) -> None:
        with unit_of_work(self._shop.database) as session:
            if jobs.is_cancelled(session, self._job.id):
                raise _Cancelled

    def _publish(self) -> Outcome:
        """Look at what the trainer left before anybody serves it."""
        files = AdapterFiles.read(self._prefix)
        checked = check_adapter(
            files.config,
            files.weights,
            base_id=self._job.variant_id,
            base_shapes=self._shop.trainers.base_shapes(self._job.weights_id),
            most_rank=RANK,
        )
        adapter = self._name(files, checked.rank)
        self._say(f"The adapter is valid: rank {checked.rank}, {checked.modules} modules")
        self._check_hold()
        with unit_of_work(self._shop.database) as session:
            is_served = jobs.succeed(session, self._job, adapter, files.trained_tokens)
        if not is_served:
            return Outcome("already over", "it had ended before its adapter was ready")
        self._say(f"The job has succeeded; the model is {adapter.name}")
        return Outcome("succeeded", adapter=adapter)

    def _name(self, files: AdapterFiles, rank: int) -> NewAdapter:
        job, id = self._job, ids.uuid7()
        return NewAdapter(
            id=id,
            name=f"ft:{job.variant_id}:{job.tenant_slug}:{job.suffix or ''}:{job.id.hex[-12:]}",
            engine_name=f"{id.hex}-{files.sha256[:16]}",
            object_prefix=f"{job.prefix}adapter/",
            sha256=files.sha256,
            rank=rank,
            size_bytes=len(files.weights),
        )

    def _say(self, text: str, level: Literal["info", "error"] = "info") -> None:
        """An event of our own, in the same sequence as the trainer's."""
        self._copy_events()  # what an ended trainer has said last
        at = self._progress.next_seq
        self._progress.message(text, level)
        self._progress.next_seq = at  # and then copied like every other
        self._copy_events()

    def _copy_events(self) -> None:
        while (event := self._progress.read_next()) is not None:
            with unit_of_work(self._shop.database) as session:
                jobs.add_event(session, self._job, event)
            if event.type == "metrics":
                self._reported_step = max(self._reported_step, event.data["step"])
                self._on_metrics(event.data)
            self._last = event
