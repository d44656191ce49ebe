"""The code location as a whole, beside a golden file: what is lost or renamed by accident shows up here."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg

from orchestration.definitions import defs

GROUPS = {
    "batches",
    "catalog",
    "cluster",
    "costs",
    "fine_tunes",
    "fleet",
    "invoices",
    "isolation",
    "notices",
    "objectives",
    "objects",
    "usage",
}
GOLDEN = Path(__file__).with_name("definitions.golden.json")


def test_the_definitions_are_as_written_down() -> None:
    assert _outline(defs) == json.loads(GOLDEN.read_text()), (
        "wanted? then write the golden file anew: python -m tests.orchestration.test_definitions"
    )


def test_every_asset_has_an_owner_a_group_and_words() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.owners, spec.key
        assert spec.group_name in GROUPS, spec.key
        assert spec.description, spec.key
        assert len(spec.description) > 40, spec.key


def test_everything_that_ticks_is_on() -> None:
    repository = defs.get_repository_def()
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert all(schedule.default_status == dg.DefaultScheduleStatus.RUNNING for schedule in repository.schedule_defs)


def _outline(definitions: dg.Definitions) -> dict[str, object]:
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    return {
        "assets": {
            key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys),
        "jobs": {
            job.name: job.tags.get("dagster/max_runtime")
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: sensor.minimum_interval_seconds
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
        "schedules": {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs},
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(_outline(defs), indent=2) + "\n")
