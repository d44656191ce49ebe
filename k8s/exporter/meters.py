"""Energy from samples of power, and counters that only rise from counters that wrap or begin again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# A step of the hardware's counter between two samples that is still believed to be a wrap. One too small loses a few
# errors after a wrap; one too large would turn a restart of the driver into a thousand million of them.
_LARGEST_WRAP = 1_000_000


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules up to the sample `watts` at `at_seconds`, and how long power was not known."""

    joules: float = 0.0
    unmeasured_seconds: float = 0.0
    watts: float | None = None
    at_seconds: float | None = None

    def sampled(self, watts: float | None, at_seconds: float, longest_gap_seconds: float) -> Energy:
        """After one more sample, None where power was not said.

        Between two samples power is taken as a straight line. Over a longer gap nothing is assumed: its time is
        counted as unmeasured, so that a reader of kWh can say "not measured" instead of a guess.
        """
        if self.at_seconds is None:
            return Energy(self.joules, self.unmeasured_seconds, watts, at_seconds)
        passed = at_seconds - self.at_seconds
        if passed < 0:
            return Energy(self.joules, self.unmeasured_seconds, watts, at_seconds)
        if watts is None:
            return self
        if self.watts is None or passed > longest_gap_seconds:
            return Energy(self.joules, self.unmeasured_seconds + passed, watts, at_seconds)
        return Energy(self.joules + (self.watts + watts) / 2 * passed, self.unmeasured_seconds, watts, at_seconds)


@dataclass(frozen=True, slots=True)
class Tally:
    """A count that only rises, and the hardware's count that it was last brought up to."""

    total: int = 0
    raw: int = 0

    def counted(self, raw: int, bits: int) -> Tally:
        """After the hardware's counter of so many bits was read as `raw`."""
        if raw >= self.raw:
            return Tally(self.total + raw - self.raw, raw)
        wrapped = raw - self.raw + (1 << bits)
        # Not a wrap: the driver was loaded again and began at 0.
        return Tally(self.total + (wrapped if wrapped <= _LARGEST_WRAP else raw), raw)
