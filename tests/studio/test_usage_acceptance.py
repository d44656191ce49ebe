"""`accept_usage`: what a shipment becomes. Exactly once, and nothing that cannot be right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from studio import clock, ids
from studio.db.usage import MOST_TOKENS
from tests.server import TestDatabase
from tests.serving.gateway_process import wait_until

SOURCE = uuid4()


def event(seq: int, **changes: Any) -> dict[str, Any]:
    id = ids.uuid7()
    now = clock.now()
    return {
        "usage_day_utc": ids.day_utc_of(id),
        "id": id,
        "source_id": SOURCE,
        "source_seq": seq,
        "tenant_id": uuid4(),
        "api_key_id": uuid4(),
        "request_id": f"req_{id.hex}",
        "tag": None,
        "endpoint": "/v1/chat/completions",
        "model_id": "m",
        "variant_id": "m",
        "tier_requested": "base",
        "tier_served": "base",
        "replica_id": uuid4(),
        "started_at": now,
        "first_token_at": now,
        "ended_at": now,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "reasoning_tokens": 0,
        "http_status": 200,
        "end_reason": "complete",
        "usage_origin": "engine",
        "reused_prompt_tokens": 0,
        "reused_completion_tokens": 0,
    } | changes


class Shipper:
    """Ships as the gateway's shipper does, with its role."""

    def __init__(self, database: TestDatabase) -> None:
        self.url = database.url("shipper").replace("+psycopg", "")

    def open_source(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "insert into usage_sources (id, name, opened_at, last_seq, pending, heartbeat_at)"
                " values (%s, 'test', now(), 0, 0, now())",
                [SOURCE],
            )

    def ship(self, *events: dict[str, Any]) -> dict[str, int]:
        with psycopg.connect(self.url) as connection:
            return self.send(connection, *events)

    def send(self, connection: psycopg.Connection, *events: dict[str, Any]) -> dict[str, int]:
        shipment, cursor = uuid4(), connection.cursor(row_factory=dict_row)
        columns = ["shipment_id", "row", *events[0]]
        with cursor.copy(f"copy usage_staging ({', '.join(columns)}) from stdin") as copy:
            for row, one in enumerate(events):
                copy.write_row([shipment, row, *one.values()])
        counts = cursor.execute("select * from accept_usage(%s)", [shipment]).fetchone()
        assert counts is not None
        return counts


@pytest.fixture
def shipper(database: TestDatabase) -> Shipper:
    shipper = Shipper(database)
    shipper.open_source()
    return shipper


def stored(database: TestDatabase, query: str) -> list[Any]:
    with database.superuser() as connection:
        return connection.execute(query).fetchall()


def test_a_shipment_arrives_once_however_often_it_is_sent(database: TestDatabase, shipper: Shipper) -> None:
    events = [event(1), event(2), event(3)]
    assert shipper.ship(*events) == {"accepted": 3, "known": 0, "quarantined": 0}
    assert shipper.ship(*events, event(4)) == {"accepted": 1, "known": 3, "quarantined": 0}
    assert stored(database, "select count(*), sum(prompt_tokens) from usage_events") == [(4, 40)]
    assert stored(database, "select last_seq from usage_sources") == [(4,)]
    assert stored(database, "select count(*) from usage_staging") == [(0,)]


def test_an_event_lies_in_the_partition_of_its_own_day(database: TestDatabase, shipper: Shipper) -> None:
    one = event(1)
    shipper.ship(one)
    partition = f"usage_events_{one['usage_day_utc']:%Y%m%d}"
    assert stored(database, f"select count(*) from {partition}") == [(1,)]


def test_the_same_id_with_other_tokens_goes_to_quarantine_once(database: TestDatabase, shipper: Shipper) -> None:
    one = event(1)
    shipper.ship(one)
    forged = one | {"completion_tokens": 9999}
    assert shipper.ship(forged) == {"accepted": 0, "known": 1, "quarantined": 1}
    assert shipper.ship(forged)["quarantined"] == 0
    [(reason, event_id, payload)] = stored(database, "select reason, event_id, payload from quarantine")
    assert (reason, event_id) == ("same id, other content", one["id"])
    assert payload["stored"]["completion_tokens"] == 5
    assert payload["arrived"]["completion_tokens"] == 9999


def test_versions_of_one_event_that_arrive_at_the_same_time_do_not_pass_unseen(
    database: TestDatabase, shipper: Shipper
) -> None:
    """The second looks while the first is not committed yet, and waits for it."""
    one = event(1)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(shipper.url) as first:
        assert shipper.send(first, one)["accepted"] == 1
        second = pool.submit(shipper.ship, one | {"completion_tokens": 9999})
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%%accept_usage%%'"
        )
        wait_until(lambda: stored(database, waiting) == [(1,)])
        first.commit()
        assert second.result() == {"accepted": 0, "known": 1, "quarantined": 1}


def test_versions_of_one_event_in_one_shipment_do_not_pass_unseen(database: TestDatabase, shipper: Shipper) -> None:
    one = event(1)
    assert shipper.ship(one, one | {"completion_tokens": 9999}) == {"accepted": 1, "known": 1, "quarantined": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_tokens": -1, "cached_tokens": 0},
        {"cached_tokens": 11},
        {"end_reason": "bored"},
        {"reasoning_tokens": 6},
        {"reused_prompt_tokens": 7},
        {"reused_completion_tokens": 6},
        {"replica_id": None, "reused_prompt_tokens": 6},
        {"prompt_tokens": MOST_TOKENS + 1},
        {"completion_tokens": MOST_TOKENS + 1},
        {"engine_prompt_tokens": MOST_TOKENS + 1},
        {"engine_prompt_tokens": -1},
        {"started_at": clock.now() - timedelta(days=3)},
    ],
)
def test_an_impossible_event_is_quarantined_once_and_the_rest_arrives(
    database: TestDatabase, shipper: Shipper, changes: dict[str, Any]
) -> None:
    usual = {"engine_prompt_tokens": None}
    shipment = event(1, **usual), event(2, **(usual | changes)), event(3, **usual)
    assert shipper.ship(*shipment) == {"accepted": 2, "known": 0, "quarantined": 1}
    assert shipper.ship(*shipment) == {"accepted": 0, "known": 2, "quarantined": 0}
    assert stored(database, "select event_id from quarantine") == [(shipment[1]["id"],)]
    assert stored(database, "select sum(events) from usage_arrivals") == [(2,)]


def test_an_event_from_a_broken_clock_waits_in_the_default_partition(database: TestDatabase, shipper: Shipper) -> None:
    far = UUID(int=((int((clock.now() + timedelta(days=4000)).timestamp() * 1000)) << 80) | (7 << 76) | (2 << 62) | 1)
    shipper.ship(event(1, id=far, usage_day_utc=ids.day_utc_of(far), started_at=ids.instant_of(far)))
    assert stored(database, "select count(*) from usage_events_default") == [(1,)]


def test_a_day_that_a_broken_clock_has_touched_before_is_accepted_when_it_comes(
    database: TestDatabase, shipper: Shipper
) -> None:
    """Days far ahead have no partition of their own. When such a day comes, its first event must not be refused for
    what lies in the default partition."""
    now = clock.now()
    tomorrow = ids.uuid7_of(now + timedelta(days=1), b"early")
    columns = event(1, id=tomorrow, usage_day_utc=ids.day_utc_of(tomorrow))
    with database.superuser() as connection:
        names = ", ".join(columns)
        values = ", ".join(f"%({name})s" for name in columns)
        connection.execute(f"insert into usage_events ({names}) values ({values})", columns)
    assert stored(database, "select count(*) from usage_events_default") == [(1,)]
    in_time = ids.uuid7_of(now + timedelta(days=1), b"in time")
    assert shipper.ship(event(2, id=in_time, usage_day_utc=ids.day_utc_of(in_time)))["accepted"] == 1


def test_usage_events_cannot_be_changed_even_by_the_owner(database: TestDatabase, shipper: Shipper) -> None:
    shipper.ship(event(1))
    for statement in ("update usage_events set prompt_tokens = 0", "delete from usage_events", "truncate usage_events"):
        with (
            psycopg.connect(database.url("owner").replace("+psycopg", "")) as connection,
            pytest.raises(psycopg.errors.RestrictViolation, match="append-only"),
        ):
            connection.execute(statement)
