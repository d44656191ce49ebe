"""What counts as trouble of a Deployment, and since when. Real servers and controllers say so in tests/k8s."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from studio.cluster.health import Before, Health, health

NOW = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)
LABELS = {"app": "engine"}
DEPLOYMENT: dict[str, Any] = {"spec": {"selector": {"matchLabels": LABELS}, "progressDeadlineSeconds": 900}}


def pod(labels: dict[str, str] = LABELS, *, ends_at: datetime | None = None, **status: Any) -> dict[str, Any]:
    metadata = {"labels": labels} | ({"deletionTimestamp": ends_at.isoformat()} if ends_at else {})
    return {"metadata": metadata, "status": status}


def waiting(reason: str) -> dict[str, Any]:
    container = {"name": "engine", "ready": False, "state": {"waiting": {"reason": reason, "message": "no"}}}
    return pod(containerStatuses=[container])


def seen(found: Health) -> Before:
    return Before(found.trouble.kind if found.trouble else None, found.trouble_since, found.unready_since)


HOMELESS = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "Insufficient gpu"}])


def test_a_pod_of_another_release_that_still_ends_may_hold_the_cards_and_is_no_trouble_of_its_own() -> None:
    ending = pod({"app": "other"}, ends_at=NOW + timedelta(seconds=100))
    found = health(DEPLOYMENT, [HOMELESS, ending], Before(), NOW)
    assert (found.is_stuck, found.trouble_since) == (False, None)
    after = health(DEPLOYMENT, [HOMELESS], seen(found), NOW + timedelta(seconds=145))
    assert not after.is_stuck  # the scheduler has not looked again yet
    assert health(DEPLOYMENT, [HOMELESS], seen(after), NOW + timedelta(seconds=205)).is_stuck


def test_a_failing_pod_that_is_already_on_its_way_out_says_nothing_of_the_next_one() -> None:
    old = waiting("ImagePullBackOff")
    old["metadata"]["deletionTimestamp"] = NOW.isoformat()
    assert health(DEPLOYMENT, [old, waiting("ContainerCreating")], Before(), NOW).trouble is None


def test_a_start_is_measured_from_when_nothing_else_keeps_it() -> None:
    first = health(DEPLOYMENT, [waiting("ErrImagePull")], Before(unready_since=NOW), NOW)
    assert (first.is_stuck, first.unready_since) == (True, None)
    later = NOW + timedelta(hours=2)
    mended = health(DEPLOYMENT, [waiting("ContainerCreating")], seen(first), later)
    assert (mended.trouble, mended.unready_since) == (None, later)
    assert (
        health(DEPLOYMENT, [waiting("ContainerCreating")], seen(mended), later + timedelta(seconds=900)).trouble is None
    )
    for seconds in (901, 5000):  # it stays late
        late = health(DEPLOYMENT, [waiting("ContainerCreating")], seen(mended), later + timedelta(seconds=seconds))
        assert (late.is_stuck, late.unready_since) == (True, later)
