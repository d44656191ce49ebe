"""What a caller is told of its limits: headers, the sentence of a refusal, and the list of `/v1/limits`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from serving.envelope import Headers
from serving.limits.buckets import Reading
from serving.limits.rules import CONCURRENT, KINDS, PERIODS_MS, TOKENS, Rule
from studio.errors import RateLimited

# When one of the running requests will end is not known; asking again after this is cheap.
CONCURRENCY_RETRY_MS = 1_000

_OF_REQUESTS, _OF_TOKENS = (
    tuple(b"x-ratelimit-%s-%s" % (what, of) for what in (b"limit", b"remaining", b"reset"))
    for of in (b"requests", b"tokens")
)


class OverLimit(RateLimited):
    """A request that one of its limits does not allow now. Carries what a good answer would have carried, too."""

    def __init__(self, limit: str, retry_after: timedelta | None, headers: Headers) -> None:
        super().__init__(limit, retry_after)
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Use:
    """One limit and how much of it is used, without the request that was asked about if that was refused."""

    rule: Rule
    kind: str  # one of KINDS
    limit: int
    used: int
    remaining: int
    empty_in_ms: int  # until all of it is there again; 0 for concurrency
    exceeded: bool
    fits_in_ms: int | None  # until the request would fit; None: never


def uses(rules: Sequence[Rule], reading: Reading, tokens: int = 0) -> Iterator[Use]:
    """Every limit of the rules, in their order."""
    for rule, levels in zip(rules, reading.levels, strict=True):
        for kind, period, most, level in zip(range(CONCURRENT), PERIODS_MS, rule.ceilings, levels, strict=False):
            if not most:
                continue
            weight = (tokens if kind == TOKENS else 1) * period
            standing = level if reading.admitted else level - weight
            over = level - most * period
            yield Use(
                rule,
                KINDS[kind],
                limit=most,
                used=-(-standing // period),
                remaining=max(0, (most * period - standing) // period),
                empty_in_ms=-(-standing // most),
                exceeded=not reading.admitted and over > 0,
                fits_in_ms=None if weight > most * period else max(0, -(-over // most)),
            )
        if most := rule.ceilings[CONCURRENT]:
            running = levels[CONCURRENT] if reading.admitted else levels[CONCURRENT] - 1
            exceeded = not reading.admitted and levels[CONCURRENT] > most
            wait = CONCURRENCY_RETRY_MS if exceeded else 0
            yield Use(rule, KINDS[CONCURRENT], most, running, max(0, most - running), 0, exceeded, wait)


def headers(rules: Sequence[Rule], reading: Reading, tokens: int = 0) -> Headers:
    """`x-ratelimit-*` as OpenAI writes them, of the limit of requests and of tokens of which least is left."""
    told: Headers = []
    for names, kinds, weight in ((_OF_REQUESTS, (0, 1), 1), (_OF_TOKENS, (TOKENS,), tokens)):
        tightest: tuple[int, int, int] | None = None
        # Plain arithmetic, not `uses`: this runs for every request.
        for rule, levels in zip(rules, reading.levels, strict=True):
            for kind in kinds:
                if most := rule.ceilings[kind]:
                    period = PERIODS_MS[kind]
                    standing = levels[kind] if reading.admitted else levels[kind] - weight * period
                    found = (max(0, (most * period - standing) // period), standing // -most, most)
                    if tightest is None or found < tightest:
                        tightest = found
        if tightest is not None:
            remaining, minus_empty_in_ms, most = tightest
            told.append((names[0], b"%d" % most))
            told.append((names[1], b"%d" % remaining))
            told.append((names[2], go_duration(-minus_empty_in_ms).encode()))
    return told


def refusal(rules: Sequence[Rule], reading: Reading, tokens: int) -> OverLimit:
    """Why a reading did not admit its request: the limit that holds it back longest."""
    exceeded = [use for use in uses(rules, reading, tokens) if use.exceeded]
    worst = max(exceeded, key=lambda use: (use.fits_in_ms is None, use.fits_in_ms or 0))
    words = f"{worst.limit:,} {worst.kind.replace('_', ' ')} for {worst.rule.whose}"
    if worst.kind == KINDS[CONCURRENT]:
        words += f", and {worst.used:,} are running"
    if worst.kind == KINDS[TOKENS]:
        words += f", of which {worst.remaining:,} are left, and this request may take {tokens:,}"
        if worst.fits_in_ms is None:
            words += "; a shorter prompt or a lower `max_tokens` would fit"
    wait = None if worst.fits_in_ms is None else timedelta(milliseconds=max(1, worst.fits_in_ms))
    return OverLimit(words, wait, headers(rules, reading, tokens))


def as_document(use: Use) -> dict[str, Any]:
    """A limit and its use, as `/v1/limits` shows it."""
    return {
        "scope": "organization" if use.rule.api_key_id is None else "api_key",
        "model": use.rule.variant_id,
        "kind": use.kind,
        "limit": use.limit,
        "used": use.used,
        "remaining": use.remaining,
        "reset_ms": use.empty_in_ms,
    }


def go_duration(milliseconds: int) -> str:
    """`20ms`, `1.5s`, `6m0s`: Go's notation, as OpenAI's headers have it."""
    if milliseconds < 1_000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1_000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or hours else "") + seconds
