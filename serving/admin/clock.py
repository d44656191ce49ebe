"""The clock of opening hours, which a demo or a test may move. In production it is real time and stays so."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from serving.admin.access import Caller, Transaction
from studio import clock, hours_clock
from studio.hours_clock import FARTHEST
from studio.tenants import audit

router = APIRouter(prefix="/clock")


class NewClock(BaseModel):
    """What the clock shows now, or by how much it runs ahead: one of the two."""

    model_config = ConfigDict(extra="forbid")

    now: AwareDatetime | None = None
    offset_seconds: float | None = Field(None, ge=-FARTHEST.total_seconds(), le=FARTHEST.total_seconds())

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.now is None) == (self.offset_seconds is None):
            raise ValueError("give either `now` or `offset_seconds`")
        return self

    def ahead(self, real: datetime) -> timedelta:
        """How far the clock runs ahead of real time."""
        if self.now is not None:
            return self.now - real
        assert self.offset_seconds is not None
        return timedelta(seconds=self.offset_seconds)


class ClockView(BaseModel):
    """What opening hours take for now."""

    now: datetime
    offset_seconds: float


@router.put("")
def put_clock(body: NewClock, caller: Caller, session: Transaction) -> ClockView:
    """Move the clock; it runs on from there. Nothing but opening hours follows it."""
    hours_clock.set_offset(session, body.ahead(clock.now()), caller.actor)
    audit(session, caller.actor, "clock.set", "opening hours", None, body.model_dump(mode="json"))
    return _view(session)


@router.delete("")
def delete_clock(caller: Caller, session: Transaction) -> ClockView:
    """Back to real time."""
    hours_clock.reset(session)
    audit(session, caller.actor, "clock.reset", "opening hours", None, {})
    return _view(session)


def _view(session: Session) -> ClockView:
    offset = hours_clock.offset(session)
    return ClockView(now=clock.now() + offset, offset_seconds=offset.total_seconds())
