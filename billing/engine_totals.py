"""Engines' own token counters beside our events on them, over each engine's whole life.

At an instant at which an engine was idle both must be equal. Of an engine that is never idle the counters must lie
between what was finished before a reading and that plus everything in flight at it (docs/decisions/0021).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.orm import Session

from billing.comparison import Comparison
from billing.windows import SealKey, closes_at, over_seal
from studio import ids

KIND = "events_equal_engine_counters"

BUSY_AFTER = timedelta(hours=2)  # after a window has closed; until then idleness, which is exact, is waited for
IN_FLIGHT = timedelta(minutes=30)  # after a reading: by then what was in flight at it has ended and is shipped
CLOCKS = timedelta(seconds=2)  # by how much a gateway's clock and a node's may differ, and how long a reading takes


def of_seal(session: Session, key: SealKey, now: datetime) -> list[Comparison]:
    """Compare every engine that worked for the seal."""
    waits_for_idleness = now < closes_at(key.window_day) + BUSY_AFTER
    parameters = {**asdict(key), "readable": now - IN_FLIGHT, "clocks": CLOCKS}
    return [_engine(row, waits_for_idleness) for row in session.execute(_TOTALS, parameters).mappings()]


def _engine(row: RowMapping, waits_for_idleness: bool) -> Comparison:
    """Compare an engine's own counters with all our events on it, up to an instant at which it was idle.

    Events count by their start: the agent may see the engine idle in the moment between the engine's last token and our
    `ended_at`, and writes no second row while nothing changes. An engine that lives must have been seen idle after the
    last request of the seal began, or after a while its busy readings must fit. One that stopped or died took its last
    counters with it: it is compared up to its last idle instant.

    Events may fall short of the engine only where a gateway or a batch worker was killed, or lost answers, during the
    engine's life: what it had in flight was produced and is billed to nobody. Events above the engine's count are never
    in order.
    """
    subject = ids.to_wire(ids.REPLICA, row["replica_id"])
    if row["kind"] == "attached":
        return Comparison(KIND, subject, 0, 0, True, {"skipped": "an attached engine is not ours to count"})
    gone = row["state"] in ("stopped", "failed")
    was_idle_since = row["observed_at"] is not None and row["observed_at"] >= row["last_started_at"]
    if gone and row["observed_at"] is None:
        return Comparison(KIND, subject, 0, 0, True, {"skipped": "no idle instant was seen"})
    if gone or was_idle_since:
        return _exact(subject, row)
    at_rest = _exact(subject, row) if row["observed_at"] is not None else None
    if waits_for_idleness or row["busy_at"] is None or (at_rest is not None and not at_rest.agrees):
        why = "the engine was not seen idle since the last request of the seal began"
        if at_rest is None:
            return Comparison(KIND, subject, 0, 0, False, {"waiting": why})
        details = {**at_rest.details, "waiting": why}
        return Comparison(KIND, subject, at_rest.expected, at_rest.observed, False, details)
    return _bracketed(subject, row)


def _exact(subject: str, row: RowMapping) -> Comparison:
    details: dict[str, Any] = {
        "engine_prompt_tokens": row["engine_prompt_tokens"],
        "engine_completion_tokens": row["engine_completion_tokens"],
        "event_prompt_tokens": int(row["event_prompt_tokens"]),
        "event_completion_tokens": int(row["event_completion_tokens"]),
        "observed_at": row["observed_at"].isoformat(),
    }
    unbilled_prompt = details["engine_prompt_tokens"] - details["event_prompt_tokens"]
    unbilled_completion = details["engine_completion_tokens"] - details["event_completion_tokens"]
    agrees = unbilled_prompt == unbilled_completion == 0
    if not agrees and row["crashed_sources"] and unbilled_prompt >= 0 and unbilled_completion >= 0:
        details |= {
            "unbilled_tokens": unbilled_prompt + unbilled_completion,
            "because_of": list(row["crashed_sources"]),
        }
        agrees = True
    return Comparison(
        KIND,
        subject,
        details["engine_prompt_tokens"] + details["engine_completion_tokens"],
        details["event_prompt_tokens"] + details["event_completion_tokens"],
        agrees,
        details,
    )


def _bracketed(subject: str, row: RowMapping) -> Comparison:
    """A busy reading between its bounds. `observed` is what was finished for certain."""
    details: dict[str, Any] = {"busy_at": row["busy_at"].isoformat(), "requests": row["busy_requests"]}
    agrees, unbilled = True, 0
    for kind in ("prompt", "completion"):
        engine = row[f"busy_{kind}_tokens"]
        finished, with_started = int(row[f"finished_{kind}_tokens"]), int(row[f"started_{kind}_tokens"])
        details |= {
            f"engine_{kind}_tokens": engine,
            f"finished_{kind}_tokens": finished,
            f"in_flight_{kind}_tokens": with_started - finished,
        }
        unbilled += max(engine - with_started, 0)
        agrees = agrees and engine >= finished
    if unbilled:
        details["unbilled_tokens"] = unbilled
        details["because_of"] = list(row["crashed_sources"])
    return Comparison(
        KIND,
        subject,
        row["busy_prompt_tokens"] + row["busy_completion_tokens"],
        details["finished_prompt_tokens"] + details["finished_completion_tokens"],
        agrees and (not unbilled or bool(row["crashed_sources"])),
        details,
    )


# Of busy readings the first one after the seal's last request began is taken: everything in flight at it has the
# longest time to end and arrive.
_TOTALS = over_seal(
    """
    select r.id as replica_id, r.kind, r.state, s.last_started_at, c.observed_at,
           c.prompt_tokens - r.baseline_prompt_tokens as engine_prompt_tokens,
           c.completion_tokens - r.baseline_completion_tokens as engine_completion_tokens,
           b.observed_at as busy_at, b.requests as busy_requests,
           b.prompt_tokens - r.baseline_prompt_tokens as busy_prompt_tokens,
           b.completion_tokens - r.baseline_completion_tokens as busy_completion_tokens,
           e.*,
           array(
               select u.name || ' ' || u.id from usage_sources u
               where u.crashed_at > r.created_at and u.opened_at < greatest(c.observed_at, b.observed_at)
               order by u.id) as crashed_sources
    from served s
    join replicas r on r.id = s.replica_id
    left join lateral (
        select * from engine_counters c where c.replica_id = r.id and c.requests = 0
        order by c.observed_at desc limit 1) c on true
    left join lateral (
        select * from engine_counters c
        where c.replica_id = r.id and c.observed_at > s.last_started_at + cast(:clocks as interval)
          and c.observed_at <= :readable
        order by c.observed_at limit 1) b on true
    left join lateral (
        select coalesce(sum(prompt) filter (where e.started_at < c.observed_at), 0) as event_prompt_tokens,
               coalesce(sum(e.completion_tokens) filter (where e.started_at < c.observed_at), 0)
                   as event_completion_tokens,
               coalesce(sum(prompt) filter (where e.ended_at < b.observed_at - cast(:clocks as interval)), 0)
                   as finished_prompt_tokens,
               coalesce(sum(e.completion_tokens)
                   filter (where e.ended_at < b.observed_at - cast(:clocks as interval)), 0)
                   as finished_completion_tokens,
               coalesce(sum(prompt) filter (where e.started_at < b.observed_at + cast(:clocks as interval)), 0)
                   as started_prompt_tokens,
               coalesce(sum(e.completion_tokens)
                   filter (where e.started_at < b.observed_at + cast(:clocks as interval)), 0)
                   as started_completion_tokens
        from usage_events e
        cross join lateral (select coalesce(e.engine_prompt_tokens, e.prompt_tokens) as prompt) p
        where e.replica_id = r.id and e.usage_day_utc >= cast(r.created_at as date) - 1) e on true
    order by r.id
    """,
    "served as (select replica_id, max(started_at) as last_started_at from sealed group by replica_id)",
)
