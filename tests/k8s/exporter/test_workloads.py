"""Which pod works on a card, as the kubelet says over its socket, and what that pod works for, as the mapping says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.k8s.conftest import InProcess
from tests.k8s.exporter.node import Exposition, GpuNode, Kubelet

RULES = [
    {"namespace": "studio", "pod": "qwen3-32b-fast-*", "model": "qwen3-32b", "variant": "qwen3-32b-fast"},
    {"namespace": "studio", "pod": "qwen3-*", "model": "qwen3-32b", "variant": "qwen3-32b"},
    {"namespace": "tenant-acme", "pod": "*", "tenant": "acme"},
]


def works(seen: Exposition, uuid: str) -> list[dict[str, str]]:
    """Labels of the workloads of a card, without the card's own."""
    own = ("uuid", "index", "model", "host")
    return [
        {name: text for name, text in labels.items() if name not in own}
        for labels in seen.labels("studio_gpu_workload_info", uuid=uuid)
    ]


@pytest.mark.parametrize("device_id", ["GPU-0002", "0000:08:00.0", "2"])
def test_a_card_shows_its_pod_whatever_the_device_plugin_calls_it(
    exporter: InProcess, kubelet: Kubelet, device_id: str
) -> None:
    kubelet.run("studio", "qwen3-32b-0", device_id)
    seen = exporter.after_a_pass()
    work = {"namespace": "studio", "pod": "qwen3-32b-0", "container": "engine"}
    assert works(seen, "GPU-0002") == [work | {"served_model": "", "variant": "", "tenant": ""}]
    assert works(seen, "GPU-0000") == []
    assert seen.value("studio_exporter_pod_resources_up") == 1
    assert seen.value("studio_exporter_unknown_devices") == 0
    assert seen.value("studio_exporter_unnamed_workloads") == 0  # without a mapping no line is missing


def test_the_mapping_says_what_pods_work_for(node: GpuNode, kubelet: Kubelet, tmp_path: Path) -> None:
    rules = tmp_path / "workloads.json"
    rules.write_text(json.dumps(RULES))
    exporter = InProcess(node.settings(workloads=str(rules)))
    kubelet.run("studio", "qwen3-32b-fast-7c9f", "GPU-0000", "GPU-0001")
    kubelet.run("studio", "qwen3-32b-5d4e", "GPU-0002")
    kubelet.run("tenant-acme", "notebook", "GPU-0003")
    seen = exporter.after_a_pass()
    named = [
        (work["served_model"], work["variant"], work["tenant"])
        for uuid in ("GPU-0000", "GPU-0001", "GPU-0002", "GPU-0003")
        for work in works(seen, uuid)
    ]
    assert named == [
        ("qwen3-32b", "qwen3-32b-fast", ""),
        ("qwen3-32b", "qwen3-32b-fast", ""),
        ("qwen3-32b", "qwen3-32b", ""),
        ("", "", "acme"),
    ]

    # A ConfigMap is replaced as a whole; half a file leaves the last mapping in force.
    replaced = tmp_path / "next.json"
    replaced.write_text(json.dumps([{"namespace": "tenant-acme", "pod": "*", "tenant": "acme-gmbh"}]))
    replaced.replace(rules)
    assert works(exporter.after_a_pass(), "GPU-0003")[0]["tenant"] == "acme-gmbh"
    rules.write_text("[{")
    assert works(exporter.after_a_pass(), "GPU-0003")[0]["tenant"] == "acme-gmbh"


def test_a_pod_that_no_line_names_is_counted_and_one_that_has_ended_holds_nothing(
    node: GpuNode, kubelet: Kubelet, tmp_path: Path
) -> None:
    rules = tmp_path / "workloads.json"
    exporter = InProcess(node.settings(workloads=str(rules)))
    kubelet.run("engines", "engine-qwen3-7c9f", "GPU-0000")
    kubelet.run("training", "fine-tune-over-x2k4p", "GPU-0000")  # older kubelets list it although it has ended
    seen = exporter.after_a_pass()  # the list has not come yet
    assert seen.value("studio_exporter_unnamed_workloads") == 2
    lines = [
        {"namespace": "engines", "pod": "engine-qwen3-*", "variant": "qwen3-32b"},
        {"namespace": "training", "pod": "fine-tune-open-*", "tenant": "acme"},
        {"namespace": "training", "pod": "*"},
    ]
    rules.write_text(json.dumps(lines))
    kubelet.run("training", "fine-tune-open-9qwer", "GPU-0001")
    kubelet.run("elsewhere", "somebody", "GPU-0002")
    seen = exporter.after_a_pass()
    assert [work["pod"] for work in works(seen, "GPU-0000")] == ["engine-qwen3-7c9f"]
    assert [work["tenant"] for work in works(seen, "GPU-0001")] == ["acme"]
    assert [work["pod"] for work in works(seen, "GPU-0002")] == ["somebody"]
    assert seen.value("studio_exporter_unnamed_workloads") == 1


def test_pods_move_and_the_energy_of_a_card_stays_one_series(exporter: InProcess, kubelet: Kubelet) -> None:
    kubelet.run("studio", "first", "GPU-0000")
    before = exporter.after_a_pass()
    kubelet.remove("studio", "first")
    kubelet.run("studio", "second", "GPU-0000")
    after = exporter.after_a_pass()
    assert [work["pod"] for seen in (before, after) for work in works(seen, "GPU-0000")] == ["first", "second"]
    energy = "studio_gpu_energy_joules_total"
    assert before.labels(energy) == after.labels(energy)


def test_a_kubelet_that_is_away_costs_the_workloads_only(node: GpuNode, exporter: InProcess) -> None:
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_pod_resources_up") == 0
    assert seen.labels("studio_gpu_workload_info") == []
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]
    kubelet = Kubelet(node.folder / "kubelet.sock")
    try:
        kubelet.run("studio", "late", "GPU-0000")
        assert works(exporter.after_a_pass(), "GPU-0000")[0]["pod"] == "late"
    finally:
        kubelet.stop()
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_pod_resources_up") == 0
    assert seen.labels("studio_gpu_workload_info") == []


def test_a_socket_that_nobody_answers_is_a_kubelet_that_is_away(node: GpuNode, exporter: InProcess) -> None:
    (node.folder / "kubelet.sock").write_text("")
    assert exporter.after_a_pass().value("studio_exporter_pod_resources_up") == 0


def test_other_resources_are_no_cards_and_unknown_cards_are_counted(exporter: InProcess, kubelet: Kubelet) -> None:
    kubelet.run("studio", "network", "0", resource="example.com/nic")
    kubelet.run("studio", "stranger", "GPU-9999")
    seen = exporter.after_a_pass()
    assert seen.labels("studio_gpu_workload_info") == []
    assert seen.value("studio_exporter_unknown_devices") == 1
