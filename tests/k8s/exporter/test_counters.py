"""Joules and errors only rise: over gaps, wraps, restarts and a disk that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.exporter.meters import Energy, Tally
from tests.k8s.conftest import InProcess
from tests.k8s.exporter.node import GpuNode

WATTS = st.floats(0, 1000)
SAMPLES = st.lists(st.tuples(st.floats(0.1, 100), st.one_of(st.none(), WATTS)), min_size=1, max_size=30)


class TestEnergy:
    def test_is_the_area_under_the_samples(self) -> None:
        energy = Energy()
        for at, watts in ((0, 100), (10, 200), (15, 0)):
            energy = energy.sampled(watts, at, 30)
        assert energy.joules == 10 * 150 + 5 * 100
        assert energy.unmeasured_seconds == 0

    def test_nothing_is_assumed_over_a_long_gap(self) -> None:
        energy = Energy().sampled(100, 0, 30).sampled(100, 31, 30)
        assert (energy.joules, energy.unmeasured_seconds) == (0, 31)
        assert energy.sampled(100, 36, 30).joules == 500

    def test_a_few_missed_readings_are_bridged(self) -> None:
        energy = Energy().sampled(100, 0, 30).sampled(None, 5, 30).sampled(None, 10, 30).sampled(300, 20, 30)
        assert (energy.joules, energy.unmeasured_seconds) == (20 * 200, 0)

    def test_a_card_that_never_said_its_power_has_only_unmeasured_time(self) -> None:
        energy = Energy().sampled(None, 0, 30).sampled(None, 100, 30).sampled(50, 120, 30)
        assert (energy.joules, energy.unmeasured_seconds) == (0, 120)

    def test_a_clock_that_was_set_back_makes_no_energy(self) -> None:
        energy = Energy().sampled(100, 1000, 30).sampled(100, 10, 30)
        assert (energy.joules, energy.unmeasured_seconds) == (0, 0)
        assert energy.sampled(100, 20, 30).joules == 1000

    @given(SAMPLES, st.floats(1, 50))
    def test_never_falls_and_every_second_is_measured_or_not(
        self, samples: list[tuple[float, float | None]], gap: float
    ) -> None:
        energy, at, last = Energy().sampled(0, 0, gap), 0.0, 0.0
        for passed, watts in samples:
            at += passed
            before, energy = energy, energy.sampled(watts, at, gap)
            assert energy.joules >= before.joules
            assert energy.unmeasured_seconds >= before.unmeasured_seconds
            last = at if watts is not None else last
        assert energy.joules <= 1000 * (last - energy.unmeasured_seconds) + 1e-6 * last + 1e-6


class TestTally:
    def test_a_wrap_goes_on(self) -> None:
        tally = Tally().counted(2**32 - 10, 32).counted(5, 32)
        assert tally.total == 2**32 + 5

    @pytest.mark.parametrize("before", [1000, 3_000_000_000])
    def test_a_driver_that_begins_at_0_is_no_wrap(self, before: int) -> None:
        assert Tally().counted(before, 32).counted(3, 32).total == before + 3

    @given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
    def test_never_falls(self, raws: list[int]) -> None:
        tally = Tally()
        for raw in raws:
            before, tally = tally, tally.counted(raw, 32)
            assert before.total <= tally.total


def errors(exporter: InProcess) -> float:
    seen = exporter.after_a_pass()
    return seen.value("studio_gpu_ecc_errors_total", uuid="GPU-0000", memory="dram", kind="uncorrected")


def test_ecc_errors_go_on_over_a_wrap_a_reset_and_a_restart(node: GpuNode, exporter: InProcess) -> None:
    counter = node.cards[0].ecc
    counter[3] = 2**32 - 2
    assert errors(exporter) == 2**32 - 2
    counter[3] = 3
    assert errors(exporter) == 2**32 + 3
    counter[3] = 0
    assert errors(exporter) == 2**32 + 3
    counter[3] = 1
    restarted = InProcess(node.settings())
    assert errors(restarted) == 2**32 + 4
    assert errors(restarted) == 2**32 + 4


def test_energy_goes_on_where_the_last_exporter_stopped(node: GpuNode, exporter: InProcess) -> None:
    exporter.after_a_pass()
    joules = exporter.after_a_pass().values("studio_gpu_energy_joules_total")
    after = InProcess(node.settings()).after_a_pass().values("studio_gpu_energy_joules_total")
    assert len(after) == 4
    assert all(later > earlier > 0 for earlier, later in zip(joules, after, strict=True))


def test_a_disk_that_fails_is_a_metric(node: GpuNode, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    exporter = InProcess(node.settings(records=tmp_path / "taken" / "records.json"))
    seen = exporter.after_a_pass()
    assert seen.value("studio_exporter_records_saved") == 0
    assert seen.values("studio_gpu_up") == [1, 1, 1, 1]


@pytest.mark.parametrize("content", [b"", b'{"version": 1, "cards": [{"card"', b'{"version": 2, "cards": []}', b"[]"])
def test_records_that_cannot_be_read_begin_anew(node: GpuNode, content: bytes) -> None:
    (node.folder / "records.json").write_bytes(content)
    exporter = InProcess(node.settings())
    assert exporter.after_a_pass().values("studio_gpu_energy_joules_total") == [0, 0, 0, 0]
    assert exporter.after_a_pass().value("studio_exporter_records_saved") == 1
