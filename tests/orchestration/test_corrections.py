"""A correction through the sensor and the job that carry it out in production."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import select

from billing import approval, correction_order
from billing.correction import CorrectionType
from studio import clock
from studio.db.corrections import CorrectionDocument
from studio.objects import Bucket, ObjectStore
from tests.billing.books import Books
from tests.orchestration.location import Location

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def test_an_approved_correction_is_numbered_booked_and_rendered(
    books: Books, location: Location, objects: ObjectStore
) -> None:
    tenant = books.tenant()
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, clock.now(), prompt=200_000_000)
    with books.as_role("operator") as session:
        correction_id = correction_order.order(
            session, invoice_id=invoice_id, type=CorrectionType.CREDIT_NOTE, wanted={1: Decimal("1.00")},
            reason="price was wrong", by="anna", now=clock.now(),
        )  # fmt: skip
    assert location.asks("correction_approvals") == []
    with books.as_role("operator") as session:
        approval.approve_correction(
            session, correction_id=correction_id, expected_gross=Decimal("1.19"), by="bert", now=clock.now()
        )
    (approved,) = location.asks("correction_approvals")
    result = location.carry_out(approved, "correct_invoice")
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "ledger_equals_invoices": True,
        "documents_keep_our_rules": True,
        "documents_pass_official_rules": True,
        "invoice_documents_rows_fit": True,
    }
    assert location.asks("correction_approvals") == []
    with books.as_role("auditor") as session:
        key = session.scalars(select(CorrectionDocument.object_key).where(CorrectionDocument.kind == "pdf")).one()
    year = clock.now().astimezone(clock.BERLIN).year
    assert key.startswith(f"tnt_{tenant.hex}/XDE-C-{year}-000001/")
    pdf = objects.get(Bucket.INVOICES, key)
    assert pdf is not None
    assert pdf.startswith(b"%PDF-")
