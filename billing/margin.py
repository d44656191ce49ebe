"""Margins: what a day's replicas cost, split over those who kept them busy, beside what they brought.

Cost is energy and cards, each its own dated rate. Whatever was not measured, or has no rate, is None, and so is every
sum that would need it: never 0. Costs are in EUR. What is left of revenue in another currency
takes the cost at the average rate of the month: until that is known there is no margin.

A replica's whole day is split by busy time (time in flight of the requests that it answered), so whoever uses a model
also pays for its idle hours. One that answered nobody stands in a row without a tenant. Known limits: a rate that
changes within a day counts from the next; an hour in which a card's power was unknown for over 1 % is not measured;
what a trainer's cards did after its last step is not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, insert, select, text
from sqlalchemy.orm import Session

from billing import exchange_rate
from billing.exchange_rate import ExchangeRateMissing
from studio import clock
from studio.db.observation import CostRate, MarginDaily
from studio.money import Currency

_EXACT = Decimal("1e-12")  # as far as the table goes
_JOULES_PER_KWH = Decimal(3_600_000)
_SECONDS_PER_HOUR = Decimal(3600)
TOLERATED_GAP_SECONDS = 36

Sold = tuple[UUID, str]  # tenant and the variant that it asked for


@dataclass(frozen=True, slots=True)
class Rates:
    """What the site pays; None: not known."""

    eur_per_kwh: Decimal | None
    eur_per_card_hour: Decimal | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a variant's cards drew in an hour, and how many of them are known; None: not measured whole."""

    cards: int
    joules: Decimal | None


@dataclass(frozen=True, slots=True)
class Running:
    """A variant that ran on a day: card seconds, energy, and who kept it busy for how long."""

    variant_id: str
    card_seconds: Decimal
    kwh: Decimal | None
    busy: Mapping[Sold, Decimal]

    @property
    def busy_seconds(self) -> Decimal:
        """Of all."""
        return sum(self.busy.values(), Decimal(0))


@dataclass(frozen=True, slots=True)
class Margin:
    """One row of `margin_daily`."""

    day: date
    tenant_id: UUID | None
    variant_id: str
    running_variant_id: str
    currency: str
    busy_seconds: Decimal
    share: Decimal
    card_seconds: Decimal
    kwh: Decimal | None
    energy_cost: Decimal | None
    card_cost: Decimal | None
    cost: Decimal | None
    revenue: Decimal
    margin: Decimal | None
    units_per_euro: Decimal | None = None
    is_training: bool = False


def margins(
    day: date, rates: Rates, running: Iterable[Running], revenue: Mapping[Sold, Mapping[str, Decimal]],
    runs: Mapping[str, str],
) -> list[Margin]:  # fmt: skip
    """All rows of a day, those in EUR with what is left. `revenue` is exact, by currency; `runs` says whose replicas
    answer for a variant. Pure.
    """
    rows, left = [], {sold: dict(by_currency) for sold, by_currency in revenue.items()}
    for one in running:
        if not one.busy_seconds:
            rows.append(_row(day, rates, one, None, one.variant_id, Decimal(0), Decimal(1), "EUR", Decimal(0)))
        for (tenant_id, variant_id), seconds in sorted(one.busy.items()):
            brought = left.pop((tenant_id, variant_id), None) or {Currency.EUR.value: Decimal(0)}
            share = seconds / one.busy_seconds
            # A tenant has one currency; on the day on which it changes, the first row bears the cost.
            for number, (currency, amount) in enumerate(sorted(brought.items())):
                part, busy = (share, seconds) if number == 0 else (Decimal(0), Decimal(0))
                rows.append(_row(day, rates, one, tenant_id, variant_id, busy, part, currency, amount))
    for (tenant_id, variant_id), brought in sorted(left.items()):  # of answers that no engine made
        nobody = Running(runs.get(variant_id, variant_id), Decimal(0), Decimal(0), {})
        for currency, amount in sorted(brought.items()):
            rows.append(_row(day, rates, nobody, tenant_id, variant_id, Decimal(0), Decimal(0), currency, amount))
    return rows


def compute(session: Session, day: date) -> list[Margin]:
    """The rows of a Berlin day from what the tables hold now."""
    start, end = clock.day_window(day, clock.BERLIN)
    rates, runs = rates_at(session, start), _runs(session)
    rows = margins(day, rates, _running(session, start, end), _revenue(session, day), runs)
    of_day = {"day": day, "start": start, "end": end, "tolerated": TOLERATED_GAP_SECONDS}
    rows += [_training(day, rates, row) for row in session.execute(_TRAINING, of_day)]
    rows += [_reserved(day, rates, row) for row in session.execute(_RESERVED, {"day": day})]
    known = {code: _units_per_euro(session, code, day) for code in {row.currency for row in rows}}
    return [converted(row, known[row.currency]) for row in rows]


def converted(row: Margin, units_per_euro: Decimal | None) -> Margin:
    """What is left of a row's revenue, in its currency; None as long as its cost or the rate is not known. Pure."""
    if row.cost is None or units_per_euro is None:
        return replace(row, margin=None, units_per_euro=units_per_euro)
    left = row.revenue - (row.cost * units_per_euro).quantize(_EXACT)
    return replace(row, margin=left, units_per_euro=units_per_euro)


def waiting_for_a_rate(session: Session) -> list[date]:
    """Days with a row that lacks the average of its month, where that has come meanwhile."""
    return list(session.scalars(_WAITING))


def _training(day: date, rates: Rates, row: Row[Any]) -> Margin:
    """Its cards are those of its trainer. Where that had none, as on a machine without cards, nothing is measured."""
    cards = Decimal(0) if row.card_seconds is None else Decimal(row.card_seconds)
    energy = _times(row.kwh, rates.eur_per_kwh)
    card_cost = None if row.card_seconds is None else _times(cards / _SECONDS_PER_HOUR, rates.eur_per_card_hour)
    return Margin(
        day=day, tenant_id=row.tenant_id, variant_id=row.variant_id, running_variant_id=row.variant_id,
        currency=row.currency, busy_seconds=round(row.seconds, 3), share=Decimal(0), card_seconds=round(cards, 3),
        kwh=None if row.kwh is None else round(row.kwh, 6), energy_cost=energy, card_cost=card_cost,
        cost=total((energy, card_cost)), revenue=row.revenue, margin=None, is_training=True,
    )  # fmt: skip


def _reserved(day: date, rates: Rates, row: Row[Any]) -> Margin:
    """Cards of one tenant alone: what they drew is not measured apart, so there is no cost of it all."""
    seconds = Decimal(row.micro_hours) * _SECONDS_PER_HOUR / 1_000_000
    return Margin(
        day=day, tenant_id=row.tenant_id, variant_id=row.variant_id, running_variant_id=row.variant_id,
        currency=row.currency, busy_seconds=Decimal(0), share=Decimal(0), card_seconds=round(seconds, 3), kwh=None,
        energy_cost=None, card_cost=_times(seconds / _SECONDS_PER_HOUR, rates.eur_per_card_hour), cost=None,
        revenue=row.revenue, margin=None,
    )  # fmt: skip


def _units_per_euro(session: Session, currency: str, day: date) -> Decimal | None:
    if currency == Currency.EUR.value:
        return Decimal(1)
    try:
        return exchange_rate.month_rate(session, currency, clock.month_start(day)).rate
    except ExchangeRateMissing:
        return None


def store(session: Session, day: date, rows: Sequence[Margin]) -> None:
    """In place of the day's."""
    session.execute(delete(MarginDaily).where(MarginDaily.day == day))
    if rows:
        session.execute(insert(MarginDaily), [asdict(row) for row in rows])


def rates_at(session: Session, instant: datetime) -> Rates:
    """What the site pays at an instant."""
    newest = select(CostRate).where(CostRate.valid_from <= instant).order_by(CostRate.valid_from.desc()).limit(1)
    rate = session.scalars(newest).one_or_none()
    return Rates(None, None) if rate is None else Rates(rate.eur_per_kwh, rate.eur_per_card_hour)


def total(values: Iterable[Decimal | None]) -> Decimal | None:
    """Their sum; None as soon as one of them is not measured."""
    summed = Decimal(0)
    for value in values:
        if value is None:
            return None
        summed += value
    return summed


def _row(
    day: date, rates: Rates, one: Running, tenant_id: UUID | None, variant_id: str, busy: Decimal, share: Decimal,
    currency: str, revenue: Decimal,
) -> Margin:  # fmt: skip
    card_seconds = round(one.card_seconds * share, 3)
    kwh = None if one.kwh is None else round(one.kwh * share, 6)
    energy = _times(None if one.kwh is None else one.kwh * share, rates.eur_per_kwh)
    # A variant without cards has a cost, too: nobody has measured it.
    is_measurable = one.card_seconds > 0 or share == 0
    cards = _times(one.card_seconds * share / _SECONDS_PER_HOUR, rates.eur_per_card_hour) if is_measurable else None
    cost = total((energy, cards))
    is_eur = currency == Currency.EUR.value
    return Margin(
        day=day, tenant_id=tenant_id, variant_id=variant_id, running_variant_id=one.variant_id, currency=currency,
        busy_seconds=round(busy, 3), share=round(share, 10), card_seconds=card_seconds, kwh=kwh, energy_cost=energy,
        card_cost=cards, cost=cost, revenue=revenue, margin=revenue - cost if is_eur and cost is not None else None,
    )  # fmt: skip


def _times(amount: Decimal | None, rate: Decimal | None) -> Decimal | None:
    return None if amount is None or rate is None else (amount * rate).quantize(_EXACT)


def _running(session: Session, start: datetime, end: datetime) -> list[Running]:
    span = {"start": start, "end": end}
    busy: dict[str, dict[Sold, Decimal]] = defaultdict(dict)
    for row in session.execute(_BUSY, span):
        busy[row.running_variant_id][row.tenant_id, row.variant_id] = row.seconds
    energy: dict[str, dict[datetime, Drawn]] = defaultdict(dict)
    for row in session.execute(_ENERGY, span | {"tolerated": TOLERATED_GAP_SECONDS}):
        energy[row.variant_id][row.hour] = Drawn(row.cards, row.joules)
    up: dict[str, dict[datetime, Decimal]] = defaultdict(dict)
    for row in session.execute(_UP, span):
        up[row.variant_id][row.hour] = row.card_seconds
    return [
        Running(
            variant_id, sum(up[variant_id].values(), Decimal(0)), kwh(up[variant_id], energy[variant_id]),
            busy[variant_id],
        )
        for variant_id in sorted(up.keys() | busy.keys())
    ]  # fmt: skip


def kwh(card_seconds: Mapping[datetime, Decimal], drawn: Mapping[datetime, Drawn]) -> Decimal | None:
    """Of the hours in which a variant held cards; None when one of them was not measured, or there was none. Pure.

    Fewer cards than those seconds need: the exporter of one of them was away, and what it drew is not in the sum.
    """
    joules: list[Decimal] = []
    for hour, seconds in card_seconds.items():
        known = drawn.get(hour)
        if known is None and seconds <= TOLERATED_GAP_SECONDS:
            continue  # a replica that was asked for at the end of an hour and had no card in it yet
        if known is None or known.joules is None:
            return None
        if known.cards * _SECONDS_PER_HOUR < seconds - TOLERATED_GAP_SECONDS:
            return None
        joules.append(known.joules)
    return sum(joules, Decimal(0)) / _JOULES_PER_KWH if joules else None


def _revenue(session: Session, day: date) -> dict[Sold, dict[str, Decimal]]:
    revenue: dict[Sold, dict[str, Decimal]] = defaultdict(dict)
    for row in session.execute(_REVENUE, {"day": day}):
        revenue[row.tenant_id, row.variant_id][row.currency] = row.amount
    return revenue


def _runs(session: Session) -> dict[str, str]:
    return dict(session.execute(text("select id, coalesce(served_by, id) from model_variants")).tuples().all())


# A fine-tune is revenue of the day on which it was asked for, as its usage is; its time is that of all its training.
_TRAINING = text("""
    with jobs as (
        select j.tenant_id, j.variant_id, extract(epoch from j.finished_at - j.started_at) as seconds,
               (select sum(a.held) from (
                    select max((e.data ->> 'card_seconds')::numeric) as held from fine_tuning_events e
                    where e.job_id = j.id and e.type = 'metrics' and e.data ->> 'card_seconds' is not null
                    group by e.data ->> 'attempt') a) as card_seconds,
               (select sum(c.joules) / 3600000 from card_energy c where c.fine_tune_id = j.id
                having bool_and(c.joules is not null and coalesce(c.unmeasured_seconds, 3600) <= :tolerated)
                   and not exists (
                       select from generate_series(date_trunc('hour', j.started_at),
                                                   j.finished_at - interval '1 microsecond', interval '1 hour') h (hour)
                       where not exists (select from card_energy o where o.hour = h.hour))) as kwh
        from fine_tuning_jobs j
        where j.created_at >= :start and j.created_at < :end
          and j.finished_at is not null and j.started_at is not null
    )
    select l.tenant_id, l.variant_id, l.currency, l.revenue, coalesce(j.seconds, 0) as seconds, j.card_seconds, j.kwh
    from (select tenant_id, variant_id, currency, sum(amount) as revenue
          from rated_lines where window_day = :day and unit = 'training' group by 1, 2, 3) l
    left join (
        select tenant_id, variant_id, sum(seconds) as seconds,
               case when bool_and(card_seconds is not null) then sum(card_seconds) end as card_seconds,
               case when bool_and(kwh is not null) then sum(kwh) end as kwh
        from jobs group by 1, 2) j on j.tenant_id = l.tenant_id and j.variant_id = l.variant_id
    order by 1, 2, 3
""")
_RESERVED = text("""
    select l.tenant_id, l.variant_id, l.currency, sum(l.amount) as revenue, sum(l.tokens) as micro_hours
    from rated_lines l where l.window_day = :day and l.unit = 'gpu_hour' group by 1, 2, 3 order by 1, 2, 3
""")
_WAITING = text("""
    select distinct m.day from margin_daily m
    join fx_rates f on f.quote = m.currency and f.month = date_trunc('month', m.day)::date
    where m.units_per_euro is null and m.currency <> 'EUR'
    order by m.day
""")

# Each hour of the day, and for how many card seconds of it the variant's replicas were up (starting and draining, too).
_UP = text("""
    select r.variant_id, h.hour,
           sum(v.gpu_count * extract(epoch from
               least(coalesce(r.stopped_at, :end), h.hour + interval '1 hour') - greatest(r.created_at, h.hour)))
               as card_seconds
    from generate_series(cast(:start as timestamptz), cast(:end as timestamptz) - interval '1 hour', interval '1 hour')
         h (hour)
    join replicas r on r.created_at < h.hour + interval '1 hour' and coalesce(r.stopped_at, :end) > h.hour
    join model_variants v on v.id = r.variant_id
    group by r.variant_id, h.hour
""")
_BUSY = text("""
    select r.variant_id as running_variant_id, e.tenant_id, e.variant_id,
           sum(extract(epoch from e.ended_at - e.started_at)) as seconds
    from usage_events e join replicas r on r.id = e.replica_id
    where e.started_at >= :start and e.started_at < :end
      and e.usage_day_utc between cast(:start as date) - 1 and cast(:end as date) + 1
    group by 1, 2, 3
    having sum(extract(epoch from e.ended_at - e.started_at)) > 0
""")
_ENERGY = text("""
    select variant_id, hour, count(distinct card) as cards,
           case when bool_and(joules is not null and coalesce(unmeasured_seconds, 3600) <= :tolerated)
                then sum(joules) end as joules
    from card_energy where hour >= :start and hour < :end and variant_id is not null group by 1, 2
""")
_REVENUE = text("""
    select tenant_id, variant_id, currency, sum(amount) as amount
    from rated_lines where window_day = :day and unit not in ('training', 'storage', 'gpu_hour')
    group by 1, 2, 3
""")
