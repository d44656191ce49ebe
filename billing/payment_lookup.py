"""What is looked up to decide what a payment is for. Only reads; the decision is `payment_matching.py`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from billing import numbers, payment_reference, receivables
from billing.payment_matching import Claim, Decision, Known, Money, decide
from studio.db.corrections import Correction
from studio.db.invoices import Invoice
from studio.db.payments import Payment, PaymentMatch
from studio.db.tenancy import LegalEntity, Tenant, TenantBilling


def decision_for(session: Session, payment: Payment, today: date) -> Decision:
    """What an incoming payment is for, as far as its text tells."""
    if payment.is_return or payment.amount < 0:
        return Decision((), "The bank took an earlier movement back: say which.")
    money = Money(payment.amount, payment.currency, payment.payer, payment.payer_account, payment.remittance)
    claims = _claims(session, payment, money)
    return decide(
        money,
        Known(
            claims=claims,
            tenants=_tenants(session, payment, money, today),
            accounts=_accounts(session, {claim.tenant_id for claim in claims}),
        ),
    )


def _claims(session: Session, payment: Payment, money: Money) -> list[Claim]:
    """Invoices whose number, or whose reference, may be meant."""
    prefix = session.get_one(LegalEntity, payment.legal_entity_id).invoice_prefix
    bodies = " ".join(payment_reference.body(reference) for reference in money.references)
    named = numbers.read(prefix, f"{money.remittance} {bodies}")
    if not named:
        return []
    of_invoices = select(Invoice.id).where(Invoice.number.in_(named))
    of_additions = select(Correction.invoice_id).where(Correction.number.in_(named), Correction.type == "380")
    invoice_ids = {*session.scalars(of_invoices), *session.scalars(of_additions)}
    return [
        Claim(
            invoice_id=one.invoice_id,
            tenant_id=one.tenant_id,
            numbers=(one.number, *one.added_by),
            currency=one.currency,
            open=one.open,
            due_on=one.due_on,
            buyer=one.buyer,
        )
        for one in receivables.standings(session, invoice_ids=invoice_ids)
        if one.legal_entity_id == payment.legal_entity_id
    ]


def _tenants(session: Session, payment: Payment, money: Money, today: date) -> dict[str, UUID]:
    """Tenants whose own reference is on it, and who are billed by whom it was paid to, in its currency."""
    bodies = {payment_reference.body(reference) for reference in money.references}
    if not any(body.startswith(payment_reference.TOP_UP) for body in bodies):
        return {}
    query = (
        select(Tenant.id)
        .join(TenantBilling, TenantBilling.tenant_id == Tenant.id)
        .where(
            TenantBilling.legal_entity_id == payment.legal_entity_id,
            TenantBilling.currency == payment.currency,
            TenantBilling.valid_from <= today,
            or_(TenantBilling.valid_until.is_(None), TenantBilling.valid_until > today),
            Tenant.closed_at.is_(None),
        )
    )
    by_body: dict[str, UUID] = {}
    for tenant_id in session.scalars(query):
        body = payment_reference.body(payment_reference.of_tenant(tenant_id))
        if body in bodies:
            if body in by_body:
                return {}  # two tenants with one reference: nobody guesses
            by_body[body] = tenant_id
    return by_body


def _accounts(session: Session, tenant_ids: Collection[UUID]) -> dict[UUID, set[str]]:
    """Accounts from which a tenant's invoices were paid before."""
    query = (
        select(PaymentMatch.tenant_id, Payment.payer_account)
        .join(Payment, Payment.id == PaymentMatch.payment_id)
        .where(PaymentMatch.tenant_id.in_(tenant_ids), Payment.payer_account.is_not(None), Payment.amount > 0)
        .distinct()
    )
    found: dict[UUID, set[str]] = {}
    for tenant_id, account in session.execute(query):
        assert tenant_id is not None
        assert account is not None
        found.setdefault(tenant_id, set()).add(account)
    return found
