"""What the library holds is what Prometheus sees, in base units; what a card does not say is not there."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from k8s.exporter import mxsml
from tests.k8s.conftest import InProcess
from tests.k8s.exporter.node import CardInLibrary, GpuNode, compile_library

# Every field has a value of its own, so that a wrong offset, unit or order cannot pass.


def furnish(card: CardInLibrary) -> None:
    card.ways, card.way_mw[0], card.way_mw[1], card.limit_mw = 2, 61_500, 26_250, 450_000
    for sensor, centidegrees in {0: 6125, 1: 10_500, 2: 5075, 3: 5580, 12: 2450, 14: 3865}.items():
        card.centidegrees[sensor] = centidegrees
    card.vram_total_kb, card.vram_used_kb = 67_108_864, 878_592
    card.usage_percent = 37
    card.xcore_mhz[0], card.xcore_mhz[1], card.memory_mhz = 1410, 1500, 1800
    card.throttle = 0x004 | 0x020 | 0x80000000
    for field, errors in enumerate((11, 12, 13, 14, 70_000)):
        card.ecc[field] = errors
    card.pcie_gts, card.pcie_lanes, card.pcie_most_gts, card.pcie_most_lanes = 16, 8, 32, 16
    card.pcie_received_mb, card.pcie_sent_mb = 21, 22
    for port in range(7):
        for direction in range(2):
            for part in range(2):
                card.bandwidth_mb[direction][port][part] = 1000 + 100 * direction + 10 * port + part
                card.traffic_bytes[direction][port][part] = 10**13 + 100 * direction + 10 * port + part


def test_every_value_arrives_in_base_units(node: GpuNode, exporter: InProcess) -> None:
    furnish(node.cards[2])
    seen = exporter.after_a_pass()

    def value(name: str, **labels: str) -> float:
        return seen.value(f"studio_gpu_{name}", uuid="GPU-0002", index="2", model="MXC500", host="node-1", **labels)

    assert value("up") == 1
    assert value("info", bdf="0000:08:00.0", driver="2.16.0", bios="1.26.1") == 1
    assert value("power_watts") == 87.75  # the sum of both supplies
    assert value("power_limit_watts") == 450
    sensors = {"hotspot": 61.25, "soc": 50.75, "core": 55.8, "inlet": 24.5, "outlet": 38.65}
    assert {name: value("temperature_celsius", sensor=name) for name in sensors} == sensors
    assert value("temperature_limit_celsius") == 105
    assert value("memory_total_bytes") == 64 * 2**30
    assert value("memory_used_bytes") == 878_592 * 1024
    assert value("utilisation_ratio") == 0.37
    assert (
        value("clock_hertz", domain="xcore") == 1_500_000_000
    )  # the faster of two: the list was longer than asked for
    assert value("clock_hertz", domain="memory") == 1_800_000_000
    held = {labels["reason"] for labels in seen.labels("studio_gpu_throttled", uuid="GPU-0002")}
    throttled = {reason for reason in held if value("throttled", reason=reason)}
    assert throttled == {"power", "memory_temperature", "other"}
    assert len(held) == 12
    counts = {("sram", "corrected"): 11, ("sram", "uncorrected"): 12, ("dram", "corrected"): 13}
    for (memory, kind), errors in (counts | {("dram", "uncorrected"): 14}).items():
        assert value("ecc_errors_total", memory=memory, kind=kind) == errors
    assert value("retired_pages") == 70_000
    assert value("pcie_link_transfers_per_second") == 16e9
    assert value("pcie_link_lanes") == 8
    assert value("pcie_link_limit_transfers_per_second") == 32e9
    assert value("pcie_link_limit_lanes") == 16
    assert value("pcie_throughput_bytes_per_second", direction="received") == 21e6
    assert value("pcie_throughput_bytes_per_second", direction="sent") == 22e6
    assert value("metaxlink_enabled", state="enabled") == 1
    for port in range(7):
        for d, direction in enumerate(("input", "target")):
            for p, part in enumerate(("request", "response")):
                labels = {"port": str(port), "direction": direction, "part": part}
                step = 100 * d + 10 * port + p
                assert value("metaxlink_bandwidth_bytes_per_second", **labels) == (1000 + step) * 1e6
                assert value("metaxlink_traffic_bytes_total", **labels) == 10**13 + step


def test_structures_are_as_large_as_the_library_writes(library: Path) -> None:
    ours = (
        *(mxsml.DeviceInfo, mxsml.MemoryInfo, mxsml.BoardWay, mxsml.PcieLink, mxsml.PcieThroughput),
        *(mxsml.LinkBandwidth, mxsml.LinkTraffic, mxsml.EccErrors, mxsml.UnavailableReason),
    )
    theirs = (ctypes.c_uint * len(ours)).in_dll(ctypes.CDLL(str(library)), "structure_sizes")
    assert [ctypes.sizeof(structure) for structure in ours] == list(theirs)


def test_ports_say_up_or_down_and_unused_ones_nothing(node: GpuNode, exporter: InProcess) -> None:
    card = node.cards[0]
    card.link_state = 4
    for port, state in enumerate((1, 0, 2, 3, 4, 5, 1)):
        card.port_states[port] = state
    seen = exporter.after_a_pass()
    ports = {
        (labels["port"], labels["state"]): seen.value(
            "studio_gpu_metaxlink_port_up", uuid="GPU-0000", port=labels["port"]
        )
        for labels in seen.labels("studio_gpu_metaxlink_port_up", uuid="GPU-0000")
    }
    assert ports == {
        ("0", "up"): 1,
        ("1", "not_trained"): 0,
        ("2", "down_module_in_place"): 0,
        ("3", "down_module_missing"): 0,
        ("4", "down_module_unused"): 0,
        ("6", "up"): 1,
    }
    # The public binding answers this question with the return code, which is always 0.
    assert seen.value("studio_gpu_metaxlink_enabled", uuid="GPU-0000", state="training_failed") == 0


def test_a_card_that_takes_no_work_says_why(node: GpuNode, exporter: InProcess) -> None:
    node.cards[1].unavailable_code, node.cards[1].unavailable_reason = 7, b"uncorrectable memory error"
    seen = exporter.after_a_pass()
    assert seen.labels("studio_gpu_unavailable_info") == [
        {"uuid": "GPU-0001", "index": "1", "model": "MXC500", "host": "node-1", "code": "7"}
        | {"reason": "uncorrectable memory error"}
    ]
    assert seen.value("studio_gpu_up", uuid="GPU-0001") == 1


def test_a_board_with_more_supplies_than_expected_is_asked_again(node: GpuNode, exporter: InProcess) -> None:
    card = node.cards[0]
    card.ways = 6
    for way in range(6):
        card.way_mw[way] = 1000 * (way + 1)
    assert exporter.after_a_pass().value("studio_gpu_power_watts", uuid="GPU-0000") == 21


@pytest.mark.parametrize(
    ("function", "metric"),
    [
        ("power", "studio_gpu_power_watts"),
        ("memory", "studio_gpu_memory_used_bytes"),
        ("ecc", "studio_gpu_ecc_errors_total"),
        ("throttle", "studio_gpu_throttled"),
        ("ports", "studio_gpu_metaxlink_port_up"),
    ],
)
@pytest.mark.parametrize("result", [3, 4, 8])  # not supported; a file of the driver; not permitted
def test_what_one_call_cannot_say_costs_its_own_metric_only(
    node: GpuNode, exporter: InProcess, function: str, metric: str, result: int
) -> None:
    node.cards[0].answers(function, result)
    seen = exporter.after_a_pass()
    assert seen.values(metric, uuid="GPU-0000") == []
    assert seen.values(metric, uuid="GPU-0001")
    assert seen.value("studio_gpu_up", uuid="GPU-0000") == 1
    assert seen.value("studio_gpu_temperature_celsius", uuid="GPU-0000", sensor="hotspot") == 41.5
    failures = seen.values("studio_exporter_call_errors_total", result=str(result))
    assert failures == ([] if result == 3 else [1])


def test_an_older_library_has_fewer_metrics_and_nothing_else_changes(
    node: GpuNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = compile_library(tmp_path_factory.mktemp("old"), "-DOLD_LIBRARY")
    ctypes.CDLL(str(old)).forget_state()
    seen = InProcess(node.settings(library=old)).after_a_pass()
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]
    assert seen.values("studio_gpu_power_watts") == [100, 100, 100, 100]
    assert seen.values("studio_gpu_metaxlink_traffic_bytes_total") == []
    assert seen.values("studio_gpu_pcie_link_limit_lanes") == []
    assert seen.values("studio_exporter_call_errors_total") == []


def test_an_exporter_that_is_told_no_library_finds_none(node: GpuNode, tmp_path: Path) -> None:
    seen = InProcess(node.settings(library=tmp_path / "nothing.so")).after_a_pass()
    assert seen.value("studio_exporter_source", source="none") == 1
    assert seen.values("studio_gpu_up") == []
