"""Desired replicas in the tables: they follow calendar, overrides, waiting batches and the clock of opening hours."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from serving.fleet.desired import Change
from serving.fleet.overrides import Replicas, add_override, end_override
from serving.fleet.reconcile import Reconciliation, reconcile
from studio import clock, hours_clock, ids
from studio.db.fleet import DesiredReplicas
from studio.db.hours import ClockOffset, HoursOverride
from studio.db.sessions import unit_of_work
from studio.errors import Conflict, InvalidRequest, ModelNotFound, NotFound
from tests.server import TestDatabase
from tests.serving.test_calendar import berlin

CHAT, FAST, EMBEDDING = "smollm2-135m-instruct", "smollm2-135m-instruct-fast", "all-minilm-l6-v2"
EVENING = berlin("2026-11-03 18:00")

pytestmark = pytest.mark.usefixtures("catalog")


def tick(worker: Engine) -> Reconciliation:
    with unit_of_work(worker) as session:
        return reconcile(session, clock.now())


def wanted(worker: Engine) -> dict[str, int]:
    tick(worker)
    with unit_of_work(worker) as session:
        rows = session.execute(select(DesiredReplicas.variant_id, DesiredReplicas.replicas)).tuples()
        return {variant: replicas for variant, replicas in rows if replicas}


def say(operator: Engine, replicas: Replicas, ends_at: datetime | None = None, model: str = CHAT) -> UUID:
    with unit_of_work(operator) as session:
        now = hours_clock.hours_now(session)
        return add_override(
            session,
            model=model,
            replicas=replicas,
            starts_at=now,
            ends_at=ends_at,
            reason="a test",
            by="xpu_ops",
            now=now,
        ).id


def move(operator: Engine, instant: datetime) -> None:
    with unit_of_work(operator) as session:
        hours_clock.set_offset(session, instant - clock.now(), "tests")


def test_embedded_models_are_open_around_the_clock_by_the_sites_override(worker: Engine) -> None:
    assert wanted(worker) == {CHAT: 1, EMBEDDING: 1}
    lines = {line.variant: line for line in tick(worker).fleet}
    assert set(lines) == {CHAT, EMBEDDING}
    assert lines[CHAT].calendar == "Mon-Fri 08:00-18:00 Europe/Berlin, not on holidays"
    assert lines[CHAT].reason == "override by site: embedded models are open around the clock"


def test_a_tick_changes_nothing_twice(worker: Engine) -> None:
    assert {change.variant_id for change in tick(worker).changes} >= {CHAT, FAST, "qwen3-32b"}
    assert tick(worker).changes == []


class TestAnEveningAndAMorning:
    pytestmark = pytest.mark.usefixtures("demo_settings")

    def test_the_fleet_follows_the_moved_clock(self, worker: Engine, operator: Engine) -> None:
        move(operator, EVENING - timedelta(minutes=1))
        say(operator, "calendar")
        seen = []
        for at in ("2026-11-03 17:59", "2026-11-03 18:00", "2026-11-04 07:29", "2026-11-04 07:30", "2026-11-04 08:00"):
            move(operator, berlin(at))
            seen.append(wanted(worker).get(CHAT, 0))
        assert seen == [1, 0, 0, 1, 1]
        assert tick(worker).changes == []

    def test_each_change_says_why(self, worker: Engine, operator: Engine) -> None:
        tick(worker)
        move(operator, EVENING)
        say(operator, "calendar")
        reason = "closed (office) until Wednesday 2026-11-04 08:00 Europe/Berlin"
        assert tick(worker).changes == [Change(CHAT, 1, 0, reason)]
        (line,) = [line for line in tick(worker).fleet if line.variant == CHAT]
        assert (line.open, line.next_change) == (False, "1 from Wednesday 2026-11-04 07:30 Europe/Berlin")

    def test_back_to_real_time(self, worker: Engine, operator: Engine) -> None:
        move(operator, EVENING)
        override = say(operator, "calendar", EVENING + timedelta(days=1))
        assert CHAT not in wanted(worker)
        with unit_of_work(operator) as session:
            hours_clock.reset(session)
        assert wanted(worker)[CHAT] == 1
        with unit_of_work(operator) as session, pytest.raises(Conflict, match="ended already"):
            end_override(session, override, clock.now())


class TestProduction:
    def test_the_clock_cannot_be_moved(self, operator: Engine) -> None:
        with pytest.raises(hours_clock.ClockIsReal, match="only where STUDIO_ENV is demo or test"):
            move(operator, EVENING)

    def test_an_offset_that_somebody_wrote_all_the_same_is_ignored(self, worker: Engine, operator: Engine) -> None:
        with unit_of_work(operator) as session:
            session.add(ClockOffset(singleton=True, offset=timedelta(days=3), set_by="nobody"))
        with unit_of_work(worker) as session:
            assert hours_clock.hours_now(session) - clock.now() < timedelta(minutes=1)


class TestOverrides:
    def test_one_holds_until_it_is_ended(self, worker: Engine, operator: Engine) -> None:
        override = say(operator, 0)
        assert CHAT not in wanted(worker)
        with unit_of_work(operator) as session:
            end_override(session, override, clock.now())
        assert wanted(worker)[CHAT] == 1

    def test_one_that_is_withdrawn_before_it_begins_never_holds(self, operator: Engine) -> None:
        begins = clock.now() + timedelta(hours=1)
        with unit_of_work(operator) as session:
            override = add_override(
                session, model=CHAT, replicas=0, starts_at=begins, ends_at=None, reason="-", by="x", now=clock.now()
            )
            end_override(session, override.id, clock.now())
            assert override.starts_at == override.ends_at == begins

    def test_open_means_as_many_as_the_site_runs(self, worker: Engine, operator: Engine) -> None:
        say(operator, 0)
        say(operator, "open")
        assert wanted(worker)[CHAT] == 1

    def test_the_sites_own_ends_only_in_its_file(self, operator: Engine) -> None:
        with unit_of_work(operator) as session:
            site = session.scalars(select(HoursOverride.id).where(HoursOverride.variant_id == CHAT)).one()
            with pytest.raises(Conflict, match="catalog/sites"):
                end_override(session, site, clock.now())

    def test_what_makes_no_sense_is_refused(self, operator: Engine) -> None:
        with pytest.raises(ModelNotFound):
            say(operator, 1, model="nosuch")
        with pytest.raises(Conflict, match="not deployed"):
            say(operator, 1, model="qwen3-32b")
        with pytest.raises(Conflict, match=f"served by the replicas of {CHAT}"):
            say(operator, 1, model=FAST)
        with pytest.raises(InvalidRequest, match="must end after it begins"):
            say(operator, 1, ends_at=clock.now() - timedelta(hours=1))
        with pytest.raises(InvalidRequest, match="within ten years"):
            say(operator, 1, ends_at=clock.now() + timedelta(days=4000))
        with pytest.raises(NotFound), unit_of_work(operator) as session:
            end_override(session, ids.uuid7(), clock.now())


def test_waiting_batch_lines_bring_up_a_replica_of_what_is_open(database: TestDatabase, worker: Engine) -> None:
    with database.superuser() as connection:
        connection.execute("update model_variants set site_replicas = 0, calendar_id = null where id = %s", [CHAT])
        connection.execute("update hours_overrides set ends_at = now() where variant_id = %s", [CHAT])
    assert CHAT not in wanted(worker)
    with database.superuser() as connection:
        connection.execute(_WAITING_BATCH, [FAST])
    assert wanted(worker)[CHAT] == 1
    with database.superuser() as connection:
        connection.execute("update batches set lines_completed = 2, lines_failed = 1")
    assert CHAT not in wanted(worker)


_WAITING_BATCH = """
    with owner as (insert into tenants (slug, name) values ('acme', 'Acme') returning id),
         input as (insert into files (tenant_id, filename, purpose, size_bytes, sha256, object_key)
                   select id, 'in.jsonl', 'batch', 1, '', 'key' from owner returning id, tenant_id)
    insert into batches (tenant_id, api_key_id, endpoint, completion_window, input_file_id, variant_id, state,
                         lines_total, expires_at)
    select tenant_id, uuidv7(), '/v1/chat/completions', '24h', id, %s, 'in_progress', 3, now() + interval '1 day'
    from input
"""
