"""GPU seconds: the time that replicas were up beside the time that our events say they worked.

The third count of a day, independent of tokens: an event outside its replica's life, or more work than its slots had
room for, was not done there. Work is counted from the first token to the end, so that waiting for a slot counts for
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from billing.comparison import Comparison
from studio import clock, ids

KIND = "gpu_seconds_cover_events"

# A gateway hears of the end of an engine later than the node, and their clocks are two.
MARGIN = timedelta(seconds=60)


def of_day(session: Session, window_day: date, now: datetime) -> dict[UUID, list[Comparison]]:
    """For each tenant, a comparison of every replica that its events of the day name.

    Events outside a life are that tenant's alone; work above what a replica could do is everybody's who used it.
    """
    start, end = clock.day_window(window_day, clock.BERLIN)
    parameters = {"start": start, "end": end, "now": now, "margin": MARGIN}
    found: dict[UUID, list[Comparison]] = defaultdict(list)
    for row in session.execute(_OF_DAY, parameters).mappings():
        found[row["tenant_id"]].append(_comparison(row, window_day))
    return found


def _comparison(row: RowMapping, window_day: date) -> Comparison:
    subject = "/".join(
        (str(window_day), ids.to_wire(ids.TENANT, row["tenant_id"]), ids.to_wire(ids.REPLICA, row["replica_id"]))
    )
    if row["kind"] == "attached":
        return Comparison(KIND, subject, 0, 0, True, {"skipped": "an attached engine is not ours to count"})
    if row["kind"] is None:
        unknown = {"outside": row["outside_events"], "events": row["outside_ids"], "why": "there is no such replica"}
        return Comparison(KIND, subject, 0, int(row["busy_seconds"]), False, unknown)
    slot_seconds = int(row["up_seconds"] * row["slots"])
    details: dict[str, Any] = {
        "up_seconds": int(row["up_seconds"]),
        "slots": row["slots"],
        "tokens_per_up_second": float(round(row["tokens"] / max(row["up_seconds"], 1), 1)),
    }
    if row["outside_events"]:
        details |= {"outside": row["outside_events"], "events": row["outside_ids"]}
    agrees = not row["outside_events"] and row["busy_seconds"] <= slot_seconds + MARGIN.total_seconds()
    return Comparison(KIND, subject, slot_seconds, int(row["busy_seconds"]), agrees, details)


_OF_DAY = text("""
    with used as (
        select e.replica_id, e.tenant_id, sum(e.prompt_tokens) + sum(e.completion_tokens) as tokens,
               sum(extract(epoch from e.ended_at - coalesce(e.first_token_at, e.ended_at))) as busy_seconds,
               count(*) filter (where o.outside) as outside_events,
               (array_agg(e.id::text order by e.id) filter (where o.outside))[1:20] as outside_ids
        from usage_events e
        left join replicas r on r.id = e.replica_id
        cross join lateral (select
            r.id is null or r.kind <> 'attached' and (
                e.started_at < r.created_at - cast(:margin as interval)
                or e.started_at > r.stopped_at + cast(:margin as interval)
                or e.end_reason <> 'engine_died' and e.ended_at > r.stopped_at + cast(:margin as interval)
            ) as outside) o
        where e.replica_id is not null and e.started_at >= :start and e.started_at < :end
          and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
        group by e.replica_id, e.tenant_id
    )
    select u.replica_id, u.tenant_id, r.kind, coalesce(r.max_num_seqs, v.max_num_seqs) as slots,
           u.outside_events, u.outside_ids,
           sum(u.tokens) over (partition by u.replica_id) as tokens,
           sum(u.busy_seconds) over (partition by u.replica_id) as busy_seconds,
           greatest(extract(epoch from least(coalesce(r.stopped_at, :now), cast(:end as timestamptz))
                            - greatest(r.created_at, cast(:start as timestamptz))), 0) as up_seconds
    from used u
    left join replicas r on r.id = u.replica_id
    left join model_variants v on v.id = r.variant_id
    order by u.replica_id, u.tenant_id
""")
