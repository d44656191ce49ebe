"""The wall clock of a gateway is set back, by minutes or hours, also over midnight: each request is billed once, on the
day on which it began by the clock of that moment, and seals only ever hold what was in no seal before.

Small here, full with `make chaos`; STUDIO_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from billing import unsealed, windows
from billing.windows import Seal, UsageNotComplete
from studio import clock
from studio.db.sessions import unit_of_work
from studio.tenants import CreatedKey
from tests.server import TestDatabase
from tests.serving.gateway_process import CHAT, GatewayProcess, attach, wait_until
from tests.serving.ledger import beginnings, events, numbers_have_no_gap, open_sources
from tests.serving.load import CLIENTS, ROUNDS, SEED, Delivered, Delivery, load, some_answers
from tests.serving.moved_clock import MovedClock
from tests.stub_engine import StubEngine

pytestmark = pytest.mark.chaos

STEPS = 6  # of the clock, between two kills
MILLISECOND = timedelta(milliseconds=1)  # what an id can tell apart


@pytest.fixture
def moved(tmp_path: Path) -> MovedClock:
    """What the gateway's clock is set by."""
    return MovedClock(tmp_path / "ahead")


@pytest.fixture
def gateway(database: TestDatabase, catalog: None, tmp_path: Path, moved: MovedClock) -> Iterator[GatewayProcess]:
    """A gateway with that clock, not started yet."""
    process = GatewayProcess(database, tmp_path, "tests.serving.moved_clock", str(moved.path))
    yield process
    process.kill()


def midnight() -> datetime:
    """At which the present UTC day began."""
    return datetime.combine(clock.now().date(), time.min, tzinfo=UTC)


def step(moved: MovedClock, dice: random.Random) -> None:
    """To some time today or yesterday, or to one side of the midnight between them."""
    near = timedelta(seconds=dice.uniform(-0.3, 0.3))
    moved.set_to(midnight() + dice.choice((near, timedelta(hours=dice.uniform(-20, 20)), -timedelta(minutes=5))))


def began_by_the_clock(moved: MovedClock, delivery: Delivery, day: date, started_at: datetime) -> bool:
    """Whether a start lies between question and answer by a clock that the gateway had then, and has its day."""
    return day == started_at.date() and any(
        delivery.asked_at + ahead - MILLISECOND <= started_at <= delivery.answered_at + ahead + MILLISECOND
        for ahead in moved.ahead_between(delivery.asked_at, delivery.answered_at)
    )


async def test_each_request_is_billed_once_and_on_the_day_of_its_start(
    gateway: GatewayProcess, moved: MovedClock, database: TestDatabase, operator: Engine, api_key: CreatedKey
) -> None:
    dice = random.Random(SEED)
    delivered: Delivered = {}
    kills = max(1, ROUNDS // 3)
    with StubEngine(tokens_per_second=500) as engine:
        attach(operator, engine.url)
        for _ in range(kills):
            gateway.start()
            async with load(gateway.url, api_key.text, dice, delivered):
                moved.set_to(midnight() - timedelta(minutes=5))
                for _ in range(STEPS):
                    await some_answers(delivered, dice)
                    step(moved, dice)
                await some_answers(delivered, dice)
                moved.set_to(midnight() + timedelta(minutes=5))  # both days, whatever the dice said
                await some_answers(delivered, dice)
                gateway.kill()
        gateway.start()
        wait_until(lambda: open_sources(database) == 1, seconds=30)
        gateway.stop()

    assert open_sources(database) == 0
    assert numbers_have_no_gap(database), SEED
    billed, began = events(database), beginnings(database)
    assert max(Counter(event.request_id for event in billed).values()) == 1
    assert {id: one.completion_tokens for id, one in delivered.items()}.items() <= {
        event.request_id: event.completion_tokens for event in billed
    }.items(), SEED
    assert len(billed) - len(delivered) <= kills * CLIENTS
    wrong = {id: (one, began[id]) for id, one in delivered.items() if not began_by_the_clock(moved, one, *began[id])}
    assert not wrong, SEED
    assert len({day for day, _ in began.values()}) > 1


def test_a_seal_never_holds_what_another_holds_and_nothing_stays_outside(
    gateway: GatewayProcess,
    moved: MovedClock,
    database: TestDatabase,
    operator: Engine,
    worker: Engine,
    tenant: UUID,
    api_key: CreatedKey,
) -> None:
    today = clock.now().astimezone(clock.BERLIN).date()
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    begin_of_today, _ = clock.day_window(today, clock.BERLIN)

    def ask(count: int, tokens: int) -> None:
        """Answered and arrived in the database."""
        arrived = len(events(database))
        for _ in range(count):
            body = {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "max_tokens": tokens}
            assert api.post("/v1/chat/completions", json=body).status_code == 200
        wait_until(lambda: len(events(database)) == arrived + count, seconds=30)

    def seal(day: date) -> Seal:
        """As soon as the gateway was heard of since now."""
        asked = clock.now()
        sealed: list[Seal] = []

        def is_sealed() -> bool:
            with unit_of_work(worker) as session:
                try:
                    sealed.append(
                        windows.seal(
                            session, window_day=day, tenant_id=tenant, by="test", reason="test", cutoff=asked,
                            now=clock.now(),
                        )
                    )  # fmt: skip
                except UsageNotComplete:
                    return False
                return True

        wait_until(is_sealed, seconds=30)
        return sealed[0]

    def not_sealed() -> dict[date, int]:
        with unit_of_work(worker) as session:
            return {window.window_day: window.events for window in unsealed.of_all_days(session)}

    with (
        StubEngine() as engine,
        gateway,
        httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {api_key.text}"}) as api,
    ):
        attach(operator, engine.url)
        wait_until(lambda: "warm" in api.get("/v1/models").text, seconds=30)

        moved.set_to(begin_of_today - timedelta(minutes=2))
        ask(3, tokens=1)
        moved.set_to(begin_of_today + timedelta(minutes=2))
        ask(2, tokens=10)
        first, of_today = seal(yesterday), seal(today)
        assert (first.events, of_today.events) == (3, 2)

        # Back over midnight, into a day that is sealed: what comes now gets a seal of its own.
        moved.set_to(begin_of_today - timedelta(minutes=3))
        ask(4, tokens=100)
        assert not_sealed() == {yesterday: 4}
        second = seal(yesterday)
        assert (second.key.seal_no, second.events) == (2, 4)
        assert second.manifest["completion_tokens"] == 400

        # Ahead by a day, set back, and gone before that day begins.
        moved.set_to(clock.day_window(tomorrow, clock.BERLIN)[0] + timedelta(minutes=1))
        ask(5, tokens=1000)
        moved.set(timedelta(0))
        gateway.stop()
        last = seal(tomorrow)
        assert (last.events, last.manifest["completion_tokens"]) == (5, 5000)

    assert not_sealed() == {}
    with unit_of_work(worker) as session:
        assert windows.seals(session, window_day=yesterday) == [first, second]
