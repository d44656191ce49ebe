"""Closing a tenant: no new work from now on, what runs is ended as its owner could end it, and what was used is billed.

Keys are revoked and gateways refuse them within a second; requests on their way are answered. Batches stop, and what
is answered of them counts; fine-tunes stop at their step. Usage, invoices, credit and files stay. The namespace in the
cluster goes with the next reconciliation (`studio/cluster/tenants.py`). On a day to come: as that day begins in the
tenant's zone, at the next look of Dagster (`due`). Code here never commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import Update

from studio import clock, ids
from studio.db.catalog import Commitment
from studio.db.jobs import Batch, FineTuningJob
from studio.db.tenancy import ApiKey, Tenant, TenantBilling
from studio.errors import Conflict, InvalidRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """How many keys, batches and fine-tunes closing ended."""

    keys: int
    batches: int
    fine_tunes: int


def close(session: Session, tenant: Tenant, now: datetime) -> Ended:
    """Close a tenant now. Again it ends what began in the second before gateways heard of it.

    InvalidRequest for a tenant of ours; Conflict while a minimum commitment goes on, since that is owed whether it is
    open or not.
    """
    _require_customer(tenant)
    _require_no_commitment(session, tenant, _today(session, tenant.id, now))
    if tenant.closed_at is None:
        session.execute(update(Tenant).where(Tenant.id == tenant.id).values(closed_at=now))
        session.refresh(tenant)
    of_tenant = ApiKey.tenant_id == tenant.id, ApiKey.revoked_at.is_(None)
    keys = _count(session, update(ApiKey).where(*of_tenant).values(revoked_at=now))
    batches = _count(
        session,
        update(Batch)
        .where(Batch.tenant_id == tenant.id, Batch.state.in_(("validating", "in_progress")))
        .values(state="cancelling", cancelling_at=now),
    )
    fine_tunes = _count(
        session,
        update(FineTuningJob)
        .where(
            FineTuningJob.tenant_id == tenant.id,
            FineTuningJob.state.in_(("validating_files", "queued", "running")),
            FineTuningJob.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=now),
    )
    return Ended(keys, batches, fine_tunes)


def close_on(session: Session, tenant: Tenant, first_day: date, now: datetime) -> None:
    """Let a tenant be closed from a civil day to come on, in its own zone; the last word counts.

    InvalidRequest for a day that is not to come, Conflict for a closed tenant or a minimum commitment beyond that day.
    """
    _require_customer(tenant)
    if tenant.closed_at is not None:
        raise Conflict(f"The tenant {tenant.slug} was closed on {tenant.closed_at:%Y-%m-%d} already.")
    if first_day <= _today(session, tenant.id, now):
        raise InvalidRequest(
            f"{first_day} is not to come in the tenant's zone: without a day the tenant is closed now.", param="on"
        )
    _require_no_commitment(session, tenant, first_day - timedelta(days=1))
    session.execute(update(Tenant).where(Tenant.id == tenant.id).values(closes_on=first_day))
    session.refresh(tenant)


def due(session: Session, now: datetime) -> list[Tenant]:
    """The open tenants whose day has begun."""
    query = select(Tenant).where(Tenant.closed_at.is_(None), Tenant.closes_on.is_not(None)).order_by(Tenant.slug)
    return [
        tenant
        for tenant in session.scalars(query)
        if tenant.closes_on is not None and tenant.closes_on <= _today(session, tenant.id, now)
    ]


def reopen(session: Session, tenant: Tenant) -> None:
    """Open a closed tenant again, or let one stay open that was to close on a day to come.

    Its keys stay revoked and its jobs ended. Conflict if it is open and stays so.
    """
    if tenant.closed_at is None and tenant.closes_on is None:
        raise Conflict(f"The tenant {tenant.slug} is open.")
    session.execute(update(Tenant).where(Tenant.id == tenant.id).values(closed_at=None, closes_on=None))
    session.refresh(tenant)


def _require_customer(tenant: Tenant) -> None:
    if tenant.is_internal:
        raise InvalidRequest(f"{tenant.slug} is one of our own: operators and probes need it.", param="tenant")


def _require_no_commitment(session: Session, tenant: Tenant, last_day: date) -> None:
    next_month = clock.next_month(clock.month_start(last_day))
    query = select(Commitment).where(
        Commitment.tenant_id == tenant.id, or_(Commitment.valid_until.is_(None), Commitment.valid_until > next_month)
    )
    row = session.scalars(query.order_by(Commitment.valid_from).limit(1)).first()
    if row is None:
        return
    wire_id = ids.to_wire(ids.COMMITMENT, row.id)
    raise Conflict(
        f"The minimum commitment {wire_id} of {row.amount} {row.currency} a month is owed from {next_month:%B %Y} on,"
        f" too. Agree on its end and name it first (`studio price end {wire_id} --tenant {tenant.slug} --at"
        f" {next_month:%Y-%m}`).",
        code="commitment_goes_on",
    )


def _today(session: Session, tenant_id: UUID, now: datetime) -> date:
    zones = session.execute(
        select(TenantBilling.time_zone, TenantBilling.valid_from, TenantBilling.valid_until)
        .where(TenantBilling.tenant_id == tenant_id)
        .order_by(TenantBilling.valid_from)
    )
    for zone, valid_from, valid_until in zones:
        today = now.astimezone(clock.zone(zone)).date()
        if valid_from <= today and (valid_until is None or today < valid_until):
            return today
    return now.date()


def _count(session: Session, statement: Update) -> int:
    return cast("CursorResult[Any]", session.execute(statement)).rowcount
