"""The trainer as a process, on a tiny model: what it leaves in the object store, also when it is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local import process_tree
from local.demo.orders import as_jsonl, training_examples
from studio.training_usage import TOKENS_TO_TRAIN
from tests.local.eventually import eventually
from tests.training.conftest import BASE, TrainingGround
from training.adapter_check import check_adapter, tensor_shapes
from training.progress import ProgressEvent
from training.spec import REFUSED

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SECONDS = 300.0  # 10 s each on two quiet cores


def steps(events: list[ProgressEvent]) -> list[tuple[int, float, float]]:
    return [
        (event.data["step"], event.data["train_loss"], event.data["train_mean_token_accuracy"])
        for event in events
        if event.type == "metrics"
    ]


def tokens(events: list[ProgressEvent]) -> list[int]:
    """What had been read after each step."""
    return [event.data["trained_tokens"] for event in events if event.type == "metrics"]


def trained_tokens(ground: TrainingGround, name: str) -> int:
    """What the trainer says at its end."""
    return int(json.loads(ground.prefix(name).get("adapter/manifest.json") or b"")["trained_tokens"])


def test_killed_and_resumed_equals_uninterrupted(ground: TrainingGround) -> None:
    with ground.trainer("whole") as trainer:
        assert trainer.wait(SECONDS) == 0
    whole = ground.events("whole")
    assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
    assert [step for step, _, _ in steps(whole)] == list(range(1, 25))
    assert steps(whole)[-1][1] < steps(whole)[0][1], "the loss falls"

    with ground.trainer("killed") as trainer:
        eventually(lambda: len(steps(ground.events("killed"))) >= 15, "step 15 is reported", SECONDS)
        trainer.kill()
        trainer.wait()
    told = ground.events("killed")
    assert ground.adapter("killed") is None
    with ground.trainer("killed", first_seq=len(told) + 1, reported_step=len(steps(told))) as trainer:
        assert trainer.wait(SECONDS) == 0

    after = ground.events("killed")
    assert any(event.message == "Training goes on from step 12" for event in after)
    assert steps(after) == steps(whole), "each step is told once, with the same numbers"
    assert ground.adapter("killed") == ground.adapter("whole"), "the same bits"
    assert tokens(after) == tokens(whole), "and it is billed alike"
    assert tokens(whole)[-1] == trained_tokens(ground, "whole"), "counted step by step, and once more at the end"


def test_the_adapter_passes_our_own_check(ground: TrainingGround) -> None:
    data = as_jsonl(training_examples(10, seed=1))
    small = ground.with_data(data)
    small = replace(small, spec=replace(small.spec, batch_size=16))  # two passes of which the second is not full
    with small.trainer("small") as trainer:
        assert trainer.wait(SECONDS) == 0
    prefix = small.prefix("small")
    config, weights = prefix.get("adapter/adapter_config.json"), small.adapter("small")
    assert config is not None
    assert weights is not None
    shapes = tensor_shapes(Path(ground.spec.weights_dir))
    checked = check_adapter(config, weights, base_id=BASE, base_shapes=shapes, most_rank=8)
    assert (checked.rank, checked.modules) == (4, 14), "seven modules in each of two layers"
    assert trained_tokens(small, "small") > 2 * 10 * 50, "two epochs, prompts included"
    told = small.events("small")
    assert tokens(told)[-1] == trained_tokens(small, "small"), "padding is not billed"
    said = [event.data[TOKENS_TO_TRAIN] for event in told if TOKENS_TO_TRAIN in event.data]
    assert said == [trained_tokens(small, "small")], "known before the first step, and said once"


def test_examples_that_do_not_fit_are_reported_or_refused(ground: TrainingGround) -> None:
    short = replace(ground, spec=replace(ground.spec, context_tokens=20))
    with short.trainer("short") as trainer:
        assert trainer.wait(SECONDS) == REFUSED
    (refusal,) = short.events("short")
    assert refusal.level == "error"
    assert refusal.message == "No example has anything to learn within 20 tokens."
    assert refusal.data == {"param": "training_file"}


def test_the_trainer_ends_with_the_run_that_started_it(ground: TrainingGround) -> None:
    run = os.fork()
    if run == 0:
        with ground.trainer("abandoned") as trainer:
            (ground.folder / "pid").write_text(str(trainer.pid))
            time.sleep(2 * SECONDS)
        os._exit(0)
    eventually(lambda: bool(steps(ground.events("abandoned"))), "it trains", SECONDS)
    trainer_pid = int((ground.folder / "pid").read_text())
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    eventually(lambda: not process_tree.is_running(trainer_pid), "the trainer is gone")
