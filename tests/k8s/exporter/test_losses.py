"""Cards and drivers go and come back: a metric each time, never the end of the exporter, and counters go on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from k8s.exporter.library import LibraryCards
from tests.k8s.conftest import InProcess
from tests.k8s.exporter.node import GpuNode


def at_once(node: GpuNode) -> InProcess:
    """It waits no time that matters before it initialises the library again."""
    return InProcess(node.settings(period_seconds=1e-9))


def test_a_lost_card_is_a_metric_and_the_others_go_on(node: GpuNode) -> None:
    exporter = at_once(node)
    exporter.after_a_pass()
    joules = exporter.after_a_pass().value("studio_gpu_energy_joules_total", uuid="GPU-0001")
    node.cards[1].present = 0
    node.cards[2].way_mw[0] = 222_000
    seen = exporter.after_a_pass()

    assert [seen.value("studio_gpu_up", uuid=f"GPU-000{n}") for n in range(4)] == [1, 0, 1, 1]
    assert seen.values("studio_gpu_power_watts", uuid="GPU-0001") == []
    assert seen.value("studio_gpu_energy_joules_total", uuid="GPU-0001") >= joules > 0
    assert seen.value("studio_gpu_power_watts", uuid="GPU-0002") == 222

    # The next initialisation leaves it out and numbers the others anew; it is still known.
    seen = exporter.after_a_pass()
    assert seen.value("studio_gpu_up", uuid="GPU-0001") == 0
    assert seen.value("studio_gpu_lost_info", uuid="GPU-0001", cause="not_listed") == 1
    assert seen.value("studio_gpu_power_watts", uuid="GPU-0002", index="1") == 222

    node.cards[1].present = 1
    exporter.after_a_pass()
    seen = exporter.after_a_pass()
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]
    assert seen.values("studio_gpu_lost_info") == []
    assert seen.value("studio_gpu_energy_joules_total", uuid="GPU-0001") >= joules


@pytest.mark.parametrize("result", [2, 6, 21])
def test_codes_of_a_lost_card_say_which(node: GpuNode, result: int) -> None:
    exporter = at_once(node)
    exporter.after_a_pass()
    node.cards[3].answers("temperature", result)
    seen = exporter.after_a_pass()
    assert seen.value("studio_gpu_up", uuid="GPU-0003") == 0
    assert seen.value("studio_gpu_lost_info", uuid="GPU-0003", cause=f"result_{result}") == 1
    node.cards[3].answers("temperature", 0)
    assert exporter.after_a_pass().value("studio_gpu_up", uuid="GPU-0003") == 1


def test_a_driver_that_comes_late_is_found(node: GpuNode) -> None:
    node.state.init_result = 1
    exporter = at_once(node)
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_source", source="none") == 1
    assert seen.value("studio_exporter_call_errors_total", function="mxSmlInit", result="1") == 1
    assert seen.values("studio_gpu_up") == []
    node.state.init_result = 0
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_source", source="library") == 1
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]


def test_a_driver_that_goes_takes_all_cards_with_it_and_they_return(node: GpuNode) -> None:
    exporter = at_once(node)
    exporter.after_a_pass()
    for card in node.cards[:4]:
        card.present = 0
    node.state.init_result = 21
    exporter.after_a_pass()
    seen = exporter.after_a_pass()
    assert seen.values("studio_gpu_up") == [0, 0, 0, 0]
    assert {labels["cause"] for labels in seen.labels("studio_gpu_lost_info")} == {"driver_down"}
    for card in node.cards[:4]:
        card.present = 1
    node.state.init_result = 0
    seen = exporter.after_a_pass()
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]


def test_a_healthy_library_is_initialised_once(node: GpuNode) -> None:
    exporter = at_once(node)
    for _ in range(5):
        exporter.after_a_pass()
    assert (node.state.inits, node.state.reinits) == (1, 0)


def test_a_card_that_stays_away_is_looked_for_less_and_less_often(node: GpuNode) -> None:
    now = 1000.0
    cards = LibraryCards(node.library, first_wait_seconds=1, monotonic=lambda: now)
    known = {f"GPU-000{n}" for n in range(4)}
    assert cards.read(known) is not None
    node.cards[0].present = 0
    looked_at = []
    for _ in range(300):
        now += 1
        before = node.state.reinits
        cards.read(known)
        if node.state.reinits > before:
            looked_at.append(now)
    waits = [later - earlier for earlier, later in pairwise(looked_at)]
    assert waits == sorted(waits)
    assert waits[0] <= 3
    assert waits[-1] in {60, 61}


def test_a_card_that_was_taken_out_is_forgotten_after_a_while(node: GpuNode) -> None:
    exporter = at_once(node)
    exporter.after_a_pass()
    node.cards[1].present = 0
    exporter.after_a_pass()
    impatient = InProcess(node.settings(period_seconds=1e-9, forget_after_days=1e-9))
    impatient.after_a_pass()
    seen = impatient.after_a_pass()
    assert [labels["uuid"] for labels in seen.labels("studio_gpu_up")] == ["GPU-0000", "GPU-0002", "GPU-0003"]


def test_without_the_library_the_command_line_says_what_it_can(node: GpuNode, tmp_path: Path) -> None:
    exporter = InProcess(node.settings(period_seconds=1e-9, mx_smi=str(mx_smi(tmp_path))))
    exporter.after_a_pass()
    node.state.init_result = 1
    for card in node.cards[:4]:
        card.present = 0
    exporter.after_a_pass()
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_source", source="mx_smi") == 1
    # The same labels as before, so that the series go on.
    assert seen.value("studio_gpu_power_watts", uuid="GPU-0000", model="MXC500") == 94.5
    assert seen.value("studio_gpu_clock_hertz", uuid="GPU-0000", domain="xcore") == 1_500_000_000
    assert seen.value("studio_gpu_unavailable_info", uuid="GPU-0001", reason="ECC error") == 1
    # A card that was never seen by the library is known by its address.
    assert seen.value("studio_gpu_power_watts", uuid="0000:0f:00.0", index="2") == 80
    assert seen.value("studio_gpu_up", uuid="GPU-0003") == 0


def test_a_card_first_known_by_its_address_is_the_same_when_the_library_says_its_uuid(
    node: GpuNode, tmp_path: Path
) -> None:
    node.state.init_result = 1
    exporter = InProcess(node.settings(period_seconds=1e-9, mx_smi=str(mx_smi(tmp_path))))
    exporter.after_a_pass()
    seen = exporter.after_a_pass()
    joules = seen.value("studio_gpu_energy_joules_total", uuid="0000:06:00.0")
    assert joules > 0
    node.state.init_result = 0
    seen = exporter.after_a_pass()
    # Nothing is lost but what only the command line knew: no alert for two weeks of a card that is there.
    assert [labels["uuid"] for labels in seen.labels("studio_gpu_lost_info")] == ["0000:0f:00.0"]
    assert seen.value("studio_gpu_energy_joules_total", uuid="GPU-0000") >= joules


@pytest.mark.parametrize("script", ["exit 1", "echo no devices", "echo '[]'"])
def test_a_command_line_that_fails_is_no_source(node: GpuNode, tmp_path: Path, script: str) -> None:
    node.state.init_result = 1
    command = tmp_path / "mx-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    seen = InProcess(node.settings(mx_smi=str(command))).after_a_pass()
    assert seen.value("studio_exporter_source", source="none") == 1


def mx_smi(folder: Path) -> Path:
    """A command that prints what public code reads from the vendor's."""
    command = folder / "mx-smi"
    command.write_text("""#!/bin/sh
[ "$1" = -j ] || exit 2
cat <<'END'
mx-smi  version: 2.2.9
{"driver_version": "3.0.11", "attached_gpus": 3,
 "0000:06:00.0": {"device_id": 0, "board_power": {"power": {"Way0": "94.5"}},
                  "clocks": {"XCORE": {"XCORE_CLK": "1500"}}},
 "0000:07:00.0": {"device_id": 1, "unavailable_reason": "ECC error"},
 "0000:0f:00.0": {"device_id": 2, "board_power": {"power": {"Way0": 50, "Way1": "30 W"}}}}
END
""")
    command.chmod(0o755)
    return command
