"""The load generator: a figure it prints is of right answers, and wrong answers are named."""

import pytest
import uvloop

from benchmarks.load import Measurement, Target, Workload, closed_loop
from tests.stub_engine import StubEngine

STREAM = Workload(max_tokens=20, stream=True)


def measure(engine: StubEngine, workload: Workload, connections: int = 4) -> Measurement:
    return uvloop.run(
        closed_loop(Target(engine.url, "any-name"), workload, connections=connections, seconds=0.3, warmup_seconds=0.1)
    )


@pytest.mark.parametrize("workload", [STREAM, Workload(max_tokens=20, stream=False)])
def test_right_answers_are_measured(workload: Workload) -> None:
    with StubEngine() as engine:
        measurement = measure(engine, workload)
    assert measurement.faults == {}
    assert measurement.requests > 10
    assert measurement.latency_ms_p50 is not None
    assert (measurement.chunks >= 20 * measurement.requests * 0.9) == workload.stream


def test_paced_streams_arrive_at_their_pace() -> None:
    with StubEngine(tokens_per_second=100) as engine:
        measurement = measure(engine, STREAM)
    assert measurement.gap_ms_p50 == pytest.approx(10, abs=3)


def test_an_engine_that_dies_is_a_fault() -> None:
    with StubEngine(die_after=5) as engine:
        measurement = measure(engine, STREAM)
    assert measurement.requests == 0
    assert set(measurement.faults) == {"connection closed"}
