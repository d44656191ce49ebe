"""Which replica answers, when one will be there, and how often a key may ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal

import pytest

from serving import routing
from serving.fleet import states
from serving.fleet.hours import Hours
from serving.fleet.view import Adapter, Fleet, Replica, Variant
from serving.routing import Target
from studio import ids
from studio.errors import ModelNotFound
from tests.serving.test_calendar import OFFICE, berlin
from tests.serving.test_wire import BASE, NOW

FAST = replace(BASE, id="m-fast", tier="fast", served_by="m")


def replica(state: Literal["starting", "ready", "draining"], age: timedelta = timedelta(0)) -> Replica:
    return Replica(ids.uuid7(), "m", state, "http://engine", "weights", NOW - age)


def fleet(*replicas: Replica, variant: Variant = BASE) -> Fleet:
    return Fleet({"m": variant, "m-fast": FAST}, {"m": replicas})


class TestNames:
    def test_an_unknown_name_is_an_error(self) -> None:
        with pytest.raises(ModelNotFound):
            routing.variant_named(fleet(), "x")


class TestAdapters:
    OWNER, STRANGER = ids.uuid7(), ids.uuid7()

    def adapter(self, *replicas: Replica) -> Adapter:
        return Adapter(ids.uuid7(), self.OWNER, "m", "ft:m:acme::1", "id-hash", NOW, [one.id for one in replicas])

    def test_an_adapter_is_a_name_for_its_tenant_only(self) -> None:
        adapter = self.adapter()
        known = replace(fleet(), adapters={adapter.name: adapter})
        assert routing.target_named(known, adapter.name, self.OWNER) == Target(BASE, adapter)
        for name in (adapter.name, adapter.engine_name, "../adapters/1"):
            with pytest.raises(ModelNotFound):
                routing.target_named(known, name, self.STRANGER)

    def test_the_engines_name_of_an_adapter_is_no_name_for_its_own_tenant_either(self) -> None:
        adapter = self.adapter()
        with pytest.raises(ModelNotFound):
            routing.target_named(replace(fleet(), adapters={adapter.name: adapter}), "id-hash", self.OWNER)

    def test_it_is_ready_where_a_replica_has_loaded_it(self) -> None:
        without, having = replica("ready"), replica("ready")
        target = Target(BASE, self.adapter(having))
        assert routing.is_ready(fleet(without, having), target)
        assert not routing.is_ready(fleet(without), target)
        assert target.engine_name(having) == "id-hash"

    def test_a_warm_engine_without_it_is_about_to_load_it(self) -> None:
        assert "being loaded" in routing.unavailable(fleet(replica("ready")), Target(BASE, self.adapter()), NOW).message


class TestAsleep:
    def test_a_start_is_expected_after_the_usual_time(self) -> None:
        usual = replace(BASE, warmup_seconds=[Decimal(30), Decimal(40), Decimal(90)])
        asleep = routing.asleep(fleet(replica("starting", timedelta(seconds=15)), variant=usual), usual, NOW)
        assert asleep.retry_after == timedelta(seconds=25)
        assert "about 25 s" in asleep.message

    def test_a_slow_start_is_expected_soon(self) -> None:
        asleep = routing.asleep(fleet(replica("starting", timedelta(hours=1))), BASE, NOW)
        assert asleep.retry_after == timedelta(seconds=1)

    def test_a_wait_above_two_minutes_is_in_the_words_only(self) -> None:
        slow = replace(BASE, warmup_seconds=[Decimal(600)], desired_replicas=1)
        asleep = routing.asleep(fleet(variant=slow), slow, NOW)
        assert asleep.retry_after == timedelta(seconds=120)
        assert "about 600 s" in asleep.message

    def test_what_is_closed_says_when_it_opens_and_from_when_it_answers(self) -> None:
        closed = replace(BASE, site_replicas=1, calendar_id="office", warmup_seconds=[Decimal(90)])
        night = berlin("2026-11-27 23:00")
        hours = Hours({"office": OFFICE})
        asleep = routing.asleep(replace(fleet(variant=closed), hours=hours), closed, night)
        assert asleep.retry_after == timedelta(seconds=120)
        assert "it is closed and opens Monday 2026-11-30 08:00 Europe/Berlin" in asleep.message
        assert "(at 2026-11-30 07:31:30 CET)" in asleep.message

    def test_a_moved_clock_moves_what_is_published_and_nothing_else(self) -> None:
        closed = replace(BASE, site_replicas=1, calendar_id="office")
        noon = berlin("2026-11-25 12:00")
        moved = replace(fleet(variant=closed), hours=Hours({"office": OFFICE}, offset=timedelta(hours=11)))
        assert "opens Thursday 2026-11-26 08:00 Europe/Berlin" in routing.asleep(moved, closed, noon).message
        assert states.ready_at(moved, closed, noon) == berlin("2026-11-25 20:31")
        assert "should answer in about 30660 s" in routing.asleep(moved, closed, noon).message

    def test_what_nobody_starts_has_no_time(self) -> None:
        asleep = routing.asleep(fleet(), BASE, NOW)
        assert asleep.ready_at is None
        assert "switched off" in asleep.message
