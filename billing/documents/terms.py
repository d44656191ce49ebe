"""Words and codes of payment that PDF and both XML syntaxes share."""

from __future__ import annotations

from billing.documents.snapshot import Snapshot

SEPA_TRANSFER, TRANSFER = "58", "30"  # UNTDID 4461


def means_code(snapshot: Snapshot) -> str:
    """How money moves: SEPA for EUR, any transfer else."""
    return SEPA_TRANSFER if snapshot.currency == "EUR" else TRANSFER


def payment_terms(snapshot: Snapshot) -> str:
    """BT-20: until when, or why nothing is to be paid."""
    if snapshot.due_on is not None:
        return f"Payable by {snapshot.due_on.isoformat()}"
    if snapshot.original is not None:
        return f"Set off against invoice {snapshot.original.number}, or paid back"
    return "Paid from credit"


def note(snapshot: Snapshot) -> str | None:
    """BT-22: why a correction was made."""
    return snapshot.original.reason if snapshot.original is not None else None
