"""The engine releases' values are the catalog's: each variant's cards, flags and hours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from k8s.engine_values import VALUES, CardsDisagree, as_file, catalog_values, engine_values, window
from local.engine_command import EngineSpec
from studio.catalog.declaration import DeclaredCalendar, DeclaredHours, DeclaredModel, Deployment
from studio.catalog.judged import Catalog
from studio.catalog.reading import read_catalog
from studio.settings import REPOSITORY
from tests.k8s.rendering import ENGINE, EVERYWHERE, merged, only, pod_spec, template


@pytest.fixture(scope="module")
def reviewed() -> Catalog:
    """The catalog of this repository."""
    return read_catalog(REPOSITORY / "catalog", "local")


def calendar(*hours: tuple[str, str], days: tuple[str, ...] = ("mon", "fri"), prewarm: int = 30) -> DeclaredCalendar:
    """Hours on some days in Berlin."""
    declared = tuple(DeclaredHours.model_validate({"days": days, "opens": o, "closes": c}) for o, c in hours)
    return DeclaredCalendar(id="c", time_zone="Europe/Berlin", prewarm_minutes=prewarm, hours=declared)


def test_the_files_are_what_the_catalog_says(reviewed: Catalog) -> None:
    written = {path.stem: path.read_text() for path in VALUES.glob("*.yaml")}
    expected = {variant: as_file(values) for variant, values in catalog_values(reviewed).items()}
    assert written == expected, "run `python -m k8s.engine_values`"


def test_a_startup_probe_goes_by_measured_starts_and_has_a_floor(tmp_path: Path) -> None:
    report = {
        "starts": [
            {"model": "qwen3-32b-fast", "seconds": [410.2, *[200.0] * 98, 640.5]},
            {"model": "mistral-7b-v0.1", "seconds": [61.0]},
            {"model": "deepseek-v2-236b", "seconds": [700.0]},
        ]
    }
    (tmp_path / "fleet.json").write_text(json.dumps(report))
    command = [sys.executable, "-m", "k8s.engine_values", str(tmp_path), "--fleet", str(tmp_path / "fleet.json")]
    said = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stderr

    def engine_of(variant: str) -> Any:
        return yaml.safe_load((tmp_path / f"{variant}.yaml").read_text())["engine"]

    assert engine_of("qwen3-32b-fast")["startSecondsP99"] == 411  # not the one in a hundred that took 641
    assert engine_of("mistral-7b-v0.1")["startSecondsP99"] == 300
    assert engine_of("deepseek-v2-236b")["startSecondsP99"] == 900
    assert "startSecondsP99" not in engine_of("qwen3-32b")  # nobody has measured, and that is said
    listed = said.split("measured a start of ")[1].split(": ")[0].split(", ")
    everybody = {path.stem for path in VALUES.glob("*.yaml")}
    assert set(listed) == everybody - {one["model"] for one in report["starts"]}
    (tmp_path / "fleet.json").write_text("[]")
    refused = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert (refused.returncode, "is no report of `bin/studio fleet status --json`" in refused.stderr) == (1, True)


def test_base_and_fast_differ_as_the_plan_says() -> None:
    def values(variant: str) -> Any:
        return yaml.safe_load((VALUES / f"{variant}.yaml").read_text())

    base, fast = values("qwen3-32b"), values("qwen3-32b-fast")
    assert (base["model"]["tier"], base["engine"]["tensorParallel"], base["engine"]["maxNumSeqs"]) == ("base", 1, 32)
    assert (fast["model"]["tier"], fast["engine"]["tensorParallel"], fast["engine"]["maxNumSeqs"]) == ("fast", 2, 64)
    many = values("mistral-7b-v0.1-fast")
    assert (many["replicas"], many["keda"]["minReplicas"], many["engine"]["tensorParallel"]) == (3, 1, 1)


def test_every_variant_with_cards_is_a_release_with_the_node_agents_arguments(reviewed: Catalog) -> None:
    wanted = {variant.id for model in reviewed.models for variant in model.variants if variant.gpu_count}
    files = {path.stem: yaml.safe_load(path.read_text()) for path in VALUES.glob("*.yaml")}
    assert set(files) == wanted
    for model in reviewed.models:
        for variant in model.variants:
            if variant.id not in wanted:
                continue
            documents = template("engine", merged(ENGINE, files[variant.id], {"driver": "keda"}))
            container = pod_spec(documents)["containers"][0]
            spec = EngineSpec(
                *(variant.id, model.id, variant.weights, model.task, variant.context_tokens, variant.max_num_seqs),
                variant.engine_flags,
                {},
            )
            ours = spec.arguments(Path("python3"), Path("/run/studio/weights"), 8000)
            assert set(container["args"]) - set(ours) == {EVERYWHERE, "--shutdown-timeout=120"}
            assert set(ours) - {*container["command"], *container["args"]} == {"127.0.0.1"}
            assert container["resources"]["limits"]["metax-tech.com/gpu"] == str(variant.gpu_count)
            assert only(documents, "ScaledObject")["spec"]["minReplicaCount"] == variant.closed_replicas


def test_the_window_opens_prewarmed_and_closes_with_the_calendar() -> None:
    assert window(calendar(("08:00", "18:00"), days=("mon", "tue", "wed", "thu", "fri")), 3) == [
        {"timezone": "Europe/Berlin", "start": "30 7 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": 3}
    ]
    assert (
        window(calendar(("09:15", "17:45"), days=("sat", "sun", "wed"), prewarm=0), 1)[0]["start"] == "15 9 * * 0,3,6"
    )


def test_hours_that_one_trigger_cannot_say_get_none() -> None:
    assert window(calendar(("08:00", "12:00"), ("13:00", "18:00")), 1) == []
    assert window(calendar(("00:10", "18:00")), 1) == []  # prewarming begins the day before


def test_no_window_of_the_catalog_begins_in_an_hour_that_a_spring_night_skips(reviewed: Catalog) -> None:
    for values in catalog_values(reviewed).values():
        for trigger in values["keda"]["triggers"]:
            minute, hour = map(int, trigger["start"].split()[:2])
            zone = ZoneInfo(trigger["timezone"])
            for offset in range(366):
                day = datetime(2026, 1, 1, tzinfo=zone).date() + timedelta(days=offset)
                start = datetime.combine(day, time(hour, minute), zone)
                assert start.astimezone(ZoneInfo("UTC")).astimezone(zone).hour == hour


def test_a_site_gives_its_own_numbers(reviewed: Catalog) -> None:
    deploy = (Deployment(variant="qwen3-32b", replicas=2), Deployment(variant="qwen3-32b-fast", served_by="qwen3-32b"))
    site = reviewed.site.model_copy(update={"deploy": deploy})
    values = catalog_values(replace(reviewed, site=site), of_site=True, bucket_prefix="eu-")
    assert list(values) == ["qwen3-32b"]
    assert values["qwen3-32b"]["replicas"] == 2
    assert values["qwen3-32b"]["weights"]["uri"] == "s3://eu-modelzoo/qwen3-32b-w8a8"


def test_flags_that_use_other_cards_than_the_catalog_counts_are_an_error(reviewed: Catalog) -> None:
    model: DeclaredModel = next(model for model in reviewed.models if model.id == "qwen3-32b")
    variant = model.variants[0].model_copy(update={"gpu_count": 4})
    with pytest.raises(CardsDisagree, match="gpu_count is 4, and its engine_flags use 1 cards"):
        engine_values(model, variant, None, 1, "")


def test_the_command_leaves_files_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "my-site.yaml").write_text("replicas: 1\n")
    (tmp_path / "gone.yaml").write_text((VALUES / "qwen3-32b.yaml").read_text())
    subprocess.run([sys.executable, "-m", "k8s.engine_values", tmp_path], check=True, cwd=REPOSITORY)
    names = {path.name for path in tmp_path.iterdir()}
    assert "my-site.yaml" in names
    assert "gone.yaml" not in names
    assert names - {"my-site.yaml"} == {path.name for path in VALUES.glob("*.yaml")}
