"""`python -m k8s.acceptance [--day 1-2 ...]`: a table of verdicts; exit 1 when one has failed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from k8s.acceptance import machines, service
from k8s.acceptance.site import Check, Site, Verdict, verdict

DAYS: dict[str, Sequence[Check]] = {
    "1-2": (
        machines.nodes_are_ready,
        machines.cards_are_offered,
        machines.a_node_is_for_training,
        machines.every_daemon_set_runs_everywhere,
        machines.the_platform_is_ready,
        machines.claims_are_bound,
        machines.namespaces_refuse_privileged_pods,
    ),
    "3-4": (service.two_models_answer, service.usage_is_counted),
    "5": (
        service.each_deployment_has_one_driver,
        service.tenants_are_fenced,
        service.a_tenants_pod_reaches_s3_and_not_the_database,
        service.a_limit_holds,
    ),
    "6": (service.fine_tunes_have_their_place,),
    "7": (
        service.a_backup_was_made_and_one_restored,
        service.the_certificate_is_valid_for_two_weeks,
        service.a_month_can_be_billed,
    ),
}


def judged(site: Site, days: Sequence[str]) -> Iterator[Verdict]:
    """All checks of these days, in order."""
    for day in days:
        for check in DAYS[day]:
            yield verdict(day, check, site)


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m k8s.acceptance", description=__doc__)
    parser.add_argument("--day", action="append", choices=tuple(DAYS), help="only this one; may be repeated")
    parser.add_argument("--platform", default="studio", help="namespace of the platform")
    parser.add_argument("--engines", default="engines", help="namespace of the engines")
    parser.add_argument("--training", default="training", help="namespace of fine-tunes")
    parser.add_argument("--gpu-resource", default="metax-tech.com/gpu", help="what one card counts as")
    given = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "build/kubernetes/bin/kubectl"
    site = Site(
        kubectl=shutil.which("kubectl") or str(beside),
        platform=given.platform,
        engines=given.engines,
        training=given.training,
        gpu_resource=given.gpu_resource,
        gateway_url=os.environ.get("STUDIO_GATEWAY_URL"),
        api_key=os.environ.get("STUDIO_API_KEY"),
        limited_key=os.environ.get("STUDIO_LIMITED_KEY"),
        probe_image=os.environ.get("STUDIO_PROBE_IMAGE"),
    )
    failed = left = 0
    for one in judged(site, given.day or tuple(DAYS)):
        failed += one.outcome == "FAILED"
        left += one.outcome == "not looked at"
        print(f"day {one.day:4} {one.outcome:14} {one.name}: {one.said}", flush=True)
    print(f"{failed} failed, {left} not looked at.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
