"""What is done for an open job: from its row and its runs alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from studio import clock, ids
from training.chat_templates import tunable_models
from training.jobs import MOST_FRUITLESS, FineTune, InputFile, Turn, turn

JOB = FineTune(
    id=ids.uuid7(),
    tenant_id=ids.uuid7(),
    tenant_slug="acme",
    state="running",
    generation=1,
    progressed_generation=0,
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


NOW = clock.now()


def decide(
    job: FineTune, *, is_running: bool = False, is_held: bool = False, ended: timedelta | None = timedelta(hours=1)
) -> Turn:
    """What is done now; `ended`: how long ago the newest run ended."""
    return turn(job, is_running=is_running, is_held=is_held, ended_at=None if ended is None else NOW - ended, now=NOW)


def test_a_job_is_started_waited_for_or_taken_up_again() -> None:
    assert decide(JOB, ended=None) is Turn.START
    assert decide(JOB, is_running=True, ended=None) is Turn.WAIT
    assert decide(JOB, is_held=True, ended=None) is Turn.WAIT, "a process of whose run Dagster knows nothing"
    assert decide(JOB) is Turn.RETRY


@pytest.mark.parametrize(
    ("generation", "progressed", "patience"), [(1, 0, 60), (2, 0, 120), (1, 1, 30), (7, 7, 30), (7, 6, 60)]
)
def test_before_another_try_it_waits(generation: int, progressed: int, patience: int) -> None:
    job = replace(JOB, generation=generation, progressed_generation=progressed)
    assert decide(job, ended=timedelta(seconds=patience - 1)) is Turn.WAIT
    assert decide(job, ended=timedelta(seconds=patience)) is Turn.RETRY


def test_after_three_tries_without_progress_it_is_given_up() -> None:
    last = replace(JOB, generation=MOST_FRUITLESS)
    assert decide(last) is Turn.GIVE_UP
    assert decide(last, ended=timedelta(0)) is Turn.GIVE_UP, "there is nothing to wait for"
    assert decide(last, ended=None) is Turn.START, "Dagster's database is new: nothing was tried"


def test_progress_starts_the_count_again() -> None:
    assert decide(replace(JOB, generation=5, progressed_generation=3)) is Turn.RETRY
    assert decide(replace(JOB, generation=6, progressed_generation=3)) is Turn.GIVE_UP


def test_a_cancelled_job_is_ended_by_the_process_that_holds_it_or_at_once() -> None:
    cancelled = replace(JOB, is_cancelled=True)
    assert decide(cancelled, is_running=True, is_held=True, ended=None) is Turn.WAIT
    assert decide(cancelled, is_running=True, ended=None) is Turn.CANCEL, "its run waits behind another tenant's"
    assert decide(cancelled) is Turn.CANCEL
    assert decide(cancelled, ended=None) is Turn.CANCEL


def test_the_embedded_chat_model_can_be_tuned() -> None:
    assert "smollm2-135m-instruct" in tunable_models()
