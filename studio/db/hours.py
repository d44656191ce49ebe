"""When models are open: calendars with hours and holidays, and overrides by people. What follows is `serving/fleet`."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from sqlalchemy import CheckConstraint, ForeignKey, Interval
from sqlalchemy.orm import Mapped, mapped_column

from studio.db.base import Base, RecordedAt, UuidKey

SITE = "site"  # who created the overrides that `catalog/sites` declares


class Calendar(Base):
    """A named set of opening hours in one zone. Declared in `catalog/calendars.yaml`."""

    __tablename__ = "calendars"

    id: Mapped[str] = mapped_column(primary_key=True)
    time_zone: Mapped[str]
    prewarm_minutes: Mapped[int] = mapped_column(CheckConstraint("prewarm_minutes between 0 and 240", "prewarm_range"))


class OpeningHours(Base):
    """Open over [opens, closes), wall-clock time of the calendar's zone. No two spans of a weekday overlap."""

    __tablename__ = "opening_hours"

    id: Mapped[UuidKey]
    calendar_id: Mapped[str] = mapped_column(ForeignKey("calendars.id", ondelete="CASCADE"), index=True)
    weekday: Mapped[int] = mapped_column(CheckConstraint("weekday between 1 and 7", "weekday_iso"))  # 1 is Monday
    opens: Mapped[time]
    closes: Mapped[time]

    __table_args__ = (CheckConstraint("opens < closes", "span_not_empty"),)


class Holiday(Base):
    """A civil day on which a calendar is closed."""

    __tablename__ = "holidays"

    calendar_id: Mapped[str] = mapped_column(ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str]


class HoursOverride(Base):
    """A person's word (or the site's) over [starts_at, ends_at): this many replicas, whatever the calendar says.

    Of those that cover an instant a person's goes before the site's, then the newest. `replicas` None hands the word
    back to the calendar. Both ends are read on the clock of opening hours; they are equal in an override that was
    withdrawn before it began.
    """

    __tablename__ = "hours_overrides"

    id: Mapped[UuidKey]
    variant_id: Mapped[str] = mapped_column(ForeignKey("model_variants.id"), index=True)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    replicas: Mapped[int | None] = mapped_column(CheckConstraint("replicas >= 0", "not_negative"))
    reason: Mapped[str]
    created_by: Mapped[str]  # an operator's key, or SITE
    created_at: Mapped[RecordedAt]

    __table_args__ = (CheckConstraint("ends_at is null or ends_at >= starts_at", "span_not_negative"),)


class ClockOffset(Base):
    """By how much the clock of opening hours runs ahead, in a demo or test. At most one row; none in production.

    It moves opening hours only: usage, journal, money, tokens and leases always use real time.
    """

    __tablename__ = "clock_offset"

    singleton: Mapped[bool] = mapped_column(
        CheckConstraint("singleton", "one_row"), primary_key=True, server_default="true"
    )
    offset: Mapped[timedelta] = mapped_column(Interval)
    set_by: Mapped[str]
    set_at: Mapped[RecordedAt]
