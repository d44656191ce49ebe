"""The monthly report of objectives, as it was last computed."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from billing.missed_targets import Missed
from serving.admin.access import Transaction
from serving.objectives import months, report
from studio.db.observation import SloFigure
from studio.errors import NotFound

router = APIRouter(prefix="/slo")
MONTH = r"^20\d\d-(0[1-9]|1[0-2])$"


class FigureView(BaseModel):
    """One figure. `value` is null when there was nothing to measure, `target` when nothing was promised."""

    objective: str
    subject: str
    value: str | None
    target: str | None
    is_met: bool | None
    samples: int
    details: dict[str, int | str]


class CreditView(BaseModel):
    """What one tenant was billed below the fast tier's price of one model, because its target was missed; exact."""

    tenant: str
    model: str
    currency: str
    tokens: int
    billed: str
    credited: str


class ReportView(BaseModel):
    """A month. `first_token_ms_p50` is in ms, the others are shares. `credited`: of the days rated by now.

    `is_final`: computed two days after the month's end, and from then on it stays.
    """

    month: str
    computed_at: datetime
    is_final: bool
    figures: list[FigureView]
    credited: list[CreditView]


class ReportedMonths(BaseModel):
    """Months as 2026-11, newest first."""

    months: list[str]


@router.get("")
def list_reports(session: Transaction) -> ReportedMonths:
    """Months that there is a report of."""
    return ReportedMonths(months=[f"{month:%Y-%m}" for month in months.reported(session)])


@router.get("/{month}")
def get_report(session: Transaction, month: Annotated[str, Path(pattern=MONTH, examples=["2026-11"])]) -> ReportView:
    """Availability in working hours, warm openings, first tokens, usage error and credits of a Berlin month."""
    first_day = date.fromisoformat(f"{month}-01")
    rows = months.stored(session, first_day)
    if not rows:
        raise NotFound(
            f"no report of {month} was computed yet", way_out="Materialize its partition of the asset `slo_report`."
        )
    computed_at = max(row.computed_at for row in rows)
    return ReportView(
        month=month,
        computed_at=computed_at,
        is_final=months.is_final(first_day, computed_at),
        figures=[figure_view(row) for row in rows],
        credited=[credit_view(one) for one in report.credited(session, first_day)],
    )


def figure_view(row: SloFigure) -> FigureView:
    """As the APIs show it."""
    return FigureView(
        objective=row.objective,
        subject=row.subject,
        value=None if row.value is None else f"{row.value.normalize():f}",
        target=None if row.target is None else f"{row.target.normalize():f}",
        is_met=row.is_met,
        samples=row.samples,
        details=row.details,
    )


def credit_view(one: Missed) -> CreditView:
    """As the APIs show it."""
    return CreditView(
        tenant=one.tenant,
        model=one.variant_id,
        currency=one.currency,
        tokens=one.tokens,
        billed=f"{one.amount:f}",
        credited=f"{one.given_up:f}",
    )
