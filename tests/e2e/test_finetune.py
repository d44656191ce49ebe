"""What a fine-tune is worth: measured on orders it never saw, beside a control that learned only their form."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from local.demo.cast import CHAT
from local.demo.finetune_scene import EXAMPLES, GAIN, ask, score
from local.demo.orders import as_jsonl, held_out_examples, shuffled, training_examples
from tests.e2e.conftest import Cloud
from tests.local.eventually import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

SETTINGS = ("--epochs", "1", "--batch-size", "8", "--learning-rate", "2", "--seed", "1")  # as the demo's
TRAINING = training_examples(EXAMPLES, seed=1)
HELD_OUT = held_out_examples(40, seed=2)


@pytest.fixture
def customer(cloud: Cloud) -> Cloud:
    """The cloud, as the command line of the demo's customer sees it."""
    return replace(cloud, api_key=cloud.studio("key", "create", "--tenant", "demo")["key"])


@pytest.fixture
def client(customer: Cloud) -> openai.OpenAI:
    """The customer's SDK, once the base answers."""
    client = openai.OpenAI(
        api_key=customer.api_key, base_url=f"{customer.status['gateway_url']}/v1", max_retries=0, timeout=300
    )
    eventually(lambda: answers(client, CHAT), "the base answers", 300)
    return client


def answers(client: openai.OpenAI, model: str) -> bool:
    """Whether the model can be called now."""
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
    except openai.APIStatusError:
        return False
    return True


def test_it_gains_on_what_it_never_saw_and_a_shuffled_control_does_not(
    told: str, customer: Cloud, client: openai.OpenAI, tmp_path: Path
) -> None:
    assert not {example.text for example in TRAINING} & {example.text for example in HELD_OUT}
    base = score(ask(client, CHAT, HELD_OUT), HELD_OUT)
    trained = re.search(r"served as: (ft:\S+)", told)
    assert trained is not None
    model = trained[1]

    file = tmp_path / "control.jsonl"
    file.write_bytes(as_jsonl(shuffled(TRAINING, seed=3)))
    job: dict[str, Any] = customer.studio(
        "finetune", "create", str(file), "--model", CHAT, "--suffix", "control", *SETTINGS, "--wait"
    )
    assert job["status"] == "succeeded", job["error"]
    control: str = job["fine_tuned_model"]
    eventually(lambda: answers(client, model) and answers(client, control), "both are served", 120)
    gains = {name: score(ask(client, name, HELD_OUT), HELD_OUT) - base for name in (model, control)}
    assert gains[model] >= GAIN, gains
    assert gains[control] < GAIN, gains
