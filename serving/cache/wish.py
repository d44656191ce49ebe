"""What a caller asks of the cache, in two headers: `x-studio-cache` opts in, `Cache-Control` bounds it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from studio.errors import InvalidRequest

HEADER: Final = "x-studio-cache"
PATTERN: Final = r"(use|always)(?:; *ttl=(\d{1,7}))?"
KEPT: Final = timedelta(hours=1)  # unless the caller says otherwise
LONGEST: Final = timedelta(days=7)

_PATTERN = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class Wish:
    """That an answer may come from the cache, and may be kept there."""

    sampled_too: bool = False  # also what an engine would answer otherwise the next time
    ttl: timedelta = KEPT
    reads: bool = True  # False: the engine is to be asked, and its answer takes the place of the kept one
    stores: bool = True  # False: nothing of this request may be kept, nor come from what is
    oldest: timedelta = LONGEST  # an older answer is none


def read_wish(header: Callable[[bytes], str | None]) -> Wish | None:
    """None for a caller that asks for nothing. InvalidRequest for a header that says something else."""
    given = header(HEADER.encode())
    if given is None:
        return None
    match = _PATTERN.fullmatch(given.strip().lower())
    ttl = KEPT if match is None or match[2] is None else timedelta(seconds=int(match[2]))
    if match is None or not timedelta(0) < ttl <= LONGEST:
        raise InvalidRequest(
            f"The header `{HEADER}` takes `use` or `always`, and a time to keep such as `use; ttl=600`: 1 to"
            f" {LONGEST // timedelta(seconds=1)} seconds.",
            param=HEADER,
        )
    directives = {part.strip().lower() for part in (header(b"cache-control") or "").split(",")}
    ages = [int(part[8:]) for part in directives if re.fullmatch(r"max-age=\d{1,9}", part)]
    return Wish(
        sampled_too=match[1] == "always",
        ttl=ttl,
        reads=not directives & {"no-cache", "no-store"},
        stores="no-store" not in directives,
        oldest=min([LONGEST, *(timedelta(seconds=age) for age in ages)]),
    )
