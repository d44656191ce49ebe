"""What stands between something final and its documents, for people: number, document, rule, place, words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.documents import invariants
from billing.documents.publish import invalid_verdicts
from studio.db.corrections import Correction
from studio.db.invoices import Invoice


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding in what is final and has no documents."""

    number: str
    document: str
    rule_set: str
    version: str
    rule: str
    where: str
    words: str


def faults(session: Session, subjects: Sequence[UUID]) -> list[Fault]:
    """Why the subjects have no documents. One that nobody judged yet is a fault of its own."""
    numbers = _numbers(session, subjects)
    found = [
        Fault(
            numbers[verdict.snapshot_id], verdict.kind, verdict.rule_set, verdict.version,
            finding["rule"], finding["where"], finding["words"],
        )
        for verdict in invalid_verdicts(session, list(subjects))
        for finding in verdict.findings
        if finding.get("flag") not in ("warning", "information", "info")
    ]  # fmt: skip
    named = {fault.number for fault in found}
    unjudged = [
        Fault(number, "all", invariants.RULE_SET, invariants.VERSION, "DOCUMENTS-EXIST", number, "not made yet")
        for number in sorted(set(numbers.values()) - named)
    ]
    return sorted(found, key=lambda fault: (fault.number, fault.document, fault.rule_set, fault.where)) + unjudged


def _numbers(session: Session, subjects: Sequence[UUID]) -> dict[UUID, str]:
    invoices = select(Invoice.id, Invoice.number).where(Invoice.id.in_(subjects))
    corrections = select(Correction.id, Correction.number).where(Correction.id.in_(subjects))
    rows = [*session.execute(invoices), *session.execute(corrections)]
    return {id: number or "" for id, number in rows}
