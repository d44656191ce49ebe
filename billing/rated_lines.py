"""Rated lines: each row of `usage_daily` multiplied once with its price and kept for ever.

The multiplication itself is `rating.py`. Rating a seal again finds its lines there and changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing import rating, windows
from billing.windows import SealKey
from studio.db.invoices import RatedLine


@dataclass(frozen=True, slots=True)
class Line:
    """A rated line as reports show it."""

    tenant_id: UUID
    seal_no: int
    variant_id: str
    unit: str
    billing_day: date
    basis: str
    currency: str
    tokens: int
    per_million: Decimal
    amount: Decimal

    @property
    def explanation(self) -> str:
        """The line in words."""
        return rating.explain(self.tokens, self.unit, self.per_million, self.currency)


def rate_seal(session: Session, key: SealKey) -> int:
    """Rate a counted seal; how many lines it has. The seal becomes `rated`."""
    windows.lock(session, key)
    return rate_seals(session, key.window_day, [key])


def rate_seals(session: Session, window_day: date, keys: Collection[SealKey]) -> int:
    """Rate counted seals of one day; how many lines they have. They become `rated`."""
    seals = windows.lock_all(session, window_day, keys)
    for seal in seals:
        windows.require_state(seal, ("counted", "rated"), "Rating")
    names = _names(window_day, [seal.key for seal in seals])
    pairs = session.execute(_PAIRS, names).all()
    rated = {
        "tokens": [pair.tokens for pair in pairs],
        "prices": [pair.per_million for pair in pairs],
        "amounts": [rating.rate(pair.tokens, pair.per_million) for pair in pairs],
    }
    lines: int = session.execute(_KEEP, {**names, **rated, "code_version": rating.CODE_VERSION}).scalar_one()
    windows.move_all(session, [seal.key for seal in seals], "rated")
    return lines


def lines_of(session: Session, window_day: date) -> list[Line]:
    """The rated lines of a window day, over all tenants and seals."""
    columns = [RatedLine.__table__.c[field.name] for field in fields(Line)]
    query = select(*columns).where(RatedLine.window_day == window_day).order_by(*columns[:6])
    return [Line(**row) for row in session.execute(query).mappings()]


def _names(window_day: date, keys: Collection[SealKey]) -> dict[str, Any]:
    names = {"tenant_ids": [key.tenant_id for key in keys], "seal_nos": [key.seal_no for key in keys]}
    return {"window_day": window_day, **names}


_COUNTED = """
    counted as (
        select d.*, p.per_million
        from usage_daily d
        join unnest(cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[])) as k (tenant_id, seal_no)
          on k.tenant_id = d.tenant_id and k.seal_no = d.seal_no
        join prices p on p.id = d.price_id
        where d.window_day = :window_day
    )"""
# Only what is multiplied comes here, and each pair of numbers once.
_PAIRS = text(f"with {_COUNTED} select distinct tokens, per_million from counted")  # noqa: S608 (our own statement)
# A line without its amount would be refused: `amount` is never null.
_KEEP = text(f"""
    with {_COUNTED}, kept as (
        insert into rated_lines (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, basis,
                                 legal_entity_id, currency, tokens, per_million, amount, code_version)
        select c.window_day, c.tenant_id, c.seal_no, c.variant_id, c.unit, c.price_id, c.billing_day, c.basis,
               c.legal_entity_id, c.currency, c.tokens, c.per_million, r.amount, cast(:code_version as text)
        from counted c
        left join unnest(cast(:tokens as bigint[]), cast(:prices as numeric[]), cast(:amounts as numeric[]))
            as r (tokens, per_million, amount) using (tokens, per_million)
        on conflict on constraint uq_rated_lines do nothing
    )
    select count(*) from counted
""")  # noqa: S608 (likewise)
