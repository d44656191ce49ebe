"""Desired replicas: the same variant, calendar, overrides, queue and instant give the same answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from serving.fleet.desired import Change, Decision, Override, SiteVariant, changes_between, desired
from serving.fleet.hours import Hours
from studio import ids
from studio.db.hours import SITE
from tests.serving.test_calendar import OFFICE, berlin

BASE = SiteVariant("model", deployed=True, site_replicas=2, calendar_id="office")
NOON, NIGHT = berlin("2026-11-25 12:00"), berlin("2026-11-25 23:00")


def override(
    replicas: int | None, *, by: str = "xpu_ops", made: datetime = NOON, ends_at: datetime | None = None
) -> Override:
    return Override(ids.uuid7(), "model", berlin("2026-01-01"), ends_at, replicas, "a reason", by, made)


def replicas(instant: datetime, *overrides: Override, variant: SiteVariant = BASE, waiting_lines: int = 0) -> int:
    return desired(variant, OFFICE, overrides, waiting_lines, instant).replicas


@pytest.mark.parametrize(
    ("instant", "wanted", "reason"),
    [
        ("2026-11-25 07:29:59", 0, "closed (office) until Wednesday 2026-11-25 08:00 Europe/Berlin"),
        ("2026-11-25 07:30:00", 2, "prewarming (office), opens Wednesday 2026-11-25 08:00 Europe/Berlin"),
        ("2026-11-25 07:59:59", 2, "prewarming (office), opens Wednesday 2026-11-25 08:00 Europe/Berlin"),
        ("2026-11-25 08:00:00", 2, "open (office)"),
        ("2026-11-25 17:59:59", 2, "open (office)"),
        ("2026-11-25 18:00:00", 0, "closed (office) until Thursday 2026-11-26 08:00 Europe/Berlin"),
        ("2026-11-27 18:00:00", 0, "closed (office) until Monday 2026-11-30 08:00 Europe/Berlin"),
        ("2026-11-28 07:30:00", 0, "closed (office) until Monday 2026-11-30 08:00 Europe/Berlin"),
        ("2026-11-30 07:29:59", 0, "closed (office) until Monday 2026-11-30 08:00 Europe/Berlin"),
        ("2026-11-30 07:30:00", 2, "prewarming (office), opens Monday 2026-11-30 08:00 Europe/Berlin"),
        ("2026-12-25 07:30:00", 0, "closed (office) until Monday 2026-12-28 08:00 Europe/Berlin"),
        ("2026-03-30 07:29:59", 0, "closed (office) until Monday 2026-03-30 08:00 Europe/Berlin"),
        ("2026-03-30 07:30:00", 2, "prewarming (office), opens Monday 2026-03-30 08:00 Europe/Berlin"),
        ("2026-10-26 07:29:59", 0, "closed (office) until Monday 2026-10-26 08:00 Europe/Berlin"),
        ("2026-10-26 07:30:00", 2, "prewarming (office), opens Monday 2026-10-26 08:00 Europe/Berlin"),
    ],
)
def test_every_transition_and_its_neighbours(instant: str, wanted: int, reason: str) -> None:
    decision = desired(BASE, OFFICE, (), 0, berlin(instant))
    assert (decision.replicas, decision.reason) == (wanted, reason)
    assert decision.is_open is reason.startswith("open")


class TestWhatTheSiteRuns:
    def test_what_is_not_deployed_has_none_whatever_people_say(self) -> None:
        assert replicas(NOON, override(3), variant=replace(BASE, deployed=False)) == 0

    def test_what_another_serves_has_none_of_its_own(self) -> None:
        shared = replace(BASE, site_replicas=0, served_by="base")
        assert desired(shared, OFFICE, (), 9, NOON) == Decision(0, "served by the replicas of base")

    def test_without_a_calendar_it_is_open_around_the_clock(self) -> None:
        assert desired(BASE, None, (), 0, NIGHT) == Decision(2, "open around the clock", is_open=True)

    def test_a_fast_tier_may_keep_some_while_closed_but_not_more_than_it_has(self) -> None:
        assert replicas(NIGHT, variant=replace(BASE, closed_replicas=1)) == 1
        assert replicas(NIGHT, variant=replace(BASE, site_replicas=0, closed_replicas=1)) == 0


class TestBatches:
    def test_waiting_lines_bring_one_up_while_open(self) -> None:
        assert replicas(NOON, variant=replace(BASE, site_replicas=0), waiting_lines=1) == 1
        assert replicas(NOON, variant=replace(BASE, site_replicas=0)) == 0

    def test_waiting_lines_never_open_what_is_closed(self) -> None:
        assert replicas(NIGHT, variant=replace(BASE, site_replicas=0), waiting_lines=1) == 0


class TestOverrides:
    def test_an_override_goes_before_the_calendar(self) -> None:
        assert replicas(NIGHT, override(1)) == 1
        assert replicas(NOON, override(0)) == 0

    def test_it_holds_over_a_half_open_span(self) -> None:
        until = override(1, ends_at=NIGHT)
        assert replicas(NIGHT - timedelta(microseconds=1), until) == 1
        assert replicas(NIGHT, until) == 0

    def test_the_newest_goes_first(self) -> None:
        assert replicas(NIGHT, override(3, made=NIGHT), override(1, made=NOON)) == 3

    def test_a_persons_goes_before_the_sites_even_if_that_is_newer(self) -> None:
        assert replicas(NIGHT, override(1, by=SITE, made=NIGHT), override(3, made=NOON)) == 3

    def test_one_of_none_hands_the_word_back_to_the_calendar(self) -> None:
        site = override(2, by=SITE)
        assert replicas(NIGHT, site) == 2
        assert replicas(NIGHT, site, override(None)) == 0
        assert replicas(NOON, site, override(None)) == 2

    def test_the_decision_names_who_said_it_and_why(self) -> None:
        decision = desired(BASE, OFFICE, (override(1),), 0, NIGHT)
        assert decision == Decision(1, "override by xpu_ops: a reason", is_open=True)


class TestWhatComesNext:
    def hours(self, *overrides: Override) -> Hours:
        return Hours({"office": OFFICE}, {"model": overrides})

    def test_at_night_the_prewarm_comes_next_and_then_the_opening(self) -> None:
        change = self.hours().next_change(BASE, NIGHT)
        assert change is not None
        assert (change[0], change[1].replicas) == (berlin("2026-11-26 07:30"), 2)
        assert self.hours().starts_at(BASE, NIGHT) == berlin("2026-11-26 07:30")
        assert self.hours().opens_at(BASE, NIGHT) == berlin("2026-11-26 08:00")

    def test_while_prewarming_it_starts_at_once_and_opens_later(self) -> None:
        prewarm = berlin("2026-11-26 07:45")
        assert self.hours().starts_at(BASE, prewarm) == prewarm
        assert self.hours().opens_at(BASE, prewarm) == berlin("2026-11-26 08:00")

    def test_the_end_of_an_override_counts(self) -> None:
        maintenance = override(0, ends_at=berlin("2026-11-25 15:00"))
        assert self.hours(maintenance).opens_at(BASE, NOON) == berlin("2026-11-25 15:00")

    def test_an_override_without_an_end_is_not_waited_for(self) -> None:
        assert self.hours(override(0)).next_change(BASE, NOON) is None
        assert self.hours(override(0)).starts_at(BASE, NOON) is None

    def test_hours_that_lie_close_together_are_met_in_order(self) -> None:
        lunch = berlin("2026-11-25 12:15")
        moments = [at for at, _ in self.hours(override(1, ends_at=lunch)).decisions_after(BASE, NOON)][:3]
        assert moments == [lunch, berlin("2026-11-25 18:00"), berlin("2026-11-26 07:30")]


def test_only_differences_are_changes() -> None:
    decisions = {"model": Decision(2, "why"), "large": Decision(0, "why"), "new": Decision(0, "why")}
    assert changes_between({"model": (1, "why"), "large": (0, "why")}, decisions) == [
        Change("model", 1, 2, "why"), Change("new", None, 0, "why"),
    ]  # fmt: skip
    assert changes_between({"model": (2, "before")}, {"model": Decision(2, "why")}) == [Change("model", 2, 2, "why")]
