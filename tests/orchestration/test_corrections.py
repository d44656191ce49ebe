"""A correction through the sensor and the job that carry it out in production."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing import approval, correction_order
from billing.correction import CorrectionType
from studio import clock
from studio.objects import Bucket, ObjectStore
from tests.billing.books import Books
from tests.orchestration.location import Location

NOON = datetime(2026, 11, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


def test_an_approved_correction_is_numbered_booked_and_rendered(
    books: Books, location: Location, objects: ObjectStore
) -> None:
    tenant = books.tenant()
    invoice_id = books.final_invoice(books.gateway(), tenant, NOON, LATER, prompt=200_000_000)
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
        "ledger_equals_invoices": True
    }
    assert location.asks("correction_approvals") == []
    year = clock.now().astimezone(clock.BERLIN).year
    pdf = objects.get(Bucket.INVOICES, f"tnt_{tenant.hex}/XDE-C-{year}-000001.pdf")
    assert pdf is not None
    assert pdf.startswith(b"%PDF-")
