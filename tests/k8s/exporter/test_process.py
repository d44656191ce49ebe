"""The exporter as it runs on a node: started with the driver away, killed, told nonsense."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError

import pytest

from studio.settings import REPOSITORY
from tests.k8s.conftest import Exporters
from tests.k8s.exporter.node import Exposition, GpuNode, Kubelet
from tests.k8s.prometheus import promtool
from tests.local.eventually import eventually

ENERGY = "studio_gpu_energy_joules_total"


def test_an_exporter_started_before_the_driver_finds_it_and_is_healthy_all_the_time(
    node: GpuNode, exporters: Exporters, kubelet: Kubelet
) -> None:
    kubelet.run("studio", "qwen3-32b-0", "GPU-0000")
    node.state.init_result = 1
    elsewhere = node.library.with_name("not-yet-installed.so")
    exporter = exporters.start(library=elsewhere)
    try:
        eventually(lambda: exporter.scrape().values("studio_exporter_source", source="none") == [1], "a first pass")
        assert exporter.health()["status"] == "live"
        shutil.copy(node.library, elsewhere)
        errors = {"function": "mxSmlInit", "result": "1"}
        eventually(
            lambda: exporter.scrape().values("studio_exporter_call_errors_total", **errors) != [], "the file is loaded"
        )
        assert exporter.scrape().values("studio_gpu_up") == []
        node.state.init_result = 0
        eventually(lambda: exporter.scrape().values("studio_gpu_up") == [1, 1, 1, 1], "the driver is found")
        seen = exporter.scrape()
        assert seen.value("studio_gpu_workload_info", uuid="GPU-0000", pod="qwen3-32b-0") == 1
        assert exporter.health() | {"last_sample_seconds_ago": 0} == {
            "status": "live",
            "source": "library",
            "last_sample_seconds_ago": 0,
        }
        node.cards[1].way_mw[0] = 333_000
        eventually(lambda: exporter.scrape().values("studio_gpu_power_watts", uuid="GPU-0001") == [333], "new power")
        assert seen.value("studio_exporter_scrapes_total") > 0
        assert seen.value("studio_exporter_scrape_cpu_seconds_total") > 0
        assert seen.value("process_resident_memory_bytes") > 0
        assert exporter.end() == 0
    finally:
        elsewhere.unlink(missing_ok=True)


def test_energy_never_falls_although_the_exporter_is_killed(node: GpuNode, exporters: Exporters) -> None:
    exporter = exporters.start()
    eventually(lambda: min(exporter.scrape().values(ENERGY), default=0) > 0, "energy grows")
    before = exporter.scrape().values(ENERGY)
    exporter.end(signal.SIGKILL)
    again = exporters.start()
    eventually(lambda: bool(again.scrape().values("studio_gpu_up")), "a first pass")
    after = again.scrape().values(ENERGY)
    assert len(after) == 4
    assert all(later >= earlier for earlier, later in zip(before, after, strict=True)), (before, after)


def test_what_it_shows_is_what_prometheus_accepts(exporters: Exporters, kubelet: Kubelet) -> None:
    kubelet.run("studio", "qwen3-32b-0", "GPU-0000")
    exporter = exporters.start()
    eventually(lambda: bool(exporter.scrape().values("studio_gpu_workload_info")), "a first pass")
    text = exporter.get("/metrics").decode()
    assert len(Exposition(text).samples) > 300
    checked = subprocess.run([promtool(), "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_driver_that_hangs_leaves_counters_and_an_unhealthy_exporter(node: GpuNode, exporters: Exporters) -> None:
    exporter = exporters.start(stale_after_seconds=0.5)
    eventually(lambda: exporter.scrape().values("studio_gpu_up") == [1, 1, 1, 1], "a first pass")
    node.state.hangs = 1
    try:
        eventually(lambda: exporter.scrape().values("studio_gpu_power_watts") == [], "old values are not shown")
        seen = exporter.scrape()
        assert seen.values("studio_gpu_up") == []
        assert len(seen.values(ENERGY)) == 4
        with pytest.raises(HTTPError, match="503"):
            exporter.health()
    finally:
        node.state.hangs = 0
    eventually(lambda: exporter.scrape().values("studio_gpu_up") == [1, 1, 1, 1], "it goes on")
    assert exporter.health()["status"] == "live"


def test_other_paths_are_not_there(exporters: Exporters) -> None:
    exporter = exporters.start()
    with pytest.raises(HTTPError, match="404"):
        exporter.get("/")


def test_a_wrong_setting_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "k8s.exporter"],
        cwd=REPOSITORY,
        env={"STUDIO_EXPORTER_PORT": "nine"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("The exporter cannot start: STUDIO_EXPORTER_PORT is 'nine'")
    assert len(ended.stderr.splitlines()) == 1
