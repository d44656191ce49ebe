"""The trainer: one process, one fine-tune. `python -m training.trainer --job job.json`, in the engine environment.

It reads examples from the object store and writes events, checkpoints and the adapter there; it knows neither Dagster
nor PostgreSQL. Killed, it goes on from its last checkpoint when it is started again, and ends in the same bits. Exit
codes: 0 adapter written, REFUSED the data cannot be trained on (the last event says why); anything else is our trouble.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from studio.adapters import ADAPTER_FILES
from studio.s3 import s3_client
from studio.training_usage import TOKENS_TO_TRAIN
from training.card_time import card_time
from training.chat_templates import training_template
from training.checkpoints import Checkpoints
from training.examples import IGNORED, Examples, pad, read_examples
from training.progress import Prefix, ProgressLog, StoredFile
from training.spec import REFUSED, DataFile, TrainerJob, TrainingSpec

_PR_SET_PDEATHSIG = 1
_BEGAN = time.monotonic()  # from here on its cards are nobody else's
_NICENESS = 5  # somebody waits for an answer of the engine beside us, nobody for a step
_ROWS_AT_ONCE = 8  # a larger batch is accumulated
_CHECKPOINTS = 4  # over the whole training
_ALPHA_PER_RANK = 2


class Refused(Exception):
    """The data cannot be trained on; the message is for the tenant, and `param` is the API's word for the file."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class MeasuringTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """The stock Trainer, counting how many of the learned tokens were predicted right."""

    right = learned = 0

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **others: Any) -> Any:
        """The stock loss; counts on the way."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **others)
        if model.training:
            labels = inputs["labels"][:, 1:]
            counted = labels != IGNORED
            hits = outputs.logits[:, :-1].argmax(-1)[counted] == labels[counted]
            self.right += int(hits.sum())
            self.learned += int(counted.sum())
        return (loss, outputs) if return_outputs else loss

    def take_accuracy(self) -> float:
        """The share of right tokens since the last call."""
        share = self.right / max(self.learned, 1)
        self.right = self.learned = 0
        return share


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Steps become events, saved checkpoints become objects."""

    def __init__(self, progress: ProgressLog, checkpoints: Checkpoints, job: TrainerJob) -> None:
        self._progress = progress
        self._checkpoints = checkpoints
        self._reported_step = job.reported_step
        self._attempt = job.first_seq
        self._cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self.trainer: MeasuringTrainer | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        """One event per step. Steps that an earlier attempt reported are trained again, not told again."""
        assert logs is not None
        assert self.trainer is not None
        step, total = state.global_step, state.max_steps
        if "loss" in logs:
            accuracy = self.trainer.take_accuracy()
            if step > self._reported_step:
                data = {"step": step, "total_steps": total, "train_loss": logs["loss"]}
                data |= {"trained_tokens": int(state.num_input_tokens_seen)}  # what the job is billed by
                data |= card_time(self._cards, time.monotonic() - _BEGAN, self._attempt)
                text = f"Step {step}/{total}: training loss={logs['loss']:.3f}"
                self._progress.metrics(text, data | {"train_mean_token_accuracy": round(accuracy, 4)})
        if "eval_loss" in logs and step > self._reported_step:
            data = {"step": step, "total_steps": total, "valid_loss": logs["eval_loss"]}
            self._progress.metrics(f"Step {step}/{total}: validation loss={logs['eval_loss']:.3f}", data)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Publish what was just written."""
        self._checkpoints.publish(Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step)


def train(job: TrainerJob, prefix: Prefix, progress: ProgressLog, folder: Path) -> None:
    """From examples to a published adapter."""
    spec = job.spec
    tokenizer = AutoTokenizer.from_pretrained(spec.weights_dir)
    tokenizer.chat_template = training_template(spec.model_id)

    def examples(file: DataFile, param: str) -> Examples:
        return _examples(prefix, file, param, spec, tokenizer, progress, folder)

    training = examples(spec.training, "training_file")
    validation = examples(spec.validation, "validation_file") if spec.validation else None
    tokens = training.tokens * spec.n_epochs
    if not job.reported_step:  # else an earlier attempt has said it
        text = f"The training reads {tokens:,} tokens: the {training.tokens:,} of its examples {spec.n_epochs} times"
        progress.message(text, data={TOKENS_TO_TRAIN: tokens})  # by which budgets hold the job
    checkpoints = Checkpoints(prefix, _environment(spec))
    reporter = Reporter(progress, checkpoints, job)
    torch.manual_seed(spec.seed)  # the adapter's first weights
    trainer = MeasuringTrainer(
        model=_model(spec),
        args=_arguments(spec, training, validation is not None, folder),
        train_dataset=training.rows,
        eval_dataset=validation.rows if validation else None,
        data_collator=lambda rows: pad(rows, tokenizer.pad_token_id),
        callbacks=[reporter],
    )
    reporter.trainer = trainer
    trainer.remove_callback(transformers.PrinterCallback)
    newest = checkpoints.fetch_newest(folder / "resumed")
    if newest is not None:
        progress.message(f"Training goes on from step {newest[0]}")
    trainer.train(resume_from_checkpoint=str(newest[1]) if newest else None)
    _publish_adapter(trainer.model, spec, prefix, folder / "adapter", tokens)


def _examples(
    prefix: Prefix,
    file: DataFile,
    param: str,
    spec: TrainingSpec,
    tokenizer: Any,
    progress: ProgressLog,
    folder: Path,
) -> Examples:
    path = folder / "examples.jsonl"
    Prefix(prefix.client, file.bucket, "").download(file.key, path)
    if StoredFile.of(path).sha256 != file.sha256:
        raise Refused("The file was changed after it had been validated.", param)
    examples = read_examples(path, tokenizer, spec.context_tokens)
    path.unlink()
    if not examples.rows:
        raise Refused(f"No example has anything to learn within {spec.context_tokens} tokens.", param)
    if examples.cut or examples.dropped:
        progress.message(
            f"{examples.cut} examples are longer than {spec.context_tokens} tokens and were cut;"
            f" {examples.dropped} of them had nothing left to learn and were dropped",
            level="warn",
        )
    return examples


def _model(spec: TrainingSpec) -> Any:
    # float32 weights under bfloat16 autocast: the fastest on CPUs (6.4 s a step, pure bfloat16 14.2 s), and exact.
    model = AutoModelForCausalLM.from_pretrained(spec.weights_dir, dtype=torch.float32, use_safetensors=True)
    model.config.use_cache = False
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=spec.rank, lora_alpha=_ALPHA_PER_RANK * spec.rank, target_modules="all-linear"
    )
    return get_peft_model(model, lora)


def _arguments(spec: TrainingSpec, training: Examples, has_validation: bool, folder: Path) -> TrainingArguments:
    at_once = max(rows for rows in range(1, _ROWS_AT_ONCE + 1) if spec.batch_size % rows == 0)
    steps = -(-len(training.rows) // spec.batch_size) * spec.n_epochs
    return TrainingArguments(
        output_dir=str(folder / "output"),
        num_train_epochs=spec.n_epochs,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=_ROWS_AT_ONCE,
        gradient_accumulation_steps=spec.batch_size // at_once,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(5, steps // 4),
        seed=spec.seed,
        data_seed=spec.seed,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",  # kept in checkpoints, so a resumed training counts on
        eval_strategy="epoch" if has_validation else "no",
        save_strategy="steps",
        save_steps=max(1, steps // _CHECKPOINTS),
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )


def _environment(spec: TrainingSpec) -> dict[str, str | int]:
    return {
        "spec": spec.digest,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def _publish_adapter(model: Any, spec: TrainingSpec, prefix: Prefix, folder: Path, trained_tokens: int) -> None:
    """bfloat16, as the engine computes; named after the catalog's base, not after a folder of this machine."""
    model.save_pretrained(folder)
    config_path, weights_path = (folder / name for name in ADAPTER_FILES)
    config = json.loads(config_path.read_text()) | {"base_model_name_or_path": spec.base_id}
    config_path.write_text(json.dumps(config, indent=1, sort_keys=True))
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in load_file(weights_path).items()}
    save_file(weights, weights_path)
    for name in ADAPTER_FILES:
        prefix.upload(folder / name, f"adapter/{name}")
    files = [asdict(StoredFile.of(folder / name)) for name in ADAPTER_FILES]
    prefix.put("adapter/manifest.json", json.dumps({"trained_tokens": trained_tokens, "files": files}).encode())


def _reported_step(progress: ProgressLog, at_first: int) -> int:
    """Pass over the events of trainers before us at the same task: a Job starts another pod when one is lost."""
    step = at_first
    while (event := progress.read_next()) is not None:
        if event.type == "metrics":
            step = max(step, event.data["step"])
    return step


def _end_with(parent_pid: int) -> None:
    """The kernel ends us with our parent, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the run that started this trainer is gone")


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="training.trainer", description="Train one adapter.")
    parser.add_argument("--job", type=Path, help="file that says what to train")
    parser.add_argument("--job-text", help="the same as text, for a pod")
    given = parser.parse_args()
    job = TrainerJob.from_json(given.job_text or given.job.read_text())
    if job.parent_pid is None:
        # A pod's first process gets no signal that it has not asked for, and would work on until it is killed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    else:
        _end_with(job.parent_pid)
    os.nice(_NICENESS)
    names = ("STUDIO_S3_ENDPOINT_URL", "STUDIO_S3_ACCESS_KEY", "STUDIO_S3_SECRET_KEY")
    prefix = Prefix(s3_client(*map(os.environ.get, names)), job.bucket, job.prefix)
    progress = ProgressLog(prefix, job.first_seq)
    job = replace(job, reported_step=_reported_step(progress, job.reported_step))
    with tempfile.TemporaryDirectory(prefix="studio-training-") as folder:
        try:
            train(job, prefix, progress, Path(folder))
        except Refused as refused:
            progress.message(str(refused), level="error", data={"param": refused.param})
            return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
