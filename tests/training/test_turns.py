"""What is done for an open job: from its row and its runs alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from studio import clock, ids
from training.chat_templates import tunable_models
from training.jobs import MOST_GENERATIONS, FineTune, InputFile, Turn, turn

JOB = FineTune(
    id=ids.uuid7(),
    tenant_id=ids.uuid7(),
    tenant_slug="acme",
    state="running",
    generation=1,
    is_cancelled=False,
    created_at=clock.now(),
    variant_id="m",
    model_id="m",
    weights_id="m",
    weights_bytes=1,
    training=InputFile("key", "sha"),
    validation=None,
    suffix=None,
    seed=1,
    hyperparameters={},
)


@pytest.mark.parametrize(
    ("has_run", "is_running", "expected"),
    [(False, False, Turn.START), (True, True, Turn.WAIT), (True, False, Turn.RETRY)],
)
def test_a_job_is_started_waited_for_or_taken_up_again(has_run: bool, is_running: bool, expected: Turn) -> None:
    assert turn(JOB, has_run=has_run, is_running=is_running) is expected


def test_after_the_last_try_it_is_given_up() -> None:
    last = replace(JOB, generation=MOST_GENERATIONS)
    assert turn(last, has_run=True, is_running=False) is Turn.GIVE_UP
    assert turn(last, has_run=False, is_running=False) is Turn.START, "Dagster's database is new: nothing was tried"


def test_a_cancelled_job_whose_run_lives_is_ended_by_that_run() -> None:
    cancelled = replace(JOB, is_cancelled=True)
    assert turn(cancelled, has_run=True, is_running=True) is Turn.WAIT
    assert turn(cancelled, has_run=True, is_running=False) is Turn.CANCEL
    assert turn(cancelled, has_run=False, is_running=False) is Turn.CANCEL


def test_the_embedded_chat_model_can_be_tuned() -> None:
    assert "smollm2-135m-instruct" in tunable_models()
