"""Alerts: a budget has come to 80 or 100 % (or what is set) of its amount. Raised once, whoever looks and how often.

`used` is what is spent and what running gateways hold to spend: what a request can no longer have. It is compared in
whole percent, since the last of a budget is often too little for any request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from studio import ids


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """An alert that has just been raised."""

    id: UUID
    tenant_id: UUID
    api_key_id: UUID | None
    kind: str
    currency: str
    period: date
    percent: int
    amount: Decimal
    used: Decimal

    def as_data(self) -> dict[str, object]:
        """For a webhook's body; amounts are exact decimal text."""
        return {
            "id": ids.to_wire(ids.ALERT, self.id),
            "budget": self.kind,
            "api_key_id": ids.to_wire(ids.API_KEY, self.api_key_id) if self.api_key_id else None,
            "period": self.period.isoformat(),
            "percent": self.percent,
            "currency": self.currency,
            "amount": f"{self.amount.normalize():f}",
            "used": f"{self.used.normalize():f}",
        }


def raise_alerts(session: Session, now: datetime) -> list[RaisedAlert]:
    """Raise what is to be raised; only what this transaction raised is returned. A budget whose amount was changed is
    looked at anew."""
    return [RaisedAlert(**row) for row in session.execute(_RAISE, {"now": now}).mappings()]


_RAISE = text("""
    with standing as (
        select g.id, g.tenant_id, g.api_key_id, g.kind, g.currency, g.amount, g.alert_percents,
               case when g.kind = 'monthly'
                    then date_trunc('month', cast(:now as timestamptz) at time zone b.time_zone)::date
                    else (g.created_at at time zone 'UTC')::date end as period
        from budgets g
        join tenant_billing b on b.tenant_id = g.tenant_id
             and b.valid_from <= (cast(:now as timestamptz) at time zone 'UTC')::date
             and (b.valid_until is null or (cast(:now as timestamptz) at time zone 'UTC')::date < b.valid_until)
        where g.ended_at is null and g.amount > 0
    ), used as (
        select s.*, coalesce(a.spent, 0) + coalesce(d.held, 0) as used
        from standing s
        left join budget_accounts a on a.budget_id = s.id and a.period = s.period
        left join lateral (select sum(d.amount) as held from budget_draws d
                           where d.budget_id = s.id and d.period = s.period) d on true
    ), raised as (
        insert into alerts (tenant_id, budget_id, period, percent, amount, used, raised_at)
        select u.tenant_id, u.id, u.period, p.percent, u.amount, u.used, :now
        from used u cross join lateral unnest(u.alert_percents) as p (percent)
        where round(100 * u.used / u.amount) >= p.percent
        on conflict do nothing
        returning *
    )
    select r.id, r.tenant_id, g.api_key_id, g.kind, g.currency, r.period, r.percent, r.amount, r.used
    from raised r join budgets g on g.id = r.budget_id
    order by r.tenant_id, r.percent
""")
