"""Re-rating, as a dry run: what a month would come to with the price book and the code of now. Changes nothing.

Rated lines stay as they are for ever. Where this shows a difference, a correction is what makes it count
(`correction.py`), ordered and approved by people who have seen it. Amounts are before volume tiers and adjustments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import rating, usage, windows
from billing.windows import SealKey
from studio import clock, ids
from studio.db.invoices import RatedLine


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one tenant, variant and unit at one price; None where there is not exactly one."""

    tenant_id: UUID
    variant_id: str
    unit: str
    currency: str | None
    per_million: Decimal | None
    tokens: int

    @property
    def amount(self) -> Decimal:
        """Exact; nothing where there is no price."""
        return Decimal(0) if self.per_million is None else rating.rate(self.tokens, self.per_million)


@dataclass(frozen=True, slots=True)
class Difference:
    """One variant and unit of a tenant that would come to something else now."""

    tenant: str
    variant_id: str
    unit: str
    currency: str
    rated_tokens: int
    tokens_now: int
    unpriced_tokens: int
    rated: Decimal
    now: Decimal
    rated_at: str  # the prices, as the list prints them
    priced_now_at: str

    @property
    def change(self) -> Decimal:
        """Above zero: too little was rated."""
        return self.now - self.rated


@dataclass(frozen=True, slots=True)
class Preview:
    """A month, re-rated."""

    month: date
    code_version: str
    seals: int
    differences: tuple[Difference, ...]


def preview(session: Session, month: date) -> Preview:
    """Compare every rated seal that touches the month."""
    first, until = month - timedelta(days=1), clock.next_month(month)
    keys = [
        seal.key
        for seal in windows.seals(session, states=("rated", "reconciled"))
        if first <= seal.key.window_day <= until
    ]
    rated = [part for key in keys for part in _rated(session, key, month, until)]
    now = [part for key in keys for part in _now(session, key, month, until)]
    return Preview(month, rating.CODE_VERSION, len(keys), tuple(differences(rated, now)))


def differences(rated: Iterable[Part], now: Iterable[Part]) -> list[Difference]:
    """Of each tenant, variant and unit whose exact amount, tokens or prices differ. Pure."""
    sides: tuple[dict[tuple[UUID, str, str], list[Part]], ...] = (defaultdict(list), defaultdict(list))
    for side, parts in zip(sides, (rated, now), strict=True):
        for part in parts:
            side[part.tenant_id, part.variant_id, part.unit].append(part)
    before, after = sides
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key, []), after.get(key, [])
        one = _difference(key, old, new)
        if one.change or one.unpriced_tokens or one.rated_tokens != one.tokens_now:
            found.append(one)
    return found


def _difference(key: tuple[UUID, str, str], old: list[Part], new: list[Part]) -> Difference:
    tenant_id, variant_id, unit = key
    return Difference(
        tenant=ids.to_wire(ids.TENANT, tenant_id),
        variant_id=variant_id,
        unit=unit,
        currency=next((part.currency for part in (*old, *new) if part.currency is not None), ""),
        rated_tokens=sum(part.tokens for part in old),
        tokens_now=sum(part.tokens for part in new),
        unpriced_tokens=sum(part.tokens for part in new if part.per_million is None),
        rated=rating.exact_sum([part.amount for part in old]),
        now=rating.exact_sum([part.amount for part in new]),
        rated_at=_prices(old),
        priced_now_at=_prices(new),
    )


def _prices(parts: list[Part]) -> str:
    prices = {part.per_million for part in parts if part.per_million is not None}
    return ", ".join(rating.price_text(price) for price in sorted(prices))


def _rated(session: Session, key: SealKey, month: date, until: date) -> list[Part]:
    query = select(RatedLine).where(
        RatedLine.window_day == key.window_day,
        RatedLine.tenant_id == key.tenant_id,
        RatedLine.seal_no == key.seal_no,
        RatedLine.billing_day >= month,
        RatedLine.billing_day < until,
    )
    return [
        Part(key.tenant_id, line.variant_id, line.unit, line.currency, line.per_million, line.tokens)
        for line in session.scalars(query)
    ]


def _now(session: Session, key: SealKey, month: date, until: date) -> list[Part]:
    return [
        Part(key.tenant_id, one.variant_id, one.unit, one.currency, one.per_million, one.tokens)
        for one in usage.count_again(session, key)
        if one.billing_day is not None and month <= one.billing_day < until
    ]
