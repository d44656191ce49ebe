"""The story's own eyes: what an auditor computes from the raw tables, sharing no code with `billing/`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

import psycopg

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Recomputed:
    """An invoice computed again from events and prices."""

    events: int
    tokens: int
    exact: Decimal
    net: Decimal
    tax: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """One engine: what it counted itself, and what our events say."""

    variant: str
    engine_prompt: int
    engine_completion: int
    events_prompt: int
    events_completion: int
    had_crash: bool  # of a process that metered this engine: what it had in flight is nobody's event

    @property
    def unbilled(self) -> int:
        """Tokens that the engine counted and no event holds."""
        return self.engine_prompt + self.engine_completion - self.events_prompt - self.events_completion

    @property
    def agree(self) -> bool:
        """Token for token; after a crash the engine may have counted more."""
        lost = (self.engine_prompt - self.events_prompt, self.engine_completion - self.events_completion)
        return lost == (0, 0) or (self.had_crash and min(lost) >= 0)


class Auditor:
    """A session of the role that reads everything and changes nothing."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url.replace("postgresql+psycopg://", "postgresql://")

    def events_of_key(self, prefix: str) -> tuple[int, int]:
        """Events, and distinct ids, of one key's requests. What a trainer read is metered, too, but is no request."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute(
                "select count(*), count(distinct id) from usage_events where api_key_id ="
                " (select id from api_keys where prefix = %s) and endpoint not in"
                " ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour')",
                [prefix],
            ).fetchone()
        assert row is not None
        return row[0], row[1]

    def events_after_counters(self, prefix: str) -> int:
        """Events of one key that the counters of their engine do not hold yet."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute(
                "select count(*) from usage_events e where api_key_id = (select id from api_keys where prefix = %s)"
                " and e.replica_id is not null"
                " and not exists (select from engine_counters c where c.replica_id = e.replica_id"
                " and c.requests = 0 and c.observed_at >= e.ended_at)",
                [prefix],
            ).fetchone()
        assert row is not None
        return int(row[0])

    def end_reasons(self, prefix: str) -> dict[str, int]:
        """How the requests of one key ended."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "select end_reason, count(*) from usage_events where api_key_id ="
                " (select id from api_keys where prefix = %s) group by 1",
                [prefix],
            ).fetchall()
        return dict(rows)

    def warmups(self) -> list[tuple[str, Decimal, Decimal, Decimal]]:
        """The latest proof of each variant: seconds for weights, start, first token."""
        with psycopg.connect(self._url) as connection:
            return connection.execute(
                "select distinct on (variant_id) variant_id, weights_seconds, start_seconds, first_token_seconds"
                " from warmups order by variant_id, ready_at desc"
            ).fetchall()

    def engine_totals(self) -> list[EngineTotals]:
        """Every engine that ran here, at the last instant at which it was idle, against the events until then."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(_ENGINE_TOTALS).fetchall()
        return [EngineTotals(*row) for row in rows]

    def batch_workers(self) -> list[int]:
        """Process ids of the workers that drain batches now."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "select substring(name from '^batch worker ([0-9]+) on') from usage_sources"
                " where kind = 'transaction' and closed_at is null order by opened_at"
            ).fetchall()
        return [int(pid) for (pid,) in rows]

    def batch_events(self, batch_id: UUID) -> tuple[int, int, int]:
        """Events, distinct lines and tokens of a batch."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute(
                "select count(*), count(distinct batch_line),"
                " coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint from usage_events where batch_id = %s",
                [batch_id],
            ).fetchone()
        assert row is not None
        return row

    def prices(self, variant: str, currency: str) -> dict[str, Decimal]:
        """What each unit of a variant costs now, per 1,000,000 tokens."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "select unit, per_million from prices where variant_id = %s and currency = %s"
                " and valid_from <= now() and (valid_until is null or valid_until > now())",
                [variant, currency],
            ).fetchall()
        return dict(rows)

    def recompute(self, invoice_id: UUID, tax_rate: Decimal) -> Recomputed:
        """From the events of the seals that the invoice covers, the prices of their instant, and nothing else."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(_EVENT_AMOUNTS, [invoice_id]).fetchall()
        lines: dict[tuple[str, str, UUID], list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
        for variant, unit, price, per_million, tokens, _ in rows:
            lines[variant, unit, price][0] += tokens
            lines[variant, unit, price][1] = per_million
        exact = [tokens * per_million / 1_000_000 for tokens, per_million in lines.values()]
        net = sum((amount.quantize(CENT, ROUND_HALF_UP) for amount in exact), Decimal(0))
        tax = (net * tax_rate).quantize(CENT, ROUND_HALF_UP)
        return Recomputed(
            events=len({row[5] for row in rows}),
            tokens=int(sum(tokens for tokens, _ in lines.values())),
            exact=sum(exact, Decimal(0)),
            net=net,
            tax=tax,
            gross=net + tax,
        )

    def booked(self, invoice_id: UUID) -> dict[str, Decimal]:
        """What the ledger holds of an invoice's own transaction, by kind of account; debit is positive."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "select a.kind, sum(e.amount) from ledger_transactions t"
                " join ledger_entries e on e.transaction_id = t.id join ledger_accounts a on a.id = e.account_id"
                " where t.key = %s group by 1",
                [f"invoice:inv_{invoice_id.hex}"],
            ).fetchall()
        return dict(rows)


_ENGINE_TOTALS = """
    with latest as (
        select distinct on (c.replica_id) c.replica_id, c.observed_at, r.variant_id, r.created_at,
               c.prompt_tokens - r.baseline_prompt_tokens as prompt,
               c.completion_tokens - r.baseline_completion_tokens as completion
        from engine_counters c join replicas r on r.id = c.replica_id
        where r.kind = 'process' and c.requests = 0
        order by c.replica_id, c.observed_at desc
    )
    select l.variant_id, l.prompt, l.completion,
           coalesce(sum(coalesce(e.engine_prompt_tokens, e.prompt_tokens)), 0)::bigint,
           coalesce(sum(e.completion_tokens), 0)::bigint,
           exists (select 1 from usage_sources s where s.crashed_at > l.created_at and s.opened_at < l.observed_at)
    from latest l left join usage_events e on e.replica_id = l.replica_id and e.ended_at <= l.observed_at
    group by l.replica_id, l.variant_id, l.prompt, l.completion, l.created_at, l.observed_at
"""

_EVENT_AMOUNTS = """
    with seals as (
        select distinct r.window_day, r.tenant_id, r.seal_no
        from invoiced_lines i join rated_lines r on r.id = i.rated_line_id
        where i.invoice_id = %s
    ), events as (
        select e.*, b.currency, m.task
        from seals s
        join usage_windows w using (window_day, tenant_id, seal_no)
        cross join lateral jsonb_to_recordset(w.manifest -> 'sources')
             as source (source_id uuid, from_seq bigint, until_seq bigint)
        join usage_events e on e.tenant_id = w.tenant_id and e.source_id = source.source_id
             and e.source_seq >= source.from_seq and e.source_seq < source.until_seq
             and (e.started_at at time zone 'Europe/Berlin')::date = w.window_day
        join tenant_billing b on b.tenant_id = e.tenant_id
             and b.valid_from <= (e.started_at at time zone b.time_zone)::date
             and (b.valid_until is null or (e.started_at at time zone b.time_zone)::date < b.valid_until)
        join models m on m.id = e.model_id
    ), units as (
        select e.id, e.variant_id, e.currency, e.started_at, u.tokens,
               case when e.batch_id is null then u.unit else 'batch_' || u.unit end as unit
        from events e cross join lateral (values
            ('training', case when e.endpoint = '/v1/fine_tuning/jobs' then e.prompt_tokens else 0 end),
            ('storage', case when e.endpoint = 'storage' then e.prompt_tokens else 0 end),
            ('gpu_hour', case when e.endpoint = 'gpu_hour' then e.prompt_tokens else 0 end),
            ('prompt', case when e.task <> 'embedding'
                            and e.endpoint not in ('/v1/fine_tuning/jobs', 'storage', 'gpu_hour')
                       then e.prompt_tokens - e.cached_tokens - e.reused_prompt_tokens else 0 end),
            ('cached_prompt', case when e.task <> 'embedding' then e.cached_tokens else 0 end),
            ('completion', e.completion_tokens - e.reused_completion_tokens),
            ('embedding', case when e.task = 'embedding' then e.prompt_tokens - e.reused_prompt_tokens else 0 end),
            ('reused', e.reused_prompt_tokens + e.reused_completion_tokens)) as u (unit, tokens)
        where u.tokens > 0
    )
    select u.variant_id, u.unit, p.id, p.per_million, u.tokens, u.id
    from units u join prices p on p.variant_id = u.variant_id and p.unit = u.unit and p.currency = u.currency
         and p.tenant_id is null
         and p.valid_from <= u.started_at and (p.valid_until is null or p.valid_until > u.started_at)
"""
