"""What final re-ratings have changed of a month's invoices: of its usage, and of what it lacked to its minimum.

Late usage is measured against the month as it stands, corrections of its prices included; those that a person made by
hand are goodwill, and change nothing of what was committed.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import ColumnElement, Numeric, case, cast, func, select
from sqlalchemy.orm import Session

from billing.adjustments import MINIMUM_COMMITMENT
from billing.correction import CorrectionType
from studio.db.corrections import Correction, CorrectionLine
from studio.db.invoices import Invoice, InvoiceLine


def changes(session: Session, *which: ColumnElement[bool]) -> tuple[Decimal, Decimal]:
    """Net, of the invoices that `which` names: usage became so much more (or less), and so much more is adjusted."""
    takes_back = Correction.type == CorrectionType.CREDIT_NOTE
    signed = case((takes_back, -CorrectionLine.amount), else_=CorrectionLine.amount)
    netted = func.coalesce(cast(CorrectionLine.prices["netted"].astext, Numeric(18, 2)), 0)
    is_commitment = InvoiceLine.unit == MINIMUM_COMMITMENT
    query = (
        select(
            func.coalesce(func.sum(case((is_commitment, 0), else_=signed - netted)), 0),
            func.coalesce(func.sum(case((is_commitment, signed), else_=netted)), 0),
        )
        .select_from(Correction)
        .join(CorrectionLine, CorrectionLine.correction_id == Correction.id)
        .join(Invoice, Invoice.id == Correction.invoice_id)
        .join(InvoiceLine, (InvoiceLine.invoice_id == Invoice.id) & (InvoiceLine.line_no == CorrectionLine.line_no))
        .where(Correction.state == "final", Correction.rerate_no.is_not(None), *which)
    )
    usage, adjusted = session.execute(query).one().tuple()
    return Decimal(usage), Decimal(adjusted)
