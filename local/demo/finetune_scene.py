"""The scene of the fine-tune: orders in free text become JSON, which the base cannot do and the adapter can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import openai
from openai.types.fine_tuning import FineTuningJob

from local.demo.cast import CHAT, Demo
from local.demo.orders import Example, as_jsonl, fields_right, held_out_examples, training_examples
from local.demo.story import Facts, Say, expect, shortened, wait_until

EXAMPLES, HELD_OUT = 160, 20
GAIN = 0.4  # of the fields of held-out orders
TRAINING_SECONDS = 900.0  # about 90 s on two quiet cores
LOADING_SECONDS = 60.0


def play(demo: Demo, say: Say) -> Facts:
    """Upload, train, serve, compare; and another tenant's key finds nothing."""
    client = demo.euro.client
    held_out = held_out_examples(HELD_OUT, seed=2)
    base_answers = ask(client, CHAT, held_out)
    file = client.files.create(
        file=("orders.jsonl", as_jsonl(training_examples(EXAMPLES, seed=1))), purpose="fine-tune"
    )
    job = client.fine_tuning.jobs.create(
        model=CHAT,
        training_file=file.id,
        suffix="orders",
        seed=1,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 2}},
        },
    )
    job, seconds = _trained(client, job, say)
    model = job.fine_tuned_model
    assert model is not None
    losses = _losses(client, job)
    wait_until(lambda: _answers(client, model), f"{model} was not loaded into the engine", LOADING_SECONDS)
    answers = ask(client, model, held_out)
    demo.euro.requests += 2 * HELD_OUT + 1
    before, after = score(base_answers, held_out), score(answers, held_out)
    expect(after - before >= GAIN, f"the adapter gains {after - before:.0%}, from {before:.0%} to {after:.0%}")
    expect(_is_unknown(demo.yuan.client, model), "another tenant's key may call the model")
    return {
        "trained": f"{EXAMPLES} orders, {len(losses)} steps in {seconds:.0f} s, {job.trained_tokens} tokens",
        "loss": f"{losses[0]:.2f} -> {losses[-1]:.3f} (live in Dagster on the asset fine_tunes)",
        "served as": model,
        "asked": held_out[0].text,
        "answered before": shortened(base_answers[0]),
        "answered after": shortened(answers[0]),
        "fields right": f"{before:.0%} before, {after:.0%} after, of {HELD_OUT} orders that it never saw",
        "for another tenant": "404 model_not_found",
    }


def ask(client: openai.OpenAI, model: str, examples: Sequence[Example]) -> list[str]:
    """What a model answers to all of them."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda example: _answer(client, model, example), examples))


def score(answers: Sequence[str], examples: Sequence[Example]) -> float:
    """The part of all fields that is right."""
    return sum(map(fields_right, answers, (example.order for example in examples))) / len(examples)


def _answer(client: openai.OpenAI, model: str, example: Example) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": example.text}], max_tokens=64, temperature=0
    )
    return answer.choices[0].message.content or ""


def _is_unknown(client: openai.OpenAI, model: str) -> bool:
    try:
        client.models.retrieve(model)
    except openai.NotFoundError as missing:
        return missing.code == "model_not_found"
    return False


def _trained(client: openai.OpenAI, job: FineTuningJob, say: Say) -> tuple[FineTuningJob, float]:
    started = time.monotonic()

    def has_ended() -> bool:
        nonlocal job
        job = client.fine_tuning.jobs.retrieve(job.id)
        newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data
        say(newest[0].message if newest else job.status)
        return job.status in ("succeeded", "failed", "cancelled")

    wait_until(has_ended, "the fine-tune did not end; see Dagster's run fine_tune", TRAINING_SECONDS, every=1)
    expect(job.status == "succeeded", f"the fine-tune {job.status}: {job.error.message if job.error else ''}")
    return job, time.monotonic() - started


def _losses(client: openai.OpenAI, job: FineTuningJob) -> list[float]:
    events = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"]
    return [float(event.data["train_loss"]) for event in reversed(events) if isinstance(event.data, dict)]


def _answers(client: openai.OpenAI, model: str) -> bool:
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
    except (openai.NotFoundError, openai.InternalServerError):  # not known yet, or just being loaded
        return False
    return True
