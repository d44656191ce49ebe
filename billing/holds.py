"""Holds: nothing of a tenant becomes final until a person releases it. Drafts go on being made and reviewed.

Set by a person with a reason, or by a reconciliation of one of the tenant's own seals or drafts that is red. A red one
holds once: released by a person, it holds again only when the next comparison is red too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.orm import Session

from studio import ids
from studio.db.approvals import InvoiceHold
from studio.errors import Conflict, NotFound

RECONCILIATION = "reconciliation"


class TenantHeld(Conflict):
    """The tenant's invoices are held."""

    default_code = "tenant_held"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold; open while nobody has released it."""

    id: UUID
    tenant_id: UUID
    reason: str
    held_by: str
    held_at: datetime
    released_by: str | None
    release_reason: str | None


def hold(session: Session, *, tenant_id: UUID, reason: str, by: str, now: datetime) -> UUID:
    """Hold a tenant's invoices; the hold's id."""
    hold_id = ids.uuid7()
    session.execute(insert(InvoiceHold).values(id=hold_id, tenant_id=tenant_id, reason=reason, held_by=by, held_at=now))
    return hold_id


def hold_red(session: Session, now: datetime) -> list[UUID]:
    """Hold the tenants whose newest comparison of a seal or a draft is red; those tenants. Engines serve many tenants:
    what only they disagree about keeps its seals from being reconciled, and so from being invoiced at all."""
    rows = session.execute(_HOLD_RED, {"now": now, "by": RECONCILIATION})
    return [row.tenant_id for row in rows]


def release(session: Session, *, hold_id: UUID, reason: str, by: str, now: datetime) -> Hold:
    """A person's act: the hold is over. Conflict when somebody has released it already."""
    row = session.get(InvoiceHold, hold_id)
    if row is None:
        raise NotFound(f"There is no hold {ids.to_wire(ids.HOLD, hold_id)}.")
    values = {"released_by": by, "released_at": now, "release_reason": reason}
    released = session.execute(
        update(InvoiceHold)
        .where(InvoiceHold.id == hold_id, InvoiceHold.released_at.is_(None))
        .values(**values)
        .returning(InvoiceHold.id)
    ).one_or_none()
    if released is None:
        raise Conflict(f"{row.released_by} has released this hold already.", code="already_released")
    return Hold(row.id, row.tenant_id, row.reason, row.held_by, row.held_at, by, reason)


def holds(session: Session, tenant_id: UUID | None = None, *, is_open: bool = True) -> list[Hold]:
    """Holds of one tenant or of all, oldest first; those that are open, or with `is_open=False` all."""
    columns = (
        InvoiceHold.id, InvoiceHold.tenant_id, InvoiceHold.reason, InvoiceHold.held_by, InvoiceHold.held_at,
        InvoiceHold.released_by, InvoiceHold.release_reason,
    )  # fmt: skip
    query = select(*columns).order_by(InvoiceHold.held_at, InvoiceHold.id)
    if tenant_id is not None:
        query = query.where(InvoiceHold.tenant_id == tenant_id)
    if is_open:
        query = query.where(InvoiceHold.released_at.is_(None))
    return [Hold(*row) for row in session.execute(query)]


def require_none(session: Session, tenant_id: UUID) -> None:
    """TenantHeld while there is an open hold."""
    if found := holds(session, tenant_id):
        first = found[0]
        raise TenantHeld(
            f"The tenant's invoices are held by {first.held_by} since {first.held_at:%Y-%m-%d %H:%M} UTC:"
            f" {first.reason}. Release it first (`studio invoice release {ids.to_wire(ids.HOLD, first.id)}`)."
        )


# Only what names one tenant: the comparison of a seal (its subject is `day/tenant/number`) and of a draft.
_HOLD_RED = text("""
    insert into invoice_holds (tenant_id, reason, held_by, held_at, reconciliation_id)
    select t.id, r.kind || ' of ' || r.subject || ': expected ' || r.expected || ', observed ' || r.observed, :by, :now,
           r.id
    from reconciliations r
    join tenants t on 'tnt_' || replace(t.id::text, '-', '') = split_part(r.subject, '/', 2)
                   or exists (select from invoices i where i.tenant_id = t.id and i.state = 'draft'
                              and 'inv_' || replace(i.id::text, '-', '') = r.subject)
    where not r.agrees and r.kind in ('tokens_counted_are_tokens_rated', 'lines_add_up_to_total')
      and not exists (select from reconciliations later where later.kind = r.kind and later.subject = r.subject
                      and (later.at, later.id) > (r.at, r.id))
    on conflict (tenant_id, reconciliation_id) do nothing
    returning tenant_id
""")
