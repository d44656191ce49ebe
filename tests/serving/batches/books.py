"""What a batch cost, as the database and the engine know it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from openai.types import Batch
from sqlalchemy import update

from studio import ids
from studio.db.fleet import Replica
from studio.db.sessions import unit_of_work
from tests.serving.conftest import House
from tests.serving.gateway_process import CHAT, attach
from tests.stub_engine import StubEngine


@contextmanager
def serving_engine(
    house: House, variant_id: str = CHAT, *, tokens_per_second: float = 0, cached: int = 0
) -> Iterator[StubEngine]:
    """An engine that answers for a variant inside the block, and for no other test."""
    with StubEngine(tokens_per_second=tokens_per_second, cached=cached) as engine:
        replica_id = attach(house.operator, engine.url, variant_id)
        try:
            yield engine
        finally:
            with unit_of_work(house.operator) as session:
                session.execute(update(Replica).where(Replica.id == replica_id).values(state="stopped"))


def engine_tokens(engine: StubEngine) -> int:
    """Prompt and completion tokens, by the engine's own counters."""
    counters = engine.counters()
    return counters.prompt_tokens + counters.generation_tokens


def billed_tokens(house: House, batch: Batch) -> int:
    """Prompt and completion tokens, by usage events."""
    query = "select coalesce(sum(prompt_tokens + completion_tokens), 0) from usage_events where batch_id = %s"
    return _number(house, query, batch)


def engine_prompt_tokens(house: House, batch: Batch) -> int:
    """Prompt tokens as the engine's own counter sees them, by usage events."""
    return _number(house, "select sum(engine_prompt_tokens) from usage_events where batch_id = %s", batch)


def events_of(house: House, batch: Batch) -> int:
    """Usage events."""
    return _number(house, "select count(*) from usage_events where batch_id = %s", batch)


def workers_of(house: House, batch: Batch) -> int:
    """Workers that committed some of it."""
    return _number(house, "select count(distinct source_id) from usage_events where batch_id = %s", batch)


def unbilled_tokens(house: House, batch: Batch) -> int:
    """Of attempts whose work was lost, as far as known."""
    return _number(house, "select unbilled_tokens from batches where id = %s", batch)


def request_ids_of(house: House, batch: Batch) -> set[str]:
    """How its events are named."""
    with house.database.superuser() as connection:
        rows = connection.execute("select request_id from usage_events where batch_id = %s", [_id(batch)])
        return {request_id for (request_id,) in rows}


def crashed_workers(house: House) -> int:
    """Workers that were found dead."""
    with house.database.superuser() as connection:
        row = connection.execute(
            "select count(*) from usage_sources where kind = 'transaction' and crashed_at is not null"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _number(house: House, query: str, batch: Batch) -> int:
    with house.database.superuser() as connection:
        row = connection.execute(query, [_id(batch)]).fetchone()
    assert row is not None
    return int(row[0])


def _id(batch: Batch) -> object:
    return ids.from_wire(ids.BATCH, batch.id)
