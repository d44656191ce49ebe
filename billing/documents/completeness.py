"""What a draft's buyer still lacks for an e-invoice. Nothing becomes final like that: then it could not be mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from billing import tax
from billing.documents import frozen_rows, parties
from billing.documents.snapshot import Snapshot
from studio.db.invoices import Invoice
from studio.db.tenancy import Tenant
from studio.errors import Conflict


class BuyerIncomplete(Conflict):
    """The rules of e-invoices would refuse this buyer, so the invoice could never be published."""

    default_code = "buyer_incomplete"


_NAME, _COUNTRY, _TOWN, _POSTCODE = "name", "country", "town", "postcode"
_ADDRESS = "electronic address (an e-mail, or a VAT id)"
_OPTIONS = {
    _NAME: "--name ...",
    _COUNTRY: "--country ...",
    _TOWN: "--city ...",
    _POSTCODE: "--postcode ...",
    _ADDRESS: "--email ...",
}


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A draft that could not be published as it is."""

    invoice: str
    buyer: str
    lacks: str


def incomplete_drafts(session: Session, drafts: Sequence[UUID]) -> list[Incomplete]:
    """The drafts whose buyers the rules of XRechnung would refuse."""
    snapshots = [frozen_rows.of_invoice(session, invoice_id) for invoice_id in drafts]
    return [
        Incomplete(snapshot.id, str(snapshot.buyer.get("name")), ", ".join(lacking))
        for snapshot in snapshots
        if (lacking := lacks(snapshot))
    ]


def require_complete(session: Session, invoice: Invoice) -> None:
    """BuyerIncomplete, with what to do, for a draft that could not be published."""
    snapshot = frozen_rows.of_invoice(session, invoice.id)
    if lacking := lacks(snapshot):
        tenant = session.get_one(Tenant, invoice.tenant_id).slug
        raise BuyerIncomplete(
            f"An e-invoice to {snapshot.buyer.get('name')} must name its {' and its '.join(lacking)}. Write it into the"
            f" tenant's terms, and the draft is made again: `studio tenant terms {tenant} --from"
            f" {invoice.period_until} {options(lacking)} --reason ...`."
        )


def lacks(snapshot: Snapshot) -> list[str]:
    """In words; empty for sellers outside the EU, who write no e-invoices."""
    return buyer_lacks(snapshot.buyer, str(snapshot.seller["country"]), snapshot.tax_category)


def buyer_lacks(details: Mapping[str, Any], seller_country: str, tax_category: str) -> list[str]:
    """The same of a buyer to whom nothing is invoiced yet, whose town and postcode may stand together."""
    if seller_country not in tax.EU:
        return []
    there: dict[str, object] = {_NAME: details.get("name"), _COUNTRY: details.get("country")}
    if all(there.values()):
        buyer = parties.party(frozen_rows.party(details), has_vat_id=tax_category != "O")
        there = {_TOWN: buyer.city, _POSTCODE: buyer.postcode, _ADDRESS: buyer.address}
    return [name for name, value in there.items() if not value]


def options(lacking: Sequence[str]) -> str:
    """The options of `studio tenant` that give what lacks."""
    return " ".join(_OPTIONS[one] for one in lacking)
