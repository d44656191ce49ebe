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

from sqlalchemy import func, select, text
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
    rows = session.execute(_COUNTED, _names(window_day, [seal.key for seal in seals])).all()
    amounts = [rating.rate(row.tokens, row.per_million) for row in rows]
    columns = {name: [getattr(row, name) for row in rows] for name in _COUNTED_COLUMNS}
    session.execute(
        _KEEP, {**columns, "amount": amounts, "window_day": window_day, "code_version": rating.CODE_VERSION}
    )
    windows.move_all(session, [seal.key for seal in seals], "rated")
    return len(rows)


def rated_tokens(session: Session, key: SealKey) -> int:
    """All tokens rated for a seal."""
    query = select(func.coalesce(func.sum(RatedLine.tokens), 0)).where(
        RatedLine.window_day == key.window_day,
        RatedLine.tenant_id == key.tenant_id,
        RatedLine.seal_no == key.seal_no,
    )
    return int(session.scalars(query).one())


def lines_of(session: Session, window_day: date) -> list[Line]:
    """The rated lines of a window day, over all tenants and seals."""
    columns = [RatedLine.__table__.c[field.name] for field in fields(Line)]
    query = select(*columns).where(RatedLine.window_day == window_day).order_by(*columns[:6])
    return [Line(**row) for row in session.execute(query).mappings()]


def _names(window_day: date, keys: Collection[SealKey]) -> dict[str, Any]:
    names = {"tenant_ids": [key.tenant_id for key in keys], "seal_nos": [key.seal_no for key in keys]}
    return {"window_day": window_day, **names}


_COUNTED_COLUMNS = {
    "tenant_id": "uuid", "seal_no": "integer", "variant_id": "text", "unit": "text", "price_id": "uuid",
    "billing_day": "date", "basis": "text", "legal_entity_id": "text", "currency": "text", "tokens": "bigint",
    "per_million": "numeric",
}  # fmt: skip
_COUNTED = text("""
    select d.tenant_id, d.seal_no, d.variant_id, d.unit, d.price_id, d.billing_day, d.basis, d.legal_entity_id,
           d.currency, d.tokens, p.per_million
    from usage_daily d
    join unnest(cast(:tenant_ids as uuid[]), cast(:seal_nos as integer[])) as k (tenant_id, seal_no)
      on k.tenant_id = d.tenant_id and k.seal_no = d.seal_no
    join prices p on p.id = d.price_id
    where d.window_day = :window_day
""")
# Column by column: one statement for a day of a hundred thousand lines.
_KEEP = text(f"""
    insert into rated_lines (window_day, code_version, amount, {", ".join(_COUNTED_COLUMNS)})
    select cast(:window_day as date), cast(:code_version as text), l.*
    from unnest(cast(:amount as numeric[]), {", ".join(f"cast(:{n} as {t}[])" for n, t in _COUNTED_COLUMNS.items())}) l
    on conflict on constraint uq_rated_lines do nothing
""")  # noqa: S608 (names of our own)
