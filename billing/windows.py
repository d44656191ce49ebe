"""Processing windows: which usage events belong to which seal, and how far each seal has come.

A window is a Berlin day of one tenant over `started_at`. Sealing says: these events, proven complete, by this hash.
Late events get a seal of their own. Counting, rating and invoicing live in the files named after them; each tests the
state of the seal that it builds on, and only `move` changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, TextClause, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from billing import sources
from studio import clock, ids
from studio.db.tenancy import Tenant
from studio.db.usage import UsageWindow
from studio.errors import Conflict, NotFound

GRACE = timedelta(minutes=15)  # requests of the last minute end, and journals are shipped, long before this

State = Literal["sealed", "counted", "rated", "reconciled", "held"]


class UsageNotComplete(Conflict):
    """A source of usage has not yet shown everything up to the cutoff. Try again with the same cutoff."""

    default_code = "usage_not_complete"


class NothingToSeal(Conflict):
    """Every event of the window is in a seal already, or there is none."""

    default_code = "nothing_to_seal"


class WindowInOtherState(Conflict):
    """The seal is not in the state that this step builds on."""

    default_code = "window_in_other_state"


@dataclass(frozen=True, slots=True, order=True)
class SealKey:
    """One seal of one window. Written `2026-11-25/tnt_.../1`."""

    window_day: date
    tenant_id: UUID
    seal_no: int

    def __str__(self) -> str:
        return f"{self.window_day}/{ids.to_wire(ids.TENANT, self.tenant_id)}/{self.seal_no}"


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal and how far it has come."""

    key: SealKey
    state: State
    sealed_at: datetime
    sealed_by: str
    reason: str
    manifest: dict[str, Any]

    @property
    def events(self) -> int:
        """How many events the seal holds."""
        return int(self.manifest["events"])

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens of all its events: what every later step must account for."""
        return int(self.manifest["prompt_tokens"]) + int(self.manifest["completion_tokens"])


def closes_at(window_day: date) -> datetime:
    """From when the calendar may seal a day: its end in Berlin plus the grace."""
    return clock.day_window(window_day, clock.BERLIN)[1] + GRACE


def seal(
    session: Session, *, window_day: date, tenant_id: UUID, by: str, reason: str, cutoff: datetime, now: datetime
) -> Seal:
    """Seal what a window has received and no earlier seal holds.

    `cutoff` is the instant up to which every source must have reported. The calendar passes `closes_at(day)`; a person
    who wants an invoice today passes the instant of asking, and keeps it while asking again. UsageNotComplete as long
    as a source lags, NothingToSeal when there is nothing new, or the tenant is one of ours, which is never billed.
    """
    if session.scalar(select(Tenant.is_internal).where(Tenant.id == tenant_id)):
        raise NothingToSeal("The tenant is one of ours: its usage is never billed.")
    if cutoff > now:
        raise UsageNotComplete(f"The window {window_day} can be sealed from {cutoff:%Y-%m-%d %H:%M:%S} UTC on.")
    session.execute(_ONE_SEAL_AT_A_TIME, {"window": f"seal {window_day} {tenant_id}"})
    last_seqs = _complete_sources(session, window_day, tenant_id, cutoff)
    manifest = _manifest(session, window_day, tenant_id, last_seqs)
    if not manifest["events"]:
        raise NothingToSeal(f"The window {window_day} has no event that is not sealed already.")
    newest = select(func.coalesce(func.max(UsageWindow.seal_no), 0)).where(_of_window(window_day, tenant_id))
    key = SealKey(window_day, tenant_id, session.scalars(newest).one() + 1)
    session.add(
        UsageWindow(
            window_day=window_day, tenant_id=tenant_id, seal_no=key.seal_no,
            state="sealed", sealed_at=now, sealed_by=by, reason=reason, manifest=manifest,
        )
    )  # fmt: skip
    session.flush()
    return Seal(key, "sealed", now, by, reason, manifest)


def seals(session: Session, *, window_day: date | None = None, states: Collection[State] | None = None) -> list[Seal]:
    """The seals of a day, or of all days, in the given states, or in all."""
    query = select(UsageWindow).order_by(UsageWindow.window_day, UsageWindow.tenant_id, UsageWindow.seal_no)
    if window_day is not None:
        query = query.where(UsageWindow.window_day == window_day)
    if states is not None:
        query = query.where(UsageWindow.state.in_(states))
    return [_as_seal(row) for row in session.scalars(query)]


def lock(session: Session, key: SealKey) -> Seal:
    """The seal, held until the end of the transaction, so that two runs of one day wait for each other."""
    query = select(UsageWindow).where(_of_seal(key)).with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no seal {key}.")
    return _as_seal(row)


def move(session: Session, seal: Seal, to: State) -> None:
    """Change the state of a seal that the caller holds locked."""
    session.execute(
        update(UsageWindow).where(_of_seal(seal.key)).values(state=to).execution_options(synchronize_session=False)
    )


def lock_all(session: Session, window_day: date, keys: Collection[SealKey]) -> list[Seal]:
    """Seals of one day, held as `lock` does, and in one order, so that two runs cannot wait for each other."""
    wanted = set(keys)
    query = (
        select(UsageWindow)
        .where(UsageWindow.window_day == window_day, UsageWindow.tenant_id.in_({key.tenant_id for key in keys}))
        .order_by(UsageWindow.tenant_id, UsageWindow.seal_no)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return [seal for row in session.scalars(query) if (seal := _as_seal(row)).key in wanted]


def move_all(session: Session, keys: Collection[SealKey], to: State) -> None:
    """Change the state of seals that the caller holds locked."""
    parameters = {
        "to": to,
        "window_days": [key.window_day for key in keys],
        "tenant_ids": [key.tenant_id for key in keys],
        "seal_nos": [key.seal_no for key in keys],
    }
    session.execute(_MOVE_ALL, parameters)


def require_state(seal: Seal, allowed: tuple[State, ...], step: str) -> None:
    """WindowInOtherState unless the seal is in one of `allowed`."""
    if seal.state not in allowed:
        raise WindowInOtherState(f"{step} needs the seal {seal.key} to be {' or '.join(allowed)}; it is {seal.state}.")


def over_seal(statement: str, *named: str) -> TextClause:
    """A statement that reads `sealed`, the events of one seal, and further subqueries `named` like it.

    Its parameters window_day, tenant_id and seal_no are the fields of a SealKey.
    """
    return text(f"with {', '.join((_SEALED, *named))} {statement}")


def over_seals(statement: str, *named: str) -> TextClause:
    """The same over some seals of one window day, each event with the number of its seal in the list `seals`.

    The parameters are window_day and, of equal length, tenant_ids and seal_nos.
    """
    return text(f"with {', '.join((_SEALED_OF_SOME, *named))} {statement}")


def over_day(statement: str, *named: str) -> TextClause:
    """The same over the events of all seals of a window day, each with its seal_no; the parameter is window_day."""
    return text(f"with {', '.join((_SEALED_OF_DAY, *named))} {statement}")


def _complete_sources(session: Session, window_day: date, tenant_id: UUID, cutoff: datetime) -> list[tuple[UUID, int]]:
    """The last sequence number of each source that can have events of the window, all of them proven complete."""
    start, end = clock.day_window(window_day, clock.BERLIN)
    last_seqs = []
    for source in session.execute(_SOURCES, {"tenant_id": tenant_id, "start": start, "end": end}):
        if (why := sources.incomplete(source, cutoff)) is not None:
            raise UsageNotComplete(why)
        last_seqs.append((source.id, source.last_seq))
    return last_seqs


def _manifest(
    session: Session, window_day: date, tenant_id: UUID, last_seqs: Sequence[tuple[UUID, int]]
) -> dict[str, Any]:
    """What the seal holds: totals, the range of sequence numbers per source, and a hash over the sorted rows."""
    start, end = clock.day_window(window_day, clock.BERLIN)
    rows = session.execute(
        _FRESH,
        {
            "source_ids": [source_id for source_id, _ in last_seqs],
            "last_seqs": [last_seq for _, last_seq in last_seqs],
            "window_day": window_day,
            "tenant_id": tenant_id,
            "start": start,
            "end": end,
        },
    ).all()
    digest = hashlib.sha256(b"".join(row.sha256 for row in rows))
    return {
        "events": sum(row.events for row in rows),
        "prompt_tokens": sum(int(row.prompt_tokens) for row in rows),
        "cached_tokens": sum(int(row.cached_tokens) for row in rows),
        "completion_tokens": sum(int(row.completion_tokens) for row in rows),
        "sha256": digest.hexdigest(),
        "sources": [
            {
                "source_id": str(row.source_id), "from_seq": row.from_seq, "until_seq": row.until_seq,
                "events": row.events, "sha256": row.sha256.hex(),
            }
            for row in rows
        ],
    }  # fmt: skip


def _as_seal(row: UsageWindow) -> Seal:
    key = SealKey(row.window_day, row.tenant_id, row.seal_no)
    return Seal(key, row.state, row.sealed_at, row.sealed_by, row.reason, row.manifest)  # type: ignore[arg-type]  # a check constraint holds the states


def _of_window(window_day: date, tenant_id: UUID) -> ColumnElement[bool]:
    return tuple_(UsageWindow.window_day, UsageWindow.tenant_id) == (window_day, tenant_id)


def _of_seal(key: SealKey) -> ColumnElement[bool]:
    return _of_window(key.window_day, key.tenant_id) & (UsageWindow.seal_no == key.seal_no)


_ONE_SEAL_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:window, 0))")

_MOVE_ALL = text("""
    update usage_windows w set state = :to
    from unnest(cast(:window_days as date[]), cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[]))
        as k (window_day, tenant_id, seal_no)
    where w.window_day = k.window_day and w.tenant_id = k.tenant_id and w.seal_no = k.seal_no
""")

# A source that closed before the window began has events in it only if its clock was ahead and was set back. One that
# numbers its events in the transaction that inserts them has nothing to report besides; what it commits later gets a
# seal of its own. What was proven is not looked at again: with thousands of tenants a day that would be thousands of
# looks at every event.
_SOURCES = text(f"""
    select {sources.COLUMNS}
    from usage_sources s
    where s.closed_at is null or s.closed_at >= :start or s.id in (
        select e.source_id from usage_events e
        where e.tenant_id = :tenant_id and e.started_at >= :start and e.started_at < :end
          and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1)
    order by s.id
""")  # noqa: S608 (columns of our own)

# The partition column lies inside the id, minted when the request started: a day to each side is ample.
_FRESH = text("""
    with ranges as (
        select s.source_id, s.last_seq + 1 as until_seq, coalesce(
            (select max(r.until_seq)
             from usage_windows w
             cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, until_seq bigint)
             where w.window_day = :window_day and w.tenant_id = :tenant_id and r.source_id = s.source_id),
            1) as from_seq
        from unnest(cast(:source_ids as uuid[]), cast(:last_seqs as bigint[])) as s (source_id, last_seq)
    )
    select r.source_id, r.from_seq, r.until_seq, count(*) as events, sum(e.prompt_tokens) as prompt_tokens,
           sum(e.cached_tokens) as cached_tokens, sum(e.completion_tokens) as completion_tokens,
           sha256(string_agg(sha256(convert_to((to_jsonb(e) - 'ingested_at')::text, 'UTF8')), '' order by e.source_seq))
               as sha256
    from ranges r
    join usage_events e on e.source_id = r.source_id and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
    where e.tenant_id = :tenant_id and e.started_at >= :start and e.started_at < :end
      and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
    group by r.source_id, r.from_seq, r.until_seq
    order by r.source_id
""")

_SEALED = """
    sealed as (
        select e.*
        from usage_windows w
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
        join usage_events e on e.source_id = r.source_id and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
        where w.window_day = :window_day and w.tenant_id = :tenant_id and w.seal_no = :seal_no
          and e.tenant_id = :tenant_id
          and e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
          and e.started_at >= cast(:window_day as timestamp) at time zone 'Europe/Berlin'
          and e.started_at < cast(cast(:window_day as date) + 1 as timestamp) at time zone 'Europe/Berlin'
    )"""
_SEALED_OF_SOME = """
    seals as (
        select k.*
        from unnest(cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[])) with ordinality
            as k (tenant_id, seal_no, seal)
    ),
    ranges as materialized (
        select k.seal, w.tenant_id, r.source_id, r.from_seq, r.until_seq
        from seals k
        join usage_windows w on w.window_day = :window_day and w.tenant_id = k.tenant_id and w.seal_no = k.seal_no
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
    ),
    sealed as (
        select r.seal, e.*
        from ranges r
        join usage_events e on e.tenant_id = r.tenant_id and e.source_id = r.source_id
             and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
        where e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
          and e.started_at >= cast(:window_day as timestamp) at time zone 'Europe/Berlin'
          and e.started_at < cast(cast(:window_day as date) + 1 as timestamp) at time zone 'Europe/Berlin'
    )"""
_SEALED_OF_DAY = """
    sealed as (
        select w.window_day, w.seal_no, e.*
        from usage_windows w
        cross join jsonb_to_recordset(w.manifest -> 'sources') as r (source_id uuid, from_seq bigint, until_seq bigint)
        join usage_events e on e.tenant_id = w.tenant_id and e.source_id = r.source_id
             and e.source_seq >= r.from_seq and e.source_seq < r.until_seq
        where w.window_day = :window_day
          and e.usage_day_utc between cast(:window_day as date) - 2 and cast(:window_day as date) + 2
          and e.started_at >= cast(:window_day as timestamp) at time zone 'Europe/Berlin'
          and e.started_at < cast(cast(:window_day as date) + 1 as timestamp) at time zone 'Europe/Berlin'
    )"""
