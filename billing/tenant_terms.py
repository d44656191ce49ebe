"""How a tenant is billed, from a day on: buyer, seller, currency, zone of its days, payment days.

A change is a new dated row; what was in force before keeps its days. The day is one of the tenant's own zone. What
final invoices say is not contradicted: their days change only once they are cancelled. Drafts are made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from billing import cancelled, draft, invoice_requests, review, tax, vat_ids
from billing.documents import completeness
from studio import clock, ids
from studio.db.invoices import Invoice
from studio.db.tenancy import LegalEntity, TenantBilling
from studio.errors import Conflict, InvalidRequest
from studio.money import Currency
from studio.tenants import Billing

_REQUIRED = MappingProxyType({"name": "name", "country": "country", "city": "town"})


class DaysAreInvoiced(Conflict):
    """A final invoice says something else of these days."""

    default_code = "days_are_invoiced"


@dataclass(frozen=True, slots=True)
class Changed:
    """The names of what changed, and the drafts that were dropped because they are made again."""

    names: tuple[str, ...]
    dropped: tuple[UUID, ...]


def history(session: Session, tenant_id: UUID) -> list[TenantBilling]:
    """Every row that holds for some day, oldest first; not what was replaced before its first day was over."""
    holds_for_a_day = TenantBilling.valid_until.is_(None) | (TenantBilling.valid_until > TenantBilling.valid_from)
    query = select(TenantBilling).where(TenantBilling.tenant_id == tenant_id, holds_for_a_day)
    return list(session.scalars(query.order_by(TenantBilling.valid_from)))


def terms_on(session: Session, tenant_id: UUID, day: date) -> Billing:
    """The terms that hold on a day. InvalidRequest when none do."""
    return _billing(_row_on(session, tenant_id, day))


def checked(session: Session, new: Billing, old_buyer: Mapping[str, Any] = MappingProxyType({})) -> Billing:
    """Terms that one can bill by, the VAT id as it is written. InvalidRequest for what finalising would refuse."""
    new = _with_normal_vat_id(new, old_buyer)
    _require_sensible(session, new)
    return new


def change(session: Session, tenant_id: UUID, new: Billing, *, by: str, now: datetime) -> Changed:
    """Let `new` hold from its first day on, until what is recorded for later begins.

    InvalidRequest for terms that cannot be, or a move of seller, currency or zone inside a month or in the past;
    DaysAreInvoiced while a final invoice over some of the days still bills.
    """
    draft.take_turns(session, tenant_id)
    old = _row_on(session, tenant_id, new.valid_from)
    until = old.valid_until
    new = checked(session, new, old.buyer)
    names = _differences(_billing(old), new)
    if not names:
        raise InvalidRequest(f"From {new.valid_from} on these terms hold already.", param="valid_from")
    if {"legal_entity", "currency", "time_zone"} & set(names):
        _require_border(old, new, now)
    dropped = _drop_drafts(session, tenant_id, new.valid_from, until)
    _require_not_invoiced(session, tenant_id, new.valid_from, until)
    session.execute(update(TenantBilling).where(TenantBilling.id == old.id).values(valid_until=new.valid_from))
    session.execute(
        insert(TenantBilling).values(
            id=ids.uuid7(), tenant_id=tenant_id, valid_from=new.valid_from, valid_until=until,
            legal_entity_id=new.legal_entity_id, currency=new.currency, time_zone=new.time_zone,
            tax_category=new.tax_category, buyer=dict(new.buyer), payment_days=new.payment_days,
        )
    )  # fmt: skip
    for month in sorted({row.month for row in dropped}):
        reason = f"the terms changed from {new.valid_from} on"
        invoice_requests.request_invoice(session, tenant_id=tenant_id, month=month, by=by, reason=reason, now=now)
    return Changed(names, tuple(row.id for row in dropped))


def _row_on(session: Session, tenant_id: UUID, day: date) -> TenantBilling:
    row = next(
        (
            row
            for row in history(session, tenant_id)
            if row.valid_from <= day and (row.valid_until is None or day < row.valid_until)
        ),
        None,
    )
    if row is None:
        raise InvalidRequest(f"Nobody bills the tenant on {day}: its terms begin later.", param="valid_from")
    return row


def _billing(row: TenantBilling) -> Billing:
    return Billing(
        row.legal_entity_id, Currency(row.currency), row.time_zone, row.buyer, row.valid_from, row.tax_category,
        row.payment_days,
    )  # fmt: skip


def _differences(old: Billing, new: Billing) -> tuple[str, ...]:
    pairs: Mapping[str, tuple[Any, Any]] = {
        "legal_entity": (old.legal_entity_id, new.legal_entity_id),
        "currency": (old.currency, new.currency),
        "time_zone": (old.time_zone, new.time_zone),
        "tax_category": (old.tax_category, new.tax_category),
        "payment_days": (old.payment_days, new.payment_days),
        **{f"buyer.{name}": (old.buyer.get(name), new.buyer.get(name)) for name in sorted({*old.buyer, *new.buyer})},
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def _with_normal_vat_id(new: Billing, old: Mapping[str, Any]) -> Billing:
    """In the EU a new VAT id must be able to be one; elsewhere it is whatever its country calls so."""
    given, country = new.buyer.get("vat_id"), new.buyer.get("country")
    if not given or country not in tax.EU or (given, country) == (old.get("vat_id"), old.get("country")):
        return new
    try:
        vat_id = vat_ids.normalized(str(given))
    except ValueError as error:
        raise InvalidRequest(f"{given!r} is no VAT id of a member state: {error}", param="buyer.vat_id") from error
    return replace(new, buyer={**new.buyer, "vat_id": vat_id})


def _require_sensible(session: Session, new: Billing) -> None:
    for name, word in _REQUIRED.items():
        if not new.buyer.get(name):
            raise InvalidRequest(f"The buyer needs a {word}: an invoice must show it.", param=f"buyer.{name}")
    try:
        clock.zone(new.time_zone)
    except ValueError as error:
        raise InvalidRequest(str(error), param="time_zone") from error
    seller = session.get(LegalEntity, new.legal_entity_id)
    if seller is None:
        raise InvalidRequest(f"There is no legal entity {new.legal_entity_id!r}.", param="legal_entity")
    treatment = tax.treatment_on(
        session, seller_country=seller.country, buyer_country=str(new.buyer["country"]), day=new.valid_from,
        category=new.tax_category,
    )  # fmt: skip
    if treatment.category == "AE" and not new.buyer.get("vat_id"):
        raise InvalidRequest(
            f"An invoice of {seller.name} to this buyer has reverse charge, which needs the buyer's VAT id.",
            param="buyer.vat_id",
        )
    if lacking := completeness.buyer_lacks(new.buyer, seller.country, treatment.category):
        raise InvalidRequest(
            f"An e-invoice to {new.buyer['name']} must name its {' and its '.join(lacking)}, so no invoice could become"
            f" final: {completeness.options(lacking)}.",
            param="buyer",
        )


def _require_border(old: TenantBilling, new: Billing, now: datetime) -> None:
    """A month is one seller's, in one currency; and no instant belongs to two days, or to none."""
    first, before, after = new.valid_from, clock.zone(old.time_zone), clock.zone(new.time_zone)
    if first != clock.month_start(first) or first <= now.astimezone(before).date():
        raise InvalidRequest(
            "Legal entity, currency and time zone change on the first of a month to come, in the tenant's zone:"
            " a month has one seller and one currency.",
            param="valid_from",
        )
    if old.valid_until is not None:
        raise InvalidRequest(
            f"Other terms are recorded from {old.valid_until} on: let legal entity, currency or time zone change after"
            " that day.",
            param="valid_from",
        )
    if clock.day_window(first, before)[0] != clock.day_window(first, after)[0]:
        raise InvalidRequest(
            f"{first} begins at another instant in {new.time_zone} than in {old.time_zone}: usage between the two would"
            " belong to two months or to none. Keep the time zone.",
            param="time_zone",
        )


def _drop_drafts(session: Session, tenant_id: UUID, first: date, until: date | None) -> list[Invoice]:
    drafts = list(session.scalars(_invoices(tenant_id, first, until).where(Invoice.state == "draft")))
    for row in drafts:
        review.drop(session, row.id)  # Conflict when it became final meanwhile
    return drafts


def _require_not_invoiced(session: Session, tenant_id: UUID, first: date, until: date | None) -> None:
    final = _invoices(tenant_id, first, until).where(Invoice.state == "final", ~cancelled.is_cancelled())
    row = session.scalars(final.order_by(Invoice.period_until.desc()).limit(1)).first()
    if row is not None:
        raise DaysAreInvoiced(
            f"The invoice {row.number} bills until {row.period_until}. Let the terms change on a later day, or cancel"
            f" it first (`studio invoice correct {ids.to_wire(ids.INVOICE, row.id)} --cancel --reason ...`), change the"
            " terms, and invoice its usage again (`studio invoice again`).",
            param="valid_from",
        )


def _invoices(tenant_id: UUID, first: date, until: date | None) -> Select[Invoice]:
    """An invoice is addressed by the terms of its last day."""
    query = select(Invoice).where(Invoice.tenant_id == tenant_id, Invoice.period_until >= first)
    return query if until is None else query.where(Invoice.period_until < until)
