"""How a variant is, from its replicas' rows, its hours, who answers, and what the driver of its cluster has seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import get_args

import pytest

from serving.fleet import states
from serving.fleet.hours import Hours
from serving.fleet.view import Fleet, Pods, Replica, Variant
from studio import ids
from studio.cluster.pods import Kind
from studio.db.fleet import AWAY_PATIENCE
from tests.serving.test_calendar import OFFICE, berlin
from tests.serving.test_wire import BASE, NOW

ATTACHED = Replica(ids.uuid7(), "m", "ready", "http://engine", "weights", NOW - timedelta(days=9), is_attached=True)
SILENT = {ATTACHED.id}
UNDECIDED = replace(BASE, site_replicas=1, calendar_id="office", warmup_seconds=[Decimal(90)])
CLOSED = replace(UNDECIDED, desired_since=NOW - timedelta(hours=9))
OPEN = replace(CLOSED, desired_replicas=1, desired_since=NOW)


def fleet(variant: Variant, *, pods: Pods | None = None, replica: Replica = ATTACHED) -> Fleet:
    return Fleet({"m": variant}, {"m": (replica,)}, hours=Hours({"office": OFFICE}), pods={"m": pods} if pods else {})


def pods(outcome: str, trouble: str | None = None) -> Pods:
    return Pods("m", outcome, trouble, NOW - timedelta(seconds=30))


def test_an_attached_engine_that_answers_is_warm_whatever_its_hours_say() -> None:
    assert states.state(fleet(CLOSED), CLOSED, NOW) == "warm"


def test_one_that_is_silent_while_it_is_closed_is_cold_until_it_opens() -> None:
    night = berlin("2026-11-27 23:00")
    assert states.state(fleet(CLOSED), CLOSED, night, SILENT) == "cold"
    assert states.ready_at(fleet(CLOSED), CLOSED, night, SILENT) == berlin("2026-11-30 07:31:30")


def test_one_that_is_silent_and_of_which_nobody_has_decided_is_gone() -> None:
    assert states.state(fleet(UNDECIDED), UNDECIDED, NOW, SILENT) == "unreachable"
    assert states.ready_at(fleet(UNDECIDED), UNDECIDED, NOW, SILENT) is None


def test_one_that_is_silent_after_it_has_opened_starts_for_as_long_as_starts_take() -> None:
    assert states.state(fleet(OPEN), OPEN, NOW, SILENT) == "starting"
    assert states.ready_at(fleet(OPEN), OPEN, NOW, SILENT) == NOW + timedelta(seconds=90)
    late = NOW + timedelta(seconds=181)
    assert states.state(fleet(OPEN), OPEN, late, SILENT) == "unreachable"
    assert states.ready_at(fleet(OPEN), OPEN, late, SILENT) is None
    unmeasured = replace(OPEN, warmup_seconds=[])
    assert states.state(fleet(unmeasured), unmeasured, late, SILENT) == "starting"
    assert states.state(fleet(unmeasured), unmeasured, NOW + timedelta(minutes=30), SILENT) == "unreachable"


def test_where_our_driver_sees_the_pods_its_word_counts() -> None:
    late = NOW + timedelta(hours=1)
    starting = fleet(OPEN, pods=pods("starting"))
    assert states.state(starting, OPEN, late, SILENT) == "starting"
    assert states.ready_at(starting, OPEN, NOW, SILENT) == NOW + timedelta(seconds=60)  # 30 of its 90 s are over
    assert states.reason(starting, OPEN, late) is None
    assert states.state(fleet(OPEN, pods=pods("in order")), OPEN, late, SILENT) == "unreachable"
    assert states.state(fleet(OPEN, pods=pods("stuck", "image")), OPEN, NOW, SILENT) == "unreachable"
    assert states.state(fleet(OPEN, pods=pods("stuck", "image")), OPEN, NOW) == "warm"  # the old pod still answers
    # It is up, and the driver's requests are not answered.
    assert states.state(fleet(OPEN, pods=pods("stuck", "silent")), OPEN, NOW) == "unreachable"
    assert states.ready_at(fleet(OPEN, pods=pods("stuck", "silent")), OPEN, NOW) is None


@pytest.mark.parametrize("trouble", sorted(states._WORDS))
def test_each_trouble_of_the_driver_has_plain_words(trouble: str) -> None:
    assert trouble in get_args(Kind)
    assert len(get_args(Kind)) == len(states._WORDS)
    stuck = fleet(OPEN, pods=pods("stuck", trouble))
    assert states.reason(stuck, OPEN, NOW) == states._WORDS[trouble]
    assert states.reason(fleet(OPEN, pods=pods("starting", trouble)), OPEN, NOW) is None  # it may yet pass
    assert states.reason(fleet(CLOSED, pods=pods("stuck", trouble)), CLOSED, NOW) is None  # nobody wants it now


def test_a_cluster_that_is_away_is_told_once_that_has_lasted() -> None:
    away = replace(fleet(OPEN, pods=pods("starting")), away_since=NOW)
    assert states.reason(away, OPEN, NOW + AWAY_PATIENCE - timedelta(seconds=1)) is None
    assert "has not been heard of since" in str(states.reason(away, OPEN, NOW + AWAY_PATIENCE))
    assert states.reason(replace(away, pods={}), OPEN, NOW + AWAY_PATIENCE) is None  # no engine of the cluster's


def test_what_says_of_itself_that_it_is_ready_or_belongs_to_no_site_is_unreachable() -> None:
    own = replace(ATTACHED, is_attached=False)
    assert states.state(fleet(OPEN, replica=own), OPEN, NOW, SILENT) == "unreachable"
    elsewhere = replace(CLOSED, deployed=False)
    assert states.state(fleet(elsewhere), elsewhere, NOW, SILENT) == "unreachable"
