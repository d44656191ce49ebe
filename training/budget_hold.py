"""Money for a fine-tune, set aside in every budget that it meets, as a request's is: of its tenant and of its key.

A request is asked for once and answered within minutes; a training runs for hours and cannot end where the money does.
So all that it will cost is drawn before its first step counts, once for a job, whichever attempt comes to it, and the
end of the job replaces the draw by what it cost (`metering.py`, `settle_draws`).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from studio.budgets import named, way_out
from studio.errors import InsufficientQuota
from training import metering

_PER = Decimal(1_000_000)  # tokens to a price


class BudgetShort(InsufficientQuota):
    """A budget has less than the training costs. `may_come_back`: running gateways hold what is missing, and give back
    what they do not need within seconds.
    """

    def __init__(self, message: str, *, may_come_back: bool = False) -> None:
        super().__init__(message)
        self.may_come_back = may_come_back


def hold(session: Session, job_id: UUID, now: datetime) -> bool:
    """Draw what the job costs from each budget; whether it is held, which it is not before its trainer has counted.

    BudgetShort where one has less: then this transaction must not be committed.
    """
    tokens = metering.tokens_to_train(session, job_id)
    if not tokens:
        return False
    source_id = metering.open_source(session, job_id, now)
    if source_id is not None:  # else it is held already
        for budget in session.execute(_MET, {"job": job_id}).mappings():
            _draw(session, source_id, dict(budget), tokens)
    return True


def _draw(session: Session, source_id: UUID, budget: dict[str, Any], tokens: int) -> None:
    if budget["per_million"] is None:
        raise BudgetShort(
            f"This model has no {budget['currency']} price of training, so it cannot be trained within a budget. Use"
            " another model, or a key without a budget."
        )
    needed = tokens * budget["per_million"] / _PER
    if budget["max_cost"] is not None:
        needed = min(needed, budget["max_cost"])
    if not needed:
        return
    account = {"budget": budget["id"], "period": budget["period"], "source": source_id}
    granted: Decimal = session.execute(_DRAW, account | {"needed": needed}).scalar_one()
    if granted < needed:
        in_other_hands: Decimal = session.execute(_IN_OTHER_HANDS, account).scalar_one()
        raise BudgetShort(
            f"The {named(budget['kind'], of_key=budget['is_of_key'])} does not reach: {_shown(granted)} of"
            f" {_shown(budget['amount'])} {budget['currency']} is left here, and this training of {tokens:,} tokens"
            f" costs {_shown(needed)} {budget['currency']}. Nothing is billed. To train,"
            f" {way_out(budget['kind'], of_key=budget['is_of_key'])}.",
            may_come_back=granted + in_other_hands >= needed,
        )
    if granted > needed:  # drawn ahead for requests to come, which a job has none of
        session.execute(_RETURN, account | {"unused": granted - needed})


def _shown(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


# In the order in which `settle_draws` locks them. A job belongs to the instant at which it was asked for, in budgets as
# on the invoice: a budget that began later does not hold it.
_MET = text("""
    select g.id, g.kind, g.api_key_id is not null as is_of_key, g.currency, g.amount,
           case when g.kind = 'monthly' then date_trunc('month', j.created_at at time zone b.time_zone)::date
                else (g.created_at at time zone 'UTC')::date end as period,
           p.per_million, case when q.currency = g.currency then q.max_cost end as max_cost
    from fine_tuning_jobs j
    join budgets g on g.tenant_id = j.tenant_id and (g.api_key_id is null or g.api_key_id = j.api_key_id)
         and g.ended_at is null and g.created_at <= j.created_at
    join tenant_billing b on b.tenant_id = j.tenant_id and b.valid_from <= current_date
         and (b.valid_until is null or current_date < b.valid_until)
    left join quotes q on q.id = j.quote_id
    left join lateral price_at(
        j.tenant_id, g.currency, j.variant_id, 'training', coalesce(q.priced_at, j.created_at)) p on true
    where j.id = :job
    order by g.id
""")
_DRAW = text("select granted from draw_budget(:budget, :period, :source, :needed)")
_RETURN = text("select return_to_budget(:budget, :period, :source, :unused)")
_IN_OTHER_HANDS = text("""
    select coalesce(sum(d.amount), 0)
    from budget_draws d join usage_sources u on u.id = d.source_id
    where d.budget_id = :budget and d.period = :period and d.source_id <> :source and u.name not like 'fine-tune %'
""")
