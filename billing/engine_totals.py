"""Engines' own token counters beside our events on them, over each engine's whole life.

At an instant at which an engine was idle both must be equal. Of an engine that is never idle the counters must lie
between what was finished before a reading and that plus everything in flight at it (docs/decisions/0021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.comparison import Comparison
from billing.windows import SealKey, closes_at, over_seals
from studio import ids
from studio.db.usage import MOST_TOKENS

KIND = "events_equal_engine_counters"

BUSY_AFTER = timedelta(hours=2)  # after a window has closed; until then idleness, which is exact, is waited for
IN_FLIGHT = timedelta(minutes=30)  # after a reading: by then what was in flight at it has ended and is shipped
CLOCKS = timedelta(seconds=2)  # by how much a gateway's clock and a node's may differ, and how long a reading takes


class Cut(NamedTuple):
    """An instant up to which an engine's events are added: those that had started, or ended, before it."""

    replica_id: UUID
    edge: Literal["started", "ended"]
    at: datetime


def of_seals(
    session: Session, window_day: date, keys: Collection[SealKey], now: datetime
) -> dict[SealKey, list[Comparison]]:
    """For each of some seals of one day, a comparison of every engine that worked for it.

    However many seals there are: their events are looked at once, and all events of those engines once more.
    """
    ordered = sorted(keys)
    found_rows = session.execute(
        _READINGS,
        {
            "window_day": window_day,
            "tenant_ids": [key.tenant_id for key in ordered],
            "seal_nos": [key.seal_no for key in ordered],
            "readable": now - IN_FLIGHT,
            "clocks": CLOCKS,
        },
    ).mappings()
    found: dict[SealKey, list[Comparison]] = {key: [] for key in ordered}
    readings = [dict(row) for row in found_rows]
    tokens = _tokens_before(session, {cut for row in readings for cut in _cuts(row).values()})
    waits_for_idleness = now < closes_at(window_day) + BUSY_AFTER
    for row in readings:
        sums = {
            f"{name}_{kind}_tokens": counted
            for name, cut in _cuts(row).items()
            for kind, counted in zip(("prompt", "completion"), tokens[cut], strict=True)
        }
        found[ordered[row["seal"] - 1]].append(_engine({**row, **sums}, waits_for_idleness))
    return found


def _cuts(row: Mapping[str, Any]) -> dict[str, Cut]:
    """Up to where events are added for one reading. An attached engine is not counted, so nothing is."""
    replica_id, at, busy_at = row["replica_id"], row["observed_at"], row["busy_at"]
    if row["kind"] == "attached":
        return {}
    cuts = {} if at is None else {"event": Cut(replica_id, "started", at)}
    if busy_at is not None:
        cuts["finished"] = Cut(replica_id, "ended", busy_at - CLOCKS)
        cuts["started"] = Cut(replica_id, "started", busy_at + CLOCKS)
    return cuts


def _tokens_before(session: Session, cuts: Collection[Cut]) -> dict[Cut, tuple[int, int]]:
    """Prompt and completion tokens of the events before each cut, over the engine's whole life."""
    if not cuts:
        return {}
    columns = {name: [getattr(cut, name) for cut in cuts] for name in Cut._fields}
    between = session.execute(_TOKENS, {**columns, "most": MOST_TOKENS}).all()
    steps: dict[tuple[UUID, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    for row in between:
        edge, step = ("ended", row.ended) if row.started is None else ("started", row.started)
        steps[row.replica_id, edge][step] = int(row.prompt), int(row.completion)
    found: dict[Cut, tuple[int, int]] = {}
    for (replica_id, edge), own in groupby(sorted(cuts), key=lambda cut: (cut.replica_id, cut.edge)):
        prompt = completion = 0
        for step, cut in enumerate(own):  # what lies before the first cut is step 0
            more = steps[replica_id, edge].get(step, (0, 0))
            prompt, completion = prompt + more[0], completion + more[1]
            found[cut] = prompt, completion
    return found


def _engine(row: Mapping[str, Any], waits_for_idleness: bool) -> Comparison:
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


def _exact(subject: str, row: Mapping[str, Any]) -> Comparison:
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


def _bracketed(subject: str, row: Mapping[str, Any]) -> Comparison:
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
_READINGS = over_seals(
    """
    select s.seal, r.id as replica_id, r.kind, r.state, s.last_started_at, c.observed_at,
           c.prompt_tokens - r.baseline_prompt_tokens as engine_prompt_tokens,
           c.completion_tokens - r.baseline_completion_tokens as engine_completion_tokens,
           b.observed_at as busy_at, b.requests as busy_requests,
           b.prompt_tokens - r.baseline_prompt_tokens as busy_prompt_tokens,
           b.completion_tokens - r.baseline_completion_tokens as busy_completion_tokens,
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
    order by s.seal, r.id
    """,
    "served as (select seal, replica_id, max(started_at) as last_started_at from sealed group by seal, replica_id)",
)

# Each event is put between two cuts, and only what lies between is added: one look at the events, however many cuts.
# What no engine can have counted (`usage.IMPOSSIBLE`) is left out: one such event would stop all who used the engine.
_TOKENS = text("""
    with cuts as materialized (
        select r.id as replica_id, r.created_at,
               coalesce(array_agg(distinct c.at order by c.at) filter (where c.edge = 'started'), '{}') as starts,
               coalesce(array_agg(distinct c.at order by c.at) filter (where c.edge = 'ended'), '{}') as ends
        from unnest(cast(:replica_id as uuid[]), cast(:edge as text[]), cast(:at as timestamptz[]))
            as c (replica_id, edge, at)
        join replicas r on r.id = c.replica_id
        group by r.id
    ), placed as (
        select e.replica_id, width_bucket(e.started_at, k.starts) as started, width_bucket(e.ended_at, k.ends) as ended,
               coalesce(e.engine_prompt_tokens, e.prompt_tokens) as prompt, e.completion_tokens as completion
        from cuts k
        join usage_events e on e.replica_id = k.replica_id and e.usage_day_utc >= cast(k.created_at as date) - 1
        where e.usage_day_utc >= (select min(cast(created_at as date)) - 1 from cuts)
          and greatest(e.prompt_tokens, e.completion_tokens, e.engine_prompt_tokens) <= :most
    )
    select replica_id, started, ended, sum(prompt) as prompt, sum(completion) as completion
    from placed
    group by grouping sets ((replica_id, started), (replica_id, ended))
""")
