"""The monthly report of objectives, as it was last computed."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from serving.admin.access import Transaction
from serving.objectives import report
from studio.errors import NotFound

router = APIRouter(prefix="/slo")


class FigureView(BaseModel):
    """One figure. `value` is null when there was nothing to measure, `target` when nothing was promised."""

    objective: str
    subject: str
    value: str | None
    target: str | None
    is_met: bool | None
    samples: int
    details: dict[str, int | str]


class ReportView(BaseModel):
    """A month. `first_token_ms_p50` is in ms, the others are shares."""

    month: str
    computed_at: datetime
    figures: list[FigureView]


@router.get("/{month}")
def get_report(
    session: Transaction, month: Annotated[str, Path(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", examples=["2026-11"])]
) -> ReportView:
    """Availability in working hours, warm openings, first tokens and usage error of a Berlin month."""
    rows = report.stored(session, date.fromisoformat(f"{month}-01"))
    if not rows:
        raise NotFound(f"no report of {month} was computed yet: materialize its partition of the asset `slo_report`")
    return ReportView(
        month=month,
        computed_at=max(row.computed_at for row in rows),
        figures=[
            FigureView(
                objective=row.objective,
                subject=row.subject,
                value=None if row.value is None else f"{row.value.normalize():f}",
                target=None if row.target is None else f"{row.target.normalize():f}",
                is_met=row.is_met,
                samples=row.samples,
                details=row.details,
            )
            for row in rows
        ],
    )
