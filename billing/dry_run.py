"""A bill that nobody gets: the counting and rating of real invoices over the events of one key, and nothing is written.

For the canary, whose tenant is ours: it is never sealed, so no other path of billing ever sees its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing import rating
from billing.usage import MEASURED, PRICED
from billing.usage_groups import KEPT


@dataclass(frozen=True, slots=True)
class DryLine:
    """Tokens of one unit at one price, and what they come to."""

    unit: str
    tokens: int
    per_million: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class DryBill:
    """What the events would cost. `unpriced` counts tokens without exactly one price, which would hold a seal."""

    events: int
    lines: tuple[DryLine, ...]
    unpriced: int

    @property
    def exact(self) -> Decimal:
        """The sum, with twelve decimals."""
        return rating.exact_sum([line.amount for line in self.lines])


def bill_of_key(session: Session, tenant_id: UUID, api_key_id: UUID) -> DryBill:
    """The bill over all events of a key so far."""
    of_key = {"tenant_id": tenant_id, "api_key_id": api_key_id}
    events = int(session.execute(_EVENTS, of_key).scalar_one())
    lines, unpriced = [], 0
    for row in session.execute(_LINES, of_key).mappings():
        if row["prices"] != 1:
            unpriced += int(row["tokens"])
            continue
        amount = rating.rate(int(row["tokens"]), row["per_million"])
        lines.append(DryLine(row["unit"], int(row["tokens"]), row["per_million"], amount))
    return DryBill(events, tuple(lines), unpriced)


_SEALED = "sealed as (select * from usage_events where tenant_id = :tenant_id and api_key_id = :api_key_id)"
_EVENTS = text(f"with {_SEALED} select count(*) from sealed")  # noqa: S608  # of our own words
_LINES = text(f"""
    with {_SEALED}, {KEPT}, {MEASURED}, {PRICED}
    select r.unit, r.prices, p.per_million, sum(r.tokens) as tokens
    from priced r left join prices p on p.id = r.price_id
    group by r.unit, r.prices, p.per_million
    order by r.unit
""")  # noqa: S608  # of our own words
