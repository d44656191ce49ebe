"""Counting: the events of a seal become integer tokens per variant, unit, price row and civil day of the tenant.

Here is no multiplication: splitting by the price row that was valid when the request started is what makes rating a
single one. An event without exactly one price goes to quarantine and holds its seal; nothing is priced at zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from billing import usage_groups, windows
from billing.usage_groups import JOB_OF_EVENT, KEPT, Written
from billing.windows import Seal, SealKey, over_seal
from studio import ids
from studio.db.usage import MOST_TOKENS, UsageDaily
from studio.errors import Conflict

UNPRICED = "not exactly one price"
IMPOSSIBLE = "more tokens than an event can have"  # of before `accept_usage` looked at that
MOST = 10  # a tenth of a day's events: from there on reading all of them costs less, benchmarks/rating.py


class SealUneven(Conflict):
    """What was counted of a seal, with what was discarded, is not what was sealed: something was changed since."""

    default_code = "seal_uneven"


@dataclass(frozen=True, slots=True)
class Counted:
    """What counting a seal came to."""

    events: int
    tokens: int
    held_events: int  # in quarantine; above zero, nothing of the seal is counted


@dataclass(frozen=True, slots=True)
class DailyTokens:
    """Tokens of one seal in one unit at one price on one civil day."""

    window_day: date
    tenant_id: UUID
    seal_no: int
    variant_id: str
    unit: str
    price_id: UUID
    billing_day: date
    basis: str
    time_zone: str
    legal_entity_id: str
    currency: str
    events: int
    tokens: int


@dataclass(frozen=True, slots=True)
class KeyTokens:
    """Tokens of one API key within one row of what is counted of a seal."""

    variant_id: str
    unit: str
    price_id: UUID
    billing_day: date
    basis: str
    api_key_id: UUID
    tokens: int


@dataclass(frozen=True, slots=True)
class PricedTokens:
    """Tokens of one seal in one unit on one civil day, and the price row that they join now, if exactly one."""

    variant_id: str
    unit: str
    billing_day: date | None
    currency: str | None
    price_id: UUID | None
    per_million: Decimal | None
    basis: str
    tokens: int


@dataclass(frozen=True, slots=True)
class PricedUnit:
    """Tokens of one event in one unit, and the price row that they join, unless `prices` is not 1."""

    variant_id: str
    unit: str
    tokens: int
    prices: int
    price_id: UUID | None
    per_million: Decimal | None
    is_own: bool
    basis: str
    currency: str | None
    billing_day: date | None


def count(session: Session, key: SealKey) -> Counted:
    """Count a seal, replacing what was counted before. It becomes `counted`, or `held` by what it cannot price.

    SealUneven when its tokens come to something else than was sealed: it stays as it was.
    """
    seal = windows.lock(session, key)
    windows.require_state(seal, ("sealed", "counted", "held"), "Counting")
    session.execute(delete(UsageDaily).where(_of_seal(key)))
    if seal.tokens > MOST_TOKENS:
        session.execute(_QUARANTINE_IMPOSSIBLE, {**asdict(key), "reason": IMPOSSIBLE, "most": MOST_TOKENS})
    if (held := _held(session, key)) or not _is_even(session, seal):
        # Only now one event after another is looked at: almost every seal has nothing in question.
        session.execute(delete(UsageDaily).where(_of_seal(key)))
        session.execute(_QUARANTINE_UNPRICED, {**asdict(key), "reason": UNPRICED})
        held = _held(session, key)
    if held:
        windows.move(session, seal, "held")
        return Counted(seal.events, 0, held)
    tokens, discarded = counted_tokens(session, key), discarded_tokens(session, key)
    if tokens + discarded != seal.tokens:
        raise SealUneven(
            f"The seal {key} holds {seal.tokens} tokens, but {tokens} were counted and {discarded} discarded."
        )
    windows.move(session, seal, "counted")
    return Counted(seal.events, tokens, 0)


def count_together(session: Session, window_day: date, keys: Collection[SealKey]) -> set[SealKey]:
    """Count seals of one day in one look at its events; those that became `counted`.

    The others are as they were: with something in quarantine, without exactly one price, or with so many tokens that
    one event may be impossible, each is for `count`, which looks at one event after another. So are all of them where
    they are a small part of their day.
    """
    if not _are_most(session, window_day, keys):
        return set()
    seals = windows.lock_all(session, window_day, keys)
    for seal in seals:
        windows.require_state(seal, ("sealed", "counted", "held"), "Counting")
    in_question = set(session.scalars(_TENANTS_IN_QUESTION, {"tenant_ids": [seal.key.tenant_id for seal in seals]}))
    plain = [seal for seal in seals if seal.key.tenant_id not in in_question and seal.tokens <= MOST_TOKENS]
    _forget(session, window_day, [seal.key for seal in plain])
    written = usage_groups.write_most(session, window_day, [seal.key for seal in plain])
    nothing = Written(0, 0)
    even = {seal.key for seal in plain if written.get(seal.key, nothing) == Written(seal.tokens, 0)}
    _forget(session, window_day, [seal.key for seal in plain if seal.key not in even])
    windows.move_all(session, even, "counted")
    return even


def count_again(session: Session, key: SealKey) -> list[PricedTokens]:
    """What a seal would count as with the price book of now. Writes nothing."""
    rows = session.execute(_COUNT_AGAIN, asdict(key)).mappings()
    return [PricedTokens(**row) for row in rows]


def discarded_tokens(session: Session, key: SealKey) -> int:
    """Tokens of the seal's events that a person has decided to bill to nobody (`quarantine.py`)."""
    if not session.execute(_HAS_DISCARDED, {"tenant_id": key.tenant_id}).scalar_one():
        return 0
    return int(session.execute(_DISCARDED_TOKENS, asdict(key)).scalar_one())


def _held(session: Session, key: SealKey) -> int:
    """How many events of the seal are in question, once those that have a price meanwhile are settled."""
    if not session.execute(_IN_QUESTION, {"tenant_id": key.tenant_id}).scalar_one():
        return 0
    session.execute(_RESOLVE_PRICED, {**asdict(key), "reason": UNPRICED})
    return int(session.execute(_HELD_EVENTS, asdict(key)).scalar_one())


def _is_even(session: Session, seal: Seal) -> bool:
    """Count the seal; whether each amount had exactly one price and nothing was left out or added twice."""
    written = usage_groups.write(session, seal.key.window_day, [seal.key]).get(seal.key, Written(0, 0))
    return not written.unpriced and written.tokens + discarded_tokens(session, seal.key) == seal.tokens


def _are_most(session: Session, window_day: date, keys: Collection[SealKey]) -> bool:
    """Whether seals hold so much of a day that reading all of it costs less than finding theirs."""
    events = {seal.key: seal.events for seal in windows.seals(session, window_day=window_day)}
    return sum(events[key] for key in keys) * MOST > sum(events.values())


def _forget(session: Session, window_day: date, keys: Collection[SealKey]) -> None:
    """What was counted of seals before."""
    names = {"tenant_ids": [key.tenant_id for key in keys], "seal_nos": [key.seal_no for key in keys]}
    session.execute(_FORGET, {"window_day": window_day, **names})


def counted_tokens(session: Session, key: SealKey) -> int:
    """All tokens counted for a seal."""
    return int(session.scalars(select(func.coalesce(func.sum(UsageDaily.tokens), 0)).where(_of_seal(key))).one())


def daily_tokens(session: Session, window_day: date) -> list[DailyTokens]:
    """What is counted of a window day, over all tenants and seals."""
    columns = [UsageDaily.__table__.c[field.name] for field in fields(DailyTokens)]
    query = select(*columns).where(UsageDaily.window_day == window_day).order_by(*columns[:7])
    return [DailyTokens(**row) for row in session.execute(query).mappings()]


def tokens_by_key(session: Session, key: SealKey) -> list[KeyTokens]:
    """The counted tokens of a seal, split by API key."""
    return [KeyTokens(**row) for row in session.execute(_BY_KEY, asdict(key)).mappings()]


def units_of_event(session: Session, tenant_id: UUID, event_id: UUID) -> list[PricedUnit]:
    """What one event counts as, and its price: by the same statement that counts a seal. Empty without tokens.

    With the tenant's own eyes (`tenant_scope`), too.
    """
    parameters = {"id": event_id, "tenant_id": tenant_id, "usage_day_utc": ids.day_utc_of(event_id)}
    names = [field.name for field in fields(PricedUnit)]
    rows = session.execute(_OF_EVENT, parameters).mappings()
    return [PricedUnit(**{name: row[name] for name in names}) for row in rows]


def held_events(session: Session, window_day: date, limit: int) -> list[Mapping[str, Any]]:
    """Unresolved quarantine entries of the events of a window day: what to look at when a seal is held."""
    rows = session.execute(_HELD_OF_DAY, {"window_day": window_day, "limit": limit})
    return [dict(row) for row in rows.mappings()]


def _of_seal(key: SealKey) -> Any:
    return (
        (UsageDaily.window_day == key.window_day)
        & (UsageDaily.tenant_id == key.tenant_id)
        & (UsageDaily.seal_no == key.seal_no)
    )


# One row per event, unit and matching price: exactly one where all is well. The tier that served decides the price.
# `billing_day` is civil time in the tenant's own zone, which the dated terms name. A batch or a fine-tune with a quote
# is priced as at the instant of the quote. A fast request whose first token came after its published target is missed:
# see `PRICED`.
MEASURED = f"""
    measured as (
        select s.id, s.tenant_id, s.api_key_id, s.started_at, v.id as variant_id, t.legal_entity_id, t.currency,
               t.time_zone,
               (s.started_at at time zone t.time_zone)::date as billing_day,
               case when s.batch_id is null then u.unit else 'batch_' || u.unit end as unit, u.tokens,
               coalesce(q.priced_at, s.started_at) as priced_at,
               case when q.id is null then '' else 'qte_' || replace(q.id::text, '-', '') end as quote,
               base.id as base_id
        from kept s
        left join batches b on b.id = s.batch_id
        left join fine_tuning_jobs j on j.id = {JOB_OF_EVENT}
        left join quotes q on q.id = coalesce(b.quote_id, j.quote_id)
        left join model_variants v on v.model_id = s.model_id and v.tier = s.tier_served
        left join model_variants base on base.model_id = s.model_id and base.tier = 'base' and v.tier = 'fast'
             and s.batch_id is null and s.first_token_at - s.admitted_at > v.first_token_target_ms * interval '1 ms'
             and s.prompt_tokens <= coalesce(v.first_token_target_prompt_tokens, s.prompt_tokens)
        left join models m on m.id = s.model_id
        left join tenant_billing t on t.tenant_id = s.tenant_id
             and t.valid_from <= (s.started_at at time zone t.time_zone)::date
             and (t.valid_until is null or (s.started_at at time zone t.time_zone)::date < t.valid_until)
        cross join lateral (values
            ('training', case when s.endpoint = '/v1/fine_tuning/jobs' then s.prompt_tokens else 0 end),
            ('embedding', case when m.task = 'embedding' then s.prompt_tokens - s.reused_prompt_tokens else 0 end),
            ('storage', case when s.endpoint = 'storage' then s.prompt_tokens else 0 end),
            ('gpu_hour', case when s.endpoint = 'gpu_hour' then s.prompt_tokens else 0 end),
            ('prompt', case when m.task = 'embedding'
                            or s.endpoint in ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour') then 0
                       else s.prompt_tokens - s.cached_tokens - s.reused_prompt_tokens end),
            ('cached_prompt', case when m.task = 'embedding' then 0 else s.cached_tokens end),
            ('completion', s.completion_tokens - s.reused_completion_tokens),
            ('reused', s.reused_prompt_tokens + s.reused_completion_tokens)) as u (unit, tokens)
        where u.tokens > 0
    )"""  # noqa: S608 (what is put in is our own statement)
# A missed request pays the base tier's price where that is the lower one. Materialized: it is joined with the
# quarantine, for each entry of which it would be computed anew otherwise.
PRICED = """
    priced as materialized (
        select m.*, case when f.is_missed then coalesce(bo.id, bl.id) else coalesce(o.id, l.id) end as price_id,
               case when f.is_missed then 'missed_target' else m.quote end as basis,
               count(coalesce(o.id, l.id)) over (partition by m.id, m.unit) as prices
        from measured m
        left join prices l on l.tenant_id is null and l.currency = m.currency and l.variant_id = m.variant_id
             and l.unit = m.unit and l.valid_from <= m.priced_at
             and (l.valid_until is null or m.priced_at < l.valid_until)
        left join prices o on o.tenant_id = m.tenant_id and o.currency = m.currency and o.variant_id = m.variant_id
             and o.unit = m.unit and o.valid_from <= m.priced_at
             and (o.valid_until is null or m.priced_at < o.valid_until)
        left join prices bl on bl.tenant_id is null and bl.currency = m.currency and bl.variant_id = m.base_id
             and bl.unit = m.unit and bl.valid_from <= m.priced_at
             and (bl.valid_until is null or m.priced_at < bl.valid_until)
        left join prices bo on bo.tenant_id = m.tenant_id and bo.currency = m.currency and bo.variant_id = m.base_id
             and bo.unit = m.unit and bo.valid_from <= m.priced_at
             and (bo.valid_until is null or m.priced_at < bo.valid_until)
        cross join lateral (
            select coalesce(coalesce(bo.per_million, bl.per_million) < coalesce(o.per_million, l.per_million), false)
                as is_missed) f
    )"""

_QUARANTINE_UNPRICED = over_seal(
    """
    insert into quarantine (reason, event_id, tenant_id, payload)
    select :reason, s.id, s.tenant_id, to_jsonb(s) - 'ingested_at' || jsonb_build_object('unpriced', p.unpriced)
    from sealed s
    join (select id, jsonb_object_agg(unit, prices) as unpriced from priced where prices <> 1 group by id) p using (id)
    where not exists (
        select 1 from quarantine q where q.event_id = s.id and q.reason = :reason and q.resolved_at is null)
    """,
    KEPT,
    MEASURED,
    PRICED,
)

_RESOLVE_PRICED = over_seal(
    """
    update quarantine q set resolved_at = now()
    from (select id from priced group by id having bool_and(prices = 1)) p
    where q.event_id = p.id and q.reason = :reason and q.resolved_at is null
    """,
    KEPT,
    MEASURED,
    PRICED,
)

_QUARANTINE_IMPOSSIBLE = over_seal("""
    insert into quarantine (reason, event_id, tenant_id, payload)
    select :reason, s.id, s.tenant_id, to_jsonb(s) - 'ingested_at'
    from sealed s
    where greatest(s.prompt_tokens, s.completion_tokens) > :most
      and not exists (select 1 from quarantine q where q.event_id = s.id and q.reason = :reason)
""")

# Any unresolved entry holds, also a conflict between two versions of an event: it is not for us to pick one.
_HELD_EVENTS = over_seal("""
    select count(*) from sealed s
    where exists (select 1 from quarantine q where q.event_id = s.id and q.resolved_at is null)
""")

_IN_QUESTION = text("select exists (select 1 from quarantine where tenant_id = :tenant_id and resolved_at is null)")

_TENANTS_IN_QUESTION = text("""
    select distinct tenant_id from quarantine
    where tenant_id = any(cast(:tenant_ids as uuid[])) and (resolved_at is null or decision = 'discarded')
""")
_FORGET = text("""
    delete from usage_daily d
    using unnest(cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[])) as k (tenant_id, seal_no)
    where d.window_day = :window_day and d.tenant_id = k.tenant_id and d.seal_no = k.seal_no
""")

_HAS_DISCARDED = text(
    "select exists (select 1 from quarantine where tenant_id = :tenant_id and decision = 'discarded')"
)
_DISCARDED_TOKENS = over_seal("""
    select coalesce(sum(s.prompt_tokens) + sum(s.completion_tokens), 0) from sealed s
    where exists (select 1 from quarantine q where q.event_id = s.id and q.decision = 'discarded')
""")

_BY_KEY = over_seal(
    """
    select variant_id, unit, price_id, billing_day, basis, api_key_id, sum(tokens)::bigint as tokens
    from priced
    group by variant_id, unit, price_id, billing_day, basis, api_key_id
    order by variant_id, unit, price_id, billing_day, basis, api_key_id
    """,
    KEPT,
    MEASURED,
    PRICED,
)

_COUNT_AGAIN = over_seal(
    """
    select coalesce(p.variant_id, '') as variant_id, p.unit, p.billing_day, p.currency, r.id as price_id, r.per_million,
           p.basis, sum(p.tokens)::bigint as tokens
    from priced p left join prices r on r.id = p.price_id and p.prices = 1
    group by p.variant_id, p.unit, p.billing_day, p.currency, r.id, r.per_million, p.basis
    """,
    KEPT,
    MEASURED,
    PRICED,
)

_OF_EVENT = text(f"""
    with sealed as (
        select e.* from usage_events e
        where e.usage_day_utc = :usage_day_utc and e.id = :id and e.tenant_id = :tenant_id
    ), kept as (
        select s.* from sealed s where not is_discarded(s.id, s.tenant_id)
    ), {MEASURED}, {PRICED}
    select p.*, r.per_million, coalesce(r.tenant_id is not null, false) as is_own
    from priced p left join prices r on r.id = p.price_id
    order by p.unit
""")  # noqa: S608 (what is put in are our own statements)

_HELD_OF_DAY = text("""
    select q.event_id::text as event_id, q.reason, q.payload ->> 'model_id' as model_id,
           q.payload ->> 'tier_served' as tier_served, q.payload ->> 'started_at' as started_at,
           q.payload ->> 'unpriced' as prices_found, q.payload ->> 'prompt_tokens' as prompt_tokens,
           q.payload ->> 'completion_tokens' as completion_tokens
    from quarantine q join usage_events e on e.id = q.event_id
    where q.resolved_at is null and (e.started_at at time zone 'Europe/Berlin')::date = :window_day
    order by q.at
    limit :limit
""")
