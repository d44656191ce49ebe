"""Dagster starts workers and watches them, no more: it may die in mid-batch, its database too."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import openai
import pytest

from local.objects import EmbeddedObjectStore
from tests.serving.batches.books import billed_tokens, engine_tokens, events_of, serving_engine, unbilled_tokens
from tests.serving.batches.dagster_processes import running_dagster
from tests.serving.batches.orders import line, results, submit, wait_for_state
from tests.serving.conftest import House
from tests.serving.gateway_process import wait_until
from tests.serving.ledger import numbers_have_no_gap

LINES = 800


@pytest.mark.timeout(420)
def test_a_batch_outlives_the_code_server_and_dagsters_database(
    sdk: openai.OpenAI, house: House, objects: EmbeddedObjectStore, tmp_path: Path
) -> None:
    with (
        serving_engine(house, tokens_per_second=10) as engine,
        running_dagster(house.database, tmp_path, objects.environment) as dagster,
    ):
        batch = submit(sdk, (line(f"d-{n}", max_tokens=20) for n in range(LINES)))
        wait_until(lambda: events_of(house, batch) > 0, 120)
        dagster.kill_code_server()
        wait_until(lambda: events_of(house, batch) > 150, 60)
        dagster.start_code_server()
        dagster.lose_database()
        before = events_of(house, batch)
        wait_until(lambda: events_of(house, batch) > before + 150, 60)  # longer than an observation is put off
        assert events_of(house, batch) < LINES
        dagster.start_with_an_empty_database()
        done = wait_for_state(sdk, batch, "completed", seconds=180)
        assert engine_tokens(engine) - billed_tokens(house, batch) >= unbilled_tokens(house, batch) >= 0
    answered = Counter(one["custom_id"] for one in results(sdk, done.output_file_id))
    assert answered == {f"d-{n}": 1 for n in range(LINES)}
    assert events_of(house, batch) == LINES
    assert numbers_have_no_gap(house.database)
