"""Requests per second of one key: integers in this process, no I/O. Budgets are money and live elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from studio.errors import RateLimited

_SECOND = 1_000_000_000  # in nanoseconds


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the caller is told about its limit."""

    limit: int
    remaining: int
    reset: timedelta  # until the whole limit is there again

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-ratelimit-*` as OpenAI writes them; the reset is a duration in Go's notation."""
        milliseconds = -(-self.reset // timedelta(milliseconds=1))
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % self.remaining),
            (b"x-ratelimit-reset-requests", b"%dms" % milliseconds),
        ]


class RequestLimits:
    """A bucket per key that holds one second of requests and fills evenly (GCRA: one integer per key).

    The integer is the instant at which the bucket will be full again, in nanoseconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._full_at: dict[UUID, int] = {}

    def take(self, key_id: UUID, requests_per_second: int, now_ns: int) -> Allowance:
        """Count one request, or raise RateLimited and count nothing."""
        interval = _SECOND // requests_per_second
        full_at = max(self._full_at.get(key_id, 0), now_ns) + interval
        missing = full_at - now_ns - interval * requests_per_second
        if missing > 0:
            raise RateLimited(f"{requests_per_second} requests per second for this API key", _duration(missing))
        self._full_at[key_id] = full_at
        remaining = (interval * requests_per_second - (full_at - now_ns)) // interval
        return Allowance(requests_per_second, remaining, _duration(full_at - now_ns))


def _duration(nanoseconds: int) -> timedelta:
    return timedelta(microseconds=-(-nanoseconds // 1000))
