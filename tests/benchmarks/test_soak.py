"""What the soak benchmark makes of the memory that it has seen."""

from __future__ import annotations

import pytest

from benchmarks.soak import grows_too_fast

MIB = 2**20


def memory(minutes: float, growth_per_hour: float) -> list[tuple[float, int]]:
    """130 MiB that grow on a straight line once they are warm, after a steep quarter."""
    seconds = minutes * 60
    warm = 0.25 * seconds
    return [
        (at, round((130 + growth_per_hour * (at - warm) / 3600) * MIB) if at >= warm else 60 * MIB)
        for at in (seconds * n / 200 for n in range(201))
    ]


@pytest.mark.parametrize(
    ("minutes", "growth_per_hour", "too_fast"),
    [(60, 1.1, False), (60, 6.4, False), (60, 6.6, True), (30, 6.6, True), (60, -3, False), (29, 60, False)],
)
def test_five_percent_an_hour_is_too_much_once_it_can_be_told(
    minutes: float, growth_per_hour: float, too_fast: bool
) -> None:
    assert grows_too_fast(memory(minutes, growth_per_hour), minutes * 60) is too_fast
