"""`/v1/slo`: how a month's objectives were met, and what the caller's own tenant was credited for missed targets."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from serving.admin.objectives import MONTH, CreditView, FigureView, credit_view, figure_view
from serving.objectives import months, report
from serving.routes.caller import UsageCaller
from serving.routes.stores import TenantDatabase
from studio.db.sessions import tenant_scope
from studio.errors import NotFound

router = APIRouter(prefix="/v1/slo", tags=["usage"])


class MonthList(BaseModel):
    """OpenAI's list object; months as 2026-11, newest first."""

    object: Literal["list"]
    data: list[str]


class OwnReport(BaseModel):
    """A Berlin month. Figures are of models, for all tenants; `credited` is the caller's own, of the days rated by now.

    `first_token_ms_p50` is in ms, the other figures are shares. `is_final`: computed two days after the month's end; it
    stays from then on.
    """

    object: Literal["slo_report"]
    month: str
    computed_at: datetime
    is_final: bool
    figures: list[FigureView]
    credited: list[CreditView]


@router.get("")
def list_months(caller: UsageCaller, database: TenantDatabase) -> MonthList:
    """Months that there is a report of."""
    with tenant_scope(database, caller.tenant_id) as session:
        return MonthList(object="list", data=[f"{month:%Y-%m}" for month in months.reported(session)])


@router.get("/{month}")
def get_month(
    caller: UsageCaller, database: TenantDatabase, month: Annotated[str, Path(pattern=MONTH, examples=["2026-11"])]
) -> OwnReport:
    """Availability in working hours, warm openings, first tokens, usage error; and one's own credits."""
    first_day = date.fromisoformat(f"{month}-01")
    with tenant_scope(database, caller.tenant_id) as session:
        rows = months.stored(session, first_day)
        if not rows:
            raise NotFound(
                f"There is no report of {month}.", way_out="Each month is reported from its first morning on."
            )
        computed_at = max(row.computed_at for row in rows)
        return OwnReport(
            object="slo_report",
            month=month,
            computed_at=computed_at,
            is_final=months.is_final(first_day, computed_at),
            figures=[figure_view(row) for row in rows],
            credited=[credit_view(one) for one in report.credited(session, first_day)],
        )
