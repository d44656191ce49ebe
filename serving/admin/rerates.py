"""Re-rating of a month: what would come out now, beside what was rated, and the corrections that it comes to."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from billing import rerate, rerate_order
from serving.admin.access import BillingCaller, Transaction
from serving.admin.corrections import CorrectionView, correction_view
from studio import clock, ids
from studio.db.corrections import Correction
from studio.errors import InvalidRequest
from studio.tenants import audit, known_tenant

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


class RerateCorrectionsBody(BaseModel):
    """Whose final month should be corrected by what a re-rating comes to."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    reason: str = Field(min_length=1, max_length=500, description="printed on the documents")


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
    preview = rerate.preview(session, _first_of(month))
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


@router.post("/{month}/corrections", status_code=201)
def post_rerate_corrections(
    month: str, body: RerateCorrectionsBody, caller: BillingCaller, session: Transaction
) -> list[CorrectionView]:
    """Order the corrections that a tenant's final month needs: drafts, which bind nobody until each is reviewed and
    approved at its total. The same differences are ordered once."""
    tenant, first = known_tenant(session, body.tenant), _first_of(month)
    drafts = rerate_order.order(
        session, tenant_id=tenant.id, month=first, reason=body.reason, by=caller.actor, now=clock.now()
    )
    details = {"reason": body.reason, "corrections": [ids.to_wire(ids.CORRECTION, id) for id in drafts]}
    audit(session, caller.actor, "invoice.rerate", month, tenant.id, details)
    return [correction_view(session, session.get_one(Correction, id)) for id in drafts]


def _first_of(month: str) -> date:
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise InvalidRequest(f"{month[:20]!r} is no month: write 2026-11.", param="month") from error
    if not date(2000, 1, 1) <= first <= date(9000, 12, 1):
        raise InvalidRequest(f"{month} is too far from now.", param="month")
    return first
