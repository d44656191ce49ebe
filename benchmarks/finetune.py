"""What a fine-tune is worth: fields of orders that it never saw, beside the base and beside a control.

Hypothesis. Trained for one epoch on 160 orders, the model gets at least 0.4 of all fields more right than its base.
Sketch. The form is learned in a few steps; the values stand in the sentence and have to be copied, which 20 steps of a
rank-8 adapter teach a model of 135 M parameters.
Limit: 1, every field of every order. Peer: the base as it is, asked the same in the same run.
Control: the same orders with the answers shuffled. It can only learn the form, so it must gain less than half of that;
otherwise the score would measure the form.
Known limit. One seed, 40 orders, written by a program: it shows that training works, not how well it would on data of
one's own.

Acts on the stack of this folder (`STUDIO_STATE_DIR`), which it starts and leaves up.
Run: make bench NAME=finetune, or python -m benchmarks.finetune. Ends with code 1 where the control shows that the
gain is none."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, sleep

import openai
from rich.console import Console
from rich.table import Table

from benchmarks.stack import key_of, status, studio
from local.demo.cast import CHAT
from local.demo.finetune_scene import EXAMPLES, GAIN, ask, score
from local.demo.orders import Example, as_jsonl, held_out_examples, shuffled, training_examples

SEED = 1
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Trained:
    """A fine-tune that was served and asked."""

    fields_right: float  # of all fields of the held-out orders
    trained_tokens: int
    seconds: float  # from the job's creation to its end, queue and validation among them


def train(client: openai.OpenAI, examples: Sequence[Example], held_out: Sequence[Example], suffix: str) -> Trained:
    """Upload, train as the demo does, wait until the adapter is served, ask."""
    file = client.files.create(file=(f"{suffix}.jsonl", as_jsonl(examples)), purpose="fine-tune")
    started = perf_counter()
    job = client.fine_tuning.jobs.create(
        model=CHAT,
        training_file=file.id,
        suffix=suffix,
        seed=SEED,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 2}},
        },
    )
    while job.status not in ENDED:
        sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    seconds = perf_counter() - started
    if job.fine_tuned_model is None:
        reason = job.error.message if job.error else "no reason given"
        raise SystemExit(f"The fine-tune {job.id} {job.status}: {reason}")
    wait_until_served(client, job.fine_tuned_model)
    answers = ask(client, job.fine_tuned_model, held_out)
    return Trained(score(answers, held_out), job.trained_tokens or 0, seconds)


def wait_until_served(client: openai.OpenAI, model: str) -> None:
    """Until one answer has come."""
    while True:
        try:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
        except (openai.AuthenticationError, openai.NotFoundError, openai.InternalServerError):
            sleep(1)  # the key, the adapter or the engine is not there yet
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetune", description="A fine-tune beside its base and a shuffled control."
    )
    parser.add_argument("--held-out", type=int, default=40, help="orders that are asked")
    parser.add_argument("--tenant", default="benchmark", help="for whom a key of an hour is made")
    arguments = parser.parse_args()
    training, held_out = training_examples(EXAMPLES, SEED), held_out_examples(arguments.held_out, SEED + 1)
    if {example.text for example in training} & {example.text for example in held_out}:
        raise SystemExit("An order that is asked was trained on: choose another seed.")
    studio("up", "--wait-for-all")
    client = openai.OpenAI(
        api_key=key_of(arguments.tenant), base_url=f"{status()['gateway_url']}/v1", max_retries=5, timeout=300
    )
    wait_until_served(client, CHAT)
    base = score(ask(client, CHAT, held_out), held_out)
    tuned = train(client, training, held_out, "orders")
    control = train(client, shuffled(training, SEED + 2), held_out, "control")

    result = Table("model", "fields right", "gain", "trained tokens", "seconds")
    result.add_row("base", f"{base:.0%}", "", "", "")
    for name, one in (("fine-tuned", tuned), ("control, answers shuffled", control)):
        gain = f"{one.fields_right - base:+.0%}"
        result.add_row(name, f"{one.fields_right:.0%}", gain, f"{one.trained_tokens:,}", f"{one.seconds:.0f}")
    Console().print(result)
    gains = {"fine_tuned": round(tuned.fields_right - base, 3), "control": round(control.fields_right - base, 3)}
    figures = {"base_fields_right": round(base, 3), "fine_tuned": asdict(tuned), "control": asdict(control)}
    ratios = {f"{name}_fields_gained": gain for name, gain in gains.items()}
    print(json.dumps({"name": "finetune", "ratios": ratios, "figures": figures}))
    if gains["fine_tuned"] < GAIN or gains["control"] >= GAIN / 2:
        raise SystemExit(f"At least {GAIN} was expected of the fine-tune, and less than half of that of the control.")


if __name__ == "__main__":
    main()
