"""Numbers of invoices and corrections: without a gap for each legal entity, year and kind."""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from studio.db.invoices import NumberSeries
from studio.db.tenancy import LegalEntity

Kind = Literal["invoice", "correction"]
_MARK = {"invoice": "", "correction": "C-"}


def next_number(session: Session, seller: LegalEntity, issued_on: date, kind: Kind) -> str:
    """The next number of a series, such as XDE-2026-000001 or XDE-C-2026-000001.

    Call it last: the series is locked until the end of the transaction, and a failure before gives the number back.
    """
    series = insert(NumberSeries).values(legal_entity_id=seller.id, year=issued_on.year, kind=kind, last=1)
    advanced = series.on_conflict_do_update(
        index_elements=[NumberSeries.legal_entity_id, NumberSeries.year, NumberSeries.kind],
        set_={"last": NumberSeries.last + 1},
    ).returning(NumberSeries.last)
    last = session.scalars(advanced).one()
    return f"{seller.invoice_prefix}-{_MARK[kind]}{issued_on.year}-{last:06d}"


def read(prefix: str, text: str) -> list[str]:
    """Every number of an invoice that a text may name, as we write it, however it is spaced there."""
    pattern = rf"{re.escape(prefix)}[^0-9A-Z]{{0,3}}([0-9]{{4}})[^0-9A-Z]{{0,3}}([0-9]{{6,9}})"
    return list(dict.fromkeys(f"{prefix}-{year}-{last}" for year, last in re.findall(pattern, text.upper())))
