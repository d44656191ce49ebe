"""What the cache is to one request that wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from serving.cache.wish import HEADER
from serving.envelope import Headers
from serving.routing import Target
from serving.tokens.usage import TokenCounts
from serving.tokens.wire import Call

# hit: all of the answer was here. miss: an engine is asked. bypass: the cache has nothing to do with it.
Outcome = Literal["hit", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A whole answer in the engine's words, and the tokens that it took when an engine was asked."""

    content: dict[str, Any]
    counts: TokenCounts
    age_seconds: int


class Reuse:
    """A request whose answer an engine gives. What there is to reuse or keep, subclasses know."""

    def __init__(self, hit: Hit | None = None) -> None:
        self.hit = hit

    @property
    def outcome(self) -> Outcome:
        """In the word that the caller is told."""
        return "miss" if self.hit is None else "hit"

    @property
    def headers(self) -> Headers:
        """What the caller is told."""
        headers = [(HEADER.encode(), self.outcome.encode())]
        if self.hit is not None:
            headers.append((b"age", b"%d" % self.hit.age_seconds))
        return headers

    def to_ask(self, call: Call) -> Call:
        """What is left to ask an engine."""
        return call

    def begin(self, target: Target) -> None:
        """An engine is about to be asked."""

    def completed(self, content: dict[str, Any], counts: TokenCounts) -> tuple[dict[str, Any], TokenCounts]:
        """Its answer with what was here already. ValueError, KeyError and TypeError when that cannot be read."""
        return content, counts

    async def keep(self, content: dict[str, Any]) -> None:
        """Keep what the caller is about to be told, if it may be given again."""

    def end(self) -> None:
        """The engine has answered, or will not."""


class Bypass(Reuse):
    """Neither looked for nor kept."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    @property
    def outcome(self) -> Outcome:
        return "bypass"

    @property
    def headers(self) -> Headers:
        return [*super().headers, (b"x-studio-cache-why", self._why.encode())]


def as_hit(content: dict[str, Any], prompt: int, completion: int, reasoning: int, age_seconds: int) -> Hit:
    """Of an answer that no engine has a part in."""
    counts = TokenCounts(prompt, 0, completion, reasoning, 0, reused_prompt=prompt, reused_completion=completion)
    return Hit(content, counts, age_seconds)
