"""Journals with events in them, for tests that need no gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serving.journal import Journal
from serving.usage_event import UsageEvent
from studio import clock, ids


def event() -> UsageEvent:
    """One request, of nobody."""
    id, now = ids.uuid7(), clock.now()
    return UsageEvent(
        usage_day_utc=ids.day_utc_of(id),
        id=id,
        tenant_id=ids.uuid7(),
        api_key_id=ids.uuid7(),
        request_id=f"req_{id.hex}",
        tag=None,
        endpoint="/v1/chat/completions",
        model_id="m",
        variant_id="m-fast",
        tier_requested="fast",
        tier_served="fast",
        replica_id=ids.uuid7(),
        started_at=now,
        first_token_at=None,
        ended_at=now,
        prompt_tokens=3,
        cached_tokens=0,
        completion_tokens=5,
        reasoning_tokens=0,
        http_status=200,
        end_reason="complete",
    )


async def write(journal_dir: Path, count: int) -> tuple[Path, list[UsageEvent]]:
    """A journal whose gateway is gone: its file, and the events in it."""
    journal = Journal.create(journal_dir, ids.uuid7())
    events = [event() for _ in range(count)]
    await asyncio.gather(*(journal.append(one) for one in events))
    await journal.close()
    return journal.path, events


async def write_one_by_one(journal_dir: Path, count: int) -> tuple[Path, list[UsageEvent]]:
    """The same, each event with a write of its own: its folder, and the events in it."""
    journal = Journal.create(journal_dir, ids.uuid7())
    events = [event() for _ in range(count)]
    for one in events:
        await journal.append(one)
    await journal.close()
    return journal.directory, events
