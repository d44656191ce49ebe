"""Attempts: more and more patient, without memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestration.attempts import attempt, run_key

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def test_what_waits_is_tried_again_at_doubling_distances() -> None:
    tries = [attempt(NOON, NOON + timedelta(seconds=seconds)) for seconds in (0, 14, 15, 29, 30, 59, 60, 119, 120)]
    assert tries == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_a_key_names_all_the_work_in_any_order() -> None:
    assert run_key("2026-11-10", ["b#0", "a#0"]) == run_key("2026-11-10", ["a#0", "b#0"])
    assert run_key("2026-11-10", ["a#1"]) != run_key("2026-11-10", ["a#0"])
