"""Desired replicas: the same catalog gives the same answer."""

from __future__ import annotations

from serving.fleet.desired import Change, Decision, SiteVariant, changes_between, desired

BASE = SiteVariant("model", deployed=True, site_replicas=1, served_by=None)
FAST = SiteVariant("model-fast", deployed=True, site_replicas=0, served_by="model")
LISTED = SiteVariant("large", deployed=False, site_replicas=0, served_by=None)


def test_only_what_is_deployed_and_not_served_by_another_has_replicas() -> None:
    decisions = desired([BASE, FAST, LISTED])
    assert {variant: decision.replicas for variant, decision in decisions.items()} == {
        "model": 1, "model-fast": 0, "large": 0,
    }  # fmt: skip
    assert decisions["model-fast"].reason == "served by the replicas of model"


def test_only_differences_are_changes() -> None:
    decisions = {"model": Decision(2, "why"), "large": Decision(0, "why"), "new": Decision(0, "why")}
    assert changes_between({"model": 1, "large": 0}, decisions) == [
        Change("model", 1, 2, "why"), Change("new", None, 0, "why"),
    ]  # fmt: skip
