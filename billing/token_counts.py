"""Tokens counted twice: a day's usage events beside the counts that their models' tokenizers made of a sample of them.

Texts that a model has written may be cut anew into other tokens than it wrote, so a small difference is in order.
Differences of single requests add up and never cancel each other out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

TOLERATED_PERCENT = 2


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """The tokens of one request, as they are billed and as the tokenizer counted them."""

    id: UUID
    tenant_id: UUID
    model_id: str
    variant_id: str
    replica_id: UUID
    metered_prompt_tokens: int
    counted_prompt_tokens: int
    metered_completion_tokens: int
    counted_completion_tokens: int

    @property
    def differing_tokens(self) -> int:
        """Of both kinds."""
        return abs(self.metered_prompt_tokens - self.counted_prompt_tokens) + abs(
            self.metered_completion_tokens - self.counted_completion_tokens
        )


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """All requests of one model that were counted again, and by how many tokens they differ."""

    model_id: str
    requests: int
    metered_tokens: int
    counted_tokens: int
    differing_tokens: int

    @property
    def percent(self) -> float:
        """By how much metered and counted differ."""
        return 100 * self.differing_tokens / max(self.counted_tokens, 1)

    @property
    def agrees(self) -> bool:
        """Whether the difference can be explained by texts that were cut anew."""
        return 100 * self.differing_tokens < TOLERATED_PERCENT * max(self.counted_tokens, 1)


def counted_again(session: Session, day: date) -> list[RequestCounts]:
    """The sampled requests that began on a Berlin day."""
    return [RequestCounts(**row) for row in session.execute(_COUNTS, {"day": day}).mappings()]


def by_model(requests: Iterable[RequestCounts]) -> list[ModelCounts]:
    """The same, added up for each model."""
    by_name = attrgetter("model_id")
    return [_added_up(model, list(of_it)) for model, of_it in groupby(sorted(requests, key=by_name), by_name)]


def differing(requests: Iterable[RequestCounts], most: int) -> list[RequestCounts]:
    """Those whose counts are not the same, the largest differences first."""
    unequal = [request for request in requests if request.differing_tokens]
    return sorted(unequal, key=attrgetter("differing_tokens"), reverse=True)[:most]


def _added_up(model_id: str, requests: list[RequestCounts]) -> ModelCounts:
    return ModelCounts(
        model_id,
        len(requests),
        metered_tokens=sum(one.metered_prompt_tokens + one.metered_completion_tokens for one in requests),
        counted_tokens=sum(one.counted_prompt_tokens + one.counted_completion_tokens for one in requests),
        differing_tokens=sum(one.differing_tokens for one in requests),
    )


# What is compared is what is billed: the event. Only while it is on its way its meter's numbers stand for it.
_COUNTS = text("""
    select c.id, c.tenant_id, c.model_id, c.variant_id, c.replica_id,
           c.counted_prompt_tokens, c.counted_completion_tokens,
           coalesce(e.prompt_tokens, c.metered_prompt_tokens) as metered_prompt_tokens,
           coalesce(e.completion_tokens, c.metered_completion_tokens) as metered_completion_tokens
    from usage_counts c
    left join usage_events e on e.id = c.id and e.usage_day_utc = (c.started_at at time zone 'UTC')::date
    where c.started_at >= cast(:day as timestamp) at time zone 'Europe/Berlin'
      and c.started_at < (cast(:day as timestamp) + interval '1 day') at time zone 'Europe/Berlin'
    order by c.id
""")
