"""Re-rating of a month, as a dry run: what would come out now, beside what was rated."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from billing import rerate
from serving.admin.access import Transaction
from studio.errors import InvalidRequest

router = APIRouter(prefix="/rerates")


class DifferenceView(BaseModel):
    """One variant and unit of a tenant that would come to something else. Amounts are exact decimal text."""

    tenant: str
    model: str
    unit: str
    currency: str
    rated_tokens: int
    tokens_now: int
    unpriced_tokens: int
    rated: str
    now: str
    change: str
    rated_at: str
    priced_now_at: str


class RerateView(BaseModel):
    """A month, re-rated with the price book and the code of now. Nothing is changed."""

    object: Literal["rerate"]
    month: str
    code_version: str
    seals: int
    differences: list[DifferenceView]


@router.get("/{month}")
def get_rerate(month: str, session: Transaction) -> RerateView:
    """Count and price a month's sealed usage again. It reads every event of the month."""
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise InvalidRequest(f"{month[:20]!r} is no month: write 2026-11.", param="month") from error
    if not date(2000, 1, 1) <= first <= date(9000, 12, 1):
        raise InvalidRequest(f"{month} is too far from now.", param="month")
    preview = rerate.preview(session, first)
    return RerateView(
        object="rerate",
        month=month,
        code_version=preview.code_version,
        seals=preview.seals,
        differences=[
            DifferenceView(
                tenant=one.tenant,
                model=one.variant_id,
                unit=one.unit,
                currency=one.currency,
                rated_tokens=one.rated_tokens,
                tokens_now=one.tokens_now,
                unpriced_tokens=one.unpriced_tokens,
                rated=f"{one.rated:f}",
                now=f"{one.now:f}",
                change=f"{one.change:f}",
                rated_at=one.rated_at,
                priced_now_at=one.priced_now_at,
            )
            for one in preview.differences
        ],
    )
