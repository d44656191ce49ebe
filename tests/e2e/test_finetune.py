"""What a fine-tune is worth: measured on orders it never saw, beside a control that learned only their form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from local.demo.finetune_scene import GAIN, score
from local.demo.orders import Example, as_jsonl, held_out_examples, shuffled, training_examples
from tests.e2e.conftest import Cloud
from tests.local.eventually import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

CHAT = "smollm2-135m-instruct"
TENANT = "tuners"
SETTINGS = ("--epochs", "1", "--batch-size", "8", "--learning-rate", "2", "--seed", "1")
TRAINING = training_examples(160, seed=1)
HELD_OUT = held_out_examples(40, seed=2)


@pytest.fixture
def customer(cloud: Cloud) -> Cloud:
    """The cloud, as a customer's command line sees it."""
    cloud.studio("tenant", "create", TENANT, "--name", "Tuners")
    return replace(cloud, api_key=cloud.studio("key", "create", "--tenant", TENANT)["key"])


@pytest.fixture
def client(cloud: Cloud, customer: Cloud) -> openai.OpenAI:
    """The customer's SDK, once the base answers."""
    client = openai.OpenAI(
        api_key=customer.api_key, base_url=f"{cloud.status['gateway_url']}/v1", max_retries=0, timeout=300
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


def tuned(customer: Cloud, folder: Path, name: str, examples: list[Example]) -> str:
    """`studio finetune create --wait`; the name of the new model."""
    file = folder / f"{name}.jsonl"
    file.write_bytes(as_jsonl(examples))
    job: dict[str, Any] = customer.studio(
        "finetune", "create", str(file), "--model", CHAT, "--suffix", name, *SETTINGS, "--wait"
    )
    assert job["status"] == "succeeded", job["error"]
    model: str = job["fine_tuned_model"]
    return model


def test_it_gains_on_what_it_never_saw_and_a_shuffled_control_does_not(
    customer: Cloud, client: openai.OpenAI, tmp_path: Path
) -> None:
    texts = {example.text for example in TRAINING}
    assert not texts & {example.text for example in HELD_OUT}
    base = score(client, CHAT, HELD_OUT)

    model = tuned(customer, tmp_path, "orders", TRAINING)
    control = tuned(customer, tmp_path, "control", shuffled(TRAINING, seed=3))
    eventually(lambda: answers(client, model) and answers(client, control), "both are served", 120)
    gains = {name: score(client, name, HELD_OUT) - base for name in (model, control)}
    assert gains[model] >= GAIN, gains
    assert gains[control] < GAIN, gains
