"""Money in: record it, import the bank's files, say what it is for, send it back."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from billing import payment_import, payment_orders, payment_queue, payments
from billing.payment_lookup import decision_for
from billing.payment_orders import Order
from billing.payment_queue import Listed
from serving.admin.access import BillingCaller, Transaction
from studio import clock, ids
from studio.db.payments import Payment
from studio.db.tenancy import LegalEntity
from studio.errors import InvalidRequest
from studio.money import Currency
from studio.tenants import audit, known_tenant

router = APIRouter()

Amount = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=2)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Movement(_Body):
    key: str = Field(min_length=1, max_length=200, description="the same key is carried out once: the bank's reference")
    amount: Amount
    account: str = Field(min_length=5, max_length=40, description="ours: one of `bank_accounts` of a legal entity")
    booked_on: date


class PaymentBody(_Movement):
    """Money that came in past the bank's files."""

    currency: Annotated[str, AfterValidator(Currency.parse)]
    text: str = Field("", max_length=2_000, description="what the payer wrote: references and numbers are found in it")
    payer: str | None = Field(None, max_length=200)


class OutgoingBody(_Movement):
    """Money that we sent."""

    reason: Text


class StatementBody(_Body):
    """A bank statement, CAMT.053 or CSV, in base64."""

    name: Text
    content: Base64Bytes
    equal: Literal["same", "another"] | None = None


class PaidInvoice(_Body):
    """An invoice that a payment pays, and how much of it; absent: what is open, as far as the payment reaches."""

    invoice_id: str
    amount: Amount | None = None


class MatchBody(_Body):
    """What a payment is for: invoices, and a tenant for what is left. Or `returns`, or `outside`."""

    invoices: Annotated[list[PaidInvoice], Field(max_length=200)] = []
    tenant: str | None = Field(None, description="whose the rest is, by slug; absent: the rest goes on waiting")
    top_up: bool = Field(False, description="the rest becomes credit of the tenant")
    returns: str | None = Field(None, description="money that the bank took back: of this payment")
    outside: bool = Field(False, description="no customer's money")
    reason: Text


class ReasonBody(_Body):
    """Why."""

    reason: Text


class PaymentView(BaseModel):
    """A payment; amounts are exact decimal text, negative where money left. `why`: why it waits, where it does."""

    id: str
    legal_entity: str
    currency: str
    amount: str
    unmatched: str
    account: str
    source: Literal["camt.053", "csv", "manual", "stripe"]
    booked_on: date
    payer: str | None
    payer_account: str | None
    text: str
    is_return: bool
    tenant: str | None
    invoices: list[str]
    recorded_by: str
    why: str | None


class ImportView(BaseModel):
    """What became of a file. `known`: booked from an earlier file; `ignored`: no customer's, or not booked yet."""

    id: str
    format: Literal["camt.053", "csv"]
    entries: int
    booked: int
    known: int
    ignored: int
    matched: int
    is_repeated: bool


@router.post("/payments", status_code=201)
def post_payment(body: PaymentBody, caller: BillingCaller, session: Transaction) -> PaymentView:
    """Record money that came in. Its text is read as the bank's is; what it does not tell waits."""
    payment = payment_orders.record(
        session, _order(body, caller.actor, "recorded by hand"), body.amount, Currency(body.currency), body.payer,
        body.text, clock.now(),
    )  # fmt: skip
    return _audited(session, caller.actor, "payment.record", payment, {"key": body.key})


@router.post("/payments/imports", status_code=201)
def post_import(body: StatementBody, caller: BillingCaller, session: Transaction) -> ImportView:
    """Import a bank statement, whole or not at all. The same file, or one that overlaps, books nothing twice.

    A transfer without the bank's reference that looks like a booked one: say by `equal` whether it is."""
    done = payment_import.import_statement(session, body.content, body.name, caller.actor, clock.now(), body.equal)
    details = {"name": body.name, "booked": done.booked, "matched": done.matched, "equal": body.equal}
    audit(session, caller.actor, "payment.import", str(done.file_id), None, details)
    return ImportView(
        id=str(done.file_id),
        format=done.format,
        entries=done.entries,
        booked=done.booked,
        known=done.known,
        ignored=done.ignored,
        matched=done.matched,
        is_repeated=done.is_repeated,
    )


@router.get("/payments")
def get_payments(
    session: Transaction,
    waiting: Annotated[bool, Query(description="only those of which something is unmatched")] = False,
    tenant: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[PaymentView]:
    """Payments, newest first."""
    tenant_id = known_tenant(session, tenant).id if tenant is not None else None
    found = payment_queue.payments(session, only_waiting=waiting, tenant_id=tenant_id, limit=limit)
    return [_view(session, one) for one in found]


@router.post("/payments/{payment_id}/matches", status_code=201)
def post_match(payment_id: str, body: MatchBody, caller: BillingCaller, session: Transaction) -> PaymentView:
    """Say what a payment is for. Nothing is paid beyond what is open, and no more than there is."""
    id, now = _id(ids.PAYMENT, payment_id, "payment_id"), clock.now()
    if (body.returns is not None) + body.outside + bool(body.invoices or body.tenant) != 1:
        raise InvalidRequest("Say one of: invoices and tenant, `returns`, `outside`.")
    if body.returns is not None:
        original = _id(ids.PAYMENT, body.returns, "returns")
        payment = payment_orders.returns(session, id, original, caller.actor, body.reason, now)
    elif body.outside:
        payments.take_turns(session)
        payment = payments.find(session, id)
        payments.match_outside(session, payment, caller.actor, body.reason, now)
    else:
        amounts = {_id(ids.INVOICE, one.invoice_id, "invoices"): one.amount for one in body.invoices}
        if len(amounts) != len(body.invoices):
            raise InvalidRequest("Name each invoice once.", param="invoices")
        payment = payment_orders.assign(
            session, id, amounts=amounts, rest_to=known_tenant(session, body.tenant).id if body.tenant else None,
            is_top_up=body.top_up, by=caller.actor, reason=body.reason, now=now,
        )  # fmt: skip
    return _audited(session, caller.actor, "payment.match", payment, {"reason": body.reason})


@router.post("/payments/{payment_id}/unmatch", status_code=201)
def post_unmatch(payment_id: str, body: ReasonBody, caller: BillingCaller, session: Transaction) -> PaymentView:
    """Take back what a payment was for; it waits again, and nothing but a person matches it."""
    payments.take_turns(session)
    payment = payments.find(session, _id(ids.PAYMENT, payment_id, "payment_id"))
    payments.unmatch(session, payment, caller.actor, body.reason, clock.now())
    return _audited(session, caller.actor, "payment.unmatch", payment, {"reason": body.reason})


@router.post("/payments/{payment_id}/refunds", status_code=201)
def post_refund(payment_id: str, body: OutgoingBody, caller: BillingCaller, session: Transaction) -> PaymentView:
    """Record that a payment was sent back, or a part of it. What it had paid is open again."""
    payment = payment_orders.refund(
        session, _order(body, caller.actor, body.reason), _id(ids.PAYMENT, payment_id, "payment_id"), body.amount,
        clock.now(),
    )  # fmt: skip
    return _audited(session, caller.actor, "payment.refund", payment, {"of": payment_id, "reason": body.reason})


@router.post("/invoices/{invoice_id}/payouts", status_code=201)
def post_payout(invoice_id: str, body: OutgoingBody, caller: BillingCaller, session: Transaction) -> PaymentView:
    """Record that we paid out what an invoice had become negative by, such as after a credit note."""
    payment = payment_orders.pay_out(
        session, _order(body, caller.actor, body.reason), _id(ids.INVOICE, invoice_id, "invoice_id"), body.amount,
        clock.now(),
    )  # fmt: skip
    return _audited(session, caller.actor, "payment.payout", payment, {"of": invoice_id, "reason": body.reason})


def _order(body: _Movement, by: str, reason: str) -> Order:
    return Order(body.key, body.account, body.booked_on, by, reason)


def _id(prefix: str, text: str, param: str) -> UUID:
    try:
        return ids.from_wire(prefix, text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error


def _audited(session: Session, actor: str, action: str, payment: Payment, details: dict[str, str]) -> PaymentView:
    subject = ids.to_wire(ids.PAYMENT, payment.id)
    audit(session, actor, action, subject, None, {**details, "amount": f"{payment.amount} {payment.currency}"})
    return _view(session, payment_queue.payment(session, payment.id))


def _view(session: Session, one: Listed) -> PaymentView:
    why = None
    if one.unmatched:
        seller = session.get_one(LegalEntity, one.legal_entity_id)
        today = payment_orders.today(seller, clock.now())
        why = decision_for(session, session.get_one(Payment, one.id), today).why
    return PaymentView(
        id=ids.to_wire(ids.PAYMENT, one.id),
        legal_entity=one.legal_entity_id,
        currency=one.currency,
        amount=str(one.amount),
        unmatched=str(one.unmatched),
        account=one.account,
        source=one.source,
        booked_on=one.booked_on,
        payer=one.payer,
        payer_account=one.payer_account,
        text=one.remittance,
        is_return=one.is_return,
        tenant=one.tenant,
        invoices=list(one.invoices),
        recorded_by=one.recorded_by,
        why=why,
    )
