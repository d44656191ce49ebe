"""Whether a tenant may keep more: not while a budget of its own has nothing left, where its price list sells storage.

What is kept costs by the day, so it cannot be drawn from a budget before (`billing/day_metering.py`). What lies here
already stays, and goes on to cost: nobody's files are deleted for money.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from studio import budgets, clock
from studio.db.sessions import tenant_scope
from studio.errors import InsufficientQuota


def require_room(database: Engine, tenant_id: UUID) -> None:
    """InsufficientQuota where what is to be kept could not be paid for."""
    with tenant_scope(database, tenant_id) as session:
        used_up = [one for one in budgets.standings(session, tenant_id) if one.api_key_id is None and not one.free]
        if not used_up or not _is_sold(session, tenant_id):
            return
    one = used_up[0]
    raise InsufficientQuota(
        f"The {budgets.named(one.kind, of_key=False)} is used up: 0 of {one.amount.normalize():f} {one.currency} is"
        f" left here, and what is stored costs by the day. To store more, {budgets.way_out(one.kind, of_key=False)}."
    )


def _is_sold(session: Session, tenant_id: UUID) -> bool:
    return session.execute(_PRICE, {"tenant": tenant_id, "now": clock.now()}).first() is not None


_PRICE = text("""
    select p.price_id
    from tenant_billing b
    cross join lateral price_at(b.tenant_id, b.currency, 'storage', 'storage', cast(:now as timestamptz)) p
    cross join lateral (select (cast(:now as timestamptz) at time zone b.time_zone)::date as today) n
    where b.tenant_id = :tenant and b.valid_from <= n.today and (b.valid_until is null or n.today < b.valid_until)
""")
