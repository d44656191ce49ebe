"""What a draft's buyer still lacks for an e-invoice: told before anything is final, while it can be put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from billing.documents import frozen_rows, parties
from billing.documents.snapshot import Snapshot


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


def lacks(snapshot: Snapshot) -> list[str]:
    """In words; empty for sellers outside the EU, who write no e-invoices."""
    if not snapshot.has_e_invoice:
        return []
    buyer = parties.buyer(snapshot)
    there = {
        "town": buyer.city,
        "postcode": buyer.postcode,
        "electronic address (an e-mail, or a VAT id)": buyer.address,
    }
    return [name for name, value in there.items() if not value]
