"""What a payment is for: decided from the reference that it carries, or not at all. Pure.

A wrong match costs more than a question to a person, so there are two rules and no guesses. One: a valid reference
(ISO 11649) that we gave out. Two: an invoice number in the text, with exactly the open amount, from somebody whom the
invoice is addressed to or whose account has paid for that tenant before. Everything else waits, with a sentence why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from billing import payment_reference
from billing.bank_statement import compact

Target = Literal["invoice", "unapplied", "credit", "outside"]


@dataclass(frozen=True, slots=True)
class Money:
    """A payment as matching sees it: what came in, from whom, and what was written on it."""

    amount: Decimal
    currency: str
    payer: str | None
    payer_account: str | None
    remittance: str

    @property
    def references(self) -> list[str]:
        """Valid references in its text, whoever gave them out."""
        return payment_reference.found_in(self.remittance)


@dataclass(frozen=True, slots=True)
class Claim:
    """An invoice with what is open of it. `numbers`: its own, and those of invoices that add to it."""

    invoice_id: UUID
    tenant_id: UUID
    numbers: tuple[str, ...]
    currency: str
    open: Decimal
    due_on: date
    buyer: str

    @property
    def bodies(self) -> set[str]:
        """Its references without their check digits."""
        return {payment_reference.body(payment_reference.of_invoice(number)) for number in self.numbers}


@dataclass(frozen=True, slots=True)
class Known:
    """What is looked up for a payment: claims that its text may mean, tenants by reference, accounts that have paid."""

    claims: Sequence[Claim]
    tenants: Mapping[str, UUID]  # by the body of their own reference
    accounts: Mapping[UUID, AbstractSet[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a payment and what it is for. `unapplied` and `credit` (a top-up) name no invoice."""

    target: Target
    tenant_id: UUID
    amount: Decimal
    invoice_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to book, and why; no parts: it waits for a person, and why."""

    parts: tuple[Part, ...]
    why: str


def decide(money: Money, known: Known) -> Decision:
    """What incoming money pays. The parts sum to the whole amount, or there are none."""
    references = money.references
    bodies = [payment_reference.body(reference) for reference in references]
    claims = [claim for claim in known.claims if claim.bodies.intersection(bodies)]
    topped_up = {known.tenants[body] for body in bodies if body in known.tenants}
    if claims and topped_up:
        return _waits("It carries references of an invoice and of a top-up.")
    if len(topped_up) > 1:
        return _waits("It carries the references of several tenants.")
    if topped_up:
        (tenant_id,) = topped_up
        return Decision((Part("credit", tenant_id, money.amount),), "reference of the tenant")
    if claims:
        return _by_reference(money, claims)
    by_number = _by_number(money, known)
    if by_number is not None:
        return by_number
    if references:
        return _waits(f"Nobody was given the reference {', '.join(references)[:80]}.")
    return _waits("It carries no reference that we know.")


def spread(amount: Decimal, claims: Sequence[Claim]) -> tuple[Part, ...]:
    """Pay the claims of one tenant, what is due first first; what is left over stays the tenant's, unapplied."""
    parts, left = [], amount
    for claim in sorted(claims, key=lambda claim: (claim.due_on, claim.numbers)):
        paid = min(left, max(claim.open, Decimal(0)))
        if paid:
            parts.append(Part("invoice", claim.tenant_id, paid, claim.invoice_id))
            left -= paid
    if left:
        parts.append(Part("unapplied", claims[0].tenant_id, left))
    return tuple(parts)


def _by_reference(money: Money, claims: Sequence[Claim]) -> Decision:
    if len({claim.tenant_id for claim in claims}) > 1:
        return _waits("It carries references of several tenants.")
    if any(claim.currency != money.currency for claim in claims):
        return _waits(f"It is in {money.currency}, and the invoice is not.")
    numbers = ", ".join(sorted(claim.numbers[0] for claim in claims))
    return Decision(spread(money.amount, claims), f"reference of {numbers}")


def _by_number(money: Money, known: Known) -> Decision | None:
    text = money.remittance.upper()
    named = [claim for claim in known.claims if any(_names(text, number) for number in claim.numbers)]
    if not named:
        return None
    numbers = ", ".join(sorted(claim.numbers[0] for claim in named))
    if len({claim.tenant_id for claim in named}) > 1:
        return _waits(f"It names invoices of several tenants ({numbers}).")
    if any(claim.currency != money.currency for claim in named):
        return _waits(f"It is in {money.currency}, and {numbers} is not.")
    open_amount = sum((claim.open for claim in named), Decimal(0))
    if open_amount != money.amount:
        return _waits(f"It names {numbers}, of which {open_amount} is open, and carries no reference.")
    tenant_id = named[0].tenant_id
    is_known_account = money.payer_account is not None and money.payer_account in known.accounts.get(tenant_id, ())
    is_buyer = money.payer is not None and all(compact(claim.buyer) == compact(money.payer) for claim in named)
    if not (is_known_account or is_buyer):
        return _waits(f"It names {numbers} and has its amount, but {money.payer or 'the payer'} is not its buyer.")
    return Decision(spread(money.amount, named), f"number and exact amount of {numbers}, and its payer")


def _names(text: str, number: str) -> bool:
    """Whether a text names an invoice, however its number is spaced, and not one that only begins like it."""
    spaced = r"[^0-9A-Z]{0,3}".join(compact(number))
    return re.search(rf"(?<![0-9A-Z]){spaced}(?![0-9A-Z])", text) is not None


def _waits(why: str) -> Decision:
    return Decision((), why)
